"""A rich scene in the making: objects are cast and placed one group after the other.

Positions are those against the background; the camera's shift is taken off when the scene is finished.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar

import numpy as np

from refstream.synthetic.events import VISIBLE, covered_share
from refstream.synthetic.scene import (
    COLOURS,
    SHAPES,
    SIZES,
    Occluder,
    Repaint,
    Scene,
    SceneEvent,
    SceneObject,
    Split,
    Texture,
    allowed_pairs,
    held_out_pairs,
    sample_background,
    sample_rgb,
)
from refstream.synthetic.shapes import boxes

CANDIDATES = 32  # trajectories tried at once for one group
OVERLAP = 0.25  # of the smaller disk's diameter, at most; objects of one colour never overlap
CLEARANCE = 0.035  # gap between disks in scenes where objects touch, so that no other pair seems to
BACKGROUNDS = ("plain", "gradient", "noise", "stripes", "checks", "dots", "waves")
_TEXTURES = ("solid", "solid", "stripes", "dots", "checks", "shaded")
_HELD_OUT_SHARE = 0.4  # of val and test scenes whose first object has a held-out pair
_SMALL_SHARE = 0.6
_ATTEMPTS = 24  # at drawing attributes that fit together


T = TypeVar("T")


class NoRoom(Exception):
    """The scene cannot be completed as drawn; another draw may."""


class Look(NamedTuple):
    """What an object looks like."""

    shape: str
    colour: str
    size: str
    radius: float
    rgb: tuple[int, int, int]
    texture: Texture


class Stage:
    """Objects, occluders and events placed so far.

    Args:
        rng: The only source of randomness.
        split: Decides which (shape, colour) pairs may occur.
        num_frames: T.
        extent: Width and height of the picture, in shorter sides.
        camera: (T, 2) shift of the camera, or None.
        clearance: Keep objects apart, so that only a script lets two of them touch.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        split: Split,
        num_frames: int,
        extent: tuple[float, float],
        camera: np.ndarray | None,
        clearance: bool,
    ) -> None:
        self.rng, self.num_frames, self.camera, self.clearance = rng, num_frames, camera, clearance
        self.extent = np.array(extent)
        shift = np.zeros((1, 2)) if camera is None else camera
        self.low, self.high = shift.max(0), self.extent + shift.min(0)  # of what is always in the picture
        self.allowed = allowed_pairs(split)
        self.pairs = sorted(self.allowed)
        self.objects: list[SceneObject] = []
        self.occluders: list[Occluder] = []
        self.events: list[SceneEvent] = []
        held_out = sorted(held_out_pairs(split))
        use = held_out and rng.random() < _HELD_OUT_SHARE
        self._first: tuple[str, str] | None = held_out[int(rng.integers(len(held_out)))] if use else None

    def uniform(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * float(self.rng.random())

    def pick(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[int(self.rng.integers(len(options)))]

    def moment(self, low: float, high: float) -> int:
        """A frame in this part of the clip, given by shares of its length; never among the first two."""
        first = max(2, round(low * self.num_frames))
        return int(self.rng.integers(first, max(first, round(high * self.num_frames)) + 1))

    # ------------------------------------------------------------------ casting

    def look(
        self,
        shape: str | None = None,
        colour: str | None = None,
        size: str | None = None,
        texture: Texture | None = None,
    ) -> Look:
        """Draw a look; attributes that are given are kept."""
        if shape is None and colour is None and self._first is not None:
            (shape, colour), self._first = self._first, None
        fitting = [pair for pair in self.pairs if shape in (None, pair[0]) and colour in (None, pair[1])]
        if not fitting:
            raise NoRoom
        if shape is None and colour is None:
            shape, colour = self.pick(SHAPES), self.pick(list(COLOURS))
        if shape is None or colour is None or (shape, colour) not in self.allowed:
            shape, colour = self.pick(fitting)
        size = size or ("small" if self.rng.random() < _SMALL_SHARE else "large")
        radius = self.uniform(*SIZES[size])
        return Look(shape, colour, size, radius, sample_rgb(self.rng, colour), texture or self._texture())

    def _texture(self) -> Texture:
        kind = self.pick(_TEXTURES)
        if kind == "solid":
            return Texture()
        return Texture(
            kind=kind,
            cell=self.uniform(0.4, 0.7),
            phase=self.uniform(0.0, 1.0),
            vertical=bool(self.rng.random() < 0.5),
            dark=self.uniform(0.68, 0.8),
        )

    def other_colour(self, shape: str, *taken: str) -> str:
        """A colour that this shape may have, none of those taken."""
        options = [c for s, c in self.pairs if s == shape and c not in taken]
        return self.pick(options)

    def bystander(self) -> Look:
        """A look-alike of an object that is there: of its shape, or of its colour, seldom of both."""
        if not self.objects:
            return self.look()
        taken = {(obj.shape, colour) for obj in self.objects for colour in obj.colours}
        for _ in range(_ATTEMPTS):
            model = self.pick(self.objects)
            draw = self.rng.random()
            look = self.look(
                shape=model.shape if draw < 0.5 else None,
                colour=self.pick(model.colours) if 0.45 < draw < 0.9 else None,
            )
            if (look.shape, look.colour) not in taken or self.rng.random() < 0.15:
                return look
        raise NoRoom

    # ------------------------------------------------------------------ placing

    def place(self, looks: list[Look], paths: np.ndarray, hidden: bool = False) -> list[int]:
        """Place a group where it gets along with what is there.

        Args:
            looks: G objects.
            paths: (K, G, T, 2) centres of K candidates; the first that fits is taken.
            hidden: Whether the group may be hidden by occluders.

        Returns:
            The objects' ids.

        Raises:
            NoRoom: If no candidate fits.
        """
        free = np.ones(len(paths), dtype=bool)
        for g, look in enumerate(looks):
            for other in self.objects:
                distance_sq = ((paths[:, g] - other.centres) ** 2).sum(-1).min(1)
                free &= distance_sq >= self._least_distance(look, other) ** 2
            if self.occluders and not hidden:
                around = boxes(look.shape, look.radius, paths[:, g])
                free &= (covered_share(around, tuple(self.occluders), None) <= VISIBLE).all(-1)
        if not free.any():
            raise NoRoom
        chosen = paths[int(np.argmax(free))]
        start = len(self.objects)
        for look, centres in zip(looks, chosen, strict=True):
            shape, colour, size, radius, rgb, texture = look
            self.objects.append(SceneObject(shape, colour, size, radius, rgb, centres, texture))
        return list(range(start, len(self.objects)))

    def _least_distance(self, look: Look, other: SceneObject) -> float:
        if self.clearance:
            return look.radius + other.radius + CLEARANCE
        if look.colour in other.colours:
            return look.radius + other.radius
        return look.radius + other.radius - OVERLAP * 2 * min(look.radius, other.radius)

    def repaint(self, index: int, frame: int, colour: str) -> None:
        """Let an object have another colour from a frame on."""
        change = Repaint(frame, colour, sample_rgb(self.rng, colour))
        self.objects[index] = replace(self.objects[index], repaints=(change,))

    def occluder(self, box: tuple[float, float, float, float]) -> None:
        """Put up a grey box."""
        grey = int(self.rng.integers(112, 152))
        r, g, b = (int(grey + v) for v in self.rng.integers(-6, 7, size=3))
        self.occluders.append(Occluder(box, (r, g, b)))

    def finish(self) -> Scene:
        """The scene, its objects in random z-order."""
        order = [int(i) for i in np.argsort(self.rng.random(len(self.objects)), kind="stable")]
        place = {old: new for new, old in enumerate(order)}
        shift = 0.0 if self.camera is None else self.camera
        events = [replace(e, object_ids=tuple(place[i] for i in e.object_ids)) for e in self.events]
        return Scene(
            float(self.extent[0]),
            float(self.extent[1]),
            tuple(replace(self.objects[i], centres=self.objects[i].centres - shift) for i in order),
            sample_background(self.rng, BACKGROUNDS),
            tuple(self.occluders),
            self.camera,
            tuple(sorted(events, key=lambda e: (e.frame, e.kind, e.object_ids))),
        )
