"""Dialogues that go on: turns with their own images, whole (training) or piece by piece (streaming).

Written as a stream's dialogue is (one turn per sampled frame, its words first, its image last):

    <|im_start|>system
    ...<|im_end|>
    <|im_start|>user
    Tell me when the light turns green.
    <0s-1s>
    <img> N x <IMG_CONTEXT> </img>
    <|im_end|>
    <|im_start|>assistant
    ...<|im_end|>

without the spaces around special tokens. The whole is defined as the pieces in a row, so that what is trained
on and what is fed to a running dialogue cannot differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from refstream.models.mllm.chat_tokens import IGNORE
from refstream.models.mllm.encoding import Row
from refstream.models.mllm.templates import CHAT_TEMPLATES, Special

if TYPE_CHECKING:
    from refstream.models.mllm.chat import PromptBuilder


@dataclass(frozen=True)
class Turn:
    """One turn of a dialogue.

    Attributes:
        text: What the user says, taken as typed; never read as special tokens. May be empty.
        answer: What the assistant says, supervised with its end-of-turn token; None leaves the turn open
            (the last one of a dialogue only).
        images: Images that stand after the text, each of the same number of vision tokens.
        images_first: They stand before it, as in questions about one picture.
    """

    text: str
    answer: str | None = None
    images: int = 0
    images_first: bool = False

    def __post_init__(self) -> None:
        if self.images < 0:
            raise ValueError(f"a turn has 0 images or more, got {self.images}")


def system_row(builder: PromptBuilder, system: str | None) -> Row:
    """The system turn; an empty row where neither ``system`` nor the builder's own is set."""
    text = builder.system if system is None else system
    if text is None:
        return [], [], 0
    template = CHAT_TEMPLATES[builder.template]
    ids = builder.encoder.encode([*template.system, text, *template.end])
    return ids, [IGNORE] * len(ids), 0


def opening_row(
    builder: PromptBuilder, turn: Turn, *, first: bool, tile_tokens: int | None, system: str | None
) -> Row:
    """From what separates a turn from the one before it to where the assistant begins."""
    per_image = builder.num_image_tokens if tile_tokens is None else tile_tokens
    if per_image < 1:
        raise ValueError(f"an image needs at least one vision token, got tile_tokens={per_image}")
    template = CHAT_TEMPLATES[builder.template]
    alone = first and system is None and builder.system is None
    pieces: list[str | Special] = [] if alone else [template.separator]
    start, context, end = builder.image_markers
    shown: list[str | Special] = []
    for number in range(turn.images):
        shown += [Special(start), Special(context, per_image), Special(end)]
        if builder.newline_after_image or number < turn.images - 1:
            shown.append("\n")
    if turn.images_first:
        said = [*shown, turn.text]
    else:
        said = [turn.text, *(["\n"] if turn.text and turn.images else []), *shown]
    ids = builder.encoder.encode([*pieces, *template.user, *said, *template.assistant])
    slots = turn.images * per_image
    if ids.count(builder.ids.image_context) != slots:
        raise AssertionError("text must never add vision slots")
    return ids, [IGNORE] * len(ids), slots


def closing_row(builder: PromptBuilder, answer: str) -> Row:
    """The assistant's words and the end of its turn, all supervised."""
    template = CHAT_TEMPLATES[builder.template]
    ids = builder.encoder.encode([*builder.encoder.answer(answer), *template.end])
    return ids, list(ids), 0


def dialogue_row(
    builder: PromptBuilder, turns: Sequence[Turn], *, tile_tokens: int | None, system: str | None
) -> Row:
    """All pieces of a dialogue in a row.

    Raises:
        ValueError: If there is no turn, or a turn before the last one is open.
    """
    if not turns:
        raise ValueError("a dialogue needs at least one turn")
    rows = [system_row(builder, system)]
    for number, turn in enumerate(turns):
        rows.append(opening_row(builder, turn, first=number == 0, tile_tokens=tile_tokens, system=system))
        if turn.answer is not None:
            rows.append(closing_row(builder, turn.answer))
        elif number != len(turns) - 1:
            raise ValueError("only the last answer of a dialogue may be None")
    ids = [token for row in rows for token in row[0]]
    labels = [label for row in rows for label in row[1]]
    return ids, labels, sum(row[2] for row in rows)
