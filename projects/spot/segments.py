"""Clips cut into segments, and what the losses need to know of an object in each of their frames.

Source: SPOT (CVPR 2026): a video is trained in segments of T_s = 8 consecutive frames. How a video is cut,
and what becomes of frames without the object, is not said; assumed here:

* segments do not overlap; the first one is cut short by a phase that is drawn anew for every sample, the
  last one keeps what is left, with a T_s of its own;
* a frame in which the object is not seen has no box and no points: its answer is a refusal, and the bridge
  leaves it out;
* an end without the object moves inward to the nearest frame that shows it, and alpha is counted between the
  ends that are left; with fewer than three frames between and with them there is no bridge
  (``visible_alphas``).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .bridge import visible_alphas
from .geometry import box_centre, mask_box, mask_centroid

SEGMENT_LENGTH = 8  # paper: T_s
CENTRES = ("box", "mask")


def cut(num_frames: int, length: int = SEGMENT_LENGTH, phase: int = 0) -> list[range]:
    """Consecutive segments that cover all frames once.

    Args:
        num_frames: T, at least 1.
        length: T_s, frames of a whole segment.
        phase: Frames of the first segment, in [0, length); 0 for a whole one.

    Returns:
        Frame numbers of each segment, in order; all but the first and the last have ``length`` frames.

    Raises:
        ValueError: For numbers outside these bounds.
    """
    if num_frames < 1 or length < 1 or not 0 <= phase < length:
        raise ValueError(
            f"need num_frames >= 1, length >= 1 and phase in [0, length), got {num_frames}, {length}, {phase}"
        )
    starts = [0, *range(phase or length, num_frames, length)]
    return [range(start, end) for start, end in zip(starts, [*starts[1:], num_frames], strict=True)]


@dataclass(frozen=True)
class ObjectSegment:
    """The truth of one expression over one segment; constants, on the CPU.

    Attributes:
        masks: (T_s, H, W) bool.
        boxes: (T_s, 4) float32 xyxy in [0, 1], NaN where nothing is seen.
        centres: (T_s, 2) float32 in [0, 1], NaN where nothing is seen.
        visible: (T_s,) bool.
        alphas: (T_s,) float64 place between the ends, NaN where the bridge leaves a frame out.
    """

    masks: Tensor
    boxes: Tensor
    centres: Tensor
    visible: Tensor
    alphas: Tensor

    def __len__(self) -> int:
        return len(self.visible)


def object_segment(masks: Tensor, *, centre: str = "box", times: Tensor | None = None) -> ObjectSegment:
    """The truth of a segment from its masks.

    Args:
        masks: (T_s, H, W) bool.
        centre: "box" (assumed): middle of the smallest rectangle, as the grid of points lies around it;
            "mask": mean of the mask's pixels.
        times: (T_s,) strictly increasing; None: the frames are evenly spaced.

    Raises:
        ValueError: For another centre, or masks that are no clip.
    """
    if centre not in CENTRES:
        raise ValueError(f"centre must be one of {CENTRES}, got {centre!r}")
    if masks.ndim != 3:
        raise ValueError(f"masks of a segment must be (T_s, H, W), got {tuple(masks.shape)}")
    boxes = torch.full((len(masks), 4), torch.nan)
    centres = torch.full((len(masks), 2), torch.nan)
    for t, mask in enumerate(masks):
        box = mask_box(mask)
        if box is None:
            continue
        boxes[t] = box
        middle = box_centre(box) if centre == "box" else mask_centroid(mask)
        assert middle is not None  # the mask is not empty
        centres[t] = middle
    visible = ~boxes[:, 0].isnan()
    return ObjectSegment(masks, boxes, centres, visible, visible_alphas(visible, times))
