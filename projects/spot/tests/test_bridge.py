"""The bridge: closed forms, what prior it is the density of, and what it rewards without saying so."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from refstream_projects.spot.bridge import (
    Bridge,
    BridgeFrame,
    bridge_weights,
    frame_term,
    joint_term,
    visible_alphas,
)
from refstream_projects.spot.geometry import box_centre, box_size, grid_points
from refstream_projects.spot.quality import box_loss
from torch import Tensor

ENDS = torch.tensor([[0.2, 0.3], [0.6, 0.5]])


def line(length: int) -> Tensor:
    """(T, 2) centres on a straight line."""
    share = torch.linspace(0, 1, length, dtype=torch.float64)[:, None]
    return (1 - share) * ENDS[0].double() + share * ENDS[1].double()


def loss(
    points: Tensor, bridge: Bridge, centres: Tensor | None = None, boxes: Tensor | None = None
) -> Tensor:
    """The bridge over a whole segment: (T, K, 2) points; all of them on the object."""
    length, count = points.shape[:2]
    plan = bridge.plan(line(length) if centres is None else centres, visible_alphas([True] * length))
    held: list[tuple[Tensor, BridgeFrame]] = []
    for t in range(length):
        frame = plan[t]
        if frame is not None:
            box = torch.zeros(4) if boxes is None else boxes[t]
            held.append((bridge.chosen(points[t], box, torch.ones(count)), frame))
    if bridge.form == "joint":
        return joint_term([p for p, _ in held], [f for _, f in held])
    return torch.stack([frame_term(p, f) for p, f in held]).sum() if held else torch.zeros(())


PAPER = Bridge()


def around(offsets: Tensor) -> Tensor:
    """(T, K, 2) points at (T, K, 2) offsets from the line."""
    return line(len(offsets))[:, None] + offsets


# ---------------------------------------------------------------- weights


def test_weights_of_eight_frames() -> None:
    weights = bridge_weights(visible_alphas([True] * 8))
    expected = [0, 49 / 6, 4.9, 49 / 12, 49 / 12, 4.9, 49 / 6, 0]
    assert weights.tolist() == pytest.approx(expected, rel=1e-12)
    assert float(weights.sum()) == pytest.approx(34.3, rel=1e-12)


def test_constant_weights_have_the_same_sum() -> None:
    weights = bridge_weights(visible_alphas([True] * 8), "constant")
    assert weights.tolist() == pytest.approx([0, *[34.3 / 6] * 6, 0], rel=1e-12)


@pytest.mark.parametrize("epsilon", [1e-8, 1e-4, 1e-2])
def test_a_small_epsilon_does_not_act_on_eight_frames(epsilon: float) -> None:
    assert float(bridge_weights(visible_alphas([True] * 8), epsilon=epsilon).sum()) == pytest.approx(34.3)


def test_epsilon_bounds_the_weights_of_a_long_segment() -> None:
    alphas = visible_alphas([True] * 1001)
    assert bridge_weights(alphas, epsilon=0.01).max() == pytest.approx(100)
    assert bridge_weights(alphas, epsilon=1e-9).max() == pytest.approx(1 / (0.001 * 0.999))


# ---------------------------------------------------------------- closed forms


@pytest.mark.parametrize("count", [1, 4, 25])
def test_displaced_points_cost_34_3_times_the_square(count: int) -> None:
    offsets = torch.tensor([0.03, -0.04]).expand(8, count, 2)
    assert float(loss(around(offsets), PAPER)) == pytest.approx(34.3 * 0.05**2, rel=1e-5)


def test_points_on_the_line_cost_nothing() -> None:
    assert float(loss(around(torch.zeros(8, 25, 2)), PAPER)) == pytest.approx(0, abs=1e-12)


def test_short_segments() -> None:
    offsets = torch.randn(3, 25, 2, dtype=torch.float64)
    assert float(loss(around(offsets[:1]), PAPER)) == 0
    assert float(loss(around(offsets[:2]), PAPER)) == 0
    expected = 4 * offsets[1].square().sum(-1).mean()
    assert float(loss(around(offsets), PAPER)) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("form", ["paper", "joint"])
def test_moving_scaling_and_reversing_time(form: str) -> None:
    bridge = Bridge(form=form)
    points = around(0.1 * torch.randn(8, 25, 2, generator=torch.Generator().manual_seed(1)).double())
    value = float(loss(points, bridge))
    shift = torch.tensor([0.2, -0.1])
    assert float(loss(points + shift, bridge, line(8) + shift)) == pytest.approx(value, rel=1e-5)
    assert float(loss(3 * points, bridge, 3 * line(8))) == pytest.approx(9 * value, rel=1e-5)
    assert float(loss(points.flip(0), bridge, line(8).flip(0))) == pytest.approx(value, rel=1e-5)


def test_points_are_the_mean_and_the_spread() -> None:
    points = around(0.1 * torch.randn(8, 25, 2, generator=torch.Generator().manual_seed(2)).double())
    weights = bridge_weights(visible_alphas([True] * 8))
    spread = (points - points.mean(1, keepdim=True)).square().sum(-1).mean(1)
    difference = loss(points, PAPER) - loss(points, Bridge(on="points_centred"))
    assert float(difference) == pytest.approx(float((weights * spread).sum()), rel=1e-5)


def test_spread_outweighs_a_centre_error_45_times() -> None:
    centres = line(8) + torch.tensor([0.02, 0.0])
    size = torch.tensor([0.25, 0.40], dtype=torch.float64)
    boxes = torch.cat((centres - size / 2, centres + size / 2), dim=1)
    points = grid_points(boxes)
    centred = float(loss(points, Bridge(on="points_centred")))
    assert centred == pytest.approx(0.01372, rel=1e-4)
    assert float(loss(points, PAPER)) - centred == pytest.approx(0.611, abs=1e-3)
    assert float(loss(points, Bridge(on="box_centre"), boxes=boxes)) == pytest.approx(centred, rel=1e-4)


# ---------------------------------------------------------------- the prior


def test_the_loss_is_the_log_density_of_independent_marginals() -> None:
    offsets = 0.05 * torch.from_numpy(np.random.default_rng(0).standard_normal((8, 25, 2)))
    value = loss(around(offsets).double(), PAPER)
    assert float(value) == pytest.approx(0.174176, abs=5e-7)
    alphas = visible_alphas([True] * 8)[1:-1]
    density = 0.0
    for t, alpha in enumerate(alphas.tolist(), start=1):
        normal = torch.distributions.MultivariateNormal(
            line(8)[t], alpha * (1 - alpha) * torch.eye(2, dtype=torch.float64)
        )
        density -= float(normal.log_prob(around(offsets)[t]).mean())
    constant = sum(math.log(2 * math.pi * a * (1 - a)) for a in alphas.tolist())
    assert density == pytest.approx(0.9219309906, abs=1e-9)
    assert float(value) / 2 + constant == pytest.approx(density, abs=1e-12)


def test_the_joint_form_is_the_precision_of_a_bridge() -> None:
    alphas = visible_alphas([True] * 8)[1:-1]
    covariance = torch.minimum(alphas[:, None], alphas) * (1 - torch.maximum(alphas[:, None], alphas))
    errors = torch.randn(6, 1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    frames = [BridgeFrame(float(a), torch.zeros(2), 1.0) for a in alphas]
    expected = torch.einsum("tnd,ts,snd->", errors, torch.linalg.inv(covariance), errors)
    assert float(joint_term(list(errors), frames)) == pytest.approx(float(expected), rel=1e-5)


def test_an_arc_and_a_zigzag_cost_the_same_in_the_papers_form_alone() -> None:
    t = torch.arange(8, dtype=torch.float64)
    arc = 0.05 * torch.sin(math.pi * t / 7)
    zigzag = arc * (-1) ** t
    offsets = [torch.stack((e, torch.zeros(8)), dim=1)[:, None] for e in (arc, zigzag)]
    assert [float(loss(around(e), PAPER)) for e in offsets] == pytest.approx([0.042069] * 2, abs=1e-6)
    joint = [float(loss(around(e), Bridge(form="joint"))) for e in offsets]
    assert joint == pytest.approx([0.0121, 0.2329], abs=1e-4)
    assert joint[1] / joint[0] == pytest.approx(19.2, abs=0.1)


def test_both_forms_are_least_on_the_line() -> None:
    for form in ("paper", "joint"):
        points = around(torch.randn(8, 1, 2, dtype=torch.float64) * 0.1).requires_grad_()
        optimizer = torch.optim.LBFGS([points], max_iter=200, tolerance_grad=1e-10)

        def closure(
            points: Tensor = points, form: str = form, optimizer: torch.optim.LBFGS = optimizer
        ) -> Tensor:
            optimizer.zero_grad()
            value = loss(points, Bridge(form=form))
            value.backward()
            return value

        optimizer.step(closure)
        assert torch.allclose(points[1:-1, 0], line(8)[1:-1], atol=1e-4)


# ---------------------------------------------------------------- what it does to boxes


def fit(bridge: Bridge, beta: float, weight: float = 0.1, width: float = 0.4) -> Tensor:
    """(8, 4) free boxes that minimise the box's loss and the bridge for an object on the line."""
    size = torch.tensor([width, 0.2], dtype=torch.float64)
    truth = torch.cat((line(8) - size / 2, line(8) + size / 2), dim=1)
    boxes = truth.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [boxes],
        lr=0.5,
        max_iter=500,
        tolerance_grad=1e-9,
        tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = box_loss(boxes, truth, beta).sum() + weight * loss(grid_points(boxes), bridge, boxes=boxes)
        value.backward()
        return value

    optimizer.step(closure)
    return boxes.detach()


