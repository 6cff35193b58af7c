"""J and F of whole clips on any torch device: the same counts as ``jf``, hence the same figures.

For masks that are on a GPU already; counts are whole numbers, so no device and no batch size alters a digit.
"""

from __future__ import annotations

from math import isqrt

import numpy as np
import torch
import torch.nn.functional as F

from refstream.evaluation.metrics.jf import BOUND_TH, FrameCounts, tolerance

FRAMES_AT_ONCE = 32  # at 480 x 854 about 0.2 GB


def frame_scores(
    gt: torch.Tensor,
    result: torch.Tensor,
    void: torch.Tensor | None = None,
    bound_th: float = BOUND_TH,
    frames_at_once: int = FRAMES_AT_ONCE,
) -> tuple[np.ndarray, np.ndarray]:
    """J and F of each frame.

    Args:
        gt: (T, H, W) bool.
        result: Same shape, device and dtype.
        void: Same, or None.
        bound_th: Tolerance, as in ``jf.contour_accuracy``.
        frames_at_once: Bounds the memory beside the masks: about 15 bool copies of so many frames.

    Returns:
        J and F, both (T,) float64 in [0, 1], equal to those of ``jf.frame_scores``.

    Raises:
        ValueError: If the masks differ in shape or device, are not bool or are empty.
    """
    clips = [mask for mask in (gt, result, void) if mask is not None]
    for mask in clips:
        if mask.dtype != torch.bool or mask.ndim != 3 or mask.numel() == 0:
            raise ValueError(f"expected non-empty (T, H, W) bool masks, got {tuple(mask.shape)} {mask.dtype}")
        if mask.shape != gt.shape or mask.device != gt.device:
            raise ValueError(
                f"expected masks of one shape on one device, got {tuple(gt.shape)} on {gt.device} and "
                f"{tuple(mask.shape)} on {mask.device}"
            )
    if frames_at_once < 1:
        raise ValueError(f"frames_at_once must be at least 1, got {frames_at_once}")
    radius = tolerance(tuple(gt.shape[-2:]), bound_th)
    starts = range(0, len(gt), frames_at_once)
    parts = [_count([mask[start : start + frames_at_once] for mask in clips], radius) for start in starts]
    counts = FrameCounts(*torch.cat(parts, dim=1).cpu().numpy())
    return counts.j, counts.f


def boundary_map(masks: torch.Tensor) -> torch.Tensor:
    """(T, H, W) bool -> (T, H, W) bool, as ``jf.boundary_map`` of each frame."""
    boundary = torch.zeros_like(masks)
    boundary[:, :, :-1] |= masks[:, :, :-1] ^ masks[:, :, 1:]
    boundary[:, :-1] |= masks[:, :-1] ^ masks[:, 1:]
    boundary[:, :-1, :-1] |= masks[:, :-1, :-1] ^ masks[:, 1:, 1:]
    return boundary


def dilate(masks: torch.Tensor, radius: int) -> torch.Tensor:
    """(T, H, W) bool -> (T, H, W) bool: dilation by the Euclidean disk dx^2 + dy^2 <= radius^2.

    The disk is taken row by row, from the shortest to the longest; what a row has reached so far is widened
    by shifts to both sides.
    """
    height, width = masks.shape[-2:]
    wide, out = masks, torch.zeros_like(masks)
    reach = 0
    for dy in range(radius, -1, -1):
        half = min(isqrt(radius * radius - dy * dy), width - 1)
        while reach < half:
            step = min(half - reach, 2 * reach + 1)
            wide = wide | F.pad(wide, (step, 0))[:, :, :width] | F.pad(wide, (0, step))[:, :, step:]
            reach += step
        if dy == 0:
            out |= wide
        elif dy < height:
            out[:, :-dy] |= wide[:, dy:]
            out[:, dy:] |= wide[:, :-dy]
    return out


def _count(masks: list[torch.Tensor], radius: int) -> torch.Tensor:
    """(gt, result) or (gt, result, void), each (T, H, W) -> (6, T) int64, rows as in ``FrameCounts``."""
    gt, result = masks[:2]
    if len(masks) == 3:
        gt, result = gt & ~masks[2], result & ~masks[2]
    gt_boundary, result_boundary = boundary_map(gt), boundary_map(result)
    areas = (
        gt & result,
        gt | result,
        gt_boundary,
        result_boundary,
        gt_boundary & dilate(result_boundary, radius),
        result_boundary & dilate(gt_boundary, radius),
    )
    return torch.stack([area.sum(dim=(1, 2)) for area in areas])
