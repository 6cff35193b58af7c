"""The words of MiniRVOS streams: what is asked and answered about things that happen."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from refstream.synthetic.words import all_words

YES, NO = "yes", "no"

# What happens, told once it is over: {who} and {whom} are objects, {value} a colour or a direction.
CAPTIONS: dict[str, str] = {
    "enter": "{who} comes in",
    "leave": "{who} leaves",
    "recolour": "{who} turns {value}",
    "fade": "{who} fades to {value}",
    "touch": "{who} bumps into {whom}",
    "move": "{who} moves {value}",
}
# The same as it is asked for: "when does {who} ...".
VERBS: dict[str, str] = {
    "enter": "come in",
    "leave": "leave",
    "recolour": "turn {value}",
    "fade": "fade to {value}",
    "touch": "bump into {whom}",
    "move": "move {value}",
}
# Of any shape: "tell me each time a shape ..."; "how many times did they ...".
ANY_SHAPE: dict[str, tuple[str, str]] = {
    "enter": ("comes in", "come in"),
    "leave": ("leaves", "leave"),
    "recolour": ("turns another colour at once", "turn another colour at once"),
    "fade": ("fades to another colour", "fade to another colour"),
    "touch": ("bumps into another", "bump into another"),
    "move": ("moves", "move"),
}

NARRATION = ("tell me all that happens", "describe everything that happens", "say what happens")
EVENT_CAPTION = ("tell me each time a shape {verb}", "say who it is each time a shape {verb}")
ACTION_CAPTION = ("tell me what {who} does", "describe each action of {who}", "say what {who} does")
EVENT_GROUNDING = ("when does {who} {verb}", "from when to when does {who} {verb}")
COUNT_NOW = ("how many shapes are there now", "how many shapes are in the picture now")
COLOUR_NOW = ("what colour is {who} now", "which colour does {who} have now")
COUNT_FIRST = ("how many shapes were there at first", "how many shapes were in the picture at first")
COLOUR_FIRST = ("what colour was {who} at first", "which colour did {who} have at first")
EVER = ("has a shape {verb} so far", "did a shape {verb} before now")
EVER_VERBS: dict[str, tuple[str, str]] = {
    "enter": ("come in", "come in"),
    "leave": ("left", "leave"),
    "fade": ("faded to another colour", "fade to another colour"),
    "recolour": ("turned another colour at once", "turn another colour at once"),
    "touch": ("bumped into another", "bump into another"),
}

# Of the multiple choice and the questions of what is still to come.
WHICH_NEXT = "which shape is the next to {verb}"
WHAT_NOW = "what does {who} do now"
LAST_BEFORE = "what happened just before {after}"
WHERE_NOW = "which shape is furthest to the {value} now"


class Told(NamedTuple):
    """What a caption says.

    Attributes:
        kind: A key of ``CAPTIONS``.
        who: Named object.
        whom: The other one of "touch"; empty otherwise.
        value: A colour or a direction, for kinds that have one; empty otherwise.
    """

    kind: str
    who: str
    whom: str = ""
    value: str = ""


def caption(told: Told) -> str:
    """What happened, in words: "the red circle fades to blue"."""
    return CAPTIONS[told.kind].format(who=told.who, whom=told.whom, value=told.value)


def verb(told: Told) -> str:
    """What happened, as it is asked for: "fade to blue"."""
    return VERBS[told.kind].format(whom=told.whom, value=told.value)


def pick(options: Sequence[str], rng: np.random.Generator) -> str:
    """One of the options."""
    return options[int(rng.integers(len(options)))]


def all_stream_words() -> list[str]:
    """Words of streams that ``all_words`` lacks, sorted: to be added after those, so that these keep their
    places in a vocabulary. Numbers are written in digits, and times as <3s-6s>, character by character."""
    words = {word for text in _texts() for word in re.sub(r"\{\w+\}", " ", text).split()}
    return sorted(words - set(all_words()))


def _texts() -> Iterator[str]:
    yield from (YES, NO, WHICH_NEXT, WHAT_NOW, LAST_BEFORE, WHERE_NOW)
    yield from (*CAPTIONS.values(), *VERBS.values())
    for pair in (*ANY_SHAPE.values(), *EVER_VERBS.values()):
        yield from pair
    for options in (NARRATION, EVENT_CAPTION, ACTION_CAPTION, EVENT_GROUNDING, COUNT_NOW, COLOUR_NOW):
        yield from options
    for options in (COUNT_FIRST, COLOUR_FIRST, EVER):
        yield from options
