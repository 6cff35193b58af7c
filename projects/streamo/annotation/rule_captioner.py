"""A captioner for scenes of MiniRVOS: rules on pixels that know coloured shapes and nothing else."""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import dist

import numpy as np

from refstream.synthetic import streams_words as words
from refstream.synthetic.scene import SHAPES

from .prompts import NOTHING, Prompt, same_words
from .sightings import Sighting, see

NEAR = 0.4
"""How far an object may have come between two frames, in shorter sides: a second of a fast one."""
PLACE = 0.05
"""Patches of like area within this distance are at the same place."""
STAYS = 0.02
"""Up to this way, in shorter sides, an object counts as standing still."""
EDGE = 0.06
"""Nobody leaves who was further from the border a second before; one who is gone from there is hidden."""
MEMORY = 64
"""How many frames a captioner remembers."""
CONTACT = 0.012
"""Largest gap between two patches that touch, in shorter sides: two pixels of 128."""

COUNT_QUESTION = words.COUNT_NOW[0]
COLOUR_QUESTION = words.COLOUR_NOW[0]
_WAYS = {(0, True): "right", (0, False): "left", (1, True): "down", (1, False): "up"}


@dataclass(frozen=True)
class Matching:
    """Which patches of two pictures are the same object.

    Attributes:
        pairs: The same object before and after.
        gone: Patches of the first picture without one in the second.
        new: Patches of the second picture without one in the first.
    """

    pairs: list[tuple[Sighting, Sighting]]
    gone: list[Sighting]
    new: list[Sighting]


