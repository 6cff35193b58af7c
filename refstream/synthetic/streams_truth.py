"""What is true of a MiniRVOS stream at each time: who is there, in which colour and by which names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from refstream.synthetic.scene import Scene
from refstream.synthetic.streams_happenings import Happening
from refstream.synthetic.streams_words import Told, caption

_MARGIN_S = 0.25  # between a question and what goes on before or after
_AHEAD_S = 1.0  # in which nothing ends after a question, so that it can be answered a second later
_STEP_S = 0.1  # of the times of questions


@dataclass(frozen=True)
class StreamTruth:
    """A scene and what happens in it.

    Attributes:
        scene: What was drawn.
        happenings: In the order of the ends.
        fps: Frames per second.
    """

    scene: Scene
    happenings: tuple[Happening, ...]
    fps: float

    @property
    def duration_s(self) -> float:
        """Of the whole stream."""
        return self.scene.num_frames / self.fps

    def colour(self, index: int, frame: int) -> str:
        """The name of an object's colour: the old one until a fade is over."""
        obj = self.scene.objects[index]
        return next((r.colour for r in reversed(obj.repaints) if r.frame <= frame), obj.colour)

    def inside_at_first(self, index: int) -> bool:
        """Whether an object is in the picture in the first frame."""
        obj = self.scene.objects[index]
        return bool((obj.centres[0] > 0).all())

    def inside(self, index: int, frame: int) -> bool:
        """Whether it has come in (wholly), if it was not there at first, and has not left again (wholly)."""
        kinds = [
            h.kind
            for h in self.happenings
            if h.object_id == index and h.end <= frame and h.kind in ("enter", "leave")
        ]
        return kinds[-1] == "enter" if kinds else self.inside_at_first(index)

    def count(self, frame: int) -> int:
        """How many shapes are in the picture."""
        return sum(self.inside(index, frame) for index in range(len(self.scene.objects)))

    def full_name(self, index: int, frame: int) -> str:
        """By colour and shape: means one object in the whole stream."""
        return f"the {self.colour(index, frame)} {self.scene.objects[index].shape}"

    def names(self, index: int, first: int, last: int) -> list[str]:
        """What means this object alone, from one frame to another, in the whole stream."""
        obj = self.scene.objects[index]
        alike = [o for i, o in enumerate(self.scene.objects) if i != index and o.shape == obj.shape]
        found = []
        if not alike:
            found.append(f"the {obj.shape}")
        elif all(o.size != obj.size for o in alike):
            found.append(f"the {obj.size} {obj.shape}")
        if self.colour(index, first) == self.colour(index, last) and not any(
            r.colour != self.colour(index, first) for r in obj.repaints if first < r.frame <= last
        ):
            found.append(self.full_name(index, first))
        return found

    def told(self, happening: Happening) -> Told:
        """What is to be said of it: objects by the colours they have before it is over."""
        before = max(0, happening.end - 1)
        whom = "" if happening.other_id is None else self.full_name(happening.other_id, before)
        return Told(happening.kind, self.full_name(happening.object_id, before), whom, happening.value)

    def caption(self, happening: Happening) -> str:
        """The words for it."""
        return caption(self.told(happening))

    def seconds(self, frame: int) -> float:
        """When a frame is shown."""
        return frame / self.fps

    def frame_at(self, time_s: float) -> int:
        """The last frame shown at this time or before."""
        return min(self.scene.num_frames - 1, math.floor(time_s * self.fps + 1e-9))

    def after(self, time_s: float, kinds: Sequence[str] | None = None) -> list[Happening]:
        """What begins at a time or later, of some kinds or of all."""
        return [
            h
            for h in self.happenings
            if self.seconds(h.start) >= time_s and (kinds is None or h.kind in kinds)
        ]

    def span(self, happening: Happening) -> str:
        """The whole seconds that hold what happens: "<3s-6s>"."""
        start = math.floor(self.seconds(happening.start) + 1e-9)
        end = max(start + 1, math.ceil(self.seconds(happening.end) - 1e-9))
        return f"<{start}s-{end}s>"


def quiet_time(truth: StreamTruth, rng: np.random.Generator, low: float, high: float) -> float:
    """A time between two others at which nothing is going on, or over within a second; 0.0 if
    there is none."""
    steps = np.arange(math.ceil(low / _STEP_S), math.floor(high / _STEP_S) + 1)
    for happening in truth.happenings:
        first = truth.seconds(happening.start) - _MARGIN_S
        last = truth.seconds(happening.end)
        before = (steps * _STEP_S <= first) & (steps * _STEP_S < last - _AHEAD_S)
        steps = steps[before | (steps * _STEP_S >= last + _MARGIN_S)]
    return round(float(steps[int(rng.integers(len(steps)))]) * _STEP_S, 3) if len(steps) else 0.0
