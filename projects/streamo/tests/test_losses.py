"""The state-aware focal loss against the public function's numbers, closed forms and finite differences."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from refstream_projects.streamo.losses import StateFocalLoss
from refstream_projects.streamo.states import StateIds
from torch import Tensor

FOLDER = Path(__file__).resolve().parents[3] / "tests" / "golden" / "streamo"
CASE = json.loads((FOLDER / "case.json").read_text())
CASES = {case["name"]: case for case in CASE["cases"]}
IDS = StateIds(*(CASE["state_ids"][name] for name in ("silence", "standby", "response")))
RELEASE = dict(alpha="micro", classes="present")


def golden(name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (B, T, V), labels (B, T) not shifted, gradient of the public function."""
    with np.load(FOLDER / "focal_loss.npz", allow_pickle=False) as file:
        return tuple(torch.from_numpy(file[f"{name}/{key}"]) for key in ("logits", "labels", "grad"))  # type: ignore[return-value]


def release_loss(name: str, logits: Tensor, labels: Tensor) -> Tensor:
    """Ours, with the arguments of a golden case."""
    given = CASES[name]["arguments"]
    keys: dict[str, Any] = {**RELEASE, "gamma": given.get("gamma", 2.0)}
    if not given.get("auto_alpha", True):
        keys["alpha"] = None
    wanted = labels[:, 1:] != -100
    return StateFocalLoss(**keys)(
        logits[:, :-1][wanted], labels[:, 1:][wanted], IDS, total=given.get("num_items_in_batch")
    )


@pytest.mark.parametrize("name", [n for n in CASES if n not in ("nothing_supervised", "unregistered_tokens")])
def test_the_public_function_gives_the_same_loss_and_gradient(name: str) -> None:
    logits, labels, gradient = golden(name)
    exact = CASES[name]["dtype"] == "float32"
    logits = logits.to(getattr(torch, CASES[name]["dtype"])).requires_grad_()
    loss = release_loss(name, logits, labels)
    loss.backward()
    assert loss.item() == pytest.approx(CASES[name]["loss"], rel=1e-6 if exact else 2e-2)
    assert logits.grad is not None
    error = (logits.grad.float() - gradient).abs().max() / gradient.abs().max()
    assert error < (2e-6 if exact else 2e-2)


def test_nothing_supervised_is_zero_with_a_gradient() -> None:
    assert CASES["nothing_supervised"]["loss_is_nan"]  # the release divides by zero
    logits, labels, _ = golden("nothing_supervised")
    logits.requires_grad_()
    loss = release_loss("nothing_supervised", logits, labels)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))  # type: ignore[arg-type]


def test_states_that_share_an_id_are_refused() -> None:
    with pytest.raises(ValueError, match="three different tokens"):  # in the release: nearly cross-entropy
        StateIds(7, 7, 7)


# ---------------------------------------------------------------- closed forms


def test_alpha_of_12_3_2() -> None:
    counts = torch.tensor([12, 3, 2])
    alpha = StateFocalLoss().alphas(counts)
    assert alpha.tolist() == pytest.approx([17 / 36, 17 / 9, 17 / 6])
    assert float((alpha * counts).sum()) == pytest.approx(17)  # weights are only given another place


@pytest.mark.parametrize(("classes", "expected"), [("present", [0.75, 1.5, 1.0]), ("all", [0.5, 1.0, 1.0])])
def test_a_state_that_does_not_occur(classes: str, expected: list[float]) -> None:
    assert StateFocalLoss(classes=classes).alphas(torch.tensor([4, 2, 0])).tolist() == pytest.approx(expected)
    nothing = StateFocalLoss(classes=classes).alphas(torch.zeros(3))
    assert nothing.tolist() == [1, 1, 1]


def test_three_tokens_by_hand() -> None:
    """p = 0.5, 0.2 for two silences, 0.25 for one response: alpha 3/4 and 3/2."""
    p = torch.tensor([0.5, 0.2, 0.25])
    targets = torch.tensor([IDS.silence, IDS.silence, IDS.response])
    logits = torch.log((1 - p) / 47)[:, None].repeat(1, 48)
    logits[torch.arange(3), targets] = torch.log(p)
    expected = (0.75 * (0.25 * np.log(2) + 0.64 * np.log(5)) + 1.5 * 0.5625 * np.log(4)) / 3
    assert StateFocalLoss(**RELEASE)(logits, targets, IDS).item() == pytest.approx(expected, rel=1e-5)


