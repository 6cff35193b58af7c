"""Mask arithmetic."""

from __future__ import annotations

import pytest
import torch

from refstream.models.masks import mask_iou, mask_ious, upsample_mask


def test_iou() -> None:
    a = torch.zeros(4, 4, dtype=torch.bool)
    b = a.clone()
    assert mask_iou(a, b) == 1.0  # both empty, as in DAVIS
    a[:2] = True
    assert mask_iou(a, b) == 0.0
    b[1:3] = True
    assert mask_iou(a, b) == pytest.approx(4 / 12)
    assert mask_ious(torch.stack([a, a]), torch.stack([b, a])).tolist() == pytest.approx([4 / 12, 1.0])


def test_upsampling_interpolates_logits_not_masks() -> None:
    logits = torch.tensor([[[3.0, -1.0]]])  # crosses zero at three quarters of the way
    mask = upsample_mask(logits, (1, 64))
    assert mask.shape == (1, 64)
    assert mask.sum() == 16 + 24
