"""Choose what is said about a scene: which families, which meanings, in which words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from refstream.synthetic.events import EventFacts
from refstream.synthetic.expressions import FAMILY_SHARES, SceneFacts, meanings, target_of
from refstream.synthetic.rich_expressions import Usable, usable
from refstream.synthetic.scene import Scene, Split, allowed_pairs, held_out_pairs
from refstream.synthetic.scripts import SCRIPTS
from refstream.synthetic.words import Meaning, to_words

_LOOK_AHEAD = 5  # usable meanings compared before one is taken
_MAX_SCRIPTED = 2  # families with scripts in one clip; more would crowd it


@dataclass(frozen=True)
class SyntheticExpression:
    """One referring expression of a clip.

    Attributes:
        text: The words.
        family: A family of the clip's world.
        object_ids: The objects it means, perhaps none: first axis of ``SyntheticClip.object_masks``.
        held_out: Whether the (shape, colour) of a target never occurred in earlier splits.
        meaning: What the words say, as structure.
    """

    text: str
    family: str
    object_ids: tuple[int, ...]
    held_out: bool
    meaning: Meaning


class _Pool:
    """What can be said, given out so that rarely meant targets come first."""

    def __init__(self, items: Iterator[Usable]) -> None:
        self._items = items
        self._ready: list[Usable] = []

    def pop(self, used: dict[tuple[int, ...], int]) -> Usable | None:
        """Of the next few the one whose target was meant least; None at the end."""
        self._ready += islice(self._items, _LOOK_AHEAD - len(self._ready))
        if not self._ready:
            return None
        best = min(range(len(self._ready)), key=lambda i: used.get(self._ready[i][1], 0))
        return self._ready.pop(best)


class _Choice:
    """Expressions of one scene so far."""

    def __init__(self, rng: np.random.Generator, scene: Scene, split: Split) -> None:
        self.rng, self.scene = rng, scene
        self.held_out = held_out_pairs(split)
        self.used: dict[tuple[int, ...], int] = {}
        self.expressions: list[SyntheticExpression] = []

    def take(self, family: str, pool: _Pool) -> bool:
        """Put the next of a pool into words; False if it is empty."""
        picked = pool.pop(self.used)
        if picked is None:
            return False
        meaning, ids = picked
        self.used[ids] = self.used.get(ids, 0) + 1
        objects = [self.scene.objects[i] for i in ids]
        held_out = any((obj.shape, colour) in self.held_out for obj in objects for colour in obj.colours)
        text = to_words(meaning, self.rng)
        self.expressions.append(SyntheticExpression(text, family, ids, held_out, meaning))
        return True


def choose_plain(
    rng: np.random.Generator, scene: Scene, split: Split, families: Sequence[str], most: int
) -> tuple[SyntheticExpression, ...]:
    """Draw families by their shares, then meanings, preferring targets that are rarely meant so far.

    Args:
        rng: The only source of randomness.
        scene: A plain scene.
        split: Decides what is held out.
        families: Of the plain world.
        most: Expressions, at most.
    """
    facts = SceneFacts(scene)
    pools = {family: _Pool(_plain_items(facts, family, rng)) for family in families}
    choice = _Choice(rng, scene, split)
    while pools and len(choice.expressions) < most:
        names = list(pools)
        shares = np.cumsum([FAMILY_SHARES[name] for name in names])
        family = names[int(np.searchsorted(shares, rng.random() * shares[-1], side="right"))]
        if not choice.take(family, pools[family]):
            del pools[family]
    return tuple(choice.expressions)


def _plain_items(facts: SceneFacts, family: str, rng: np.random.Generator) -> Iterator[Usable]:
    items = meanings(facts, family)
    order = np.argsort(rng.random(len(items)), kind="stable").tolist()
    return ((items[i], (target,)) for i in order if (target := target_of(items[i], facts)) is not None)


def draw_demands(rng: np.random.Generator, families: Sequence[str], most: int) -> list[str]:
    """Which families a rich clip is to serve, one per expression; over many clips all as often.

    Of the families that need a script a clip gets two kinds at most.
    """
    scripted = [family for family in families if family in SCRIPTS]
    share = most * len(scripted) / len(families)
    count = int(share + rng.random())
    kinds = [scripted[i] for i in rng.permutation(len(scripted))[:_MAX_SCRIPTED]]
    free = [family for family in families if family not in SCRIPTS]
    others = [free[i] for i in rng.permutation(len(free))]
    return _cycle(kinds, count) + _cycle(others, most - count)


def _cycle(names: list[str], count: int) -> list[str]:
    return [names[i % len(names)] for i in range(count)] if names else []


def choose_rich(
    rng: np.random.Generator, scene: Scene, split: Split, demands: Sequence[str]
) -> tuple[SyntheticExpression, ...]:
    """An expression for each demand; none at all if a family cannot be served, or all mean the same.

    A family that is demanded several times may give fewer.

    Args:
        rng: The only source of randomness.
        scene: A rich scene.
        split: Decides what is held out.
        demands: Families.
    """
    facts = EventFacts(scene)
    pairs = allowed_pairs(split)
    pools = {family: _Pool(usable(facts, family, pairs, rng)) for family in dict.fromkeys(demands)}
    choice = _Choice(rng, scene, split)
    served: set[str] = set()
    for family in demands:
        if choice.take(family, pools[family]):
            served.add(family)
        elif family not in served:
            return ()
    several, some = len(choice.used) >= 2, any(choice.used)
    return tuple(choice.expressions) if several and some else ()
