"""What a captioner is asked, and how its replies are read."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

PromptKind = Literal["narration", "event", "action", "question", "answer", "verify"]

NOTHING = "nothing"
"""What a captioner says if there is nothing to tell."""

_NOTHING_WORDS = frozenset({"nothing", "none", "no change", "nothing changes", "nothing new", "no action"})


class Prompt(NamedTuple):
    """One request to a captioner about some frames.

    Attributes:
        kind: What is asked for; a captioner that works by rules goes by it.
        text: The words; a captioner that is a language model goes by them.
        subject: The question of "answer", the caption of "verify"; empty for the other kinds.
    """

    kind: PromptKind
    text: str
    subject: str = ""


NARRATION = Prompt(
    "narration",
    "These are the latest moments of a video, in order. Say in one sentence what is new in the last one: "
    "what changes, begins, ends, appears or goes away. Do not describe what stays the same. "
    f"If nothing changes, reply only: {NOTHING}",
)
EVENT = Prompt(
    "event",
    "These frames are one part of a video, in order. Say in one sentence what happens in this part, so that "
    f"it can be told from the other parts. If nothing can be told, reply only: {NOTHING}",
)
ACTION = Prompt(
    "action",
    "These frames are one part of a video, in order. Name in one sentence who or what moves or acts here "
    f"and what it does. Do not describe the scene. If nothing moves or acts, reply only: {NOTHING}",
)
QUESTION = Prompt(
    "question",
    "These frames cover a whole video, in order. Ask one short question about something that can be seen at "
    "every moment but changes during the video: a number, a place, a colour or a state. The question must be "
    'about the present moment and contain the word "now". Reply with the question alone; if nothing of that '
    f"kind changes, reply only: {NOTHING}",
)


def answer_to(question: str) -> Prompt:
    """What is the answer to this question at the moment shown?"""
    return Prompt(
        "answer",
        f"{question} Answer for the moment shown here, in as few words as possible and always with the same "
        "words for the same thing.",
        question,
    )


def verify(caption: str) -> Prompt:
    """Does this happen in the frames shown?"""
    return Prompt(
        "verify",
        f'These frames are one part of a video, in order. Does this happen in them: "{caption}" '
        "Reply only yes or no.",
        caption,
    )


def tidy(reply: str) -> str:
    """A reply in one line without quotation marks around it."""
    line = " ".join(reply.split())
    return line[1:-1].strip() if len(line) > 1 and line[0] == line[-1] and line[0] in "\"'" else line


def says_nothing(reply: str) -> bool:
    """Whether a reply tells nothing: empty, or one of the ways to say so."""
    return same_words(reply) in _NOTHING_WORDS | {""}


def same_words(text: str) -> str:
    """What two texts share that differ only in case, spaces and marks at their ends."""
    return " ".join(text.lower().split()).strip(" .,;:!?\"'")


def is_question(text: str) -> bool:
    """Whether a text asks about the present: it ends with a question mark or holds the word "now"."""
    return text.endswith("?") or "now" in same_words(text).split()


def yes_or_no(reply: str) -> bool | None:
    """The first word of a reply as an answer, None if it is neither yes nor no."""
    word = re.match(r"\W*(yes|no)\b", reply, re.IGNORECASE)
    return None if word is None else word[1].lower() == "yes"
