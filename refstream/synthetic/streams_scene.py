"""What happens in MiniRVOS streams: seeded scenes in which several things happen, one after the other.

All is arranged so that somebody who sees one frame per second can tell what happens, and when:

* what takes time first shows in the first frame of a whole second, and nothing is undone within a second;
* two things never end within the same second;
* only one object moves at a time, all others stand still, none ever overlap;
* no two objects ever have the same shape and colour, not even at different times, so that "the red circle"
  means one object from the first frame to the last.

Objects that look alike do the same things at other times.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from refstream.synthetic.scene import (
    Repaint,
    Scene,
    SceneObject,
    Split,
    sample_background,
    sample_rgb,
)
from refstream.synthetic.stage import BACKGROUNDS, CLEARANCE, Look, NoRoom, Stage
from refstream.synthetic.streams_happenings import KINDS, Happening, HappeningKind, scene_events
from refstream.synthetic.streams_paths import Motion, ahead, approach, entry, exit_, is_free, lead, straight

MIN_OBJECTS, MAX_OBJECTS = 4, 6
_LARGE_SHARE = 0.2
_SPOTS = 64  # tried for an object
_GAP_S = (0.5, 1.0)  # between what happens
_OVERLAP_SHARE = 0.5  # of what happens while something else may begin
_REPEAT_SHARE = 0.4  # of what happens that happened to another object before
_FADE_S, _MOVE_S, _CROSSING_S = (2.0, 4.0), (1.5, 2.5), (1.5, 3.0)
_FIRST_MIX = 0.2  # of the new colour in the first frame of a fade
_EVENTS_PER_S = 0.2  # at least
_QUIET_END_S = 1.5  # at the end of the stream


@dataclass(eq=False)
class _Actor:
    """An object in the making: where it is in each frame, how it is painted, until when it is busy."""

    look: Look
    path: np.ndarray
    inside: bool
    colour: str
    rgb: tuple[int, int, int]
    repaints: list[Repaint] = field(default_factory=list)
    busy_until: int = 0

    @property
    def radius(self) -> float:
        return self.look.radius

    def follow(self, motion: Motion) -> None:
        """Be on the way in these frames and at its end in all later ones."""
        stop = motion.begin + len(motion.points)
        self.path[motion.begin : stop] = motion.points
        self.path[stop:] = motion.points[-1]


def sample_stream_scene(
    rng: np.random.Generator,
    split: Split,
    num_frames: int,
    fps: float,
    width: float = 1.0,
    height: float = 1.0,
) -> tuple[Scene, tuple[Happening, ...]] | None:
    """Draw a scene and what happens in it, in the order of the ends.

    Args:
        rng: The only source of randomness.
        split: Decides which (shape, colour) pairs may occur.
        num_frames: T.
        fps: Frames per second.
        width: Of the picture, in shorter sides.
        height: Of the picture, in shorter sides.

    Returns:
        None if what was drawn does not fit into the picture.
    """
    director = _Director(rng, split, num_frames, fps, (width, height))
    try:
        director.cast()
        director.play()
    except NoRoom:
        return None
    return director.finish()


class _Director:
    """Casts the objects, then lets things happen to them until the stream is over."""

    def __init__(
        self, rng: np.random.Generator, split: Split, num_frames: int, fps: float, extent: tuple[float, float]
    ) -> None:
        self.rng, self.num_frames, self.fps = rng, num_frames, fps
        self.second, self.lead = math.ceil(fps), lead(fps)
        self.last = num_frames - 1 - round(_QUIET_END_S * fps)
        self.stage = Stage(rng, split, num_frames, extent, None, clearance=True)
        self.extent = np.array(extent)
        self.actors: list[_Actor] = []
        self.owned: dict[tuple[str, str], int] = {}
        self.happenings: list[Happening] = []
        self.moving_until = 0
        self.ways: dict[HappeningKind, Callable[[int, int], Happening | None]] = {
            "enter": self._enter,
            "leave": self._leave,
            "recolour": self._recolour,
            "fade": self._fade,
            "touch": self._touch,
            "move": self._move,
        }

    # ------------------------------------------------------------------ casting

    def cast(self) -> None:
        """A first object, one of its shape, one of its colour, and others that look like one of these."""
        count = int(self.rng.integers(MIN_OBJECTS, MAX_OBJECTS + 1))
        outside = {int(self.rng.integers(count))}
        if self.rng.random() < 0.5:
            outside.add(int(self.rng.integers(count)))
        first = self.stage.look(size=self._size())
        for i in range(count):
            look = first if i == 0 else self._look_like(first, i)
            self._own(look.shape, look.colour, i)
            path = np.full((self.num_frames, 2), -2.0)
            if i not in outside:
                path[:] = self._free_place(look.radius)
            self.actors.append(_Actor(look, path, i not in outside, look.colour, look.rgb))

    def _size(self) -> str:
        return "large" if self.rng.random() < _LARGE_SHARE else "small"

    def _look_like(self, first: Look, number: int) -> Look:
        for _ in range(_SPOTS):
            if number == 1:
                look = self.stage.look(shape=first.shape, size=self._size())
            elif number == 2:
                look = self.stage.look(colour=first.colour, size=self._size())
            else:
                model = self.stage.pick(self.actors).look
                alike = self.rng.random() < 0.5
                look = self.stage.look(
                    shape=model.shape if alike and self.rng.random() < 0.4 else None,
                    colour=None if alike else model.colour,
                    size=self._size(),
                )
            if (look.shape, look.colour) not in self.owned:
                return look
        raise NoRoom

    def _own(self, shape: str, colour: str, index: int) -> None:
        self.owned[shape, colour] = index

    def _free_place(self, radius: float) -> np.ndarray:
        """(2,) a free place."""
        spots = radius + (self.extent - 2 * radius) * self.rng.random((_SPOTS, 2))
        free = np.ones(len(spots), dtype=bool)
        for actor in self.actors:
            distance = np.sqrt(((spots - actor.path[0]) ** 2).sum(-1))
            free &= distance >= radius + actor.radius + CLEARANCE
        if not free.any():
            raise NoRoom
        return np.asarray(spots[int(np.argmax(free))])

    # ------------------------------------------------------------------ playing

    def play(self) -> None:
        """Let things happen: first one of each kind in random order, then any."""
        order = [KINDS[int(i)] for i in self.rng.permutation(len(KINDS))]
        frame = round(self.stage.uniform(1.0, 2.5) * self.fps)
        while frame < self.last:
            kinds = self._wanted(order)
            found = next((h for kind in kinds if (h := self._try(kind, frame)) is not None), None)
            if found is None:
                frame += max(1, round(0.5 * self.fps))
                continue
            self.happenings.append(found)
            if found.kind in order:
                order.remove(found.kind)
            gap = self.stage.uniform(*_GAP_S) * self.fps
            if self.rng.random() < _OVERLAP_SHARE:
                frame = found.start + round(gap)
            else:
                frame = max(found.end, self.moving_until) + round(gap)
        if len(self.happenings) < max(2, math.floor(_EVENTS_PER_S * self.num_frames / self.fps)):
            raise NoRoom

    def _wanted(self, order: list[HappeningKind]) -> list[HappeningKind]:
        """The kinds to try, in this order."""
        rest = [KINDS[int(i)] for i in self.rng.permutation(len(KINDS))]
        before = [self.stage.pick(self.happenings).kind] if self.happenings else []
        repeat = before if self.rng.random() < _REPEAT_SHARE else []
        return list(dict.fromkeys([*repeat, *order, *rest]))

    def _try(self, kind: HappeningKind, frame: int) -> Happening | None:
        """Let it happen to an object that it can happen to; rather to one that it did not happen to yet."""
        indices = [int(i) for i in self.rng.permutation(len(self.actors))]
        had = {h.object_id for h in self.happenings if h.kind == kind}
        for index in sorted(indices, key=lambda i: i in had):
            actor = self.actors[index]
            if actor.busy_until > frame or actor.inside == (kind == "enter"):
                continue
            found = self.ways[kind](index, frame)
            if found is not None:
                return found
        return None

    def _fits(self, end: int) -> bool:
        """Whether something may end in this frame."""
        return end <= self.last and all(abs(end - h.end) > self.second for h in self.happenings)

    def _whole_second(self, frame: int) -> int:
        """The next frame, this one included, that is the first of a whole second."""
        seconds = math.ceil(frame / self.fps - 1e-9)
        return math.ceil(seconds * self.fps - 1e-9)

    def _frames(self, span_s: tuple[float, float]) -> int:
        return max(2, round(self.stage.uniform(*span_s) * self.fps))

    def _busy(self, index: int, until: int) -> None:
        actor = self.actors[index]
        actor.busy_until = max(actor.busy_until, until + self.second + 1)

    # ------------------------------------------------------------------ colours

    def _new_colour(self, index: int) -> str | None:
        actor = self.actors[index]
        shape = actor.look.shape
        options = [
            colour
            for s, colour in self.stage.pairs
            if s == shape and colour != actor.colour and self.owned.get((s, colour), index) == index
        ]
        return self.stage.pick(options) if options else None

    def _recolour(self, index: int, frame: int) -> Happening | None:
        colour = self._new_colour(index)
        if colour is None or not self._fits(frame):
            return None
        return self._paint(index, "recolour", frame, frame, colour)

    def _fade(self, index: int, frame: int) -> Happening | None:
        start = self._whole_second(frame)
        end = start + self._frames(_FADE_S)
        colour = self._new_colour(index)
        if colour is None or not self._fits(end):
            return None
        return self._paint(index, "fade", start, end, colour)

    def _paint(self, index: int, kind: HappeningKind, start: int, end: int, colour: str) -> Happening:
        """Change the colour over these frames; the old name holds until the end."""
        actor = self.actors[index]
        old, new = np.array(actor.rgb), np.array(sample_rgb(self.rng, colour))
        for frame in range(start, end + 1):
            mix = 1.0 if frame == end else _FIRST_MIX + (1 - _FIRST_MIX) * (frame - start) / (end - start)
            r, g, b = (int(v) for v in np.rint(old + (new - old) * mix))
            actor.repaints.append(Repaint(frame, colour if frame == end else actor.colour, (r, g, b)))
        before, actor.colour, actor.rgb = actor.colour, colour, actor.repaints[-1].rgb
        self._own(actor.look.shape, colour, index)
        self._busy(index, end)
        return Happening(kind, start, end, index, colour=before, value=colour)

    # ------------------------------------------------------------------ motions

    def _settle(self, index: int, motion: Motion, other: int | None = None) -> bool:
        """Move the object if nothing is in its way and all of it fits into the stream."""
        actor = self.actors[index]
        stop = motion.begin + len(motion.points)
        if motion.begin < max(self.moving_until, actor.busy_until) or stop + self.second >= self.num_frames:
            return False
        others = [
            (other_actor.radius, other_actor.path[motion.begin : stop])
            for i, other_actor in enumerate(self.actors)
            if i not in (index, other)
        ]
        if not is_free(motion.points, actor.radius, others):
            return False
        actor.follow(motion)
        self.moving_until = stop
        self._busy(index, stop)
        if other is not None:
            self._busy(other, stop)
        return True

    def _enter(self, index: int, frame: int) -> Happening | None:
        actor, crossing = self.actors[index], self._frames(_CROSSING_S)
        start = self._whole_second(max(frame, self.moving_until) + ahead(crossing))
        for _ in range(8):
            motion = entry(
                self.rng, actor.look.shape, actor.radius, self.extent, start, crossing, self.second
            )
            if motion is not None and self._fits(motion.end) and self._settle(index, motion):
                actor.inside = True
                return Happening("enter", motion.start, motion.end, index, colour=actor.colour)
        return None

    def _leave(self, index: int, frame: int) -> Happening | None:
        actor, crossing = self.actors[index], self._frames(_CROSSING_S)
        if sum(a.inside for a in self.actors) <= 2:
            return None
        here = actor.path[frame]
        for way in self.rng.permutation(4):
            axis, sign = int(way) // 2, 1 if way % 2 else -1
            motion = exit_(
                actor.look.shape,
                actor.radius,
                self.extent,
                here,
                (axis, sign),
                crossing,
                (max(frame, self.moving_until), self.fps, self._whole_second),
            )
            if self._fits(motion.end) and self._settle(index, motion):
                actor.inside = False
                return Happening("leave", motion.start, motion.end, index, colour=actor.colour)
        return None

    def _move(self, index: int, frame: int) -> Happening | None:
        actor, length = self.actors[index], self._frames(_MOVE_S)
        start = self._whole_second(max(frame, self.moving_until) + self.lead)
        begin = start - self.lead
        end = begin + length + self.second  # has stood still for a second
        if not self._fits(end):
            return None
        for _ in range(8):
            motion, direction = straight(
                self.rng, actor.path[begin], actor.radius, self.extent, begin, length, start
            )
            if motion is not None and self._settle(index, motion):
                return Happening("move", start, end, index, colour=actor.colour, value=direction)
        return None

    def _touch(self, index: int, frame: int) -> Happening | None:
        actor = self.actors[index]
        start = self._whole_second(max(frame, self.moving_until) + self.lead)
        begin = start - self.lead
        for other in (int(i) for i in self.rng.permutation(len(self.actors))):
            target = self.actors[other]
            if other == index or not target.inside or target.busy_until > frame:
                continue
            for way in self.rng.permutation(4):
                motion = approach(
                    (actor.look.shape, actor.radius, actor.path[begin]),
                    (target.look.shape, target.radius, target.path[begin]),
                    self.extent,
                    (int(way) // 2, 1 if way % 2 else -1),
                    (begin, start, self.fps, self.second),
                )
                if motion is None or not self._fits(motion.end):
                    continue
                if self._settle(index, motion, other):
                    return Happening("touch", motion.start, motion.end, index, other, actor.colour)
        return None

    # ------------------------------------------------------------------ finishing

    def finish(self) -> tuple[Scene, tuple[Happening, ...]]:
        """The scene, and what happens in it in the order of the ends."""
        objects = tuple(
            SceneObject(
                a.look.shape,
                a.look.colour,
                a.look.size,
                a.radius,
                a.look.rgb,
                a.path,
                a.look.texture,
                tuple(a.repaints),
            )
            for a in self.actors
        )
        happenings = sorted(self.happenings, key=lambda h: (h.end, h.start))
        width, height = (float(side) for side in self.extent)
        background = sample_background(self.rng, BACKGROUNDS)
        events = scene_events(happenings, objects, self.extent, self.second)
        return Scene(width, height, objects, background, events=events), tuple(happenings)
