"""Mask losses against closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from refstream.models.losses.mask import (
    FullSizeMaskLoss,
    MaskLoss,
    dice,
    read_points,
    sample_points,
    sigmoid_bce,
)


def test_bce_closed_form() -> None:
    logits = torch.tensor([[[0.0, 2.0]]])
    target = torch.tensor([[[1.0, 0.0]]])
    expected = (math.log(2) + math.log(1 + math.exp(2))) / 2
    assert sigmoid_bce(logits, target).item() == pytest.approx(expected, rel=1e-6)


def test_dice_closed_form() -> None:
    logits = torch.zeros(1, 2, 2)  # p = 1/2 everywhere
    target = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
    assert dice(logits, target).item() == pytest.approx(1 - (2 * 1.0 + 1) / (2 + 2 + 1), rel=1e-6)


@pytest.mark.parametrize("filled", [False, True])
def test_perfect_masks_cost_nothing(filled: bool) -> None:
    target = torch.full((1, 8, 8), float(filled))
    logits = (target * 2 - 1) * 50
    assert sigmoid_bce(logits, target).item() == pytest.approx(0, abs=1e-6)
    assert dice(logits, target).item() == pytest.approx(0, abs=1e-6)


def test_weights_and_valid_rows() -> None:
    logits, target = torch.randn(3, 4, 4), torch.rand(3, 4, 4)
    loss = MaskLoss(2.0, 0.5)(logits, target, torch.tensor([True, False, True]))
    assert loss["loss_bce"].item() == pytest.approx(
        2 * sigmoid_bce(logits, target)[[0, 2]].mean().item(), rel=1e-5
    )
    assert loss["loss_dice"].item() == pytest.approx(
        0.5 * dice(logits, target)[[0, 2]].mean().item(), rel=1e-5
    )
    none = MaskLoss()(logits.requires_grad_(), target, torch.zeros(3, dtype=torch.bool))
    none["loss_bce"].backward()
    assert none["loss_bce"].item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_truth_is_area_averaged_to_the_logits() -> None:
    target = torch.zeros(1, 4, 4)
    target[0, 0, 0] = 1  # a quarter of the first coarse pixel
    loss = MaskLoss()(torch.full((1, 2, 2), -40.0), target)
    assert loss["loss_bce"].item() == pytest.approx(40 * 0.25 / 4, rel=1e-5)


def test_points() -> None:
    maps = torch.arange(16.0).reshape(1, 4, 4)
    centre = torch.tensor([[[0.125, 0.125], [0.875, 0.875]]])  # centres of the first and the last pixel
    assert torch.allclose(read_points(maps, centre), torch.tensor([[0.0, 15.0]]))
    logits = torch.linspace(9.0, -9.0, 16).expand(1, 16, 16)  # least certain in the middle column
    points = sample_points(logits, 400)
    assert points.shape == (1, 400, 2)
    near = ((points[..., 0] - 0.5).abs() < 0.15).float().mean().item()
    assert near > 0.6  # 3/4 are sought there, chance would give 0.3


def test_wrong_settings() -> None:
    with pytest.raises(ValueError, match="negative"):
        MaskLoss(bce_weight=-1)


def test_full_size_loss_compares_enlarged_logits() -> None:
    logits = torch.tensor([[[3.0, -1.0]]])
    target = torch.rand(1, 1, 8)
    # bilinear between the two centres, which lie at 1.5 and 5.5 of the eight pixels, and flat beyond them
    enlarged = torch.tensor([3.0, 3.0, 2.5, 1.5, 0.5, -0.5, -1.0, -1.0])[None, None]
    loss = FullSizeMaskLoss()(logits, target)
    assert loss["loss_bce"].item() == pytest.approx(sigmoid_bce(enlarged, target).item(), rel=1e-5)
    assert loss["loss_dice"].item() == pytest.approx(dice(enlarged, target).item(), rel=1e-5)
