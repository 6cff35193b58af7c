"""Referring expressions of MiniRVOS v0: what they say and which objects they mean.

An expression is a ``Meaning`` (a noun phrase, perhaps with a relation or a motion) put into words by a
template. Which objects a meaning holds for is decided from the trajectories: for every object it is clearly
true in all frames, clearly false in all frames, or undecided; a meaning with an undecided candidate is never
used. An expression is used only if it means exactly one object and needs each of its modifiers: without any
one of them it would clearly not mean that object alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from refstream.synthetic.scene import COLOURS, SHAPES, Scene

FAMILIES = ("appearance", "relation", "motion")
FAMILY_SHARES: dict[str, float] = {"appearance": 0.5, "relation": 0.3, "motion": 0.2}

SIDE_MARGIN = 0.08  # "left of": centres at least this far apart along the axis, in shorter sides
EXTREME_MARGIN = 0.06  # "leftmost": ahead of the next candidate by at least this
NEAREST_MARGIN = 0.10  # "closest": nearer than the next candidate by at least this
MIN_STEP = 0.005  # a moving object's least step per frame
MIN_MOTION_FRAMES = 4

DIRECTIONS = {"left": (0, -1.0), "right": (0, 1.0), "up": (1, -1.0), "down": (1, 1.0)}  # axis and sign
MOTIONS = ("still", "moving", *DIRECTIONS)

_NOUNS = ("object", "thing", "shape")
_SIZE_WORDS = {"small": ("small", "little"), "large": ("large", "big")}
_PREFIXES = ("", "", "", "find ", "segment ", "show me ")
_TEMPLATES: dict[tuple[str, str], tuple[str, ...]] = {
    ("extreme", "left"): ("the leftmost {np}", "the {np} on the left", "the {np} furthest to the left"),
    ("extreme", "right"): ("the rightmost {np}", "the {np} on the right", "the {np} furthest to the right"),
    ("extreme", "up"): ("the topmost {np}", "the {np} at the top", "the highest {np}"),
    ("extreme", "down"): ("the bottommost {np}", "the {np} at the bottom", "the lowest {np}"),
    ("side", "left"): ("the {np} left of the {anchor}", "the {np} to the left of the {anchor}"),
    ("side", "right"): ("the {np} right of the {anchor}", "the {np} to the right of the {anchor}"),
    ("side", "up"): ("the {np} above the {anchor}", "the {np} higher than the {anchor}"),
    ("side", "down"): ("the {np} below the {anchor}", "the {np} lower than the {anchor}"),
    ("nearest", ""): ("the {np} closest to the {anchor}", "the {np} nearest to the {anchor}"),
    ("motion", "left"): ("the {np} moving to the left", "the {np} that moves left", "the {np} going left"),
    ("motion", "right"): (
        "the {np} moving to the right",
        "the {np} that moves right",
        "the {np} going right",
    ),
    ("motion", "up"): ("the {np} moving up", "the {np} that moves up", "the {np} going up"),
    ("motion", "down"): ("the {np} moving down", "the {np} that moves down", "the {np} going down"),
    ("motion", "still"): ("the {np} that stands still", "the {np} that does not move", "the motionless {np}"),
    ("motion", "moving"): ("the moving {np}", "the {np} that is moving", "the {np} in motion"),
    ("", ""): ("the {np}",),
}
_COLOUR_TEMPLATE = "the {size} {shape} that is {colour}"
_SIZE_COLOUR_TEMPLATE = "the {shape} that is {size} and {colour}"


class NounPhrase(NamedTuple):
    """Attributes an object must have; None leaves one open."""

    shape: str | None = None
    colour: str | None = None
    size: str | None = None


class Meaning(NamedTuple):
    """What an expression says.

    Attributes:
        phrase: Which objects come into question.
        kind: "" (appearance alone), "extreme", "side", "nearest" or "motion".
        value: A name of ``DIRECTIONS`` or ``MOTIONS``; "" for appearance and "nearest".
        anchor: The other object of "side" and "nearest", named by its shape and colour.
    """

    phrase: NounPhrase
    kind: str = ""
    value: str = ""
    anchor: NounPhrase | None = None

    @property
    def family(self) -> str:
        """The name of ``FAMILIES`` it belongs to."""
        return {"": "appearance", "motion": "motion"}.get(self.kind, "relation")


class SceneFacts:
    """What is clearly true and clearly false of a scene's objects; sets of objects are bit masks.

    Args:
        scene: The scene, with N objects.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.everything = (1 << len(scene.objects)) - 1
        self._centres = np.stack([obj.centres for obj in scene.objects])  # (N, T, 2)
        self._having: dict[NounPhrase, int] = {}

    def having(self, phrase: NounPhrase) -> int:
        """The objects with these attributes."""
        found = self._having.get(phrase)
        if found is None:
            shape, colour, size = phrase
            found = self._having[phrase] = sum(
                1 << i
                for i, obj in enumerate(self.scene.objects)
                if shape in (None, obj.shape) and colour in (None, obj.colour) and size in (None, obj.size)
            )
        return found

    @cached_property
    def _gaps(self) -> tuple[np.ndarray, np.ndarray]:
        """Least and greatest of centre[j] - centre[i] over all frames, both (N, N, 2)."""
        gaps = self._centres[None] - self._centres[:, None]
        return gaps.min(2), gaps.max(2)

    def _ahead(self, direction: str, margin: float) -> np.ndarray:
        """(N, N) bool: [i, j] says that i lies in this direction from j by the margin in all frames."""
        axis, sign = DIRECTIONS[direction]
        least, greatest = self._gaps
        return least[..., axis] >= margin if sign < 0 else greatest[..., axis] <= -margin

    @cached_property
    def extreme(self) -> dict[str, list[int]]:
        """By direction and object i: the objects that i is ahead of clearly enough for "the ...most"."""
        return {d: [_bits(row) for row in self._ahead(d, EXTREME_MARGIN)] for d in DIRECTIONS}

    @cached_property
    def side(self) -> dict[str, list[int]]:
        """By direction and object j: the objects that are clearly on that side of j."""
        return {d: [_bits(column) for column in self._ahead(d, SIDE_MARGIN).T] for d in DIRECTIONS}

    @cached_property
    def nearer(self) -> list[list[int]]:
        """By objects a and i: the objects than which i is clearly nearer to a, in all frames."""
        offsets = self._centres[None] - self._centres[:, None]
        distance = np.sqrt((offsets**2).sum(-1))  # (N, N, T)
        holds = ((distance[:, None] - distance[:, :, None]) >= NEAREST_MARGIN).all(-1)
        return [[_bits(row) for row in rows] for rows in holds]

    @cached_property
    def motion(self) -> dict[str, tuple[int, int]]:
        """By motion: the objects for which it is clearly true, and those for which it is clearly false."""
        steps = np.diff(self._centres, axis=1)  # (N, T - 1, 2)
        length = np.sqrt((steps**2).sum(-1))
        if length.shape[1] + 1 < MIN_MOTION_FRAMES:
            return {}
        still, moving = (length <= 1e-9).all(1), (length >= MIN_STEP).all(1)
        facts = {"still": (_bits(still), _bits(moving)), "moving": (_bits(moving), _bits(still))}
        for name, (axis, sign) in DIRECTIONS.items():
            along, across = steps[..., axis] * sign, np.abs(steps[..., 1 - axis])
            true = np.logical_and(along >= MIN_STEP, across <= 0.25 * along).all(1)
            facts[name] = _bits(true), _bits((along <= 1e-9).all(1))
        return facts


