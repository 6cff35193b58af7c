"""Which objects the expressions of the rich world mean: several, none, hidden ones, past and future.

The rules of ``expressions`` hold: a statement with an undecided candidate is never used. History and future
name the objects in question by a noun ("the circle that came in"): the noun leaves a look-alike that the rest
rules out, and every further word is needed.

- multi: several objects, by what they share or one by one.
- history: decided once the first frames, or the entering, have been seen; afterwards only memory tells the
  target, for by the end a look-alike looks the same or fits the words better.
- future: decided by frames to come.
- absent: nothing in any frame is meant, although each of the attributes occurs.
- occlusion: words of appearance or relation; an occluder hides the target for a while.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product, zip_longest
from typing import TypeVar

import numpy as np

from refstream.synthetic.events import FIRST_FRAMES, EventFacts, Facts
from refstream.synthetic.expressions import DIRECTIONS, best, meanings, resolve, shortened, target_of
from refstream.synthetic.words import Meaning, NounPhrase

RICH_FAMILIES = (
    "appearance",
    "relation",
    "motion",
    "multi",
    "history",
    "future",
    "absent",
    "occlusion",
)
RICH_FAMILY_SHARES: dict[str, float] = {family: 1 / len(RICH_FAMILIES) for family in RICH_FAMILIES}
STILL_FAMILIES = ("appearance", "relation", "multi", "absent")
MIN_FRAMES = {"motion": 4, "history": 8, "future": 8, "occlusion": 8}  # of a clip that can show the family

T = TypeVar("T")
Usable = tuple[Meaning, tuple[int, ...]]
"""What can be said of a scene, and the objects it means."""


def usable(
    facts: EventFacts, family: str, pairs: frozenset[tuple[str, str]], rng: np.random.Generator
) -> Iterator[Usable]:
    """Whatever of a family can be said of a scene, in random order.

    Args:
        facts: Of the scene.
        family: A name of ``RICH_FAMILIES``.
        pairs: The (shape, colour) pairs that may be named as absent.
        rng: Of the order.
    """
    if family in ("appearance", "relation", "motion"):
        return _single(_shuffled(meanings(facts, family), rng), facts, occluded=False)
    if family == "occlusion":
        if not facts.occluded:
            return iter(())
        kinds = [_shuffled(meanings(facts, kind), rng) for kind in ("appearance", "relation")]
        return _alternating([_single(items, facts, occluded=True) for items in kinds], rng)
    if family == "multi":
        pools = [_together(facts), _one_by_one(facts)]
        return _alternating([_shuffled(pool, rng) for pool in pools], rng)
    if family == "absent":
        return iter(_shuffled([(meaning, ()) for meaning in _absent(facts, pairs)], rng))
    found = (
        (meaning, target)
        for meaning in _shuffled(_event_meanings(facts, family), rng)
        if (target := _event_target(meaning, facts)) is not None
    )
    return ((meaning, (target,)) for meaning, target in found)


def _single(items: Iterable[Meaning], facts: EventFacts, occluded: bool) -> Iterator[Usable]:
    """Those that mean one object, which is, or is not, hidden for a while."""
    for meaning in items:
        target = target_of(meaning, facts)
        if target is not None and bool(facts.occluded >> target & 1) == occluded:
            yield meaning, (target,)


def _together(facts: EventFacts) -> list[Usable]:
    """Two or more objects by what they share; another object has one of their shapes or colours."""
    found: list[Usable] = []
    for meaning in meanings(facts, "appearance"):
        objects = resolve(meaning, facts)
        if objects is None or objects.bit_count() < 2 or objects == facts.everything:
            continue
        if any(resolve(less, facts) in (None, objects) for less in shortened(meaning)):
            continue
        ids = _ids(objects)
        if _has_look_alike(ids, facts):
            value = str(len(ids)) if len(ids) in (2, 3) else ""
            found.append((Meaning(meaning.phrase, "all", value), ids))
    return found


def _one_by_one(facts: EventFacts) -> list[Usable]:
    """Two objects, each of which is named by its appearance, with a noun."""
    named = [
        (meaning.phrase, target)
        for meaning in meanings(facts, "appearance")
        if meaning.phrase.shape and (target := target_of(meaning, facts)) is not None
    ]
    return [
        (Meaning(a, "and", "", b), tuple(sorted((i, j))))
        for a, i in named
        for b, j in named
        if i != j and _has_look_alike((i, j), facts)
    ]


def _absent(facts: EventFacts, pairs: frozenset[tuple[str, str]]) -> list[Meaning]:
    """Two attributes that occur, but never together."""
    objects = facts.scene.objects
    shapes = sorted({obj.shape for obj in objects})
    colours = sorted({colour for obj in objects for colour in obj.colours})
    sizes = sorted({obj.size for obj in objects})
    phrases = [NounPhrase(*pair) for pair in product(shapes, colours) if pair in pairs]
    phrases += [NounPhrase(shape=shape, size=size) for shape in shapes for size in sizes]
    phrases += [NounPhrase(colour=colour, size=size) for colour in colours for size in sizes]
    return [Meaning(phrase) for phrase in phrases if not facts.having(phrase) | facts.unsure(phrase)]


def _event_meanings(facts: EventFacts, family: str) -> list[Meaning]:
    """Meanings of history or future whose noun leaves two or more objects, in a fixed order."""
    objects = facts.scene.objects
    phrases = {
        NounPhrase(shape, colour, size)
        for obj in objects
        for shape in (None, obj.shape)
        for colour in (None, obj.colour)
        for size in (None, obj.size)
    }
    ordered = sorted(phrases, key=lambda p: (p.shape or "", p.colour or "", p.size or ""))
    several = [phrase for phrase in ordered if facts.having(phrase).bit_count() > 1]
    changed = [obj for obj in objects if obj.repaints]
    found: list[Meaning] = []
    for phrase in several:
        if family == "history":
            found += [Meaning(phrase, kind) for kind in ("entered", "original")]
            found += [Meaning(phrase, "first_side", direction) for direction in DIRECTIONS]
            if phrase.colour is None:
                found += [
                    Meaning(phrase, "first_colour", colour) for colour in sorted({o.colour for o in changed})
                ]
        else:
            found += [Meaning(phrase, kind) for kind in ("will_leave", "will_stop")]
            found += [Meaning(phrase, "will_touch", "", anchor) for anchor in _touched(facts)]
            found += [
                Meaning(phrase, "will_turn", colour) for colour in sorted({o.colours[-1] for o in changed})
            ]
    return found


def _touched(facts: EventFacts) -> list[NounPhrase]:
    """The shortest unique names, by shape or by shape and colour, of the objects that another touches."""
    names = []
    for event in facts.scene.events:
        if event.kind == "touch":
            i = event.object_ids[1]
            obj = facts.scene.objects[i]
            options = (NounPhrase(obj.shape), NounPhrase(obj.shape, obj.colour))
            names += [p for p in options if facts.having(p) == 1 << i and not facts.unsure(p)][:1]
    return sorted(set(names), key=lambda p: (p.shape or "", p.colour or ""))


def resolve_event(meaning: Meaning, facts: EventFacts) -> int | None:
    """The objects that a meaning of history or future holds for; None if undecided for any in question."""
    candidates = facts.having(meaning.phrase)
    if facts.unsure(meaning.phrase):
        return None
    kind, value = meaning.kind, meaning.value
    if kind == "first_side":
        if candidates & ~facts.at_first:
            return None
        return best(candidates, facts.ahead_during(value, slice(0, FIRST_FRAMES)))
    true, false = _event_facts(kind, value, meaning.anchor, facts)
    return candidates & true if candidates & ~(true | false) == 0 else None


def _event_facts(kind: str, value: str, anchor: NounPhrase | None, facts: EventFacts) -> Facts:
    if kind == "first_colour":
        true = _flags(colour == value for colour in facts.first_colours) & facts.at_first
        return true, facts.at_first & ~true
    if kind == "will_turn":
        changes = zip(facts.first_colours, facts.last_colours, strict=True)
        true = _flags(first != value and last == value for first, last in changes)
        return true, facts.everything & ~true
    if kind == "will_touch" and anchor is not None:
        touched = facts.having(anchor)
        true, false = facts.touching[touched.bit_length() - 1]
        return true & ~touched, false | touched
    entered, stayed = facts.entering
    return {
        "entered": (entered, stayed),
        "original": (stayed, entered),
        "will_leave": facts.leaving,
        "will_stop": facts.stopping,
    }[kind]


def _event_target(meaning: Meaning, facts: EventFacts) -> int | None:
    """The one object that an expression of history or future may be used for; None if it may not be used."""
    found = resolve_event(meaning, facts)
    if found is None or found.bit_count() != 1:
        return None
    target = found.bit_length() - 1
    if facts.having(meaning.phrase).bit_count() < 2 or not _has_look_alike((target,), facts):
        return None
    phrase = meaning.phrase
    for less in (phrase._replace(colour=None), phrase._replace(size=None)):
        if less != phrase and resolve_event(meaning._replace(phrase=less), facts) in (None, found):
            return None
    if meaning.family == "history":
        return target if _needs_memory(meaning, target, facts) else None
    rivals = facts.having(phrase) & ~found & facts.at_first
    return target if rivals and facts.at_first >> target & 1 else None


def _needs_memory(meaning: Meaning, target: int, facts: EventFacts) -> bool:
    """Whether at the end another object in question fits the words at least as well as the target."""
    rivals = [i for i in _ids(facts.having(meaning.phrase)) if i != target and facts.seen[i, -1]]
    obj, last = facts.scene.objects[target], facts.last_colours
    if meaning.kind == "first_side":
        ahead = facts.ahead_during(meaning.value, slice(-FIRST_FRAMES, None))
        return any(ahead[i] >> target & 1 for i in rivals)
    if meaning.kind == "first_colour":
        same_noun = {last[i] for i in rivals if facts.scene.objects[i].shape == obj.shape}
        return last[target] != meaning.value and bool(same_noun & {meaning.value, last[target]})
    look = (obj.shape, last[target], obj.size)
    others = [(facts.scene.objects[i].shape, last[i], facts.scene.objects[i].size) for i in rivals]
    return look in others


def _flags(values: Iterator[bool]) -> int:
    return sum(1 << i for i, value in enumerate(values) if value)


def _ids(objects: int) -> tuple[int, ...]:
    return tuple(i for i in range(objects.bit_length()) if objects >> i & 1)


def _has_look_alike(ids: tuple[int, ...], facts: EventFacts) -> bool:
    """Whether an object beside these shares a shape or a colour with one of them."""
    objects = facts.scene.objects
    others = [obj for i, obj in enumerate(objects) if i not in ids]
    shapes, colours = {obj.shape for obj in others}, {colour for obj in others for colour in obj.colours}
    return any(objects[i].shape in shapes or colours.intersection(objects[i].colours) for i in ids)


def _shuffled(items: list[T], rng: np.random.Generator) -> list[T]:
    return [items[i] for i in np.argsort(rng.random(len(items)), kind="stable").tolist()]


def _alternating(pools: Sequence[Iterable[Usable]], rng: np.random.Generator) -> Iterator[Usable]:
    """The items of the pools in turn, starting with a random one."""
    start = int(rng.integers(len(pools)))
    for group in zip_longest(*pools[start:], *pools[:start]):
        yield from (item for item in group if item is not None)
