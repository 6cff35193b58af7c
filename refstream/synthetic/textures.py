"""What surfaces look like: textures of objects, which keep their hue, and patterns of greyish backgrounds."""

from __future__ import annotations

import numpy as np

from refstream.synthetic.scene import Background, Texture


def paint(texture: Texture, x: np.ndarray, y: np.ndarray, rgb: tuple[int, int, int]) -> np.ndarray:
    """Colours of points of an object: the object's colour, in part darkened.

    Args:
        texture: How its surface looks.
        x: Positions right of the centre, in radii.
        y: Positions below the centre, in radii; broadcasts with ``x``.
        rgb: The object's colour.

    Returns:
        (..., 3) uint8 of the shape that ``x`` and ``y`` broadcast to.
    """
    colour = np.array(rgb, dtype=np.uint8)
    shape = np.broadcast_shapes(x.shape, y.shape)
    if texture.kind == "solid":
        return np.broadcast_to(colour, (*shape, 3))
    if texture.kind == "shaded":
        along = y if texture.vertical else x
        light = 1.0 - (1.0 - texture.dark) * np.clip((along + 1.0) / 2.0, 0.0, 1.0)
        shades = np.rint(light[..., None] * colour).astype(np.uint8)
        return np.broadcast_to(shades, (*shape, 3))
    pair = np.stack([colour, np.rint(texture.dark * colour).astype(np.uint8)])
    return pair[np.broadcast_to(_is_dark(texture, x, y), shape).astype(np.uint8)]


def _is_dark(texture: Texture, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    column, row = x / texture.cell + texture.phase, y / texture.cell + texture.phase
    if texture.kind == "stripes":
        return np.floor(row if texture.vertical else column) % 2 == 1
    if texture.kind == "checks":
        return (np.floor(column) + np.floor(row)) % 2 == 1
    if texture.kind == "dots":
        return (column % 1.0 - 0.5) ** 2 + (row % 1.0 - 0.5) ** 2 <= 0.1
    raise ValueError(f"unknown texture {texture.kind!r}")


def background_mix(background: Background, size: tuple[int, int], cell: int) -> np.ndarray:
    """Share of the second colour in each pixel of a background of (H, W) pixels, in [0, 1].

    Args:
        background: Its kind is one of those below.
        size: (H, W).
        cell: Side of a cell, in pixels.

    Returns:
        (H, W) float64, or an array that broadcasts to it.
    """
    height, width = size
    rows, columns = np.arange(height)[:, None], np.arange(width)[None, :]
    if background.kind == "plain":
        return np.zeros((1, 1))
    if background.kind == "gradient":
        steps = rows / max(1, height - 1) if background.vertical else columns / max(1, width - 1)
        return steps
    if background.kind == "stripes":
        return ((rows if background.vertical else columns) // cell % 2).astype(np.float64)
    if background.kind == "noise":
        rng = np.random.Generator(np.random.PCG64(background.seed))
        coarse = rng.random((-(-height // cell), -(-width // cell)))
        return coarse.repeat(cell, axis=0).repeat(cell, axis=1)[:height, :width]
    if background.kind == "checks":
        return ((rows // cell + columns // cell) % 2).astype(np.float64)
    if background.kind == "dots":
        return (((rows % cell) - cell / 2) ** 2 + ((columns % cell) - cell / 2) ** 2 <= cell * cell / 9) * 1.0
    if background.kind == "waves":
        return 0.5 + 0.25 * (np.sin(rows / cell * 2.0) + np.sin(columns / cell * 2.0))
    raise ValueError(f"unknown background {background.kind!r}")
