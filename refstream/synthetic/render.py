"""Draw a scene: RGB frames and exact masks of the visible pixels.

A pixel belongs to a shape if its centre does. Shapes are drawn on crops around them, all frames of an object
at once; edges are hard, so that frame and mask agree pixel for pixel.
"""

from __future__ import annotations

import numpy as np

from refstream.synthetic.scene import Background, Scene

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


def render(scene: Scene, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Draw all frames.

    Args:
        scene: What to draw; its aspect must be that of ``size`` (within rounding).
        size: (H, W) in pixels.

    Returns:
        frames (T, H, W, 3) uint8 RGB and masks (N, T, H, W) bool, the visible pixels of each object.
    """
    height, width = size
    frames = np.empty((scene.num_frames, height, width, 3), dtype=np.uint8)
    frames[:] = draw_background(scene.background, size)
    labels = np.zeros((scene.num_frames, height, width), dtype=np.uint8)
    scale = float(min(size))
    for number, obj in enumerate(scene.objects, start=1):
        inside, tops, lefts = _rasterise(obj.shape, obj.radius * scale, obj.centres * scale)
        side = inside.shape[1]
        rgb = np.array(obj.rgb, dtype=np.uint8)
        for t in range(scene.num_frames):
            top, left = int(tops[t]), int(lefts[t])
            y0, y1 = max(top, 0), min(top + side, height)
            x0, x1 = max(left, 0), min(left + side, width)
            patch = inside[t, y0 - top : y1 - top, x0 - left : x1 - left]
            labels[t, y0:y1, x0:x1][patch] = number
            np.copyto(frames[t, y0:y1, x0:x1], rgb, where=patch[..., None])
    masks = np.stack([labels == number for number in range(1, len(scene.objects) + 1)])
    return frames, masks


def _rasterise(shape: str, radius: float, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All frames of one shape, in pixels.

    Returns:
        inside (T, s, s) bool, and the rows (T,) and columns (T,) of the crops' first pixels.
    """
    side = int(np.ceil(2 * radius)) + 2
    lefts = np.floor(centres[:, 0] - radius).astype(np.int64)
    tops = np.floor(centres[:, 1] - radius).astype(np.int64)
    if len(centres) > 1 and bool((centres == centres[0]).all()):
        inside = _inside(shape, radius, centres[:1], tops[:1], lefts[:1], side)
        return np.broadcast_to(inside, (len(centres), side, side)), tops, lefts
    return _inside(shape, radius, centres, tops, lefts, side), tops, lefts


def _inside(
    shape: str, radius: float, centres: np.ndarray, tops: np.ndarray, lefts: np.ndarray, side: int
) -> np.ndarray:
    """(T, s, s) bool: which pixel centres lie inside the shape of this circumscribed radius."""
    steps = np.arange(side) + 0.5
    x = (((lefts - centres[:, 0])[:, None] + steps) / radius)[:, None, :]
    y = (((tops - centres[:, 1])[:, None] + steps) / radius)[:, :, None]
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
        return count >= 4
    raise ValueError(f"unknown shape {shape!r}")


def draw_background(background: Background, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 picture of the background alone."""
    height, width = size
    a = np.array(background.rgb_a, dtype=np.float64)
    b = np.array(background.rgb_b, dtype=np.float64)
    length = height if background.vertical else width
    cell = max(1, round(background.cell * min(size)))
    if background.kind == "plain":
        mix = np.zeros((1, 1))
    elif background.kind == "gradient":
        mix = _along(np.arange(length) / max(1, length - 1), background.vertical)
    elif background.kind == "stripes":
        mix = _along((np.arange(length) // cell % 2).astype(np.float64), background.vertical)
    else:
        rng = np.random.Generator(np.random.PCG64(background.seed))
        coarse = rng.random((-(-height // cell), -(-width // cell)))
        mix = coarse.repeat(cell, axis=0).repeat(cell, axis=1)[:height, :width]
    picture = np.rint(a + (b - a) * mix[..., None]).astype(np.uint8)
    return np.broadcast_to(picture, (height, width, 3))


def _along(values: np.ndarray, vertical: bool) -> np.ndarray:
    return values[:, None] if vertical else values[None, :]
