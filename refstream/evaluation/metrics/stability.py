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

A model that prompts its segmenter with boxes has a place before there is any mask. With p_t the centre in
pixels of the box around all boxes of frame t:

- prompt_jitter = 100 / D * mean |p_(t+1) - 2 p_t + p_(t-1)|, as ``jitter``, in [0, 200]. Over triples of
  frames of which all have a box.
- prompt_jerk = 100 / D * mean |p_(t+2) - 3 p_(t+1) + 3 p_t - p_(t-1)|, in [0, 400] percent of the diagonal;
  0 also at constant acceleration. Over runs of four frames of which all have a box.
- gt_prompt_jitter, gt_prompt_jerk = the same of the true masks' boxes, over those triples and runs in which
  the truth has pixels too: what a model that says the true box would have.

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
        prompt_jitter: As ``jitter``, of the boxes that were the prompts. None without three in a row.
        prompt_jerk: In percent of the diagonal, in [0, 400]; smaller is smoother. None without four in a row.
        gt_prompt_jitter: ``prompt_jitter`` of the true boxes, on the same frames.
        gt_prompt_jerk: ``prompt_jerk`` of the true boxes, on the same frames.
    """

    jitter: float | None
    frame_iou: float | None
    jitter_error: float | None = None
    compensated_iou: float | None = None
    gt_jitter: float | None = None
    gt_frame_iou: float | None = None
    gt_compensated_iou: float | None = None
    prompt_jitter: float | None = None
    prompt_jerk: float | None = None
    gt_prompt_jitter: float | None = None
    gt_prompt_jerk: float | None = None

    def known(self) -> dict[str, float]:
        """The figures that are not None, by name; JSON-serialisable."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def temporal_stability(
    result: np.ndarray, gt: np.ndarray | None = None, prompts: np.ndarray | None = None
) -> Stability:
    """How steady ``result`` is, by itself and against the truth.

    Args:
        result: (T, H, W) bool, consecutive frames.
        gt: Same shape, bool. None: the figures that need it are None.
        prompts: (T, 4) float: x0, y0, x1, y1 of the box around what the segmenter was prompted with, in
            [0, 1] of width and height; NaN where there was none. None: the figures of prompts are None.

    Raises:
        ValueError: If the masks are no bool masks of one shape, or the prompts do not fit them.
    """
    if result.ndim != 3:
        raise ValueError(f"expected the (T, H, W) masks of a clip, got shape {result.shape}")
    check_masks(result if gt is None else gt, result)
    if prompts is not None and prompts.shape != (len(result), 4):
        raise ValueError(f"expected a box for each of {len(result)} frames, got shape {prompts.shape}")
    diagonal = float(np.hypot(*result.shape[1:]))
    centres = mask_centres(result)
    own: dict[str, float | None] = dict(
        jitter=mean_difference(centres, diagonal, 2), frame_iou=_frame_iou(result)
    )
    if prompts is not None:
        spoken = box_centres(prompts) * result.shape[:0:-1]
        own["prompt_jitter"] = mean_difference(spoken, diagonal, 2)
        own["prompt_jerk"] = mean_difference(spoken, diagonal, 3)
    if gt is None:
        return Stability(**own)
    gt_centres = mask_centres(gt)
    if prompts is not None:
        true = np.where(np.isnan(spoken), np.nan, box_centres(mask_boxes(gt)))
        own["gt_prompt_jitter"] = mean_difference(true, diagonal, 2)
        own["gt_prompt_jerk"] = mean_difference(true, diagonal, 3)
    return Stability(
        **own,
        jitter_error=mean_difference(centres - gt_centres, diagonal, 2),
        compensated_iou=_compensated_iou(result, gt_centres),
        gt_jitter=mean_difference(gt_centres, diagonal, 2),
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


def mask_boxes(masks: np.ndarray) -> np.ndarray:
    """(T, H, W) bool -> (T, 4) float64: x0, y0, x1, y1 in pixels, the last ones exclusive; NaN for empty."""
    boxes = np.full((len(masks), 4), np.nan)
    for box, mask in zip(boxes, masks, strict=True):
        rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if len(rows):
            box[:] = cols[0], rows[0], cols[-1] + 1, rows[-1] + 1
    return boxes


def box_centres(boxes: np.ndarray) -> np.ndarray:
    """(T, 4) x0, y0, x1, y1 -> (T, 2) float64 x, y, in the same units; NaN stays."""
    return np.asarray((boxes[:, :2] + boxes[:, 2:]) / 2, dtype=np.float64)


def mean_difference(places: np.ndarray, diagonal: float, order: int) -> float | None:
    """How far places depart from steady motion.

    Args:
        places: (T, 2) x, y in pixels of consecutive frames, NaN where unknown.
        diagonal: Of the picture, in pixels.
        order: 2: from constant velocity; 3: from constant acceleration.

    Returns:
        Mean length of the differences of this order, over runs of order + 1 frames of which all are known, in
        percent of the diagonal; None if there is no such run.
    """
    bends = np.linalg.norm(np.diff(places, n=order, axis=0), axis=1)
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
