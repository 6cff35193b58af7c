"""Region similarity J and contour accuracy F of DAVIS, equal to the official code digit for digit.

Source: Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation"
(CVPR 2016), sections 3.1 and 3.2; the arithmetic follows the DAVIS-2017 evaluation code: half-pixel boundary
maps, a Euclidean disk as tolerance, no matching. Masks of unequal size are refused, never resized.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from refstream.evaluation.metrics import packed
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


class FrameCounts(NamedTuple):
    """All that J and F are made of: numbers of pixels, each (T,) int64.

    Attributes:
        inter: In both masks.
        union: In either mask.
        gt_boundary: On the boundary of the truth.
        result_boundary: On the boundary of the result.
        gt_matched: Of ``gt_boundary``, those within the tolerance of the result's boundary.
        result_matched: Of ``result_boundary``, those within the tolerance of the truth's.
    """

    inter: np.ndarray
    union: np.ndarray
    gt_boundary: np.ndarray
    result_boundary: np.ndarray
    gt_matched: np.ndarray
    result_matched: np.ndarray

    @property
    def j(self) -> np.ndarray:
        """(T,) float64 in [0, 1]; 1 where the union is empty."""
        return np.where(self.union == 0, 1.0, self.inter / np.maximum(self.union, 1))

    @property
    def f(self) -> np.ndarray:
        """(T,) float64 in [0, 1]; 1 where neither mask has a boundary, 0 where one of them has none."""
        precision = self.result_matched / np.maximum(self.result_boundary, 1)
        recall = self.gt_matched / np.maximum(self.gt_boundary, 1)
        total = precision + recall
        f = 2 * precision * recall / np.where(total == 0, 1.0, total)
        return np.where((self.gt_boundary == 0) & (self.result_boundary == 0), 1.0, f)


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
    _, f = frame_scores(gt, result, void, bound_th)
    return float(f[0]) if gt.ndim == 2 else f


def frame_scores(
    gt: np.ndarray, result: np.ndarray, void: np.ndarray | None = None, bound_th: float = BOUND_TH
) -> tuple[np.ndarray, np.ndarray]:
    """J and F of each frame in one pass; what is slow about either is shared.

    Args:
        gt: (H, W) or (T, H, W) bool.
        result: Same shape, bool.
        void: Same shape, bool, or None: as in ``region_similarity`` and ``contour_accuracy``.
        bound_th: As in ``contour_accuracy``.

    Returns:
        J and F, both (T,) float64 in [0, 1]; (1,) for one frame.

    Raises:
        ValueError: If the masks are no bool masks of one shape, or ``bound_th`` makes no sense.
    """
    check_masks(gt, result, void)
    radius = tolerance(gt.shape[-2:], bound_th)
    clips = [mask if mask.ndim == 3 else mask[None] for mask in (gt, result, void) if mask is not None]
    counts = np.array([_count(masks, radius) for masks in zip(*clips, strict=True)])
    frames = FrameCounts(*counts.T)
    return frames.j, frames.f


def j_and_f(
    gt: np.ndarray, result: np.ndarray, void: np.ndarray | None = None, bound_th: float = BOUND_TH
) -> JAndF:
    """Mean J and mean F over the frames of (H, W) or (T, H, W) bool masks."""
    j, f = frame_scores(gt, result, void, bound_th)
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


def _count(masks: tuple[np.ndarray, ...], radius: int) -> tuple[int, ...]:
    """(gt, result) or (gt, result, void), each (H, W) bool -> the numbers of ``FrameCounts``."""
    pair = packed.pack(masks[:2])
    if len(masks) == 3:
        pair &= ~packed.pack(masks[2:])
    sizes, inter = packed.count(pair), packed.count(pair[:1] & pair[1:])
    boundaries = packed.boundary(pair, masks[0].shape[1])
    lengths, matched = packed.count(boundaries), np.zeros(2, dtype=np.int64)
    if lengths.all():
        # Beyond the box of both boundaries nothing is counted, and what is in it is reached from inside.
        boundaries = packed.crop(boundaries)
        matched = packed.count(boundaries & packed.dilate(boundaries, radius)[::-1])
    return int(inter[0]), int(sizes.sum() - inter[0]), *lengths.tolist(), *matched.tolist()
