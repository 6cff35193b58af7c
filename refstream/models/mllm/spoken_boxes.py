"""Boxes in what an MLLM says: ``[[x1, y1, x2, y2], ...]`` with or without words and tags around them.

Families count differently: InternVL speaks in thousandths of the image's width and height, Qwen2.5-VL in
pixels of the image that it was given.
"""

from __future__ import annotations

import re

_NUMBER = r"\s*(-?\d+(?:\.\d+)?)\s*"
_BOX = re.compile(r"[\[(]" + ",".join([_NUMBER] * 4) + r"[\])]")
THOUSANDTHS = 1000.0

Box = tuple[float, float, float, float]


def spoken_boxes(text: str, scale: tuple[float, float] = (THOUSANDTHS, THOUSANDTHS)) -> list[Box]:
    """Boxes in the order in which they are said.

    What lies outside the image is cut off; a box of which nothing is left, or whose corners are not in
    order, is no box. Each is found once, however often it is repeated.

    Args:
        text: Any.
        scale: (width, height) that the numbers are divided by.

    Returns:
        x1, y1, x2, y2 in [0, 1] with x1 < x2 and y1 < y2; an empty list where the text has none.
    """
    found: dict[Box, None] = {}
    for numbers in _BOX.findall(text):
        x1, y1, x2, y2 = (
            min(max(float(number) / side, 0.0), 1.0)
            for number, side in zip(numbers, (*scale, *scale), strict=True)
        )
        if x1 < x2 and y1 < y2:
            found.setdefault((x1, y1, x2, y2))
    return list(found)