@pytest.mark.parametrize(("beta", "middle", "end"), [(1.0, 0.12, 0.21), (0.1, 0.013, 0.026)])
def test_the_papers_bridge_makes_boxes_too_narrow(beta: float, middle: float, end: float) -> None:
    """A documented bias: the spread of a grid pulls its box together, more where the weight is larger.

    A box narrower by d costs d^2 / (4 beta), its spread 0.1 weight 0.08 (width - d)^2.
    """
    boxes = fit(PAPER, beta)
    assert torch.allclose(box_centre(boxes), line(8), atol=1e-3)
    narrowing = 1 - box_size(boxes)[:, 0] / 0.4
    pull = 0.1 * 0.08 * bridge_weights(visible_alphas([True] * 8))
    assert torch.allclose(narrowing, pull / (pull + 1 / (4 * beta)), atol=1e-3)
    assert narrowing[[3, 1]].tolist() == pytest.approx([middle, end], rel=0.05)


@pytest.mark.parametrize("on", ["points_centred", "box_centre", "foreground_mean"])
def test_other_bridges_leave_the_size_alone(on: str) -> None:
    boxes = fit(Bridge(on=on), beta=1.0)
    assert torch.allclose(box_size(boxes)[:, 0], torch.tensor(0.4).double(), atol=1e-3)


