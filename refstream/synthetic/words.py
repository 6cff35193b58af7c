"""What the expressions of MiniRVOS say, as structure, and the words for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from refstream.synthetic.scene import COLOURS, SHAPES

_NOUNS = ("object", "thing", "shape")
_SIZE_WORDS = {"small": ("small", "little"), "large": ("large", "big")}
_PREFIXES = ("", "", "", "find ", "segment ", "show me ")
_PLURALS = {"cross": "crosses"}
_COLOUR_TEMPLATE = "the {size} {shape} that is {colour}"
_SIZE_COLOUR_TEMPLATE = "the {shape} that is {size} and {colour}"
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
    ("all", ""): ("all {nps}", "all the {nps}", "every {np}"),
    ("all", "2"): ("all {nps}", "the two {nps}", "both {nps}"),
    ("all", "3"): ("all {nps}", "the three {nps}", "every {np}"),
    ("and", ""): ("the {np} and the {anchor}",),
    ("first_side", "left"): ("the {np} that was on the left at first", "the {np} that started on the left"),
    ("first_side", "right"): (
        "the {np} that was on the right at first",
        "the {np} that started on the right",
    ),
    ("first_side", "up"): ("the {np} that was at the top at first", "the {np} that started at the top"),
    ("first_side", "down"): (
        "the {np} that was at the bottom at first",
        "the {np} that started at the bottom",
    ),
    ("entered", ""): (
        "the {np} that came in",
        "the {np} that entered the picture",
        "the {np} that was not there at first",
    ),
    ("original", ""): ("the {np} that was there at first", "the {np} that was there from the start"),
    ("will_leave", ""): (
        "the {np} that will leave",
        "the {np} that will leave the picture",
        "the {np} that will go out of the picture",
    ),
    ("will_stop", ""): ("the {np} that will stop", "the {np} that will come to a stop"),
    ("will_touch", ""): (
        "the {np} that will touch the {anchor}",
        "the {np} that will hit the {anchor}",
        "the {np} that will bump into the {anchor}",
    ),
}
# Kinds whose value is a colour.
_COLOUR_VALUE_TEMPLATES: dict[str, tuple[str, ...]] = {
    "first_colour": ("the {np} that was {value} at first", "the {np} that started {value}"),
    "will_turn": ("the {np} that will turn {value}", "the {np} that will become {value}"),
}
_FAMILY_OF_KIND = {
    "": "appearance",
    "motion": "motion",
    "all": "multi",
    "and": "multi",
    "first_colour": "history",
    "first_side": "history",
    "entered": "history",
    "original": "history",
    "will_leave": "future",
    "will_stop": "future",
    "will_touch": "future",
    "will_turn": "future",
}


class NounPhrase(NamedTuple):
    """Attributes an object must have; None leaves one open."""

    shape: str | None = None
    colour: str | None = None
    size: str | None = None


class Meaning(NamedTuple):
    """What an expression says.

    Attributes:
        phrase: Which objects come into question.
        kind: "" (appearance alone), "extreme", "side", "nearest", "motion", "all", "and", or an event's:
            "first_colour", "first_side", "entered", "original", "will_leave", "will_stop", "will_touch",
            "will_turn".
        value: A direction or a motion, a colour, or how many; "" where the kind says it all.
        anchor: The other object of "side", "nearest", "and" and "will_touch".
    """

    phrase: NounPhrase
    kind: str = ""
    value: str = ""
    anchor: NounPhrase | None = None

    @property
    def family(self) -> str:
        """The family it belongs to, but for absent and occluded targets."""
        return _FAMILY_OF_KIND.get(self.kind, "relation")


def to_words(meaning: Meaning, rng: np.random.Generator) -> str:
    """Put a meaning into words with a random template."""
    phrase = meaning.phrase
    size = _pick(_SIZE_WORDS[phrase.size], rng) if phrase.size else ""
    noun = phrase.shape or _pick(_NOUNS, rng)
    options = list(_COLOUR_VALUE_TEMPLATES.get(meaning.kind) or _TEMPLATES[meaning.kind, meaning.value])
    if meaning.kind == "" and phrase.colour:
        options.append(_COLOUR_TEMPLATE)
        if phrase.size:
            options.append(_SIZE_COLOUR_TEMPLATE)
    attributes = [word for word in (size, phrase.colour) if word]
    text = _pick(options, rng).format(
        np=" ".join([*attributes, noun]),
        nps=" ".join([*attributes, _plural(noun)]),
        size=size,
        shape=noun,
        colour=phrase.colour,
        value=meaning.value,
        anchor=_name(meaning.anchor),
    )
    return _pick(_PREFIXES, rng) + " ".join(text.split())


def all_words() -> list[str]:
    """Every word the templates can produce, sorted."""
    nouns = {*SHAPES, *_NOUNS}
    words = {*nouns, *map(_plural, nouns), *COLOURS, *(w for words in _SIZE_WORDS.values() for w in words)}
    every = (*_TEMPLATES.values(), *_COLOUR_VALUE_TEMPLATES.values())
    templates = (template for options in every for template in options)
    for text in (*_PREFIXES, *templates, _COLOUR_TEMPLATE, _SIZE_COLOUR_TEMPLATE):
        words.update(word for word in text.split() if "{" not in word)
    return sorted(words)


def _name(phrase: NounPhrase | None) -> str:
    """An object named by its size, colour and shape, as far as these are given."""
    if phrase is None:
        return ""
    return " ".join(word for word in (phrase.size, phrase.colour, phrase.shape or _NOUNS[0]) if word)


def _plural(noun: str) -> str:
    return _PLURALS.get(noun, f"{noun}s")


def _pick(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]
