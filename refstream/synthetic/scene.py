"""Scenes of MiniRVOS: which shapes there are, what they look like and how they move; and plain ones, seeded.

Lengths are in units of the shorter side of the picture, so that one scene can be drawn at any size of the
same aspect. Everything is drawn from one ``numpy.random.Generator`` given by the caller; there is no global
state. All numbers here are our own choices for a development benchmark.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Split = Literal["train", "val", "test"]
Motion = Literal["still", "left", "right", "up", "down", "wander"]

SPLITS: tuple[Split, ...] = ("train", "val", "test")
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (222, 36, 40),
    "green": (44, 176, 64),
    "blue": (48, 84, 230),
    "yellow": (246, 226, 50),
    "purple": (152, 52, 200),
    "orange": (248, 136, 20),
    "cyan": (60, 222, 232),
    "white": (246, 246, 246),
}
EVENT_KINDS = ("enter", "leave", "recolour", "exchange", "touch", "stop")
SIZES: dict[str, tuple[float, float]] = {"small": (0.075, 0.095), "large": (0.135, 0.165)}

# (shape, colour) pairs that no training object has; each shape and each colour remains in other pairs.
VAL_HELD_OUT = frozenset({("circle", "orange"), ("square", "cyan"), ("triangle", "white"), ("star", "red")})
TEST_HELD_OUT = frozenset(
    {
        ("circle", "red"),
        ("square", "green"),
        ("triangle", "blue"),
        ("star", "yellow"),
        ("cross", "purple"),
        ("ring", "orange"),
        ("circle", "cyan"),
        ("square", "white"),
    }
)

MIN_OBJECTS, MAX_OBJECTS = 3, 5
SPEED = (0.010, 0.022)  # per frame, in shorter sides
MAX_OVERLAP = 0.6  # of the smaller disk's diameter, in any frame; objects of one colour never overlap
_CANDIDATES = 48  # trajectories tried at once for one object
_HELD_OUT_SHARE = 0.4  # of val and test scenes that are built around a held-out pair


@dataclass(frozen=True)
class Texture:
    """How an object's surface looks; it moves with the object.

    Attributes:
        kind: "solid", "stripes", "dots", "checks" or "shaded".
        cell: Width of a stripe, side of a cell, in radii.
        phase: Shift of the pattern, in cells.
        vertical: Direction of stripes or shading.
        dark: Factor of the colour in the dark parts, in (0, 1].
    """

    kind: str = "solid"
    cell: float = 1.0
    phase: float = 0.0
    vertical: bool = False
    dark: float = 1.0


@dataclass(frozen=True)
class Repaint:
    """A change of an object's colour, at once.

    Attributes:
        frame: First frame in the new colour.
        colour: A name of ``COLOURS``.
        rgb: As drawn.
    """

    frame: int
    colour: str
    rgb: tuple[int, int, int]


@dataclass(frozen=True)
class SceneObject:
    """One moving shape.

    Attributes:
        shape: A name of ``SHAPES``.
        colour: A name of ``COLOURS``: that of the first frame.
        size: "small" or "large".
        radius: Of the circumscribed disk.
        rgb: The colour as drawn: that of its name with a little jitter.
        centres: (T, 2) float64, x and y of the centre in the picture, x right, y down.
        texture: Of its surface.
        repaints: Changes of its colour, in order.
    """

    shape: str
    colour: str
    size: str
    radius: float
    rgb: tuple[int, int, int]
    centres: np.ndarray
    texture: Texture = Texture()
    repaints: tuple[Repaint, ...] = ()

    def rgb_at(self, frame: int) -> tuple[int, int, int]:
        """The colour as drawn in a frame."""
        past = [repaint.rgb for repaint in self.repaints if repaint.frame <= frame]
        return past[-1] if past else self.rgb

    @property
    def colours(self) -> tuple[str, ...]:
        """The names of its colours, in order of time."""
        return (self.colour, *(repaint.colour for repaint in self.repaints))


@dataclass(frozen=True)
class Occluder:
    """A grey box in the foreground that hides what passes behind it.

    Attributes:
        box_xyxy: x0, y0, x1, y1 in the picture of a camera that is not shifted.
        rgb: As drawn.
    """

    box_xyxy: tuple[float, float, float, float]
    rgb: tuple[int, int, int]


@dataclass(frozen=True)
class SceneEvent:
    """Something that happens at a moment.

    Attributes:
        kind: One of ``EVENT_KINDS``. "enter" and "leave" of the picture, "recolour" of one object, "exchange"
            of two objects' colours, "touch" of two objects, "stop" of one that moved.
        frame: The first frame in which it has happened: something of the object is seen, or nothing any more;
            it has the new colour; the two are in contact; it is where it stays.
        object_ids: Of the objects that it happens to; whoever comes to touch the other is first.
    """

    kind: str
    frame: int
    object_ids: tuple[int, ...]


@dataclass(frozen=True)
class Background:
    """What lies behind all objects: greyish, so that no colour word can mean it.

    Attributes:
        kind: "plain", "gradient", "noise", "stripes", "checks", "dots" or "waves".
        rgb_a: First colour.
        rgb_b: Second colour; the pattern mixes the two.
        cell: Side of a cell, or width of a stripe, in shorter sides.
        vertical: Direction of a gradient or of stripes.
        seed: Of the noise.
    """

    kind: str
    rgb_a: tuple[int, int, int]
    rgb_b: tuple[int, int, int]
    cell: float
    vertical: bool
    seed: int


@dataclass(frozen=True)
class Scene:
    """All that is needed to draw a clip; a later object hides an earlier one.

    Attributes:
        width: Of the picture, in shorter sides.
        height: Of the picture, in shorter sides.
        objects: N objects, in z-order.
        background: What lies behind them.
        occluders: What lies in front of them.
        camera: (T, 2) float64, how far the camera has moved to the right and down: background and occluders
            are seen shifted by that; None is a camera that stands still.
        events: What happens, in order of time.
    """

    width: float
    height: float
    objects: tuple[SceneObject, ...]
    background: Background
    occluders: tuple[Occluder, ...] = ()
    camera: np.ndarray | None = None
    events: tuple[SceneEvent, ...] = ()

    @property
    def num_frames(self) -> int:
        """T."""
        return int(self.objects[0].centres.shape[0])


def allowed_pairs(split: Split) -> frozenset[tuple[str, str]]:
    """The (shape, colour) pairs that objects of a split may have."""
    every = {(shape, colour) for shape in SHAPES for colour in COLOURS}
    if split == "train":
        return frozenset(every - VAL_HELD_OUT - TEST_HELD_OUT)
    return frozenset(every - TEST_HELD_OUT if split == "val" else every)


def held_out_pairs(split: Split) -> frozenset[tuple[str, str]]:
    """The pairs that occur in this split but in no earlier one; empty for the training split."""
    return {"train": frozenset(), "val": VAL_HELD_OUT, "test": TEST_HELD_OUT}[split]


def sample_scene(
    rng: np.random.Generator, split: Split, num_frames: int, width: float = 1.0, height: float = 1.0
) -> Scene:
    """Draw a scene of 3 to 5 objects with look-alikes; all objects stay inside and mostly visible.

    Args:
        rng: The only source of randomness.
        split: Decides which (shape, colour) pairs may occur.
        num_frames: T, at least 1.
        width: Of the picture, in shorter sides.
        height: Of the picture, in shorter sides.
    """
    while True:
        count = int(rng.integers(MIN_OBJECTS, MAX_OBJECTS + 1))
        attributes = _sample_attributes(rng, split, count)
        calm = bool(rng.random() < 0.5)
        objects: list[SceneObject] = []
        for shape, colour, size in attributes:
            placed = _place(rng, objects, (shape, colour, size), num_frames, (width, height), calm)
            if placed is None:
                break
            objects.append(placed)
        if len(objects) == count:
            return Scene(width, height, tuple(objects), sample_background(rng))


def _sample_attributes(rng: np.random.Generator, split: Split, count: int) -> list[tuple[str, str, str]]:
    """(shape, colour, size) of each object: one, another of its shape, another of its colour, and more."""
    allowed = allowed_pairs(split)
    held_out = sorted(held_out_pairs(split))
    colours = list(COLOURS)
    use_held_out = bool(held_out) and rng.random() < _HELD_OUT_SHARE
    while True:
        if use_held_out:
            first = held_out[int(rng.integers(len(held_out)))]
        else:
            first = SHAPES[int(rng.integers(len(SHAPES)))], colours[int(rng.integers(len(colours)))]
        shape, colour = SHAPES[int(rng.integers(len(SHAPES)))], colours[int(rng.integers(len(colours)))]
        pairs = [first, (first[0], colour), (shape, first[1])]
        if shape != first[0] and colour != first[1] and all(pair in allowed for pair in pairs):
            break
    for _ in range(count - 3):
        draw = rng.random()
        if draw < 0.5 and (shape, colour) in allowed and (shape, colour) not in pairs:
            pairs.append((shape, colour))
        elif draw < 0.8:
            pairs.append(pairs[int(rng.integers(3))])
        else:
            every = sorted(allowed)
            pairs.append(every[int(rng.integers(len(every)))])
    names = tuple(SIZES)
    result = [(s, c, names[int(rng.integers(2))]) for s, c in pairs]
    order = np.argsort(rng.random(count), kind="stable")
    return [result[int(i)] for i in order]


def _place(
    rng: np.random.Generator,
    placed: list[SceneObject],
    attributes: tuple[str, str, str],
    num_frames: int,
    extent: tuple[float, float],
    calm: bool,
) -> SceneObject | None:
    """Find a trajectory that never overlaps the placed objects too much; None if all tried ones do."""
    shape, colour, size = attributes
    low, high = SIZES[size]
    radius = low + (high - low) * float(rng.random())
    rgb = sample_rgb(rng, colour)
    centres = sample_trajectories(rng, radius, num_frames, extent, calm)
    free = np.ones(len(centres), dtype=bool)
    for other in placed:
        distance_sq = ((centres - other.centres) ** 2).sum(-1).min(1)
        overlap = 0.0 if colour == other.colour else MAX_OVERLAP * 2 * min(radius, other.radius)
        least = radius + other.radius - overlap
        free &= distance_sq >= least * least
    if not free.any():
        return None
    return SceneObject(shape, colour, size, radius, rgb, centres[int(np.argmax(free))])


def sample_rgb(rng: np.random.Generator, colour: str) -> tuple[int, int, int]:
    """A colour of this name with a little jitter."""
    jitter = rng.integers(-9, 10, size=3)
    r, g, b = (int(v) for v in np.clip(np.array(COLOURS[colour]) + jitter, 0, 255))
    return r, g, b


def sample_trajectories(
    rng: np.random.Generator, radius: float, num_frames: int, extent: tuple[float, float], calm: bool
) -> np.ndarray:
    """(K, T, 2) centres of K trajectories of one kind of motion, reflected at the borders."""
    speed = SPEED[0] + (SPEED[1] - SPEED[0]) * float(rng.random())
    draw = rng.random()
    motion: Motion
    if draw < (0.55 if calm else 0.25):
        motion = "still"
    elif draw < 0.9:
        motion = ("left", "right", "up", "down")[int(rng.integers(4))]
    else:
        motion = "wander"
    sign_x, sign_y = (1.0 if rng.random() < 0.5 else -1.0 for _ in range(2))
    velocity = {
        "still": (0.0, 0.0),
        "left": (-speed, 0.0),
        "right": (speed, 0.0),
        "up": (0.0, -speed),
        "down": (0.0, speed),
        "wander": (speed * sign_x, speed * sign_y),
    }[motion]
    start = rng.random((_CANDIDATES, 2))
    steps = np.arange(num_frames, dtype=np.float64)
    centres = np.empty((_CANDIDATES, num_frames, 2))
    for axis in range(2):
        room = extent[axis] - 2 * radius
        travel = abs(velocity[axis]) * (num_frames - 1)
        slack = room - travel
        if motion != "wander" and slack > 0:  # a straight mover that fits does not bounce
            begin = slack * start[:, axis] + (travel if velocity[axis] < 0 else 0.0)
        else:
            begin = room * start[:, axis]
        position = (begin[:, None] + velocity[axis] * steps) % (2 * room)
        centres[..., axis] = radius + np.where(position > room, 2 * room - position, position)
    return centres


def sample_background(
    rng: np.random.Generator, kinds: tuple[str, ...] = ("plain", "gradient", "noise", "stripes")
) -> Background:
    """A background of one of the kinds."""
    kind = kinds[int(rng.integers(len(kinds)))]
    greys = rng.integers(24, 104, size=2)
    tint = rng.integers(-10, 11, size=(2, 3))
    a, b = (np.clip(grey + t, 0, 255) for grey, t in zip(greys, tint, strict=True))
    return Background(
        kind=kind,
        rgb_a=(int(a[0]), int(a[1]), int(a[2])),
        rgb_b=(int(b[0]), int(b[1]), int(b[2])),
        cell=0.02 + 0.1 * float(rng.random()),
        vertical=bool(rng.random() < 0.5),
        seed=int(rng.integers(2**31)),
    )
