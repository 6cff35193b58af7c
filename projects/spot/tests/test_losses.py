"""The loss of a segment: its parts, its sums, and what each part teaches."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from refstream_projects.spot.bridge import BridgePlan, visible_alphas
from refstream_projects.spot.geometry import grid_points
from refstream_projects.spot.losses import FrameTruth, SPOTLoss
from refstream_projects.spot.signals import FrameSignals
from torch import Tensor

from refstream.registry import LOSSES

TERMS = ("loss_box", "loss_class", "loss_text", "loss_bridge")


def true_boxes(length: int) -> Tensor:
    """(T, 4) a box that moves on a parabola."""
    t = torch.linspace(0, 1, length)
    centres = torch.stack((0.3 + 0.4 * t, 0.3 + 0.3 * t * t), dim=1)
    size = torch.tensor([0.2, 0.3])
    return torch.cat((centres - size / 2, centres + size / 2), dim=1)


def plan_of(loss: SPOTLoss, length: int) -> BridgePlan:
    boxes = true_boxes(length)
    return loss.bridge.plan((boxes[:, :2] + boxes[:, 2:]) / 2, visible_alphas([True] * length))


def segment(
    loss: SPOTLoss, length: int = 8, objects: int = 1
) -> tuple[list[Tensor], list[FrameSignals], list[FrameTruth]]:
    """Leaves of each frame (boxes, z, token losses; float64), and signals and truths made of them."""
    maker = torch.Generator().manual_seed(length)
    plan = plan_of(loss, length)
    leaves, frames, truths = [], [], []
    for t, true in enumerate(true_boxes(length).expand(objects, length, 4).unbind(1)):
        boxes = (true + 0.03 * torch.randn(objects, 4, generator=maker)).double().requires_grad_()
        z = torch.randn(objects, 25, generator=maker).double().requires_grad_()
        tokens = torch.rand(20 + t, generator=maker).double().requires_grad_()
        leaves += [boxes, z, tokens]
        is_point = torch.arange(20 + t) % 2 == 0
        frames.append(FrameSignals(boxes, grid_points(boxes), z, tokens, is_point))
        labels = torch.randint(0, 2, (objects, 25), generator=maker)
        truths.append(FrameTruth(true, labels, (plan[t],) * objects))
    return leaves, frames, truths


def total(losses: dict[str, Tensor]) -> Tensor:
    assert tuple(losses) == TERMS
    assert all(value.dtype == losses["loss_box"].dtype and value.ndim == 0 for value in losses.values())
    return torch.stack(list(losses.values())).sum()


def gradients(value: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    found = torch.autograd.grad(value, leaves, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(x) if g is None else g for g, x in zip(found, leaves, strict=True)]


def test_it_is_registered_with_the_papers_weights() -> None:
    loss = LOSSES.build(dict(type="SPOTLoss"))
    assert (loss.bridge_weight, loss.text_weight, loss.box_weight, loss.class_weight) == (0.1, 0.5, 1, 1)
    assert (loss.bridge.form, loss.bridge.on, loss.bridge.weights, loss.bridge.mean) == (
        "paper",
        "points",
        "variance",
        "endpoints",
    )


def test_every_term_by_hand() -> None:
    loss = SPOTLoss()
    truth = true_boxes(8)[3:4]
    moved = truth + torch.tensor([0.03, 0.0, 0.03, 0.0])  # no change of size
    asked = plan_of(loss, 8)[3]
    assert asked is not None
    frame = FrameSignals(
        moved,
        grid_points(moved),
        torch.zeros(1, 25),
        torch.tensor([1.0, 2.0, 6.0]),
        torch.tensor([0, 0, 1]) > 0,
    )
    found = loss([frame], [FrameTruth(truth, torch.ones(1, 25), (asked,))], num_frames=8)
    centre = (truth[0, :2] + truth[0, 2:]) / 2 + torch.tensor([0.03, 0.0])
    spread = 0.08 * (0.2**2 + 0.3**2)
    distance = float((centre - asked.mean).square().sum()) + spread
    assert found["loss_box"].item() == pytest.approx(2 * 0.5 * 0.03**2 * 9, rel=1e-4)
    assert found["loss_class"].item() == pytest.approx(25 * math.log(2))
    assert found["loss_text"].item() == pytest.approx(0.5 * 3)
    assert found["loss_bridge"].item() == pytest.approx(0.1 * 49 / 12 * distance, rel=1e-4)
    masked = SPOTLoss(mask_point_answers=True)([frame], [FrameTruth(truth, torch.ones(1, 25))], num_frames=8)
    assert masked["loss_text"].item() == pytest.approx(0.5 * 1.5)
    assert masked["loss_bridge"].item() == 0


@pytest.mark.parametrize(
    "keys", [{}, {"bridge": {"on": "points_centred", "mean": "track"}}, {"frame_reduction": "mean"}]
)
def test_frame_by_frame_equals_the_whole_segment(keys: dict[str, Any]) -> None:
    loss = SPOTLoss(**keys)
    leaves, frames, truths = segment(loss, objects=2)
    whole = loss(frames, truths, num_frames=8, num_segments=3)
    parts = [loss([f], [t], num_frames=8, num_segments=3) for f, t in zip(frames, truths, strict=True)]
    for name in TERMS:
        together = torch.stack([part[name] for part in parts]).sum()
        assert together.item() == pytest.approx(whole[name].item(), rel=1e-12)
    at_once = gradients(total(whole), leaves)
    alone = [torch.zeros_like(x) for x in leaves]
    for part in parts:
        alone = [a + g for a, g in zip(alone, gradients(total(part), leaves), strict=True)]
    for a, b in zip(alone, at_once, strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-12)


def test_the_joint_form_needs_the_segment_at_once() -> None:
    loss = SPOTLoss(bridge={"form": "joint", "on": "points_centred"})
    assert loss.bridge.couples_frames
    assert not SPOTLoss().bridge.couples_frames
    leaves, frames, truths = segment(loss)
    with pytest.raises(ValueError, match="couples"):
        loss(frames[:1], truths[:1], num_frames=8)
    plan = plan_of(loss, 8)
    errors = torch.stack([f.points[0].mean(0) - plan.means[t] for t, f in enumerate(frames)])
    errors = torch.cat((torch.zeros(1, 2), errors[1:-1], torch.zeros(1, 2)))
    expected = 0.1 * 7 * errors.diff(dim=0).square().sum()
    assert loss(frames, truths, num_frames=8)["loss_bridge"].item() == pytest.approx(
        expected.item(), rel=1e-5
    )
    neighbour = gradients(loss(frames, truths, num_frames=8)["loss_bridge"], leaves)[3 * 4]
    swapped = [replace(f, points=f.points + 0.1) if t == 3 else f for t, f in enumerate(frames)]
    changed = gradients(loss(swapped, truths, num_frames=8)["loss_bridge"], leaves)[3 * 4]
    assert not torch.allclose(neighbour, changed)  # frame 4 feels frame 3


def test_tracks_keep_objects_apart_in_the_joint_form() -> None:
    loss = SPOTLoss(bridge={"form": "joint", "on": "box_centre"})
    _, frames, truths = segment(loss, objects=2)
    named = [replace(t, tracks=(5, 2)) for t in truths]
    turned = [
        FrameSignals(f.boxes.flip(0), f.points.flip(0), f.z.flip(0), f.token_losses, f.is_point)
        if k % 2
        else f
        for k, f in enumerate(frames)
    ]
    crossed = [
        FrameTruth(t.boxes.flip(0), t.labels.flip(0), t.bridge[::-1], (2, 5))
        if k % 2
        else replace(t, tracks=(5, 2))
        for k, t in enumerate(truths)
    ]
    value = loss(frames, named, num_frames=8)["loss_bridge"].item()
    assert loss(turned, crossed, num_frames=8)["loss_bridge"].item() == pytest.approx(value, rel=1e-6)


def test_the_mean_over_frames_divides_everything_by_their_number() -> None:
    _, frames, truths = segment(SPOTLoss())
    paper = SPOTLoss()(frames, truths, num_frames=8)
    mean = SPOTLoss(frame_reduction="mean")(frames, truths, num_frames=8)
    for name in TERMS:
        assert mean[name].item() == pytest.approx(paper[name].item() / 8, rel=1e-6)


def test_objects_of_a_frame_are_averaged() -> None:
    loss = SPOTLoss()
    _, frames, truths = segment(loss, length=3)
    doubled = [
        replace(f, **{n: getattr(f, n).repeat_interleave(2, 0) for n in ("boxes", "points", "z")})
        for f in frames
    ]
    both = [FrameTruth(t.boxes.expand(2, 4), t.labels.expand(2, 25), t.bridge * 2) for t in truths]
    one, two = loss(frames, truths, num_frames=3), loss(doubled, both, num_frames=3)
    for name in TERMS:
        assert one[name].item() == pytest.approx(two[name].item(), rel=1e-6)


def test_an_empty_frame_teaches_its_refusal_alone() -> None:
    tokens = torch.tensor([1.0, 3.0], requires_grad=True)
    frame = FrameSignals(
        torch.zeros(0, 4), torch.zeros(0, 25, 2), torch.zeros(0, 25), tokens, torch.zeros(2, dtype=torch.bool)
    )
    found = SPOTLoss()([frame], [FrameTruth(torch.zeros(0, 4), torch.zeros(0, 25))], num_frames=1)
    assert {name: value.item() for name, value in found.items()} == {
        "loss_box": 0, "loss_class": 0, "loss_text": 1, "loss_bridge": 0
    }  # fmt: skip
    total(found).backward()
    assert tokens.grad is not None
    assert tokens.grad.tolist() == [0.25, 0.25]


def test_a_still_has_no_bridge() -> None:
    loss = SPOTLoss()
    leaves, frames, truths = segment(loss, length=1)
    found = loss(frames, truths, num_frames=1)
    assert found["loss_bridge"].item() == 0
    assert found["loss_box"].item() > 0
    total(found).backward()
    assert all(bool(leaf.grad is not None and leaf.grad.isfinite().all()) for leaf in leaves)


def test_bad_input() -> None:
    loss = SPOTLoss()
    _, frames, truths = segment(loss)
    with pytest.raises(ValueError, match="1 to 4 frames"):
        loss(frames, truths, num_frames=4)
    with pytest.raises(ValueError, match="frames"):
        loss([], [], num_frames=8)
    with pytest.raises(ValueError, match="2 objects"):
        loss(frames[:1], [FrameTruth(torch.zeros(2, 4), torch.zeros(2, 25))], num_frames=8)
    with pytest.raises(ValueError, match="is_point"):
        loss([replace(frames[0], is_point=torch.zeros(1) > 0)], truths[:1], num_frames=8)
    with pytest.raises(ValueError, match="as many rows"):
        FrameTruth(torch.zeros(2, 4), torch.zeros(1, 25))
    for keys in ({"bridge_weight": -1}, {"class_reduction": "max"}, {"bridge": {"sigma": 1}}, {"beta": -1}):
        with pytest.raises(ValueError, match=r"not be negative|reductions|no keys"):
            SPOTLoss(**keys)  # type: ignore[arg-type]
