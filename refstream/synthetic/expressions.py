"""Which objects the expressions of MiniRVOS mean: appearance, relation and motion.

An expression is a ``Meaning`` (a noun phrase, perhaps with a relation or a motion) put into words. Which
objects a meaning holds for is decided from the trajectories: for every object it is clearly true in all
frames, clearly false in all frames, or undecided; a meaning with an undecided candidate is never used. An
expression is used only if it means exactly one object and needs each of its modifiers: without any one of
them it would clearly not mean that object alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from refstream.synthetic.scene import Scene
from refstream.synthetic.shapes import boxes
from refstream.synthetic.words import Meaning, NounPhrase
from refstream.synthetic.words import all_words as all_words
from refstream.synthetic.words import to_words as to_words

FAMILIES = ("appearance", "relation", "motion")
FAMILY_SHARES: dict[str, float] = {"appearance": 0.5, "relation": 0.3, "motion": 0.2}

SIDE_MARGIN = 0.08  # "left of": centres at least this far apart along the axis, in shorter sides
EXTREME_MARGIN = 0.06  # "leftmost": ahead of the next candidate by at least this
NEAREST_MARGIN = 0.10  # "closest": nearer than the next candidate by at least this
MIN_STEP = 0.005  # a moving object's least step per frame
MIN_MOTION_FRAMES = 4
EDGE_TOLERANCE = 1e-6

DIRECTIONS = {"left": (0, -1.0), "right": (0, 1.0), "up": (1, -1.0), "down": (1, 1.0)}  # axis and sign
MOTIONS = ("still", "moving", *DIRECTIONS)


class SceneFacts:
    """What is clearly true and clearly false of a scene's objects; sets of objects are bit masks.

    Args:
        scene: The scene, with N objects.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.everything = (1 << len(scene.objects)) - 1
        self.centres = np.stack([obj.centres for obj in scene.objects])  # (N, T, 2)
        self._having: dict[NounPhrase, int] = {}
        self._unsure: dict[NounPhrase, int] = {}

    def having(self, phrase: NounPhrase) -> int:
        """The objects with these attributes, in all frames."""
        self._look_up(phrase)
        return self._having[phrase]

    def unsure(self, phrase: NounPhrase) -> int:
        """The objects that have these attributes in some frames only."""
        self._look_up(phrase)
        return self._unsure[phrase]

    def _look_up(self, phrase: NounPhrase) -> None:
        if phrase in self._having:
            return
        shape, colour, size = phrase
        true = unsure = 0
        for i, obj in enumerate(self.scene.objects):
            if shape in (None, obj.shape) and size in (None, obj.size):
                same = [colour in (None, name) for name in obj.colours]
                true |= all(same) << i
                unsure |= (any(same) and not all(same)) << i
        self._having[phrase], self._unsure[phrase] = true, unsure

    @cached_property
    def boxes(self) -> np.ndarray:
        """(N, T, 4) x0, y0, x1, y1 around the objects, seen or not."""
        return np.stack([boxes(obj.shape, obj.radius, obj.centres) for obj in self.scene.objects])

    @cached_property
    def whole(self) -> np.ndarray:
        """(N, T) bool: the object lies wholly within the picture."""
        low, high = self.boxes[..., :2], self.boxes[..., 2:]
        extent = np.array([self.scene.width, self.scene.height])
        return np.all((low >= -EDGE_TOLERANCE) & (high <= extent + EDGE_TOLERANCE), axis=-1)

    @cached_property
    def seen(self) -> np.ndarray:
        """(N, T) bool: part of the object lies within the picture, behind an occluder or not."""
        low, high = self.boxes[..., :2], self.boxes[..., 2:]
        extent = np.array([self.scene.width, self.scene.height])
        return np.all((high > 0) & (low < extent), axis=-1)

    @cached_property
    def always_whole(self) -> int:
        """The objects that lie wholly within the picture in all frames."""
        return bits(self.whole.all(1))

    @cached_property
    def _gaps(self) -> tuple[np.ndarray, np.ndarray]:
        """Least and greatest of centre[j] - centre[i] over the frames that show both, both (N, N, 2)."""
        gaps = self.centres[None] - self.centres[:, None]
        if self.seen.all():
            return gaps.min(2), gaps.max(2)
        together = (self.seen[None] & self.seen[:, None])[..., None]
        return np.where(together, gaps, np.inf).min(2), np.where(together, gaps, -np.inf).max(2)

    def _ahead(self, direction: str, margin: float) -> np.ndarray:
        """(N, N) bool: [i, j] says that i lies in this direction from j by the margin in all frames."""
        axis, sign = DIRECTIONS[direction]
        least, greatest = self._gaps
        return least[..., axis] >= margin if sign < 0 else greatest[..., axis] <= -margin

    @cached_property
    def extreme(self) -> dict[str, list[int]]:
        """By direction and object i: the objects that i is ahead of clearly enough for "the ...most"."""
        return {d: [bits(row) for row in self._ahead(d, EXTREME_MARGIN)] for d in DIRECTIONS}

    @cached_property
    def side(self) -> dict[str, list[int]]:
        """By direction and object j: the objects that are clearly on that side of j."""
        return {d: [bits(column) for column in self._ahead(d, SIDE_MARGIN).T] for d in DIRECTIONS}

    @cached_property
    def nearer(self) -> list[list[int]]:
        """By objects a and i: the objects than which i is clearly nearer to a, whenever both are seen."""
        offsets = self.centres[None] - self.centres[:, None]
        distance = np.sqrt((offsets**2).sum(-1))  # (N, N, T)
        apart = ~(self.seen[None] & self.seen[:, None])
        holds = (((distance[:, None] - distance[:, :, None]) >= NEAREST_MARGIN) | apart).all(-1)
        return [[bits(row) for row in rows] for rows in holds]

    @cached_property
    def motion(self) -> dict[str, tuple[int, int]]:
        """By motion: the objects for which it is clearly true, and those for which it is clearly false.

        Where the camera moves, it must be so both in the picture and against the background.
        """
        if self.scene.num_frames < MIN_MOTION_FRAMES:
            return {}
        facts = _motions(self.centres)
        if self.scene.camera is not None:
            on_ground = _motions(self.centres + self.scene.camera)
            facts = {m: (t & on_ground[m][0], f & on_ground[m][1]) for m, (t, f) in facts.items()}
        return facts


