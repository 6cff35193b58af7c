"""What can happen in a MiniRVOS stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from refstream.synthetic.scene import SceneEvent, SceneObject
from refstream.synthetic.shapes import boxes

HappeningKind = Literal["enter", "leave", "recolour", "fade", "touch", "move"]
KINDS: tuple[HappeningKind, ...] = get_args(HappeningKind)


@dataclass(frozen=True)
class Happening:
    """Something that happens in a stream.

    Attributes:
        kind: "enter" and "leave" the picture, "recolour" at once, "fade" to another colour, "touch" another
            object after going there, "move" and come to rest.
        start: First frame that shows it clearly: a quarter of the newcomer is in, or of the leaver is out; a
            fifth of the new colour is there; who moves has been on the way for a quarter of a second.
        end: First frame in which it is over: the newcomer is wholly in, the leaver is gone, the new colour is
            reached, the two are in contact; who moved has stood still for a second. Equal to ``start`` for
            what happens at once.
        object_id: Of the object that does it.
        other_id: Of the object that is touched.
        colour: Of the object, before.
        value: The new colour, or the direction of a move.
    """

    kind: HappeningKind
    start: int
    end: int
    object_id: int
    other_id: int | None = None
    colour: str = ""
    value: str = ""


def scene_events(
    happenings: Sequence[Happening], objects: Sequence[SceneObject], extent: np.ndarray, second: int
) -> tuple[SceneEvent, ...]:
    """The same in the terms of scenes, which know no fades: who comes to rest stops."""
    events = []
    for h in happenings:
        if h.kind == "enter":
            seen = _first_seen(objects[h.object_id], extent, h.start)
            events.append(SceneEvent("enter", seen, (h.object_id,)))
        elif h.kind == "move":
            events.append(SceneEvent("stop", h.end - second, (h.object_id,)))
        elif h.kind == "touch" and h.other_id is not None:
            events.append(SceneEvent("touch", h.end, (h.object_id, h.other_id)))
        elif h.kind in ("leave", "recolour"):
            events.append(SceneEvent(h.kind, h.end, (h.object_id,)))
    return tuple(sorted(events, key=lambda e: (e.frame, e.kind, e.object_ids)))


def _first_seen(obj: SceneObject, extent: np.ndarray, frame: int) -> int:
    """The first of the frames, up to this one, since when something of an object is in the picture."""
    around = boxes(obj.shape, obj.radius, obj.centres[: frame + 1])
    seen = np.logical_and(around[:, 2:] > 0, around[:, :2] < extent).all(-1)
    unseen = np.flatnonzero(~seen)
    return int(unseen[-1]) + 1 if len(unseen) else 0