# ---------------------------------------------------------------- plans


def test_empty_frames_and_ends_are_left_out() -> None:
    alphas = visible_alphas([False, True, True, False, True, True, False, False])
    expected = [math.nan, 0, 0.25, math.nan, 0.75, 1, math.nan, math.nan]
    assert alphas.tolist() == pytest.approx(expected, nan_ok=True)
    centres = torch.arange(16.0).reshape(8, 2)
    centres[0] = math.nan
    plan = PAPER.plan(centres, alphas)
    assert len(plan) == 8
    assert [plan[t] is None for t in range(8)] == [True, True, False, True, False, True, True, True]
    frame = plan[2]
    assert frame is not None
    assert frame.weight == pytest.approx(16 / 3)
    assert frame.alpha == 0.25
    assert frame.mean.tolist() == [4, 5]
    bent = centres.clone()
    bent[2] = torch.tensor([7.0, 7.0])
    line_frame, track_frame = PAPER.plan(bent, alphas)[2], Bridge(mean="track").plan(bent, alphas)[2]
    assert line_frame is not None
    assert line_frame.mean.tolist() == [4, 5]
    assert track_frame is not None
    assert track_frame.mean.tolist() == [7, 7]


@pytest.mark.parametrize("visible", [[], [False] * 8, [True], [True, True], [True, False, False, True]])
def test_less_than_three_visible_frames_make_no_bridge(visible: list[bool]) -> None:
    alphas = visible_alphas(visible)
    plan = PAPER.plan(torch.zeros(len(visible), 2), alphas)
    assert bool(alphas.isnan().all())
    assert float(plan.weights.sum()) == 0
    assert all(plan[t] is None for t in range(len(plan)))


def test_uneven_times() -> None:
    assert visible_alphas([True] * 4, [1.0, 1.5, 4.0, 5.0]).tolist() == pytest.approx([0, 0.125, 0.75, 1])
    with pytest.raises(ValueError, match="increase"):
        visible_alphas([True] * 3, [0.0, 2.0, 1.0])
    with pytest.raises(ValueError, match="one time per frame"):
        visible_alphas([True] * 3, [0.0, 2.0])


def test_points_off_the_object_do_not_count_in_the_foreground_mean() -> None:
    points = torch.tensor([[0.1, 0.2], [0.3, 0.4], [0.9, 0.9]])
    bridge = Bridge(on="foreground_mean")
    chosen = bridge.chosen(points, torch.zeros(4), torch.tensor([1, 1, 0]))
    assert chosen.tolist() == [pytest.approx([0.2, 0.3])]
    frame = BridgeFrame(0.5, torch.zeros(2), 4.0)
    none = bridge.chosen(points, torch.zeros(4), torch.zeros(3))
    assert none.shape == (0, 2)
    assert float(frame_term(none, frame)) == 0
    later = BridgeFrame(0.75, torch.zeros(2), 4.0)
    assert float(joint_term([none, points[:1]], [frame, later])) == pytest.approx(0.05 / 0.75 + 0.05 / 0.25)
    assert float(joint_term([none], [frame])) == 0
    assert float(joint_term([], [])) == 0


@pytest.mark.parametrize(
    "keys",
    [{"form": "sde"}, {"on": "mask"}, {"weights": "none"}, {"mean": "spline"}, {"epsilon": 0.0},
     {"form": "joint", "weights": "constant"}],
)  # fmt: skip
def test_bad_keys(keys: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="bridge"):
        Bridge(**keys)


def test_bad_shapes_and_orders() -> None:
    with pytest.raises(ValueError, match="centres"):
        PAPER.plan(torch.zeros(3, 2), visible_alphas([True] * 4))
    frames = [BridgeFrame(a, torch.zeros(2), 1.0) for a in (0.6, 0.3)]
    with pytest.raises(ValueError, match="order of time"):
        joint_term([torch.zeros(1, 2)] * 2, frames)
    with pytest.raises(ValueError, match="same number"):
        joint_term([torch.zeros(1, 2), torch.zeros(2, 2)], frames[::-1])