def _motions(centres: np.ndarray) -> dict[str, tuple[int, int]]:
    """By motion: the objects of which it is clearly true and clearly false; centres (N, T, 2)."""
    steps = np.diff(centres, axis=1)  # (N, T - 1, 2)
    length = np.sqrt((steps**2).sum(-1))
    still, moving = (length <= 1e-9).all(1), (length >= MIN_STEP).all(1)
    facts = {"still": (bits(still), bits(moving)), "moving": (bits(moving), bits(still))}
    for name, (axis, sign) in DIRECTIONS.items():
        along, across = steps[..., axis] * sign, np.abs(steps[..., 1 - axis])
        true = np.logical_and(along >= MIN_STEP, across <= 0.25 * along).all(1)
        facts[name] = bits(true), bits((along <= 1e-9).all(1))
    return facts


def resolve(meaning: Meaning, facts: SceneFacts) -> int | None:
    """The objects a meaning holds for, as a bit mask; None if undecided for any object in question."""
    candidates = facts.having(meaning.phrase)
    if facts.unsure(meaning.phrase):
        return None
    if meaning.kind == "":
        return candidates
    if meaning.kind == "motion":
        true, false = facts.motion.get(meaning.value, (0, 0))
        return candidates & true if candidates & ~(true | false) == 0 else None
    if meaning.kind == "extreme":
        return best(candidates, facts.extreme[meaning.value])
    if meaning.anchor is None:
        raise ValueError(f"a meaning of kind {meaning.kind!r} needs an anchor")
    anchors = facts.having(meaning.anchor)
    if anchors.bit_count() != 1 or facts.unsure(meaning.anchor) or anchors & ~facts.always_whole:
        return None
    anchor = anchors.bit_length() - 1
    candidates &= ~anchors
    if meaning.kind == "nearest":
        return best(candidates, facts.nearer[anchor])
    opposite = {"left": "right", "right": "left", "up": "down", "down": "up"}[meaning.value]
    true, false = facts.side[meaning.value][anchor], facts.side[opposite][anchor]
    return candidates & true if candidates & ~(true | false) == 0 else None


def best(candidates: int, beaten: list[int]) -> int | None:
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
    if meaning.family == "relation" and not facts.always_whole & found:
        return None
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


def bits(flags: ArrayLike) -> int:
    return sum(1 << i for i, flag in enumerate(np.asarray(flags).tolist()) if flag)
