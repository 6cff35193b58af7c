"""bfloat16 autocast with float32 losses, weights and gradients; frozen matrices held in bfloat16."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from refstream.engine.model import TrainingModel
from refstream.registry import MODELS

from .small import batch, training_keys

TRAINABLE = ["mllm.model.model.multi_modal_projector.*", "head.*", "segmenter.model.mask_decoder.*"]


def run(**keys: Any) -> tuple[TrainingModel, dict[str, torch.Tensor]]:
    torch.manual_seed(3)
    keys = dict(trainable=TRAINABLE, lora=dict(r=2, dropout=0.0), token_rows="new") | keys
    training = MODELS.build(training_keys(**keys)).train()
    losses = training(batch())
    sum(value for name, value in losses.items() if "loss" in name).backward()
    return training, losses


def gradients(training: TrainingModel) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in training.named_parameters() if p.grad is not None}


@pytest.fixture(scope="module")
def exact() -> tuple[TrainingModel, dict[str, torch.Tensor]]:
    return run()


@pytest.mark.parametrize("frozen", [None, "bfloat16"])
def test_autocast_is_near_float32_with_float32_losses_and_gradients(exact: Any, frozen: str | None) -> None:
    training, losses = run(autocast="bfloat16", frozen_dtype=frozen)
    for name, value in losses.items():
        assert value.dtype == torch.float32, name
        if "loss" in name:
            assert torch.isclose(value, exact[1][name], rtol=0.05), name
    ours, theirs = gradients(training), gradients(exact[0])
    assert ours.keys() == theirs.keys()
    assert {value.dtype for value in ours.values()} == {torch.float32}
    flat = [torch.cat([g[name].flatten() for name in theirs]) for g in (ours, theirs)]
    assert F.cosine_similarity(*flat, dim=0) > 0.98
    assert not torch.equal(*flat)  # autocast did something


def test_frozen_matrices_are_held_in_bfloat16_and_nothing_else() -> None:
    training, _ = run(autocast="bfloat16", frozen_dtype="bfloat16")
    for name, parameter in training.named_parameters():
        narrow = not parameter.requires_grad and parameter.ndim > 1 and "positional_embedding" not in name
        assert parameter.dtype == (torch.bfloat16 if narrow else torch.float32), name


def test_a_look_without_a_graph_leaves_the_gradients_of_the_next_one() -> None:
    """A gate may run weights without a graph before the loss runs them with one."""
    training = MODELS.build(training_keys(autocast="bfloat16"))

    class Learner:
        def losses(self, model: Any, batch: Any) -> dict[str, torch.Tensor]:
            states = torch.ones(2, 32)
            with torch.no_grad():
                model.head(states)
            return {"loss": model.head(states).embedding.float().sum()}

    training.learner = Learner()
    training(batch())["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in training.model.head.parameters())


@pytest.mark.parametrize("keys", [dict(autocast="float16"), dict(frozen_dtype="int8")])
def test_other_types_are_refused(keys: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="bfloat16"):
        MODELS.build(training_keys(**keys))