class RuleCaptioner:
    """Replies to every kind of request from what ``sightings.see`` finds; the same frames, the same words.

    - narration: what is new in the last frame: a colour, who came or went, who came to touch whom. The frames
      before it tell what cut off and hidden objects look like.
    - event: what is there in the middle frame.
    - action: who moved where, came or went, between the first and the last frame.
    - question: how many objects there are, if that changes; else the colour of the only one of a shape.
    - answer: to these two questions, in the last frame.
    - verify: whether it would reply the same to "event".
    """

    name = "rules"

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, list[Sighting]] = OrderedDict()

    def caption(self, frames: np.ndarray, times: np.ndarray, prompt: Prompt) -> str:
        """See ``captioners.Captioner``.

        Args:
            frames: (T, H, W, 3) uint8 RGB.
            times: (T,) seconds; not looked at.
            prompt: Its kind decides, its text is not read.

        Raises:
            ValueError: For a question that is none of its own.
        """
        if prompt.kind == "narration":
            return narrate([self._see(frame) for frame in frames])
        if prompt.kind == "action":
            views = follow([self._see(frame) for frame in frames])
            return tell_actions(views[0], views[-1])
        if prompt.kind == "question":
            return ask([self._see(frame) for frame in frames])
        if prompt.kind == "answer":
            return answer(self._see(frames[-1]), prompt.subject)
        said = describe(self._see(frames[len(frames) // 2]))
        if prompt.kind == "event":
            return said
        return "yes" if same_words(prompt.subject) == same_words(said) else "no"

    def _see(self, frame: np.ndarray) -> list[Sighting]:
        """What a frame shows; the last frames are remembered, as neighbouring requests share them."""
        key = hashlib.sha256(frame.tobytes()).digest()
        if key not in self._seen:
            self._seen[key] = see(frame)
            if len(self._seen) > MEMORY:
                self._seen.popitem(last=False)
        return self._seen[key]


def match(before: list[Sighting], after: list[Sighting]) -> Matching:
    """Pair patches: alike in colour and shape, in colour, in shape, then in place; the nearest first."""
    left, right = list(before), list(after)
    pairs: list[tuple[Sighting, Sighting]] = []
    rules: tuple[Callable[[Sighting, Sighting], bool], ...] = (
        lambda a, b: a.colour == b.colour and a.shape == b.shape,
        lambda a, b: a.colour == b.colour,
        lambda a, b: a.shape is not None and a.shape == b.shape and a.large == b.large,
        lambda a, b: dist(a.centre_xy, b.centre_xy) <= PLACE and 0.5 <= a.area / b.area <= 2.0,
    )
    for alike in rules:
        options = [
            (dist(a.centre_xy, b.centre_xy), i, j)
            for i, a in enumerate(left)
            for j, b in enumerate(right)
            if alike(a, b)
        ]
        used_left: set[int] = set()
        used_right: set[int] = set()
        for way, i, j in sorted(options):
            if way <= NEAR and i not in used_left and j not in used_right:
                pairs.append((left[i], right[j]))
                used_left.add(i)
                used_right.add(j)
        left = [a for i, a in enumerate(left) if i not in used_left]
        right = [b for j, b in enumerate(right) if j not in used_right]
    return Matching(pairs, left, right)


def follow(views: list[list[Sighting]]) -> list[list[Sighting]]:
    """The same pictures, with what earlier ones tell of each.

    A patch has the surest of the shapes that its matches in the pictures before have; one that is gone from
    further inside than ``EDGE`` is still there, unseen.
    """
    followed = [views[0]]
    for seen in views[1:]:
        matching = match(followed[-1], seen)
        known = [
            replace(b, shape=a.shape, large=a.large, agreement=a.agreement)
            if a.colour == b.colour and a.agreement > b.agreement
            else b
            for a, b in matching.pairs
        ]
        hidden = [replace(a, is_seen=False) for a in matching.gone if a.border > EDGE]
        followed.append(known + matching.new + hidden)
    return followed


def narrate(views: list[list[Sighting]]) -> str:
    """What is new in the last of these pictures, or ``NOTHING``."""
    if len(views) < 2:
        return NOTHING
    *_, before, after = follow(views)
    matching = match(before, after)
    told = [_told("recolour", a, value=b.colour) for a, b in matching.pairs if a.colour != b.colour]
    told += _coming_and_going(matching)
    touched = contacts([a for a, _ in matching.pairs])
    told += [
        _touch(matching.pairs[i], matching.pairs[j])
        for i, j in sorted(contacts([b for _, b in matching.pairs]) - touched)
    ]
    return _sentence(told)


def describe(seen: list[Sighting]) -> str:
    """What is there, or ``NOTHING``: "there is the blue star and the red circle"."""
    counts = sorted(Counter(sighting.name for sighting in seen).items())
    parts = [f"the {name}" if count == 1 else f"{count} {name}s" for name, count in counts]
    return f"there is {_sentence(parts)}" if parts else NOTHING


def tell_actions(before: list[Sighting], after: list[Sighting]) -> str:
    """Who moved where, came or went, or ``NOTHING``."""
    matching = match(before, after)
    told = []
    for a, b in matching.pairs:
        way = (b.centre_xy[0] - a.centre_xy[0], b.centre_xy[1] - a.centre_xy[1])
        axis = int(abs(way[1]) > abs(way[0]))
        if a.colour == b.colour and abs(way[axis]) > STAYS:
            told.append(_told("move", b, value=_WAYS[axis, way[axis] > 0]))
    return _sentence(sorted(told) + _coming_and_going(matching))


def ask(views: list[list[Sighting]]) -> str:
    """A question whose answer changes over these pictures, or ``NOTHING``."""
    if len({len(seen) for seen in views}) > 1:
        return COUNT_QUESTION
    for shape in SHAPES:
        alone = [[s.colour for s in seen if s.shape == shape] for seen in views]
        if all(len(colours) == 1 for colours in alone) and len({colours[0] for colours in alone}) > 1:
            return COLOUR_QUESTION.format(who=f"the {shape}")
    return NOTHING


def answer(seen: list[Sighting], question: str) -> str:
    """The answer in one picture; ``NOTHING`` if the shape asked for is not there once.

    Raises:
        ValueError: For another question than those of ``ask``.
    """
    if question == COUNT_QUESTION:
        return str(len(seen))
    for shape in SHAPES:
        if question == COLOUR_QUESTION.format(who=f"the {shape}"):
            colours = [s.colour for s in seen if s.shape == shape]
            return colours[0] if len(colours) == 1 else NOTHING
    raise ValueError(f"the rules answer {COUNT_QUESTION!r} and {COLOUR_QUESTION!r} only, got {question!r}")


def contacts(seen: list[Sighting]) -> set[tuple[int, int]]:
    """Pairs (i, j), i < j, of patches that touch: the gap between their pixels is at most ``CONTACT``."""
    found = set()
    outlines = [np.argwhere(sighting.mask).astype(np.float64) for sighting in seen]
    for i, a in enumerate(outlines):
        for j in range(i + 1, len(outlines)):
            b = outlines[j]
            if not (seen[i].is_seen and seen[j].is_seen):
                continue
            gap = CONTACT * min(seen[i].mask.shape) + 1.0
            near_a = a[((a >= b.min(0) - gap) & (a <= b.max(0) + gap)).all(1)]
            near_b = b[((b >= a.min(0) - gap) & (b <= a.max(0) + gap)).all(1)]
            if len(near_a) and len(near_b):
                closest = ((near_a[:, None] - near_b[None]) ** 2).sum(-1).min()
                if closest <= gap * gap:
                    found.add((i, j))
    return found


def _coming_and_going(matching: Matching) -> list[str]:
    """Who is wholly in now and was not before, and who is gone."""
    came = [b for a, b in matching.pairs if a.border == 0 < b.border]
    came += [b for b in matching.new if b.border > 0]
    gone = [a for a in matching.gone if a.border <= EDGE]
    return [_told("enter", s) for s in came] + [_told("leave", s) for s in gone]


def _touch(one: tuple[Sighting, Sighting], other: tuple[Sighting, Sighting]) -> str:
    """Who has come the longer way bumps into the other."""
    if dist(one[0].centre_xy, one[1].centre_xy) < dist(other[0].centre_xy, other[1].centre_xy):
        one, other = other, one
    return _told("touch", one[1], whom=f"the {other[1].name}")


def _told(kind: str, who: Sighting, *, whom: str = "", value: str = "") -> str:
    """In the words that the streams of MiniRVOS use."""
    return words.caption(words.Told(kind, f"the {who.name}", whom, value))


def _sentence(parts: list[str]) -> str:
    """Parts joined, or ``NOTHING``."""
    return " and ".join(parts) or NOTHING
