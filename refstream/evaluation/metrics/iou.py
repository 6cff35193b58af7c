"""Intersection over union of masks."""

from __future__ import annotations

import numpy as np


def check_masks(gt: np.ndarray, result: np.ndarray, void: np.ndarray | None = None) -> None:
    """Raise ValueError unless all are non-empty (H, W) or (T, H, W) bool masks of one shape."""
    for name, mask in (("gt", gt), ("result", result), ("void", void)):
        if mask is None:
            continue
        if mask.dtype != bool or mask.ndim not in (2, 3) or mask.size == 0:
            raise ValueError(
                f"{name} must be a non-empty (H, W) or (T, H, W) bool mask, got {mask.shape} {mask.dtype}"
            )
        if mask.shape != gt.shape:
            raise ValueError(
                f"{name} has shape {mask.shape}, gt has {gt.shape}; resize logits before thresholding"
            )


def intersection_and_union(
    gt: np.ndarray, result: np.ndarray, void: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of pixels in both and in either mask of each frame, leaving out void pixels.

    Args:
        gt: (H, W) or (T, H, W) bool.
        result: Same shape, bool.
        void: Same shape, bool, or None.

    Returns:
        Two int64 arrays of shape () or (T,).
    """
    check_masks(gt, result, void)
    inter, union = gt & result, gt | result
    if void is not None:
        inter, union = inter & ~void, union & ~void
    return _count(inter), _count(union)


def mask_iou(gt: np.ndarray, result: np.ndarray, void: np.ndarray | None = None) -> np.ndarray:
    """IoU of each frame, in [0, 1], shape () or (T,); 1 where the union is empty."""
    inter, union = intersection_and_union(gt, result, void)
    return np.where(union == 0, 1.0, inter / np.maximum(union, 1))


def _count(mask: np.ndarray) -> np.ndarray:
    if mask.ndim == 2:
        return np.asarray(np.count_nonzero(mask))
    return np.array([np.count_nonzero(frame) for frame in mask])  # several times as fast as axis=(-2, -1)
