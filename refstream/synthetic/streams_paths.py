"""Ways of objects in MiniRVOS streams: in, out, along an axis, and up to another object.

A way is given frame by frame. Lengths are in shorter sides of the picture; ``extent`` is its (2,) width and
height. What is seen of an object is judged by the box around its shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from refstream.synthetic.shapes import UNIT_BOXES, contact_distance, inside
from refstream.synthetic.stage import CLEARANCE

_EDGE = 0.004  # beyond the border, or within, to be sure
_RUSH = 0.35  # speed on the way to a border, per second
_WALK = 0.22  # speed towards another object, per second
_APPROACH_S = (1.5, 3.5)  # least and most time for that
_MIN_APPROACH = 0.15
_GAP = 0.015  # that is still seen between the two a quarter of a second before they touch
_PRESS = 0.008  # overlap of the two in contact: thin tips do not always cover a pixel
_BACK_OFF_S = 0.5
_MOVE = (0.22, 0.55)  # distance
_GLIDE = 0.35  # most that a newcomer goes on once it is in
_LEAD_S = 0.25  # that somebody is on the way when it shows
_LEAD_SHARE = 0.25  # of somebody that is in, or out, when it shows
_GRID = 48  # points per side where two shapes are compared

Placed = tuple[str, float, np.ndarray]
"""Shape, radius and (2,) centre."""


class Motion(NamedTuple):
    """A way.

    Attributes:
        begin: Frame of its first point, which is where the object is before.
        points: (n, 2) centres, one per frame.
        start: First frame that shows clearly what the way is about.
        end: First frame in which that is over.
    """

    begin: int
    points: np.ndarray
    start: int
    end: int


def is_free(points: np.ndarray, radius: float, others: Sequence[tuple[float, np.ndarray]]) -> bool:
    """Whether a disk on its way (n, 2) keeps clear of other disks, each with its radius and way (n, 2)."""
    for other_radius, way in others:
        distance_sq = ((points - way) ** 2).sum(-1).min()
        if distance_sq < (radius + other_radius + CLEARANCE) ** 2:
            return False
    return True


def lead(fps: float) -> int:
    """How many frames before it shows clearly a motion begins."""
    return max(1, round(_LEAD_S * fps))


def ahead(crossing: int) -> int:
    """In which step of a way across a border it shows clearly."""
    return math.ceil(_LEAD_SHARE * crossing)


def straight(
    rng: np.random.Generator,
    here: np.ndarray,
    radius: float,
    extent: np.ndarray,
    begin: int,
    length: int,
    start: int,
) -> tuple[Motion | None, str]:
    """Some way along an axis, from ``here`` in the frame ``begin``, in ``length`` steps.

    Returns:
        The way, None if the picture ends there; and its direction: "left", "right", "up" or "down".
    """
    axis, sign = int(rng.random() < 0.5), 1 if rng.random() < 0.5 else -1
    distance = _MOVE[0] + (_MOVE[1] - _MOVE[0]) * float(rng.random())
    there = here.copy()
    there[axis] += sign * distance
    direction = (("left", "right"), ("up", "down"))[axis][sign > 0]
    if not radius <= there[axis] <= extent[axis] - radius:
        return None, direction
    return Motion(begin, _line(here, there, length), start, begin + length), direction


def entry(
    rng: np.random.Generator,
    shape: str,
    radius: float,
    extent: np.ndarray,
    start: int,
    crossing: int,
    second: int,
) -> Motion | None:
    """A way in across a border, in ``crossing`` steps, and perhaps on; a quarter is in by frame ``start``.

    Returns:
        None if the picture is too small for the way drawn.
    """
    axis, sign = int(rng.random() < 0.5), 1 if rng.random() < 0.5 else -1
    low, high, length = _reach(shape, radius, axis)
    across = radius + (float(extent[1 - axis]) - 2 * radius) * float(rng.random())
    outside = -high - _EDGE if sign > 0 else float(extent[axis]) - low + _EDGE
    step = (length + 2 * _EDGE) / crossing
    glide = int(rng.random() * min(_GLIDE / step, 3 * second))
    place = outside + sign * step * np.arange(crossing + glide + 1)
    if not radius <= place[-1] <= extent[axis] - radius:
        glide += math.ceil((2 * radius - length + _EDGE) / step)  # a disk's width, not only the box's
        place = outside + sign * step * np.arange(crossing + glide + 1)
        if not radius <= place[-1] <= extent[axis] - radius:
            return None
    points = np.full((len(place), 2), across)
    points[:, axis] = place
    begin = start - ahead(crossing)
    return Motion(begin, points, start, begin + crossing)


def exit_(
    shape: str,
    radius: float,
    extent: np.ndarray,
    here: np.ndarray,
    way: tuple[int, int],
    crossing: int,
    times: tuple[int, float, Callable[[int], int]],
) -> Motion:
    """A way out: fast to the border, then across it in ``crossing`` steps.

    Args:
        shape, radius: Of the object.
        extent: Of the picture.
        here: (2,) where it is.
        way: Axis and sign.
        crossing: Steps that it takes to cross the border.
        times: First frame in which it may move, frames per second, and what finds the next frame in which
            a quarter of it may be out.
    """
    (axis, sign), (frame, fps, align) = way, times
    low, high, length = _reach(shape, radius, axis)
    border = float(extent[axis]) - high if sign > 0 else -low
    steps = max(1, math.ceil(abs(border - float(here[axis])) / _RUSH * fps))
    first = steps + ahead(crossing)
    start = align(frame + first)
    edge = here.copy()
    edge[axis] = border
    out = edge.copy()
    out[axis] += sign * (length + _EDGE)
    points = np.concatenate([_line(here, edge, steps), _line(edge, out, crossing)[1:]])
    return Motion(start - first, points, start, start - first + steps + crossing)


def approach(
    one: Placed,
    other: Placed,
    extent: np.ndarray,
    way: tuple[int, int],
    times: tuple[int, int, float, int],
) -> Motion | None:
    """A straight way up to another object, which it touches along an axis; a second later it backs off.

    Args:
        one: Who goes.
        other: Who stands.
        extent: Of the picture.
        way: Axis of the contact; sign 1 if ``other`` is then to the right of, or below ``one``.
        times: First frame, frame that is to show it clearly, frames per second, whole frames of a second.

    Returns:
        None if there is no room, or the two are too near, would meet earlier or on another side.
    """
    (shape, radius, here), (axis, sign), (begin, start, fps, second) = one, way, times
    toward = other[2] - here
    if sign * float(toward[axis]) <= abs(float(toward[1 - axis])):
        return None  # it would come from the side, or through the other
    pair = (one, other) if sign > 0 else (other, one)
    contact = contact_distance(pair[0][0], pair[0][1], pair[1][0], pair[1][1], axis) - _PRESS
    there = other[2].copy()
    there[axis] -= sign * contact
    distance = float(np.sqrt(((there - here) ** 2).sum()))
    back = there.copy()
    back[axis] -= sign * (radius + other[1] + CLEARANCE - contact + 0.02)
    within = all(((p >= radius) & (p <= extent - radius)).all() for p in (there, back))
    if distance < _MIN_APPROACH or not within:
        return None
    steps = round(min(max(distance / _WALK, _APPROACH_S[0]), _APPROACH_S[1]) * fps)
    line = _line(here, there, steps)
    near = np.flatnonzero(((line[:-1] - other[2]) ** 2).sum(-1) < (radius + _GAP + other[1]) ** 2)
    for step in near:
        gap = _GAP if step <= steps - lead(fps) else 0.0
        if meet((shape, radius + gap, line[step]), other):
            return None
    away = _line(there, back, max(2, round(_BACK_OFF_S * fps)))[1:]
    points = np.concatenate([line, np.repeat(there[None], second + 1, axis=0), away])
    return Motion(begin, points, start, begin + steps)


def meet(one: Placed, other: Placed) -> bool:
    """Whether two shapes share a point of a fine grid."""
    (shape_a, radius_a, a), (shape_b, radius_b, b) = one, other
    low, high = np.maximum(a - radius_a, b - radius_b), np.minimum(a + radius_a, b + radius_b)
    if (low > high).any():
        return False
    steps = np.arange(_GRID) / (_GRID - 1)
    x = (low[0] + (high[0] - low[0]) * steps)[None, :]
    y = (low[1] + (high[1] - low[1]) * steps)[:, None]
    in_a = inside(shape_a, (x - a[0]) / radius_a, (y - a[1]) / radius_a)
    in_b = inside(shape_b, (x - b[0]) / radius_b, (y - b[1]) / radius_b)
    return bool((in_a & in_b).any())


def _line(here: np.ndarray, there: np.ndarray, steps: int) -> np.ndarray:
    """(steps + 1, 2) points from here to there."""
    return np.asarray(here + (there - here) * (np.arange(steps + 1) / steps)[:, None])


def _reach(shape: str, radius: float, axis: int) -> tuple[float, float, float]:
    """Where the box of a shape begins and ends along an axis, from its centre, and its length."""
    box = UNIT_BOXES[shape]
    low, high = radius * box[axis], radius * box[2 + axis]
    return low, high, high - low
