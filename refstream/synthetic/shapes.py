"""The shapes of MiniRVOS as geometry: which points lie inside, how far they reach and when two touch.

Shapes are given in units of the radius of their circumscribed disk, x right, y down, centre at the origin.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

# Outward normals of a pentagram's five lines, one tip up (y down), rounded so that every platform agrees.
_STAR_NORMALS = (
    (0.0, -1.0),
    (0.951056516, -0.309016994),
    (0.587785252, 0.809016994),
    (-0.587785252, 0.809016994),
    (-0.951056516, -0.309016994),
)
_STAR_OFFSET = 0.309016994  # distance of these lines from the centre, for tips at distance 1
_TRIANGLE_NORMALS = ((0.866025404, -0.5), (-0.866025404, -0.5), (0.0, 1.0))
_RESOLUTION = 201  # lines and points per line when the outline is looked up

# The smallest box x0, y0, x1, y1 around each shape.
UNIT_BOXES: dict[str, tuple[float, float, float, float]] = {
    "circle": (-0.98, -0.98, 0.98, 0.98),
    "square": (-0.8, -0.8, 0.8, 0.8),
    "triangle": (-0.953, -1.0, 0.953, 0.65),
    "star": (-0.952, -1.0, 0.952, 0.81),
    "cross": (-0.95, -0.95, 0.95, 0.95),
    "ring": (-1.0, -1.0, 1.0, 1.0),
}


def inside(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which of the points lie inside, bool of the shape that ``x`` and ``y`` broadcast to."""
    if shape == "circle":
        return x * x + y * y <= 0.96
    if shape == "ring":
        distance_sq = x * x + y * y
        return (distance_sq <= 1.0) & (distance_sq >= 0.3)
    if shape == "square":
        return (np.abs(x) <= 0.8) & (np.abs(y) <= 0.8)
    if shape == "cross":
        ax, ay = np.abs(x), np.abs(y)
        return ((ax <= 0.32) & (ay <= 0.95)) | ((ax <= 0.95) & (ay <= 0.32))
    if shape == "triangle":
        lowered = y - 0.1
        return np.logical_and.reduce([nx * x + ny * lowered <= 0.55 for nx, ny in _TRIANGLE_NORMALS])
    if shape == "star":
        # The pentagram and its tips are the points inside at least four of its five half-planes.
        count = sum((nx * x + ny * y <= _STAR_OFFSET).astype(np.uint8) for nx, ny in _STAR_NORMALS)
        return np.asarray(count >= 4)
    raise ValueError(f"unknown shape {shape!r}")


def boxes(shape: str, radius: float, centres: np.ndarray) -> np.ndarray:
    """Boxes x0, y0, x1, y1 around a shape at (..., 2) centres: (..., 4)."""
    return np.concatenate([centres, centres], axis=-1) + radius * np.array(UNIT_BOXES[shape])


def contact_distance(shape_a: str, radius_a: float, shape_b: str, radius_b: float, axis: int) -> float:
    """How far apart the centres are when b, ahead of a along an axis (0 is x, 1 is y), just touches a."""
    across = np.linspace(-1.0, 1.0, _RESOLUTION) * min(radius_a, radius_b)
    reach_a = radius_a * _outline(shape_a, axis, 1)[_line(across / radius_a)]
    reach_b = radius_b * _outline(shape_b, axis, -1)[_line(across / radius_b)]
    return float((reach_a + reach_b).max())


def _line(across: np.ndarray) -> np.ndarray:
    return np.rint((across + 1.0) / 2.0 * (_RESOLUTION - 1)).astype(np.int64)


@lru_cache(maxsize=32)
def _outline(shape: str, axis: int, sign: int) -> np.ndarray:
    """(R,) how far the shape reaches in a direction on each line along the axis; -inf without a point."""
    steps = np.linspace(-1.0, 1.0, _RESOLUTION)
    along, across = steps[None, :], steps[:, None]
    points = inside(shape, along, across) if axis == 0 else inside(shape, across, along)
    return np.where(points, sign * along, -np.inf).max(axis=1)
