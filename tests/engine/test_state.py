"""Packing of nested state, generators, and what of a model is stored."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from refstream.engine.state import (
    capture_rng,
    frozen_fingerprint,
    pack,
    restore_rng,
    trained_state,
    unpack,
)


def test_packed_state_survives_json_and_safetensors() -> None:
    state = {
        "state": {0: {"step": torch.tensor(3.0), "square": torch.rand(2, 3)}, 7: {}},
        "groups": [{"betas": (0.9, 0.98), "lr": 1e-3 / 3, "amsgrad": False, "foreach": None}],
        "limits": [math.inf, -math.inf],
        "best": np.float64(0.1),
        "tensor": {"dict": 1},
    }
    tensors: dict[str, torch.Tensor] = {}
    text = json.dumps(pack(state, tensors, "x"), allow_nan=False)
    back = unpack(json.loads(text), load(save(tensors)))
    assert torch.equal(back["state"][0].pop("square"), state["state"][0].pop("square"))
    assert torch.equal(back["state"][0].pop("step"), state["state"][0].pop("step"))
    assert back == state
    assert type(back["groups"][0]["betas"]) is tuple
    assert type(back["groups"][0]["amsgrad"]) is bool


def test_nan_survives() -> None:
    assert math.isnan(unpack(json.loads(json.dumps(pack(math.nan, {}, "x"), allow_nan=False)), {}))


@pytest.mark.parametrize(("value", "where"), [({"a": [object()]}, "x.a.0"), ({(1, 2): 0}, "keys")])
def test_what_cannot_be_kept_is_named(value: object, where: str) -> None:
    with pytest.raises(TypeError, match=where):
        pack(value, {}, "x")


def draw() -> tuple[float, ...]:
    return (
        random.random(),
        random.gauss(0, 1),
        float(np.random.rand()),
        float(np.random.randn()),
        torch.rand(()).item(),
        torch.randn(3).sum().item(),
    )


@pytest.mark.parametrize("drawn_before", [0, 1])
def test_generators_go_on_where_they_were(drawn_before: int) -> None:
    """Also between the two halves of a Gaussian pair, which Python and NumPy keep aside."""
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    for _ in range(drawn_before):
        random.gauss(0, 1)
        np.random.randn()
    state = load(save(capture_rng()))
    expected = [draw() for _ in range(5)]
    restore_rng(state)
    assert [draw() for _ in range(5)] == expected


class Tied(nn.Module):
    """A trained matrix under two names, a frozen one, and running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embed.weight
        self.frozen = nn.Linear(3, 3).requires_grad_(False)
        self.norm = nn.BatchNorm1d(3)


def test_frozen_weights_are_left_out_and_tied_ones_stored_once() -> None:
    model = Tied()
    small = trained_state(model)
    assert set(small) == {
        "embed.weight",
        *(
            f"norm.{name}"
            for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        ),
    }
    assert set(trained_state(model, with_frozen=True)) - set(small) == {"frozen.weight", "frozen.bias"}


def test_the_fingerprint_is_of_the_frozen_weights() -> None:
    torch.manual_seed(0)
    model = Tied()
    before = frozen_fingerprint(model)
    with torch.no_grad():
        model.embed.weight.add_(1)
    assert frozen_fingerprint(model) == before
    with torch.no_grad():
        model.frozen.weight[0, 0] = torch.nextafter(model.frozen.weight[0, 0], torch.tensor(9.0))
    assert frozen_fingerprint(model) != before
    assert frozen_fingerprint(nn.Linear(2, 2).bfloat16().requires_grad_(False))
