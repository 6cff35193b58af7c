"""What is true over time in a scene: colours that change, who is hidden, who comes, goes, stops or touches.

As in ``expressions``, each statement is clearly true of an object, clearly false, or undecided.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from refstream.synthetic.expressions import DIRECTIONS, EXTREME_MARGIN, MIN_STEP, SceneFacts, bits
from refstream.synthetic.scene import Occluder

HIDDEN = 0.95  # covered share of its box from which an object counts as hidden
VISIBLE = 0.6  # and up to which as visible
MIN_HIDDEN_FRAMES = 2
FIRST_FRAMES = 2  # what is so "at first" is so in this many frames
MIN_STOPPED_FRAMES = 3
TOUCH_MARGIN = 0.03  # gap between the circumscribed disks of objects that never touch

Facts = tuple[int, int]
"""The objects of which a statement is clearly true, and those of which it is clearly false."""


class EventFacts(SceneFacts):
    """What is clearly true and false of a scene's objects over time; sets of objects are bit masks."""

    @cached_property
    def first_colours(self) -> list[str]:
        """By object: its colour in the first frame."""
        return [obj.colours[0] for obj in self.scene.objects]

    @cached_property
    def last_colours(self) -> list[str]:
        """By object: its colour in the last frame."""
        return [obj.colours[-1] for obj in self.scene.objects]

    @cached_property
    def visible(self) -> np.ndarray:
        """(N, T) bool: the object lies within the picture and no occluder hides much of it."""
        return self.whole & (self._covered <= VISIBLE)

    @cached_property
    def _covered(self) -> np.ndarray:
        return covered_share(self.boxes, self.scene.occluders, self.scene.camera)

    @cached_property
    def at_first(self) -> int:
        """The objects that are visible in the first frames."""
        return bits(self.visible[:, :FIRST_FRAMES].all(1))

    @cached_property
    def occluded(self) -> int:
        """The objects that are visible, then hidden with a look-alike in view, then visible again."""
        return bits([self._is_occluded(i) for i in range(len(self.scene.objects))])

    def _is_occluded(self, i: int) -> bool:
        obj, frames = self.scene.objects[i], np.flatnonzero(self._covered[i] >= HIDDEN)
        if len(frames) < MIN_HIDDEN_FRAMES or len(frames) <= frames[-1] - frames[0]:
            return False
        if not self.visible[i, : frames[0]].any() or not self.visible[i, frames[-1] :].any():
            return False
        return any(
            (other.shape == obj.shape or other.colours == obj.colours) and bool(self.visible[j, frames].all())
            for j, other in enumerate(self.scene.objects)
            if j != i
        )

    @cached_property
    def entering(self) -> Facts:
        """True of who is not in the picture at first and comes in, false of who is there from the start."""
        return bits(~self.seen[:, 0] & self.whole[:, -1]), self.at_first

    @cached_property
    def leaving(self) -> Facts:
        """True of who is there at first and gone at the end, false of who is there at the end."""
        return bits(self.visible[:, 0] & ~self.seen[:, -1]), bits(self.whole[:, -1])

    @cached_property
    def stopping(self) -> Facts:
        """True of who moves, then stands still; false of who moves, or stands still, all the time."""
        if self.scene.camera is not None:
            return 0, 0
        length = np.sqrt((np.diff(self.centres, axis=1) ** 2).sum(-1))  # (N, T - 1)
        moving, still = length >= MIN_STEP, length <= 1e-9
        steps = np.arange(length.shape[1])
        moved = moving.sum(1)  # steps before it stops, if it moves only before
        once = np.where(steps < moved[:, None], moving, still).all(1)
        stops = once & (moved >= FIRST_FRAMES) & (moved <= length.shape[1] - MIN_STOPPED_FRAMES)
        return bits(stops), bits(moving.all(1) | still.all(1))

    @cached_property
    def touching(self) -> list[Facts]:
        """By object: true of who comes to touch it, false of who keeps away; open for whom it touches."""
        radii = np.array([obj.radius for obj in self.scene.objects])
        offsets = self.centres[None] - self.centres[:, None]
        distance = np.sqrt((offsets**2).sum(-1)).min(-1)  # (N, N)
        away = distance >= radii[:, None] + radii[None] + TOUCH_MARGIN
        touch = np.zeros_like(away)
        for event in self.scene.events:
            if event.kind == "touch":
                a, b = event.object_ids
                touch[b, a] = True
        return [(bits(true), bits(false)) for true, false in zip(touch, away, strict=True)]

    def ahead_during(self, direction: str, frames: slice) -> list[int]:
        """By object: those that it is ahead of in a direction clearly enough for "the ...most"."""
        axis, sign = DIRECTIONS[direction]
        place = sign * self.centres[:, frames, axis]
        return [bits(row) for row in np.all(place[:, None] - place[None] >= EXTREME_MARGIN, axis=-1)]


def covered_share(
    boxes: np.ndarray, occluders: tuple[Occluder, ...], camera: np.ndarray | None
) -> np.ndarray:
    """How much of boxes is hidden.

    Args:
        boxes: (..., T, 4) x0, y0, x1, y1.
        occluders: That do not overlap each other.
        camera: (T, 2) shift of the camera, or None.

    Returns:
        (..., T) in [0, 1].
    """
    shift = np.zeros((1, 4)) if camera is None else np.tile(camera, 2)
    size = boxes[..., 2:] - boxes[..., :2]
    total = np.zeros(boxes.shape[:-1])
    for occluder in occluders:
        hide = np.array(occluder.box_xyxy) - shift
        low = np.maximum(boxes[..., :2], hide[..., :2])
        high = np.minimum(boxes[..., 2:], hide[..., 2:])
        total += (np.clip(high - low, 0, None) / size).prod(-1)
    return np.minimum(total, 1.0)