def resolve(meaning: Meaning, facts: SceneFacts) -> int | None:
    """The objects a meaning holds for, as a bit mask; None if undecided for any object in question."""
    candidates = facts.having(meaning.phrase)
    if meaning.kind == "":
        return candidates
    if meaning.kind == "motion":
        true, false = facts.motion.get(meaning.value, (0, 0))
        return candidates & true if candidates & ~(true | false) == 0 else None
    if meaning.kind == "extreme":
        return _best(candidates, facts.extreme[meaning.value])
    if meaning.anchor is None:
        raise ValueError(f"a meaning of kind {meaning.kind!r} needs an anchor")
    anchors = facts.having(meaning.anchor)
    if anchors.bit_count() != 1:
        return None
    anchor = anchors.bit_length() - 1
    candidates &= ~anchors
    if meaning.kind == "nearest":
        return _best(candidates, facts.nearer[anchor])
    opposite = {"left": "right", "right": "left", "up": "down", "down": "up"}[meaning.value]
    true, false = facts.side[meaning.value][anchor], facts.side[opposite][anchor]
    return candidates & true if candidates & ~(true | false) == 0 else None


def _best(candidates: int, beaten: list[int]) -> int | None:
    """The one candidate that beats all others, as a bit; 0 without candidates, None if there is none such."""
    for i, others in enumerate(beaten):
        if candidates >> i & 1 and candidates & ~others == 1 << i:
            return 1 << i
    return 0 if candidates == 0 else None


