"""A second, slow reading of expressions: from their *words*, on what pixels and trajectories show."""

from __future__ import annotations

import math
import re
from functools import cached_property

import cv2
import numpy as np

from refstream.synthetic.scene import COLOURS, SHAPES

SIZE_WORDS = {"small": "small", "little": "small", "large": "large", "big": "large"}
SIDES = {
    "left of": lambda a, b: b[0] - a[0],
    "right of": lambda a, b: a[0] - b[0],
    "above": lambda a, b: b[1] - a[1],
    "higher than": lambda a, b: b[1] - a[1],
    "below": lambda a, b: a[1] - b[1],
    "lower than": lambda a, b: a[1] - b[1],
}
EXTREMES = {
    r"leftmost|on the left|furthest to the left|started on the left": lambda c: c[0],
    r"rightmost|on the right|furthest to the right|started on the right": lambda c: -c[0],
    r"topmost|at the top|highest|started at the top": lambda c: c[1],
    r"bottommost|at the bottom|lowest|started at the bottom": lambda c: -c[1],
}
GOES = {
    r"(moving to the|moves|going) left": (-1, 0),
    r"(moving to the|moves|going) right": (1, 0),
    r"(moving|moves|going) up": (0, -1),
    r"(moving|moves|going) down": (0, 1),
}
NOUNS = ("object", "thing", "shape")
SINGULAR = {f"{noun}s": noun for noun in (*SHAPES, *NOUNS)} | {"crosses": "cross"}
MIN_PIXELS = 12  # from which the colour of what is visible is told


class Watched:
    """What can be seen of a clip's N objects.

    Attributes:
        where: (N, T, 2) centres in the picture; over the ground where the camera moves: ``on_ground``.
        area: (N, T) visible pixels.
        colours: By object and frame the colour of its visible pixels, None where there are hardly any.
    """

    def __init__(self, clip):
        self.objects = clip.scene.objects
        self.masks = clip.object_masks
        self.where = np.stack([obj.centres for obj in self.objects])
        camera = clip.scene.camera
        self.on_ground = self.where if camera is None else self.where + camera
        self.area = self.masks.sum((2, 3))
        self.shown = self.area > 0
        self._frames = clip.frames

    @cached_property
    def colours(self):
        names, rays = list(COLOURS), np.array(list(COLOURS.values()), dtype=np.float64)
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        told = []
        for masks, areas in zip(self.masks, self.area, strict=True):
            sums = [self._frames[t][masks[t]].sum(0) if areas[t] >= MIN_PIXELS else None for t in self.frames]
            told.append([None if v is None else names[int((rays @ v).argmax())] for v in sums])
        return told

    @cached_property
    def told(self):
        """By object the colours that it shows."""
        return [{c for c in row if c is not None} for row in self.colours]

    @cached_property
    def in_question(self):
        """(N, T) bool: when an object takes part in comparisons; who is only hidden at times, always."""
        passing = ~(self.shown[:, :1] & self.shown[:, -1:])
        return self.shown | ~passing

    @property
    def frames(self):
        return range(self.area.shape[1])

    def named(self, text):
        """Ids of the objects that have every attribute word of the text whenever they can be seen."""
        words = text.split()
        wanted = [w for w in words if w in COLOURS]
        ids = []
        for i, obj in enumerate(self.objects):
            has = all(obj.shape == w for w in words if w in SHAPES)
            has &= all(obj.size == SIZE_WORDS[w] for w in words if w in SIZE_WORDS)
            if has and wanted:
                hits = [c in wanted for c in self.told[i]]
                assert all(hits) or not any(hits), f"object {i} is {wanted} in some frames only"
                has = bool(hits) and all(hits)
            if has:
                ids.append(i)
        return ids

    def touches(self, a, b, frame, reach):
        """Whether the visible pixels of two objects come as near as ``reach``."""
        kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
        grown = cv2.dilate(self.masks[a, frame].astype(np.uint8), kernel)
        return bool((grown.astype(bool) & self.masks[b, frame]).any())


def read(text, watched):
    """Ids of the objects the words hold for, and whether the rest is clearly out of the question."""
    text = re.sub(r"^(find|segment|show me) ", "", text)
    for pattern, rule in RULES:
        found = re.fullmatch(pattern, text)
        if found:
            return rule(watched, *found.groups())
    return read_static(text, watched)


