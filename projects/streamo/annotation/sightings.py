"""Which coloured shapes of MiniRVOS a picture shows: simple rules on pixels, no model and no truth.

Objects are bright or vivid, backgrounds and occluders dull: a pixel belongs to the colour that its own,
divided by its largest channel, lies closest to, or to white if all its channels are bright. A connected patch
has the shape whose outline, drawn over the patch, agrees with it best.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from refstream.synthetic.scene import COLOURS, SHAPES
from refstream.synthetic.shapes import UNIT_BOXES, inside

MIN_SHARE = 0.0012
"""Least share of the picture's square of the shorter side that a patch must cover: 20 pixels of 128 x 128."""
MIN_VALUE, MIN_VIVIDNESS = 110, 0.42
WHITE_VALUE, WHITE_VIVIDNESS = 140, 0.2
MIN_AGREEMENT = 0.6
"""Least IoU with the best shape; below it the patch is an object of no known shape (cut off, half hidden)."""
LARGE_RADIUS = 0.115
"""Between MiniRVOS' small (0.075 to 0.095) and large (0.135 to 0.165) objects, in shorter sides."""

_HUES = {name: np.array(rgb) / max(rgb) for name, rgb in COLOURS.items() if name != "white"}


@dataclass(frozen=True)
class Sighting:
    """One patch.

    Attributes:
        colour: A name of ``COLOURS``.
        shape: A name of ``SHAPES``; None if it cannot be told, or is cut off by the border.
        large: Whether it looks large.
        centre_xy: Of its box, in shorter sides, x right, y down.
        area: In squares of the shorter side.
        border: How far its box is from the picture's border, in shorter sides; 0 is cut off by it.
        mask: (H, W) bool.
        agreement: IoU with the shape, 0 if there is none: how sure the shape is.
        is_seen: False for one that was seen shortly before, away from the border, and is hidden now.
    """

    colour: str
    shape: str | None
    large: bool
    centre_xy: tuple[float, float]
    area: float
    border: float
    mask: np.ndarray
    agreement: float = 0.0
    is_seen: bool = True

    @property
    def name(self) -> str:
        """For example "red circle"."""
        return f"{self.colour} {self.shape or 'object'}"


def see(image: np.ndarray) -> list[Sighting]:
    """The patches of (H, W, 3) uint8 RGB, from left to right."""
    side = float(min(image.shape[:2]))
    labels = _colour_numbers(image)
    found = []
    for number, colour in enumerate(COLOURS, start=1):
        # a pixel-wide seam, which lossy video paints between two colours, is no object
        plane = cv2.morphologyEx(
            (labels == number).astype(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8)
        )
        count, patches, stats, _ = cv2.connectedComponentsWithStats(plane, connectivity=8)
        for patch in range(1, count):
            x, y, width, height, area = (int(v) for v in stats[patch])
            if area >= MIN_SHARE * side * side:
                found.append(_sighting(colour, patches == patch, (x, y, width, height), area, side))
    return sorted(found, key=lambda sighting: sighting.centre_xy)


def _colour_numbers(image: np.ndarray) -> np.ndarray:
    """(H, W) uint8: 0 for no colour, else 1 + the place of its name in ``COLOURS``."""
    pixels = image.astype(np.float32)
    value, least = pixels.max(-1), pixels.min(-1)
    vividness = (value - least) / np.maximum(value, 1.0)
    normed = pixels / np.maximum(value, 1.0)[..., None]
    names = list(COLOURS)
    hues = np.stack([_HUES[name] for name in names if name != "white"]).astype(np.float32)
    nearest = ((normed[..., None, :] - hues) ** 2).sum(-1).argmin(-1)
    numbers = np.array([names.index(name) + 1 for name in names if name != "white"], dtype=np.uint8)[nearest]
    numbers[(value < MIN_VALUE) | (vividness < MIN_VIVIDNESS)] = 0
    numbers[(least >= WHITE_VALUE) & (vividness < WHITE_VIVIDNESS)] = names.index("white") + 1
    return numbers


def _sighting(
    colour: str, mask: np.ndarray, box: tuple[int, int, int, int], area: int, side: float
) -> Sighting:
    x, y, width, height = box
    border = min(x, y, mask.shape[1] - x - width, mask.shape[0] - y - height)
    shape, radius, agreement = _shape(mask[y : y + height, x : x + width])
    if border == 0:
        shape, agreement = None, 0.0
    return Sighting(
        colour=colour,
        shape=shape,
        large=radius / side > LARGE_RADIUS,
        centre_xy=((x + width / 2) / side, (y + height / 2) / side),
        area=area / side**2,
        border=border / side,
        mask=mask,
        agreement=agreement,
    )


def _shape(patch: np.ndarray) -> tuple[str | None, float, float]:
    """The best shape for (h, w) bool, the radius in pixels that it has then, and its agreement.

    Each shape is drawn twice: into the patch's box, and with the patch's area around its centre of mass,
    which still fits where lossy video has eaten thin tips.
    """
    height, width = patch.shape
    rows, columns = np.nonzero(patch)
    best, agreement, best_radius = None, MIN_AGREEMENT, max(height, width) / 2.0
    for shape in SHAPES:
        x0, y0, x1, y1 = UNIT_BOXES[shape]
        radius_x, radius_y = width / (x1 - x0), height / (y1 - y0)
        # the box of another shape fits only if it is stretched
        stretch = min(radius_x, radius_y) / max(radius_x, radius_y)
        mean = (radius_x + radius_y) / 2.0
        area, x_mean, y_mean = _moments(shape)
        radius = (len(rows) / area) ** 0.5
        left, top = columns.mean() + 0.5 - radius * x_mean, rows.mean() + 0.5 - radius * y_mean
        for score, size in (
            (stretch * _overlap(patch, shape, (radius_x, radius_y), (-x0 * radius_x, -y0 * radius_y)), mean),
            (_overlap(patch, shape, (radius, radius), (left, top)), radius),
        ):
            if score > agreement:
                best, agreement, best_radius = shape, score, size
    return best, best_radius, agreement if best else 0.0


def _overlap(patch: np.ndarray, shape: str, radii: tuple[float, float], centre: tuple[float, float]) -> float:
    """IoU of (h, w) bool with a shape of these radii around a centre (x, y), all in pixels."""
    margin = 2  # the shape may reach over the patch's box
    padded = np.pad(patch, margin)
    x = (np.arange(padded.shape[1]) + 0.5 - margin - centre[0]) / radii[0]
    y = (np.arange(padded.shape[0]) + 0.5 - margin - centre[1]) / radii[1]
    drawn = inside(shape, x[None, :], y[:, None])
    return float((drawn & padded).sum() / (drawn | padded).sum())


@cache
def _moments(shape: str) -> tuple[float, float, float]:
    """Area and centre of mass (x, y) of a shape of radius 1."""
    steps = (np.arange(400) + 0.5) / 200.0 - 1.0
    drawn = inside(shape, steps[None, :], steps[:, None])
    y, x = np.nonzero(drawn)
    return float(drawn.sum()) / 200.0**2, float(steps[x].mean()), float(steps[y].mean())