def shortened(meaning: Meaning) -> Iterator[Meaning]:
    """The meaning without one of its modifiers, for each of them; a shape is a modifier too."""
    phrase = meaning.phrase
    if meaning.kind:
        yield Meaning(phrase)
    if phrase.colour is not None:
        yield meaning._replace(phrase=phrase._replace(colour=None))
    if phrase.size is not None:
        yield meaning._replace(phrase=phrase._replace(size=None))
    if phrase.shape is not None:
        yield meaning._replace(phrase=phrase._replace(shape=None))


def target_of(meaning: Meaning, facts: SceneFacts) -> int | None:
    """The one object an expression with this meaning may be used for; None if it may not be used.

    It must mean exactly one object, need each modifier, and leave a look-alike: another object that shares
    the target's shape or colour. A relation to an anchor must also choose among two or more other objects.
    """
    found = resolve(meaning, facts)
    if found is None or found.bit_count() != 1:
        return None
    target = found.bit_length() - 1
    if meaning.anchor is not None:
        others = facts.having(meaning.phrase) & ~facts.having(meaning.anchor)
        if others.bit_count() < 2:
            return None
    obj = facts.scene.objects[target]
    alike = facts.having(NounPhrase(shape=obj.shape)) | facts.having(NounPhrase(colour=obj.colour))
    if alike == found or any(resolve(less, facts) in (None, found) for less in shortened(meaning)):
        return None
    return target


def meanings(facts: SceneFacts, family: str) -> list[Meaning]:
    """Every meaning of a family that mentions only attributes present in the scene, in a fixed order."""
    objects = facts.scene.objects
    phrases = {
        NounPhrase(shape, colour, size)
        for obj in objects
        for shape in (None, obj.shape)
        for colour in (None, obj.colour)
        for size in (None, obj.size)
    }
    ordered = sorted(phrases, key=lambda p: (p.shape or "", p.colour or "", p.size or ""))
    if family == "appearance":
        return [Meaning(phrase) for phrase in ordered if phrase != NounPhrase()]
    several = [phrase for phrase in ordered if facts.having(phrase).bit_count() > 1]
    if family == "motion":
        return [Meaning(phrase, "motion", motion) for phrase in several for motion in facts.motion]
    anchors = sorted({(obj.shape, obj.colour) for obj in objects})
    unique = [p for p in (NounPhrase(*pair) for pair in anchors) if facts.having(p).bit_count() == 1]
    found = [
        Meaning(phrase, "extreme", d) for phrase in several if phrase != NounPhrase() for d in DIRECTIONS
    ]
    for phrase in several:
        found += [Meaning(phrase, "side", d, anchor) for anchor in unique for d in DIRECTIONS]
        found += [Meaning(phrase, "nearest", "", anchor) for anchor in unique]
    return found


def to_words(meaning: Meaning, rng: np.random.Generator) -> str:
    """Put a meaning into words with a random template."""
    phrase = meaning.phrase
    size = _pick(_SIZE_WORDS[phrase.size], rng) if phrase.size else ""
    noun = phrase.shape or _pick(_NOUNS, rng)
    options = list(_TEMPLATES[meaning.kind, meaning.value])
    if meaning.kind == "" and phrase.colour:
        options.append(_COLOUR_TEMPLATE)
        if phrase.size:
            options.append(_SIZE_COLOUR_TEMPLATE)
    text = _pick(options, rng).format(
        np=" ".join(word for word in (size, phrase.colour, noun) if word),
        size=size,
        shape=noun,
        colour=phrase.colour,
        anchor=f"{meaning.anchor.colour} {meaning.anchor.shape}" if meaning.anchor else "",
    )
    return _pick(_PREFIXES, rng) + " ".join(text.split())


def all_words() -> list[str]:
    """Every word the templates can produce, sorted."""
    words = {*SHAPES, *COLOURS, *_NOUNS, *(word for words in _SIZE_WORDS.values() for word in words)}
    templates = (template for options in _TEMPLATES.values() for template in options)
    for text in (*_PREFIXES, *templates, _COLOUR_TEMPLATE, _SIZE_COLOUR_TEMPLATE):
        words.update(word for word in text.split() if "{" not in word)
    return sorted(words)


def _pick(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def _bits(flags: ArrayLike) -> int:
    return sum(1 << i for i, flag in enumerate(np.asarray(flags).tolist()) if flag)