def read_static(text, watched):
    """Appearance, relation and motion."""
    every, where = watched.frames, watched.where
    for words, gap in SIDES.items():
        found = re.fullmatch(rf"(.*?) (?:to the )?{words} the (.*)", text)
        if found:
            (anchor,) = watched.named(found[2])
            ids = [i for i in watched.named(found[1]) if i != anchor]
            gaps = {
                i: [gap(where[i][t], where[anchor][t]) for t in every if watched.in_question[i, t]]
                for i in ids
            }
            true = [i for i in ids if min(gaps[i]) > 0]
            return true, all(max(gaps[i]) < 0 for i in ids if i not in true)
    found = re.fullmatch(r"(.*) (?:closest|nearest) to the (.*)", text)
    if found:
        (anchor,) = watched.named(found[2])
        ids = [i for i in watched.named(found[1]) if i != anchor]
        return first_of(ids, watched, every, lambda i, t: math.dist(where[i][t], where[anchor][t]))
    for pattern, direction in GOES.items():
        if re.search(pattern, text):
            steps = {i: np.diff(watched.on_ground[i], axis=0) @ direction for i in watched.named(text)}
            true = [i for i, s in steps.items() if (s > 0).all()]
            return true, all((steps[i] <= 1e-9).all() for i in steps if i not in true)
    moves = [np.abs(np.diff(track, axis=0)).max(1) for track in watched.on_ground]
    ids = watched.named(text)
    if re.search(r"stands still|does not move|motionless", text):
        true = [i for i in ids if (moves[i] < 1e-9).all()]
        return true, all((moves[i] > 1e-9).all() for i in ids if i not in true)
    if re.search(r"moving|in motion", text):
        true = [i for i in ids if (moves[i] > 1e-9).all()]
        return true, all((moves[i] < 1e-9).all() for i in ids if i not in true)
    for pattern, key in EXTREMES.items():
        if re.search(pattern, text):
            return first_of(ids, watched, every, lambda i, t, key=key: key(where[i][t]))
    return ids, True


def first_of(ids, watched, frames, key):
    """The one that comes first by the key in all these frames, of those that are in the picture."""
    winners = {min((i for i in ids if watched.in_question[i, t]), key=lambda i: key(i, t)) for t in frames}
    return sorted(winners), len(winners) == 1


def _several(watched, noun_phrase):
    """All of them; nouns may be plural."""
    words = " ".join(SINGULAR.get(word, word) for word in noun_phrase.split())
    return watched.named(words), True


def _counted(number):
    def rule(watched, noun_phrase):
        ids, _ = _several(watched, noun_phrase)
        return ids, len(ids) == number

    return rule


def _one_by_one(watched, one, other):
    a, b = watched.named(one), watched.named(other)
    return sorted({*a, *b}), len(a) == len(b) == 1


def _first_colour(watched, noun_phrase, colour):
    ids = watched.named(noun_phrase)
    return [i for i in ids if watched.colours[i][0] == colour], all(watched.colours[i][0] for i in ids)


def _first_side(watched, noun_phrase, side):
    axis, sign = {"left": (0, 1), "right": (0, -1), "top": (1, 1), "bottom": (1, -1)}[side]
    ids = watched.named(noun_phrase)
    found, _ = first_of(ids, watched, [0, 1], lambda i, t: sign * watched.where[i][t][axis])
    return found, all(watched.shown[i][0] for i in ids)


def _entered(watched, noun_phrase):
    return [i for i in watched.named(noun_phrase) if not watched.shown[i][0]], True


def _original(watched, noun_phrase):
    return [i for i in watched.named(noun_phrase) if watched.shown[i][0]], True


def _will_leave(watched, noun_phrase):
    return [i for i in watched.named(noun_phrase) if not watched.shown[i][-1]], True


def _will_stop(watched, noun_phrase):
    ids = watched.named(noun_phrase)
    moves = {i: (np.diff(watched.where[i], axis=0) != 0).any(1) for i in ids}
    found = [i for i in ids if moves[i][0] and not moves[i][-3:].any()]
    return found, all(moves[i].all() or not moves[i].any() for i in ids if i not in found)


def _will_touch(watched, noun_phrase, anchor):
    (other,) = watched.named(anchor)
    ids = [i for i in watched.named(noun_phrase) if i != other]
    near = {i: [t for t in watched.frames if watched.touches(i, other, t, 2)] for i in ids}
    return [i for i in ids if near[i]], not any(0 in near[i] for i in ids)


def _will_turn(watched, noun_phrase, colour):
    ids = watched.named(noun_phrase)
    told = {i: [c for c in watched.colours[i] if c] for i in ids}
    return [i for i in ids if told[i][0] != colour and told[i][-1] == colour], True


_COLOUR = "|".join(COLOURS)
RULES = (
    (r"both (.+)", _counted(2)),
    (r"the two (.+)", _counted(2)),
    (r"the three (.+)", _counted(3)),
    (r"(?:all the|all|every) (.+)", _several),
    (r"the (.+) and the (.+)", _one_by_one),
    (rf"the (.+) that was ({_COLOUR}) at first", _first_colour),
    (rf"the (.+) that started ({_COLOUR})", _first_colour),
    (r"the (.+) that was (?:on|at) the (left|right|top|bottom) at first", _first_side),
    (r"the (.+) that started (?:on|at) the (left|right|top|bottom)", _first_side),
    (r"the (.+) that (?:came in|entered the picture|was not there at first)", _entered),
    (r"the (.+) that was there (?:at first|from the start)", _original),
    (r"the (.+) that will (?:leave|leave the picture|go out of the picture)", _will_leave),
    (r"the (.+) that will (?:stop|come to a stop)", _will_stop),
    (r"the (.+) that will (?:touch|hit|bump into) the (.+)", _will_touch),
    (rf"the (.+) that will (?:turn|become) ({_COLOUR})", _will_turn),
)
