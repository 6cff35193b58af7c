"""Draw a scene: RGB frames and exact masks of the visible pixels.

A pixel belongs to a shape if its centre does. Shapes are drawn on crops around them, all frames of an object
at once; edges are hard, so that frame and mask agree pixel for pixel.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from refstream.synthetic.scene import Background, Occluder, Scene, SceneObject
from refstream.synthetic.shapes import inside
from refstream.synthetic.textures import background_mix, paint

_RIM = 0.012  # width of an occluder's dark rim, in shorter sides
_RIM_SHADE = 0.6


def render(
    scene: Scene, size: tuple[int, int], frame_indices: Sequence[int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Draw all frames, or some.

    Args:
        scene: What to draw; its aspect must be that of ``size`` (within rounding).
        size: (H, W) in pixels.
        frame_indices: Which of the scene's frames to draw, in this order; None draws all.

    Returns:
        frames (T, H, W, 3) uint8 RGB and masks (N, T, H, W) bool, the visible pixels of each object.
    """
    chosen = np.arange(scene.num_frames) if frame_indices is None else np.asarray(frame_indices, np.int64)
    scale = float(min(size))
    shifts = np.zeros((len(chosen), 2)) if scene.camera is None else scene.camera[chosen] * scale
    frames = _draw_backgrounds(scene, size, np.rint(shifts).astype(np.int64))
    labels = np.zeros(frames.shape[:3], dtype=np.uint8)
    for number, obj in enumerate(scene.objects, start=1):
        _draw_object(obj, number, scale, chosen, frames, labels)
    for occluder in scene.occluders:
        _draw_occluder(occluder, scale, shifts, frames, labels)
    masks = np.stack([labels == number for number in range(1, len(scene.objects) + 1)])
    return frames, masks


def draw_background(background: Background, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 picture of the background alone."""
    a = np.array(background.rgb_a, dtype=np.float64)
    b = np.array(background.rgb_b, dtype=np.float64)
    return _mixed(background, size, max(1, round(background.cell * min(size))), a, b)


def _mixed(
    background: Background, size: tuple[int, int], cell: int, a: np.ndarray, b: np.ndarray
) -> np.ndarray:
    mix = background_mix(background, size, cell)
    picture = np.rint(a + (b - a) * mix[..., None]).astype(np.uint8)
    return np.broadcast_to(picture, (*size, 3))


def _draw_backgrounds(scene: Scene, size: tuple[int, int], shifts: np.ndarray) -> np.ndarray:
    """(T, H, W, 3) uint8: what lies behind the objects, seen from a camera shifted by (T, 2) pixels."""
    height, width = size
    frames = np.empty((len(shifts), height, width, 3), dtype=np.uint8)
    if scene.camera is None:
        frames[:] = draw_background(scene.background, size)
        return frames
    reach = np.rint(scene.camera * min(size)).astype(np.int64)
    low, high = reach.min(0), reach.max(0)
    background = scene.background
    a, b = (np.array(rgb, dtype=np.float64) for rgb in (background.rgb_a, background.rgb_b))
    canvas_size = (height + int(high[1] - low[1]), width + int(high[0] - low[0]))
    canvas = _mixed(background, canvas_size, max(1, round(background.cell * min(size))), a, b)
    for t, (left, top) in enumerate(shifts - low):
        frames[t] = canvas[top : top + height, left : left + width]
    return frames


def _draw_object(
    obj: SceneObject,
    number: int,
    scale: float,
    chosen: np.ndarray,
    frames: np.ndarray,
    labels: np.ndarray,
) -> None:
    """Draw one object into all frames (T, H, W, 3) and its number into the labels (T, H, W)."""
    height, width = labels.shape[1:]
    x, y, tops, lefts = _local_points(obj.radius * scale, obj.centres[chosen] * scale)
    covered = inside(obj.shape, x, y)
    colours = [obj.rgb_at(int(t)) for t in chosen]
    surfaces = {rgb: paint(obj.texture, x, y, rgb) for rgb in set(colours)}
    side = covered.shape[1]
    last = len(covered) - 1
    for t, rgb in enumerate(colours):
        top, left = int(tops[t]), int(lefts[t])
        y0, y1 = max(top, 0), min(top + side, height)
        x0, x1 = max(left, 0), min(left + side, width)
        if y0 >= y1 or x0 >= x1:
            continue
        crop = (min(t, last), slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
        patch = covered[crop]
        labels[t, y0:y1, x0:x1][patch] = number
        np.copyto(frames[t, y0:y1, x0:x1], surfaces[rgb][crop], where=patch[..., None])


def _local_points(
    radius: float, centres: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pixel centres of the crops around a shape, in radii from its centre.

    Returns:
        x (T', 1, s), y (T', s, 1), and the rows (T,) and columns (T,) of the crops' first pixels; T' is 1 for
        a shape that does not move, T otherwise.
    """
    side = int(np.ceil(2 * radius)) + 2
    lefts = np.floor(centres[:, 0] - radius).astype(np.int64)
    tops = np.floor(centres[:, 1] - radius).astype(np.int64)
    still = len(centres) > 1 and bool((centres == centres[0]).all())
    rows = slice(0, 1) if still else slice(None)
    steps = np.arange(side) + 0.5
    x = (((lefts[rows] - centres[rows, 0])[:, None] + steps) / radius)[:, None, :]
    y = (((tops[rows] - centres[rows, 1])[:, None] + steps) / radius)[:, :, None]
    return x, y, tops, lefts


def _draw_occluder(
    occluder: Occluder, scale: float, shifts: np.ndarray, frames: np.ndarray, labels: np.ndarray
) -> None:
    """Draw a box over all frames (T, H, W, 3) and take its pixels from the labels (T, H, W)."""
    rim = max(1, round(_RIM * scale))
    body = np.array(occluder.rgb, dtype=np.uint8)
    edge = np.rint(_RIM_SHADE * body).astype(np.uint8)
    corners = np.array(occluder.box_xyxy) * scale
    for t, shift in enumerate(shifts):
        box = np.rint(corners - np.tile(shift, 2)).astype(np.int64)
        x0, y0, x1, y1 = (max(int(v), 0) for v in box)
        labels[t, y0:y1, x0:x1] = 0
        frames[t, y0:y1, x0:x1] = edge
        x0, y0 = max(int(box[0]) + rim, 0), max(int(box[1]) + rim, 0)
        x1, y1 = max(int(box[2]) - rim, 0), max(int(box[3]) - rim, 0)
        frames[t, y0:y1, x0:x1] = body
