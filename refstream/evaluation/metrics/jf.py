"""Region similarity J and contour accuracy F of DAVIS, equal to the official code digit for digit.

Source: Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation"
(CVPR 2016), sections 3.1 and 3.2; the arithmetic follows the DAVIS-2017 evaluation code: half-pixel boundary
maps, a Euclidean disk as tolerance, no matching. Masks of unequal size are refused, never resized.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from refstream.evaluation.metrics.iou import check_masks, mask_iou

BOUND_TH = 0.008  # of the image diagonal; default of the DAVIS code


class JAndF(NamedTuple):
    """Means over frames, in [0, 1]."""

    j: float
    f: float

    @property
    def mean(self) -> float:
        """J&F."""
        return (self.j + self.f) / 2


class SequenceStatistics(NamedTuple):
    """Over a sequence's frames: mean, recall (share above 0.5) and decay (first quarter minus last)."""

    mean: float
    recall: float
    decay: float


def region_similarity(
    gt: np.ndarray, result: np.ndarray, void: np.ndarray | None = None
) -> float | np.ndarray:
    """J: intersection over union of the pixels outside ``void``; 1 where the union is empty.

    Args:
        gt: (H, W) or (T, H, W) bool.
        result: Same shape, bool.
        void: Same shape, bool: pixels that do not count. None: all count.

    Returns:
        A float for one frame, (T,) float64 for several.
    """
    j = mask_iou(gt, result, void)
    return float(j) if gt.ndim == 2 else j


def contour_accuracy(
    gt: np.ndarray, result: np.ndarray, void: np.ndarray | None = None, bound_th: float = BOUND_TH
) -> float | np.ndarray:
    """F: harmonic mean of contour precision and recall within a tolerance.

    ``void`` is set to background in both masks before boundaries are taken, as the official code does.

    Args:
        gt: (H, W) or (T, H, W) bool.
        result: Same shape, bool.
        void: Same shape, bool, or None.
        bound_th: Tolerance: below 1 a share of the image diagonal, rounded up; otherwise whole pixels.

    Returns:
        A float for one frame, (T,) float64 for several.
    """
    check_masks(gt, result, void)
    radius = tolerance(gt.shape[-2:], bound_th)
    if void is not None:
        gt, result = gt & ~void, result & ~void
    if gt.ndim == 2:
        return _contour_accuracy(gt, result, radius)
    return np.array([_contour_accuracy(g, r, radius) for g, r in zip(gt, result, strict=True)])


def j_and_f(
    gt: np.ndarray, result: np.ndarray, void: np.ndarray | None = None, bound_th: float = BOUND_TH
) -> JAndF:
    """Mean J and mean F over the frames of (H, W) or (T, H, W) bool masks."""
    j = region_similarity(gt, result, void)
    f = contour_accuracy(gt, result, void, bound_th)
    return JAndF(float(np.mean(j)), float(np.mean(f)))


def sequence_statistics(values: np.ndarray) -> SequenceStatistics:
    """Mean, recall and decay of (T,) values as in the DAVIS tables; NaN frames are left out of the means.

    The official code keeps the edges of the quarters in 8 bits, so the decay of a sequence of more than 256
    frames is not what it says; that is reproduced here.
    """
    edges = (np.round(np.linspace(1, len(values), 5) + 1e-10) - 1).astype(np.int64) % 256
    quarters = [values[edges[i] : edges[i + 1] + 1] for i in range(4)]
    return SequenceStatistics(
        mean=float(np.nanmean(values)),
        recall=float(np.nanmean(values > 0.5)),
        decay=float(np.nanmean(quarters[0]) - np.nanmean(quarters[3])),
    )


def tolerance(size: tuple[int, ...], bound_th: float = BOUND_TH) -> int:
    """Radius in pixels for masks of (H, W): ceil(bound_th * diagonal), or ``bound_th`` itself from 1 on."""
    if bound_th <= 0 or (bound_th >= 1 and bound_th != int(bound_th)):
        raise ValueError(f"bound_th must be in (0, 1) or a whole number of pixels, got {bound_th}")
    return int(bound_th) if bound_th >= 1 else int(np.ceil(bound_th * np.linalg.norm(size)))


def boundary_map(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool -> (H, W) bool: pixels that differ from their right, lower or lower right neighbour.

    The last row looks to the right only, the last column downwards only, and the corner is never a boundary.
    """
    boundary = np.zeros_like(mask)
    right = mask[:, :-1] != mask[:, 1:]
    below = mask[:-1] != mask[1:]
    boundary[:, :-1] |= right
    boundary[:-1] |= below
    boundary[:-1, :-1] |= mask[:-1, :-1] != mask[1:, 1:]
    return boundary


def _contour_accuracy(gt: np.ndarray, result: np.ndarray, radius: int) -> float:
    gt_boundary, result_boundary = boundary_map(gt), boundary_map(result)
    num_gt, num_result = np.count_nonzero(gt_boundary), np.count_nonzero(result_boundary)
    if num_gt == 0 or num_result == 0:
        return 1.0 if num_gt == num_result else 0.0
    # Beyond the box around both boundaries nothing is counted, and its pixels are reached from inside only.
    either = gt_boundary | result_boundary
    rows, cols = np.flatnonzero(either.any(1)), np.flatnonzero(either.any(0))
    box = slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)
    gt_boundary, result_boundary = gt_boundary[box], result_boundary[box]
    precision = np.count_nonzero(result_boundary & _dilate(gt_boundary, radius)) / num_result
    recall = np.count_nonzero(gt_boundary & _dilate(result_boundary, radius)) / num_gt
    if precision + recall == 0:
        return 0.0
    return 2 * precision * recall / (precision + recall)


def _dilate(mask: np.ndarray, radius: int) -> np.ndarray:
    return cv2.dilate(mask.astype(np.uint8), _disk(radius)).astype(bool)


@lru_cache(maxsize=64)
def _disk(radius: int) -> np.ndarray:
    """(2r + 1, 2r + 1) uint8: 1 where dx^2 + dy^2 <= r^2. OpenCV's own ellipse is another shape."""
    steps = np.arange(-radius, radius + 1)
    return (steps[:, None] ** 2 + steps[None, :] ** 2 <= radius * radius).astype(np.uint8)
