"""How steadily a mask follows its object over time.

Papers speak of temporal stability without a public definition, and the means of J and F cannot see it: frames
in any order score the same. These figures are our own. Two questions are kept apart. Does the place tremble?
That is jitter, from the masks' centres. Does the shape flicker? That is the IoU of neighbouring frames, plain
and with the motion of the truth taken out. A mask that is always empty or always full is perfectly steady, so
read them beside J and F.

With m_t the mask of frame t, c_t the mean (x, y) of its pixels and D the image diagonal in pixels:

- jitter = 100 / D * mean |c_(t+1) - 2 c_t + c_(t-1)|, in [0, 200] percent of the diagonal; 0 for a centre
  that stands or moves at constant velocity. Over triples of frames of which all masks have pixels.
- jitter_error = the same of c_t - (centre of the truth), in [0, 400]; 0 for a mask that trembles only as the
  truth does. Over triples of which all six masks have pixels.
- frame_iou = mean IoU(m_(t-1), m_t), in [0, 1]; 1 where both are empty, 0 where one is.
- compensated_iou = mean IoU(m_(t-1) moved along with the truth, m_t), in [0, 1]. "Moved along" is a shift by
  the displacement of the truth's centre, rounded to whole pixels; what came into the picture or left it by
  the shift does not count; 1 where both are empty, 0 where one is. Over pairs of frames in which the truth
  has pixels, as otherwise its motion is unknown.

A figure without a single frame to take it from is None.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import cv2
import numpy as np

from refstream.evaluation.metrics.iou import check_masks, mask_iou


@dataclass(frozen=True)
class Stability:
    """Figures of one mask over one clip; those with ``gt`` are the truth's own, to compare with.

    Attributes:
        jitter: In percent of the diagonal, in [0, 200]; smaller is steadier. None without three in a row.
        frame_iou: In [0, 1]; larger is steadier. None for a clip of one frame.
        jitter_error: As ``jitter``, of the offset from the truth.
        compensated_iou: As ``frame_iou``, with the truth's motion taken out.
        gt_jitter: ``jitter`` of the truth.
        gt_frame_iou: ``frame_iou`` of the truth.
        gt_compensated_iou: ``compensated_iou`` of the truth: below 1 as it turns, deforms or is hidden.
    """

    jitter: float | None
    frame_iou: float | None
    jitter_error: float | None = None
    compensated_iou: float | None = None
    gt_jitter: float | None = None
    gt_frame_iou: float | None = None
    gt_compensated_iou: float | None = None

    def known(self) -> dict[str, float]:
        """The figures that are not None, by name; JSON-serialisable."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def temporal_stability(result: np.ndarray, gt: np.ndarray | None = None) -> Stability:
    """How steady ``result`` is, by itself and against the truth.

    Args:
        result: (T, H, W) bool, consecutive frames.
        gt: Same shape, bool. None: the figures that need it are None.

    Raises:
        ValueError: If the masks are no bool masks of one shape.
    """
    if result.ndim != 3:
        raise ValueError(f"expected the (T, H, W) masks of a clip, got shape {result.shape}")
    check_masks(result if gt is None else gt, result)
    diagonal = float(np.hypot(*result.shape[1:]))
    centres = mask_centres(result)
    jitter, frame_iou = _jitter(centres, diagonal), _frame_iou(result)
    if gt is None:
        return Stability(jitter, frame_iou)
    gt_centres = mask_centres(gt)
    return Stability(
        jitter,
        frame_iou,
        jitter_error=_jitter(centres - gt_centres, diagonal),
        compensated_iou=_compensated_iou(result, gt_centres),
        gt_jitter=_jitter(gt_centres, diagonal),
        gt_frame_iou=_frame_iou(gt),
        gt_compensated_iou=_compensated_iou(gt, gt_centres),
    )


def mask_centres(masks: np.ndarray) -> np.ndarray:
    """(T, H, W) bool -> (T, 2) float64: mean (x, y) of each mask's pixels, NaN for an empty mask."""
    centres = np.full((len(masks), 2), np.nan)
    for centre, mask in zip(centres, masks, strict=True):
        moments = cv2.moments(np.ascontiguousarray(mask).view(np.uint8))
        if moments["m00"] > 0:
            centre[:] = moments["m10"] / moments["m00"], moments["m01"] / moments["m00"]
    return centres


def _jitter(centres: np.ndarray, diagonal: float) -> float | None:
    """(T, 2) positions, NaN where unknown -> percent of the diagonal."""
    bends = np.linalg.norm(centres[2:] - 2 * centres[1:-1] + centres[:-2], axis=1)
    bends = bends[~np.isnan(bends)]
    return 100 * float(bends.mean()) / diagonal if len(bends) else None


def _frame_iou(masks: np.ndarray) -> float | None:
    return float(mask_iou(masks[:-1], masks[1:]).mean()) if len(masks) > 1 else None


def _compensated_iou(masks: np.ndarray, gt_centres: np.ndarray) -> float | None:
    """(T, H, W) masks, (T, 2) centres of the truth -> mean IoU with the shifted predecessor."""
    moves = np.diff(gt_centres, axis=0)
    ious = []
    for t in np.flatnonzero(~np.isnan(moves).any(axis=1)):
        dx, dy = (int(step) for step in np.rint(moves[t]))
        previous, current = _overlap(masks[t], masks[t + 1], dx, dy)
        ious.append(float(mask_iou(previous, current)))
    return float(np.mean(ious)) if ious else None


def _overlap(previous: np.ndarray, current: np.ndarray, dx: int, dy: int) -> tuple[np.ndarray, np.ndarray]:
    """The parts of two (H, W) masks that lie on each other once the first is moved by (dx, dy) pixels.

    Never empty: a centre moves by less than the picture is wide and high.
    """
    height, width = previous.shape
    rows, cols = slice(max(0, -dy), height - max(0, dy)), slice(max(0, -dx), width - max(0, dx))
    later_rows, later_cols = slice(max(0, dy), height + min(0, dy)), slice(max(0, dx), width + min(0, dx))
    return previous[rows, cols], current[later_rows, later_cols]