def tokens(count: int = 40, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    targets = torch.randint(30, 43, (count,), generator=rng)
    return 2 * torch.randn(count, 48, generator=rng, dtype=dtype), targets


@pytest.mark.parametrize("targets", ["any", "no state"])
def test_cross_entropy_is_a_special_case(targets: str) -> None:
    logits, aims = tokens()
    if targets == "any":
        loss = StateFocalLoss(gamma=0, alpha=None)
    else:
        loss, aims = StateFocalLoss(**RELEASE), aims % 30
    assert loss(logits, aims, IDS).item() == pytest.approx(F.cross_entropy(logits, aims).item(), rel=1e-6)


def test_fixed_scales() -> None:
    logits, aims = tokens()
    scale = torch.ones(48, dtype=torch.float64)
    scale[list(IDS.all)] = torch.tensor([0.3, 1.3, 2.0], dtype=torch.float64)
    expected = (scale[aims] * F.cross_entropy(logits, aims, reduction="none")).mean()
    assert StateFocalLoss(gamma=0, alpha="fixed")(logits, aims, IDS).item() == pytest.approx(
        expected.item(), rel=1e-6
    )


@pytest.mark.parametrize("detach", [False, True])
def test_the_gradient_where_p_is_a_twentieth(detach: bool) -> None:
    """dL/dz_c = (1 - p)^2 (p - 1) + 2 p (1 - p)^2 ln p with the factor's gradient, the first term without."""
    p = 1 / 20
    expected = -((1 - p) ** 3) + (0 if detach else 2 * p * (1 - p) ** 2 * np.log(p))
    logits = torch.zeros(1, 20, requires_grad=True)
    StateFocalLoss(alpha=None, detach=detach)(logits, torch.tensor([3]), StateIds(3, 4, 5)).backward()
    assert logits.grad is not None
    assert logits.grad[0, 3].item() == pytest.approx(expected, rel=1e-5)
    assert expected == pytest.approx(-0.857 if detach else -1.128, abs=5e-4)  # both measured in the release


def test_gradients_by_finite_differences() -> None:
    logits, aims = tokens(8)
    loss = StateFocalLoss(**RELEASE)
    logits.requires_grad_()
    loss(logits, aims, IDS).backward()
    assert logits.grad is not None
    step, found = 1e-2, []
    with torch.no_grad():
        for place in range(0, logits.numel(), 7):
            shift = torch.zeros(logits.numel(), dtype=logits.dtype)
            shift[place] = step
            up, down = (loss(logits + sign * shift.view_as(logits), aims, IDS) for sign in (1, -1))
            found.append(float(up.double() - down.double()) / (2 * step))
    torch.testing.assert_close(torch.tensor(found), logits.grad.flatten()[::7].float(), rtol=1e-2, atol=2e-4)


def test_a_certain_prediction_is_finite() -> None:
    for gamma in (0.5, 2.0):
        logits = torch.full((1, 48), -200.0, dtype=torch.bfloat16)
        logits[0, IDS.response] = 200
        logits.requires_grad_()
        loss = StateFocalLoss(gamma=gamma, alpha="micro")(logits, torch.tensor([IDS.response]), IDS)
        loss.backward()
        assert loss.item() == 0
        assert torch.isfinite(logits.grad).all()  # type: ignore[arg-type]


def test_bfloat16_logits_are_computed_in_float32() -> None:
    logits, aims = tokens(dtype=torch.float32)
    rounded = logits.bfloat16()
    loss = StateFocalLoss(**RELEASE)
    assert loss(rounded, aims, IDS).dtype == torch.float32
    assert loss(rounded, aims, IDS).item() == loss(rounded.float(), aims, IDS).item()


# ---------------------------------------------------------------- scopes


def test_global_counts_make_two_calls_one() -> None:
    logits, aims = tokens(60)
    counts = torch.stack([(aims == at).sum() for at in IDS.all])
    whole = StateFocalLoss(alpha="global")(logits, aims, IDS)
    loss = StateFocalLoss(alpha="global")
    cuts = list(pairwise([0, 11, 37, 60]))
    parts = [loss(logits[a:b], aims[a:b], IDS, counts=counts, total=60) for a, b in cuts]
    assert float(sum(parts)) == pytest.approx(whole.item(), rel=1e-6)
    micro = StateFocalLoss(alpha="micro")
    alone = [micro(logits[a:b], aims[a:b], IDS, total=60) for a, b in cuts]
    assert abs(float(sum(alone)) - whole.item()) > 1e-2


def test_micro_counts_are_not_those_of_the_batch() -> None:
    """The public function, too, gives another sum for two calls than for one."""
    parts = [release_loss(name, *golden(name)[:2]).item() for name in ("micro_A", "micro_B")]
    assert sum(parts) == pytest.approx(CASE["micro_vs_pooled"]["sum_of_micro"], rel=1e-6)
    assert CASE["micro_vs_pooled"]["pooled"] == pytest.approx(CASES["micro_pooled"]["loss"])


def test_every_dialogue_counts_its_own_states() -> None:
    logits, aims = tokens(50)
    rows = torch.arange(50) % 3
    loss = StateFocalLoss(alpha="sample")
    mixed = loss.token_losses(logits, aims, IDS, rows=rows)
    for row in range(3):
        alone = StateFocalLoss(alpha="micro").token_losses(logits[rows == row], aims[rows == row], IDS)
        torch.testing.assert_close(mixed[rows == row], alone)


def test_a_running_mean_begins_as_the_first_counts() -> None:
    loss = StateFocalLoss(alpha="ema", momentum=0.75)
    logits, aims = tokens()
    with pytest.raises(ValueError, match="observe"):
        loss(logits, aims, IDS)
    loss.observe(torch.tensor([8.0, 4.0, 0.0]))
    assert loss.average.tolist() == [8, 4, 0]
    loss.observe(torch.tensor([0.0, 4.0, 4.0]))
    assert loss.average.tolist() == [6, 4, 1]
    again = StateFocalLoss(alpha="ema")
    again.load_state_dict(loss.state_dict())
    expected = StateFocalLoss(alpha="global")(logits, aims, IDS, counts=torch.tensor([6, 4, 1]))
    assert again(logits, aims, IDS).item() == pytest.approx(expected.item(), rel=1e-6)
    assert not StateFocalLoss().state_dict()


@pytest.mark.parametrize(
    "keys", [dict(gamma=-1), dict(alpha="batch"), dict(classes="3"), dict(scales=(1, 2)), dict(momentum=1)]
)
def test_wrong_settings(keys: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="got"):
        StateFocalLoss(**keys)


def test_cross_entropy_collapses_to_silence_and_focal_does_not() -> None:
    """Nine of ten turns are silent and little tells them apart: a linear model on overlapping features."""
    rng = torch.Generator().manual_seed(1)
    kinds = torch.multinomial(torch.tensor([0.9, 0.06, 0.04]), 1000, replacement=True, generator=rng)
    features = torch.randn(1000, 3, generator=rng) + 1.0 * F.one_hot(kinds, 3)
    targets = torch.tensor(IDS.all)[kinds]
    recalls = {}
    for name, loss in (
        ("cross-entropy", StateFocalLoss(gamma=0, alpha=None)),
        ("focal", StateFocalLoss()),
    ):
        layer = torch.nn.Linear(3, 48)
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
        for _ in range(100):
            optimizer.zero_grad()
            loss(layer(features), targets, IDS).backward()
            optimizer.step()
        with torch.no_grad():
            best = layer(features)[:, list(IDS.all)].argmax(1)
        recalls[name] = [float((best[kinds == k] == k).float().mean()) for k in range(3)]
    assert recalls["cross-entropy"][0] > 0.98
    assert max(recalls["cross-entropy"][1:]) < 0.25
    assert min(recalls["focal"][1:]) > 0.5
    assert recalls["focal"][0] > 0.4
