"""What happens in rich scenes: each script casts and places the objects that one event needs.

A script only makes it likely that something can be said of its objects; what is true is decided afterwards,
from the finished scene.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from refstream.synthetic.events import covered_share
from refstream.synthetic.scene import SceneEvent, sample_trajectories
from refstream.synthetic.shapes import UNIT_BOXES, boxes, contact_distance
from refstream.synthetic.stage import CANDIDATES, Look, NoRoom, Stage

MIN_SPEED = 0.008  # of scripted movers, per frame


def anywhere(stage: Stage, radius: float) -> np.ndarray:
    """(K, 1, T, 2) paths of an object that stays in the picture: still, straight or wandering."""
    room = stage.high - stage.low
    if (room <= 2 * radius).any():
        raise NoRoom
    extent = (float(room[0]), float(room[1]))
    return sample_trajectories(stage.rng, radius, stage.num_frames, extent, calm=True)[:, None] + stage.low


def standing(stage: Stage, radius: float) -> np.ndarray:
    """(K, 1, T, 2) paths of an object that stands still."""
    room = stage.high - stage.low - 2 * radius
    spots = stage.low + radius + room * stage.rng.random((CANDIDATES, 2))
    return np.repeat(spots[:, None, None], stage.num_frames, axis=2)


def sliding(stage: Stage, radius: float, axis: int, start: np.ndarray, travel: np.ndarray) -> np.ndarray:
    """(K, 1, T, 2) paths along an axis.

    Args:
        stage: Where.
        radius: Of the object.
        axis: 0 for x, 1 for y.
        start: (K,) where along the axis each path starts.
        travel: (K, T) how far along the axis it has come.
    """
    room = stage.high - stage.low - 2 * radius
    across = stage.low + radius + room * stage.rng.random((CANDIDATES, 2))
    paths = np.repeat(across[:, None, None], stage.num_frames, axis=2)
    paths[:, 0, :, axis] = start[:, None] + travel
    return paths


def _steady(stage: Stage, distance: float) -> np.ndarray:
    """(K, T) an even way over this distance."""
    return np.broadcast_to(np.linspace(0.0, distance, stage.num_frames), (CANDIDATES, stage.num_frames))


def _gliding(stage: Stage, radius: float, axis: int, distance: float) -> np.ndarray:
    """(K, 1, T, 2) even ways along an axis over a signed distance, within the picture."""
    room = float((stage.high - stage.low)[axis]) - 2 * radius - abs(distance)
    if room < 0:
        raise NoRoom
    start = stage.low[axis] + radius + max(0.0, -distance) + room * stage.rng.random(CANDIDATES)
    return sliding(stage, radius, axis, start, _steady(stage, distance))


def _sign(stage: Stage) -> int:
    return 1 if stage.rng.random() < 0.5 else -1


def _axis(stage: Stage) -> int:
    return int(stage.rng.random() < 0.4)


def _pair_of_colours(stage: Stage) -> tuple[Look, str]:
    """A look, and another colour that its shape may have."""
    look = stage.look()
    return look, stage.other_colour(look.shape, look.colour)


def exchange(stage: Stage) -> None:
    """Two objects of one shape exchange their colours."""
    one, colour = _pair_of_colours(stage)
    other = stage.look(one.shape, colour, one.size, one.texture)
    (a,) = stage.place([one], anywhere(stage, one.radius))
    (b,) = stage.place([other], anywhere(stage, other.radius))
    frame = stage.moment(0.2, 0.75)
    stage.repaint(a, frame, colour)
    stage.repaint(b, frame, one.colour)
    stage.events.append(SceneEvent("exchange", frame, (a, b)))


def blend_in(stage: Stage) -> None:
    """An object takes the colour of another of its shape."""
    one, colour = _pair_of_colours(stage)
    other = stage.look(one.shape, colour, one.size, one.texture)
    (a,) = stage.place([one], anywhere(stage, one.radius))
    stage.place([other], anywhere(stage, other.radius))
    frame = stage.moment(0.2, 0.75)
    stage.repaint(a, frame, colour)
    stage.events.append(SceneEvent("recolour", frame, (a,)))


def stand_out(stage: Stage) -> None:
    """Of two objects that look the same one takes another colour."""
    one, colour = _pair_of_colours(stage)
    other = stage.look(one.shape, one.colour, one.size, one.texture)
    (a,) = stage.place([one], anywhere(stage, one.radius))
    stage.place([other], anywhere(stage, other.radius))
    frame = stage.moment(0.3, 0.85)
    stage.repaint(a, frame, colour)
    stage.events.append(SceneEvent("recolour", frame, (a,)))


def cross(stage: Stage) -> None:
    """Two objects that look the same pass each other."""
    one = stage.look(size="small" if stage.rng.random() < 0.8 else "large")
    other = stage.look(one.shape, one.colour, one.size, one.texture)
    axis, sign = _axis(stage), _sign(stage)
    for look, way in ((one, sign), (other, -sign)):
        room = float((stage.high - stage.low)[axis]) - 2 * look.radius
        distance = stage.uniform(0.5, 0.75) * min(room, 1.0)
        stage.place([look], _gliding(stage, look.radius, axis, way * distance))


def _outward(stage: Stage, look: Look, axis: int, sign: int, frame: int) -> np.ndarray:
    """(K, 1, T, 2) paths of an object that is wholly in at first and just out of the picture in a frame."""
    x0, y0, x1, y1 = (look.radius * v for v in UNIT_BOXES[look.shape])
    behind, front = ((x0, x1), (y0, y1))[axis]
    edge = (float(stage.extent[axis]) - behind if sign > 0 else -front) + sign * 0.004
    longest = float(stage.extent[axis]) - 0.004
    steps = max(1, frame)
    distance = stage.uniform(min(2.4 * look.radius + 0.02, longest), min(max(0.25, 0.024 * steps), longest))
    distance = min(max(distance, MIN_SPEED * steps, 2.1 * look.radius), longest)
    start = np.full(CANDIDATES, edge - sign * distance)
    way = sign * distance / steps * np.arange(stage.num_frames)
    travel = np.broadcast_to(way, (CANDIDATES, stage.num_frames))
    return sliding(stage, look.radius, axis, start, travel)


def enter(stage: Stage) -> None:
    """An object comes in that looks like one that is there."""
    one = stage.look(size="small" if stage.rng.random() < 0.7 else "large")
    newcomer = stage.look(one.shape, one.colour, one.size, one.texture)
    stage.place([one], anywhere(stage, one.radius))
    frame = stage.num_frames - stage.moment(0.1, 0.45)  # of the way back to the outside
    paths = _outward(stage, newcomer, _axis(stage), _sign(stage), frame)[:, :, ::-1]
    (index,) = stage.place([newcomer], np.ascontiguousarray(paths))
    stage.events.append(SceneEvent("enter", _first_seen(stage, index, 1), (index,)))


def leave(stage: Stage) -> None:
    """An object leaves; another of its shape stays."""
    one = stage.look(size="small" if stage.rng.random() < 0.7 else "large")
    frame = min(stage.num_frames - 2, stage.moment(0.5, 0.9))
    paths = _outward(stage, one, _axis(stage), _sign(stage), frame)
    (index,) = stage.place([one], paths)
    stage.events.append(SceneEvent("leave", _first_seen(stage, index, -1) + 1, (index,)))
    _foil(stage, one, moving=stage.rng.random() < 0.6)


def _first_seen(stage: Stage, index: int, step: int) -> int:
    """The first (step 1) or last (step -1) frame in which an object is seen."""
    obj = stage.objects[index]
    around = boxes(obj.shape, obj.radius, obj.centres)
    seen = np.logical_and(around[:, 2:] > 0, around[:, :2] < stage.extent).all(-1)
    return int(np.flatnonzero(seen)[0 if step > 0 else -1])


def _foil(stage: Stage, like: Look, moving: bool) -> int:
    """Another object of this shape, often of the same colour, that stays in the picture."""
    same = stage.rng.random() < 0.6
    colour = like.colour if same else stage.other_colour(like.shape, like.colour)
    look = stage.look(like.shape, colour, like.size if same else None, like.texture if same else None)
    if not moving:
        return stage.place([look], standing(stage, look.radius))[0]
    axis = _axis(stage)
    room = float((stage.high - stage.low)[axis]) - 2 * look.radius
    speed = stage.uniform(MIN_SPEED, 0.02)
    distance = max(min(speed * (stage.num_frames - 1), 0.8 * room), 0.006 * (stage.num_frames - 1))
    return stage.place([look], _gliding(stage, look.radius, axis, _sign(stage) * distance))[0]


def stop(stage: Stage) -> None:
    """An object moves, then stands still; another of its shape goes on moving, or never moves."""
    one = stage.look()
    axis, sign = _axis(stage), _sign(stage)
    frame = min(stage.num_frames - 4, stage.moment(0.3, 0.75))
    room = float((stage.high - stage.low)[axis]) - 2 * one.radius
    speed = stage.uniform(0.012, 0.024)
    distance = min(speed * frame, 0.8 * room)
    start = stage.low[axis] + one.radius + (room - distance) * stage.rng.random(CANDIDATES)
    start = start + (distance if sign < 0 else 0.0)
    way = sign * distance * np.minimum(np.arange(stage.num_frames) / frame, 1.0)
    travel = np.broadcast_to(way, (CANDIDATES, stage.num_frames))
    (index,) = stage.place([one], sliding(stage, one.radius, axis, start, travel))
    stage.events.append(SceneEvent("stop", frame, (index,)))
    _foil(stage, one, moving=stage.rng.random() < 0.7)


def touch(stage: Stage) -> None:
    """An object runs into another, and stops there or turns back; one of its shape does not."""
    one = stage.look(size="small" if stage.rng.random() < 0.7 else "large")
    other = stage.look(size="small" if stage.rng.random() < 0.7 else "large")
    if other.shape == one.shape:
        raise NoRoom
    axis, sign = _axis(stage), _sign(stage)
    frame = stage.moment(0.35, 0.8)
    pair = (one, other) if sign > 0 else (other, one)  # who is behind, who is ahead
    contact = contact_distance(pair[0].shape, pair[0].radius, pair[1].shape, pair[1].radius, axis)
    speed = stage.uniform(0.012, 0.022) * max(1.0, 10 / stage.num_frames)
    bounces = bool(stage.rng.random() < 0.5)
    steps = np.arange(stage.num_frames)
    after = np.maximum(steps - frame, 0)
    gap = speed * (np.maximum(frame - steps, 0) + (after if bounces else 0))  # (T,) between the two
    anchor = standing(stage, other.radius)
    paths = np.concatenate([anchor, anchor], axis=1)
    paths[:, 0, :, axis] -= sign * (contact + gap)
    keep = _within(stage, paths[:, 0], one.radius)
    for g, look in enumerate((one, other)):  # the contact is in plain sight
        around = boxes(look.shape, look.radius, paths[:, g, frame : frame + 1])
        keep &= covered_share(around, tuple(stage.occluders), None)[:, 0] == 0
    if not keep.any():
        raise NoRoom
    a, b = stage.place([one, other], paths[keep])
    stage.events.append(SceneEvent("touch", frame, (a, b)))
    if not bounces:
        stage.events.append(SceneEvent("stop", frame, (a,)))
    _foil(stage, one, moving=stage.rng.random() < 0.6)


def _within(stage: Stage, paths: np.ndarray, radius: float) -> np.ndarray:
    """(K,) bool: which of (K, T, 2) paths keep a disk in the picture."""
    return ((paths >= stage.low + radius) & (paths <= stage.high - radius)).all((1, 2))


def occlude(stage: Stage) -> None:
    """A small object passes behind a box that hides it for some frames; a look-alike stays in view."""
    one = stage.look(size="small")
    axis, sign = _axis(stage), _sign(stage)
    x0, y0, x1, y1 = (one.radius * v for v in UNIT_BOXES[one.shape])
    length = ((x1 - x0), (y1 - y0))[axis]
    num_steps = stage.num_frames - 1
    hidden = min(int(stage.rng.integers(3, 7)), num_steps // 3)  # steps for which all of it is hidden
    outside = stage.uniform(0.6, 1.2) * length, stage.uniform(0.6, 1.2) * length  # before and after
    speed = max((length + sum(outside)) / (num_steps - hidden), MIN_SPEED)
    width = length + hidden * speed
    distance = width + sum(outside)
    paths = _gliding(stage, one.radius, axis, sign * distance)
    keep = _clear_of(stage, boxes(one.shape, one.radius, paths[:, 0]))
    if not keep.any():
        raise NoRoom
    (index,) = stage.place([one], paths[keep], hidden=True)
    around = boxes(one.shape, one.radius, stage.objects[index].centres)
    first = around[0 if sign > 0 else -1]  # where its path begins, going right or down
    low = float(first[axis]) + length / 2 + outside[0 if sign > 0 else 1]
    box = [0.0, 0.0, 0.0, 0.0]
    box[axis], box[2 + axis] = low, low + width
    margin_a, margin_b = stage.uniform(0.01, 0.06), stage.uniform(0.01, 0.06)
    box[1 - axis], box[3 - axis] = float(first[1 - axis]) - margin_a, float(first[3 - axis]) + margin_b
    stage.occluder((box[0], box[1], box[2], box[3]))
    same = stage.rng.random() < 0.6
    foil = stage.look(shape=one.shape if same else None, colour=None if same else one.colour)
    stage.place([foil], anywhere(stage, foil.radius))


def _clear_of(stage: Stage, around: np.ndarray) -> np.ndarray:
    """(K,) bool: whose (K, T, 4) boxes leave the occluders and objects that are there alone."""
    low, high = around[..., :2].min(1), around[..., 2:].max(1)
    free = np.ones(len(around), dtype=bool)
    others = [np.array(occluder.box_xyxy) for occluder in stage.occluders]
    for obj in stage.objects:
        reach = boxes(obj.shape, obj.radius, obj.centres)
        others.append(np.concatenate([reach[:, :2].min(0), reach[:, 2:].max(0)]))
    for box in others:
        free &= ((low >= box[2:] + 0.07) | (high <= box[:2] - 0.07)).any(-1)
    return free


def move(stage: Stage) -> None:
    """An object moves along an axis; another of its shape stands still or goes another way."""
    one = stage.look()
    axis = _axis(stage)
    room = float((stage.high - stage.low)[axis]) - 2 * one.radius
    distance = min(stage.uniform(0.01, 0.022) * (stage.num_frames - 1), 0.9 * room)
    stage.place([one], _gliding(stage, one.radius, axis, _sign(stage) * distance))
    _foil(stage, one, moving=stage.rng.random() < 0.4)


Script = Callable[[Stage], None]
SCRIPTS: dict[str, tuple[Script, ...]] = {
    "motion": (move,),
    "history": (exchange, blend_in, cross, enter),
    "future": (exchange, stand_out, leave, leave, stop, stop, touch, touch),
    "occlusion": (occlude,),
}
"""By family: the scripts that serve it; one that is named twice is drawn twice as often."""
STEADY_CAMERA: frozenset[Script] = frozenset({move, enter, leave, stop, touch})
"""Scripts whose events are seen against the borders or against standing still."""
