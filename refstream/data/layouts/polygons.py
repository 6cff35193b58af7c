"""Masks as COCO polygons that pycocotools rasterises back to the very same pixels.

A polygon runs along the borders between pixels, so all its corners are whole numbers. COCO fills by counting
crossings, hence a hole can be part of the polygon around it: the pen goes to the hole, around it and back the
same way, and the two ways cancel.
"""

from __future__ import annotations

import cv2
import numpy as np

Point = tuple[int, int]
_STEPS: tuple[Point, ...] = ((1, 0), (0, 1), (-1, 0), (0, -1))  # (x, y): right, down, left, up


def mask_polygons(mask: np.ndarray) -> list[list[float]]:
    """(H, W) bool -> one polygon ``[x0, y0, x1, y1, ...]`` per 4-connected part; empty for an empty mask."""
    count, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    return [_polygon(parts == number) for number in range(1, count)]


def _polygon(part: np.ndarray) -> list[float]:
    """One connected part with its holes."""
    loops = _loops(part)
    outer = max(loops, key=_area)
    path = list(outer)
    for hole in loops:
        if hole is not outer:
            path += [outer[0], *hole, hole[0]]
    return [float(value) for point in path for value in point]


def _area(loop: list[Point]) -> int:
    """Twice the signed area: positive around a part, negative around a hole."""
    following = [*loop[1:], loop[0]]
    return sum(x * next_y - next_x * y for (x, y), (next_x, next_y) in zip(loop, following, strict=True))


def _loops(part: np.ndarray) -> list[list[Point]]:
    """Closed walks over pixel corners with the part on the right-hand side; only turning points are kept."""
    border = _border(part)
    todo = dict.fromkeys(sorted(border))
    loops = []
    while todo:
        x, y, way = next(iter(todo))
        loop: list[Point] = []
        while (x, y, way) in todo:
            del todo[x, y, way]
            x, y = x + _STEPS[way][0], y + _STEPS[way][1]
            right, left = (way + 1) % 4, (way + 3) % 4
            turned = next(turn for turn in (right, way, left) if (x, y, turn) in border)
            if turned != way:
                loop.append((x, y))
            way = turned
        loops.append(loop)
    return loops


def _border(part: np.ndarray) -> set[tuple[int, int, int]]:
    """Sides of pixels between inside and outside: (x, y) of the corner where it begins, index of its step."""
    padded = np.pad(part, 1)
    outside = ~np.stack([padded[:-2, 1:-1], padded[1:-1, 2:], padded[2:, 1:-1], padded[1:-1, :-2]])
    begins = ((0, 0), (1, 0), (1, 1), (0, 1))  # of the upper, right, lower and left side
    sides = np.argwhere(outside & part).tolist()
    return {(x + begins[way][0], y + begins[way][1], way) for way, y, x in sides}
