"""A COCO segmentation as a mask, by the rule one should use and by those of public code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from refstream.data.rle import decode, from_polygons

Overlap = Literal["union", "background", "rle_of_sum"]
OVERLAPS: dict[str, str] = {
    "union": "a pixel in any part is target",
    "background": "defect: parts are added up and only 1 is target, so a pixel of two parts is not (LISA)",
    "rle_of_sum": "defect: the sum of parts is run-length coded, which toggles wherever the value changes "
    "(RES scripts derived from LISA's)",
}


def outlines(segmentation: Any, size: tuple[int, int]) -> list[np.ndarray]:
    """The parts of an annotation.

    Args:
        segmentation: Polygons, RLEs in a list, or one RLE; an empty list has no part.
        size: (H, W) of the picture.

    Returns:
        One (H, W) bool per part.

    Raises:
        ValueError: If a part is broken or an RLE is of another size.
    """
    parts = [segmentation] if isinstance(segmentation, Mapping) else segmentation
    return [_part(part, size) for part in parts]


def merge(
    annotations: Sequence[Sequence[np.ndarray]], size: tuple[int, int], overlap: Overlap = "union"
) -> np.ndarray:
    """The mask of some annotations together.

    Args:
        annotations: The parts of each, (H, W) bool.
        size: (H, W).
        overlap: A rule of ``OVERLAPS``. The public code adds up the parts of an annotation, and joins
            annotations by a bitwise or of these sums.

    Returns:
        (H, W) bool.
    """
    total = np.zeros(size, dtype=np.int32)
    for parts in annotations:
        total |= np.sum(parts, axis=0, dtype=np.int32) if len(parts) else 0
    if overlap == "union":
        return np.asarray(total > 0)
    if overlap == "background":
        return np.asarray(total == 1)
    columns = total.T.ravel()
    changes = np.diff(columns, prepend=0) != 0
    return np.ascontiguousarray((np.cumsum(changes) % 2 == 1).reshape(size[1], size[0]).T)


def _part(part: Any, size: tuple[int, int]) -> np.ndarray:
    if not isinstance(part, Mapping):
        return from_polygons([part], *size)
    mask = decode(dict(part))
    if mask.shape != size:
        raise ValueError(f"the mask is of size {mask.shape}, its picture of {size}")
    return mask
