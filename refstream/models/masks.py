"""Small arithmetic on masks."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def mask_iou(a: Tensor, b: Tensor) -> float:
    """IoU of two (h, w) bool masks; 1 when both are empty (as in DAVIS), 0 when only one is."""
    return float(mask_ious(a[None], b[None]))


def mask_ious(a: Tensor, b: Tensor) -> Tensor:
    """IoU of N pairs of (N, h, w) bool masks -> (N,) float32; 1 when both are empty, 0 when only one is."""
    union = torch.logical_or(a, b).flatten(1).sum(1)
    inter = torch.logical_and(a, b).flatten(1).sum(1)
    return torch.where(union == 0, torch.ones_like(union, dtype=torch.float32), inter / union.clamp(min=1))


def upsample_mask(mask_logits: Tensor, size: tuple[int, int]) -> np.ndarray:
    """(1, h, w) low-resolution logits -> (H, W) bool: bilinear logits, then > 0 (evaluation protocol)."""
    full = F.interpolate(mask_logits[None].float(), size, mode="bilinear", align_corners=False)
    return (full[0, 0] > 0).cpu().numpy()
