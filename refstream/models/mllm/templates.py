"""Chat templates, questions, answers and the cleaning of expressions.

Source: StreamingRVOS and Sa2VA, released code: 16 question and 5 answer templates (here in our own words);
training lower-cases an expression and removes every ".", inference does neither.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from refstream.models.mllm.tokens import TURN_END, TURN_START

MAX_EXPRESSION_CHARACTERS = 2000

QUESTION = "Please segment {expression} in this image."
ANSWER = "Sure, [SEG]."
REPROMPT = "The target might have changed, focus on the context."  # paper's wording is approximate: assumed

_STEMS = (
    "Can you segment {expression} in this image",
    "Could you mark {expression} in this picture",
    "Where is {expression} in this image",
    "Which region shows {expression}",
)
QUESTIONS: tuple[str, ...] = (
    *(f"{stem}?" for stem in _STEMS),
    *_STEMS,
    "Please segment {expression} in this image.",
    "Please give the mask of {expression}.",
    "Segment {expression}.",
    "Find {expression} and segment it.",
    "Show me the mask of {expression} in this image.",
    "Outline {expression} in the picture.",
    "What does {expression} cover in this image? Please answer with a mask.",
    "I am looking for {expression}. Please answer with its mask.",
)
"""Training questions: 16, of which four are stems repeated without punctuation, as in the released recipe."""

ANSWERS: tuple[str, ...] = (
    "It is [SEG].",
    "Sure, [SEG].",
    "Sure, it is [SEG].",
    "Here it is: [SEG].",
    "[SEG].",
)
"""Training answers: five, each with exactly one ``[SEG]``."""


def clean_expression(
    text: str,
    *,
    lowercase: bool = True,
    strip_periods: bool = True,
    max_characters: int = MAX_EXPRESSION_CHARACTERS,
) -> str:
    """One line of NFC text without control characters.

    Args:
        text: As typed by a user or read from an annotation file.
        lowercase: Lower-case, as the released training does (its inference does not).
        strip_periods: Remove every ".", as the released training does (its inference does not).
        max_characters: Longest accepted text after cleaning.

    Raises:
        ValueError: if nothing is left, or too much.
    """
    if not isinstance(text, str):
        raise ValueError(f"an expression must be a string, got {type(text).__name__}")
    if len(text) > 64 * max_characters:
        raise ValueError(_too_long(len(text), max_characters))
    text = unicodedata.normalize("NFC", text)
    # Cc control, Cs lone surrogates (not encodable as UTF-8); breaks and tabs become spaces
    text = "".join(" " if c.isspace() or unicodedata.category(c) in ("Cc", "Cs") else c for c in text)
    if lowercase:
        text = text.lower()
    if strip_periods:
        text = text.replace(".", "")
    text = " ".join(text.split())
    if not text:
        raise ValueError('the expression is empty; say what to look for, for example "the red circle"')
    if len(text) > max_characters:
        raise ValueError(_too_long(len(text), max_characters))
    return text


def _too_long(length: int, limit: int) -> str:
    return (
        f"the expression has {length} characters, at most {limit} are accepted; describe the target in a "
        "sentence or two, or split it into several expressions"
    )


@dataclass(frozen=True)
class Special:
    """``count`` times one special token that the template itself puts in."""

    token: str
    count: int = 1


Pieces = tuple["str | Special", ...]
"""A prompt before tokenisation; a plain string is text in which nothing is special."""


@dataclass(frozen=True)
class ChatTemplate:
    """How turns are written: ``user`` question ``assistant`` answer ``end`` ``separator`` ``user`` ...

    Attributes:
        system: What stands before the text of a system turn.
        user: Before a question.
        assistant: Between question and answer.
        end: After the system's text and after an answer; supervised there.
        separator: Between turns.
        stop_words: Texts that end a generated answer where ``end`` is not a token of its own.
    """

    system: Pieces
    user: Pieces
    assistant: Pieces
    end: Pieces
    separator: str = "\n"
    stop_words: tuple[str, ...] = ()


_START, _END = Special(TURN_START), Special(TURN_END)
CHAT_TEMPLATES: dict[str, ChatTemplate] = {
    "qwen_chat": ChatTemplate(
        system=(_START, "system\n"),
        user=(_START, "user\n"),
        assistant=(_END, "\n", _START, "assistant\n"),
        end=(_END,),
    ),
    # some Sa2VA exports were trained with Phi-3's markers, which are plain text to Qwen's tokenizer
    "phi3_chat": ChatTemplate(
        system=("<|system|>\n",),
        user=("<|user|>\n",),
        assistant=("<|end|>\n<|assistant|>\n",),
        end=("<|end|>",),
        stop_words=("<|end|>",),
    ),
}
"""By their names in Sa2VA's ``config.json`` and XTuner's ``PROMPT_TEMPLATE``."""
