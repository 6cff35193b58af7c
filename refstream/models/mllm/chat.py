"""THE prompt builder: the one place that turns words into tokens, for training and for inference.

Source: StreamingRVOS (CVPR 2026) and its released code. One turn of the chat template ``qwen_chat``:

    <|im_start|>user
    <img> N x <IMG_CONTEXT> </img> <context> K x <TIME_CONTEXT> </context>
    Please segment the red circle in this image.<|im_end|>
    <|im_start|>assistant
    Sure, [SEG].<|im_end|>

without the spaces around special tokens. The release's variants are switches of :class:`PromptBuilder`: no
newline after the context slot (its video training), no context slot (Sa2VA), several images in one prompt
(Sa2VA's videos), expressions left as typed (its inference) instead of lower-cased without full stops (its
training). Images may be labelled, and have fewer tokens each than the MLLM gives. What a user types is never
read as a special token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from refstream.models.mllm import tokens as T
from refstream.models.mllm.chat_tokens import IGNORE, ChatTokens
from refstream.models.mllm.encoding import PieceEncoder, Row, pad_rows
from refstream.models.mllm.templates import (
    ANSWER,
    ANSWERS,
    CHAT_TEMPLATES,
    MAX_EXPRESSION_CHARACTERS,
    QUESTION,
    QUESTIONS,
    REPROMPT,
    Special,
    clean_expression,
)
from refstream.models.mllm.turns import Turn, closing_row, dialogue_row, opening_row, system_row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = [
    "ANSWER",
    "ANSWERS",
    "IGNORE",
    "QUESTION",
    "QUESTIONS",
    "REPROMPT",
    "ChatTokens",
    "PromptBuilder",
    "Turn",
    "clean_expression",
]


@dataclass(frozen=True)
class _View:
    """What stands before the first question: images of ``num_tiles`` tiles each, and the context slot."""

    num_tiles: int
    num_images: int
    with_context: bool
    tile_tokens: int
    label: str = ""

    @property
    def slots(self) -> int:
        """Vision tokens."""
        return self.num_tiles * self.num_images * self.tile_tokens


class PromptBuilder:
    """Builds :class:`ChatTokens`.

    Args:
        tokenizer: Knows the special tokens (``tokens.add_special_tokens``).
        num_image_tokens: Vision tokens per tile (256 for InternVL2.5 at 448 px).
        num_context: K, slots for states of earlier frames (FIFO length; 1 in StreamingRVOS).
        with_context: Whether the context slot is there at all (Sa2VA: no).
        newline_after_context: A newline before the question (released image training and all inference;
            its video training has none).
        question: Default question; ``{expression}`` is replaced.
        answer: Default forced answer.
        reprompt: Appended to the question when the target may have changed (StreamingRVOS 3.3).
        lowercase, strip_periods: Expression cleaning, see :func:`clean_expression`.
        system: Text of a system turn, or None for none (StreamingRVOS and Sa2VA have none).
        template: A key of ``templates.CHAT_TEMPLATES``.
        max_characters: Longest accepted expression.
        answer_tokens: What is special inside an answer; everything else in it is plain text.
        image_markers: Tokens before, at and after the places of an image's vision tokens.
        newline_after_image: In ``turns``, end every image with a newline (as InternVL's prompts do) instead
            of only parting several by one.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        num_image_tokens: int,
        num_context: int = 1,
        with_context: bool = True,
        newline_after_context: bool = True,
        question: str = QUESTION,
        answer: str = ANSWER,
        reprompt: str = REPROMPT,
        lowercase: bool = True,
        strip_periods: bool = True,
        system: str | None = None,
        template: str = "qwen_chat",
        max_characters: int = MAX_EXPRESSION_CHARACTERS,
        answer_tokens: Sequence[str] = T.ANSWER_TOKENS,
        image_markers: Sequence[str] = T.IMAGE_MARKERS,
        newline_after_image: bool = True,
    ) -> None:
        if num_image_tokens < 1 or num_context < 1:
            raise ValueError(
                f"num_image_tokens and num_context must be at least 1, got {num_image_tokens} and "
                f"{num_context}; with_context=False removes the context slot"
            )
        if template not in CHAT_TEMPLATES:
            raise ValueError(f"unknown chat template {template!r}, expected one of {sorted(CHAT_TEMPLATES)}")
        self.tokenizer = tokenizer
        self.ids = T.special_ids(tokenizer, image_markers)
        self.encoder = PieceEncoder(tokenizer, answer_tokens)
        if with_context and not self.ids.has_context:
            raise ValueError(
                f"the tokenizer lacks {T.TIME_CONTEXT}, {T.CONTEXT_START} or {T.CONTEXT_END}; add them "
                "(tokens.add_special_tokens) or set with_context=False, as Sa2VA needs it"
            )
        self.num_image_tokens = num_image_tokens
        self.num_context = num_context
        self.with_context = with_context
        self.newline_after_context = newline_after_context
        self.question, self.answer, self.reprompt = question, answer, reprompt
        self.lowercase, self.strip_periods = lowercase, strip_periods
        self.system = system
        self.template = template
        self.max_characters = max_characters
        self.pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.ids.turn_end
        self.answer_tokens, self.image_markers = list(answer_tokens), list(image_markers)
        self.newline_after_image = newline_after_image

    def options(self) -> dict[str, Any]:
        """The settings that rebuild this builder for the same tokenizer; JSON-serialisable."""
        names = """num_image_tokens num_context with_context newline_after_context question answer reprompt
            lowercase strip_periods system template max_characters answer_tokens image_markers
            newline_after_image"""
        return {name: getattr(self, name) for name in names.split()}

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Tokens that end a generated answer."""
        return (self.ids.turn_end, self.pad_id)

    @property
    def stop_words(self) -> tuple[str, ...]:
        """Texts that end a generated answer."""
        return CHAT_TEMPLATES[self.template].stop_words

    def clean(self, expression: str) -> str:
        """:func:`clean_expression` with this builder's settings."""
        return clean_expression(
            expression,
            lowercase=self.lowercase,
            strip_periods=self.strip_periods,
            max_characters=self.max_characters,
        )

    def referring(
        self,
        expressions: Sequence[str],
        *,
        reprompt: bool | Sequence[bool] = False,
        answer: str | Sequence[str] | None = None,
        question: str | Sequence[str] | None = None,
        num_tiles: int | Sequence[int] = 1,
        num_images: int | Sequence[int] = 1,
        with_answer: bool = True,
        with_context: bool | None = None,
        tile_tokens: int | None = None,
        image_label: str = "",
    ) -> ChatTokens:
        """One referring question per expression, with its forced answer.

        Args:
            expressions: B expressions, cleaned here.
            reprompt: Per row or for all: append the "target might have changed" sentence.
            answer: Forced answer, per row or for all; None takes the builder's.
            question: Question with ``{expression}``, per row or for all; None takes the builder's.
            num_tiles: Tiles per image, per row or for all; 0 leaves the image out.
            num_images: Images (each of ``num_tiles`` tiles) per row, one per line.
            with_answer: False stops where the assistant's turn begins, for free generation.
            with_context: False leaves the context slot out; None as the builder has it.
            tile_tokens: Vision tokens per tile where they were pooled; None takes the builder's.
            image_label: Text before each image; ``{number}`` in it counts the images of a row from 1.
        """
        if isinstance(expressions, str):
            raise ValueError("expressions must be a list of strings, got one string; write [expression]")
        size = len(expressions)
        reprompts = _per_row(reprompt, size, "reprompt")
        answers = _per_row(self.answer if answer is None else answer, size, "answer")
        questions = _per_row(self.question if question is None else question, size, "question")
        views = self._views(size, num_tiles, num_images, with_context, tile_tokens, image_label)
        rows = []
        for i, expression in enumerate(expressions):
            text = _fill(questions[i], self.clean(expression))
            if reprompts[i]:
                text = f"{text} {self.reprompt}"
            turns = [(text, answers[i] if with_answer else None)]
            rows.append(self._dialogue(turns, views[i]))
        return self._batch(rows)

    def text(
        self,
        dialogues: Sequence[Sequence[tuple[str, str | None]]],
        *,
        num_tiles: int | Sequence[int] = 0,
        num_images: int | Sequence[int] = 1,
        with_context: bool = False,
        tile_tokens: int | None = None,
        image_label: str = "",
    ) -> ChatTokens:
        """General dialogues: B lists of (question, answer) turns; an image, if any, stands in the first turn.

        A last answer of None leaves the assistant's turn open. Questions are taken as typed. Only rows with
        an image have a context slot. ``tile_tokens`` and ``image_label`` as of ``referring``.
        """
        views = self._views(len(dialogues), num_tiles, num_images, with_context, tile_tokens, image_label)
        return self._batch([self._dialogue(*row) for row in zip(dialogues, views, strict=True)])

    def turns(
        self,
        dialogues: Sequence[Sequence[Turn]],
        *,
        tile_tokens: int | None = None,
        system: str | None = None,
    ) -> ChatTokens:
        """Dialogues whose turns bring their own images, see ``refstream.models.mllm.turns``.

        Supervised are the answer and the end-of-turn token of every turn. No row has a context slot.

        Args:
            dialogues: B lists of turns; a last answer of None leaves the assistant's turn open.
            tile_tokens: Vision tokens per image where they were pooled; None takes the builder's.
            system: Text of the system turn; None takes the builder's.
        """
        rows = [dialogue_row(self, turns, tile_tokens=tile_tokens, system=system) for turns in dialogues]
        return self._batch(rows)

    def opening(self, *, system: str | None = None) -> ChatTokens:
        """(1, L) first piece of a dialogue, its system turn; L = 0 where there is none.

        The pieces ``opening``, ``turn_opening``, ``turn_closing``, ``turn_opening`` ... in a row are exactly
        what ``turns`` makes.
        """
        return self._batch([system_row(self, system)])

    def turn_opening(
        self, turn: Turn, *, first: bool, tile_tokens: int | None = None, system: str | None = None
    ) -> ChatTokens:
        """(1, L) a turn up to where its answer begins; ``turn.answer`` is not read.

        Args:
            turn: The words and the number of images.
            first: Whether it is the dialogue's first turn.
            tile_tokens: As of ``turns``.
            system: As of ``turns``; the first turn is parted from a system turn, if there is one.
        """
        row = opening_row(self, turn, first=first, tile_tokens=tile_tokens, system=system)
        return self._batch([row])

    def turn_closing(self, answer: str) -> ChatTokens:
        """(1, L) an answer and the end of its turn; an empty answer gives the end alone."""
        return self._batch([closing_row(self, answer)])

    def _views(
        self, size: int, num_tiles: Any, num_images: Any, context: bool | None, tokens: int | None, label: str
    ) -> list[_View]:
        """One view per row."""
        if context and not self.with_context:
            raise ValueError("with_context=True needs a PromptBuilder that was built with with_context=True")
        wanted = self.with_context if context is None else context
        tile_tokens = self.num_image_tokens if tokens is None else tokens
        tiles, images = _per_row(num_tiles, size, "num_tiles"), _per_row(num_images, size, "num_images")
        return [_View(n, m, wanted and n > 0, tile_tokens, label) for n, m in zip(tiles, images, strict=True)]

    def _dialogue(self, turns: Sequence[tuple[str, str | None]], view: _View) -> Row:
        """(ids, labels, vision tokens) of one row."""
        if not turns:
            raise ValueError("a dialogue needs at least one (question, answer) turn")
        ids: list[int] = []
        labels: list[int] = []
        template = CHAT_TEMPLATES[self.template]
        for number, (question, answer) in enumerate(turns):
            pieces: list[str | Special] = []
            if number > 0:
                pieces.append(template.separator)
            elif self.system is not None:
                pieces += [*template.system, self.system, *template.end, template.separator]
            pieces += template.user
            if number == 0:
                pieces += self._visual(view)
            asked = self.encoder.encode([*pieces, question, *template.assistant])
            ids += asked
            labels += [IGNORE] * len(asked)
            if answer is None:
                if number != len(turns) - 1:
                    raise ValueError("only the last answer of a dialogue may be None")
                continue
            given = self.encoder.encode([*self.encoder.answer(answer), *template.end])
            ids += given
            labels += given
        if ids.count(self.ids.image_context) != view.slots:
            raise AssertionError("text must never add vision slots")
        return ids, labels, view.slots

    def _visual(self, view: _View) -> list[str | Special]:
        """What stands before the question of the first turn."""
        pieces: list[str | Special] = []
        images = view.num_images if view.num_tiles > 0 else 0
        for number in range(images):
            pieces += ["\n"] if number > 0 else []
            pieces += [view.label.replace("{number}", str(number + 1))] if view.label else []
            pieces.append(Special(self.image_markers[0]))
            pieces.append(Special(self.image_markers[1], view.num_tiles * view.tile_tokens))
            pieces.append(Special(self.image_markers[2]))
        if view.with_context:
            pieces.append(Special(T.CONTEXT_START))
            pieces.append(Special(T.TIME_CONTEXT, self.num_context))
            pieces.append(Special(T.CONTEXT_END))
        if pieces and self.newline_after_context:
            pieces.append("\n")
        return pieces

    def _batch(self, rows: Sequence[Row]) -> ChatTokens:
        """Rows as one padded batch."""
        return pad_rows(rows, self.ids, self.pad_id, self.num_context if self.with_context else 0)


def _fill(question: str, expression: str) -> str:
    if "{expression}" not in question:
        raise ValueError(f'a question must contain "{{expression}}", got {question!r}')
    return question.replace("{expression}", expression)


def _per_row(value: Any, size: int, name: str) -> list[Any]:
    """One value per row, from one for all or a list."""
    if isinstance(value, str | bool | int):
        return [value] * size
    values = list(value)
    if len(values) != size:
        raise ValueError(f"{name} must be one value or {size} of them (one per row), got {len(values)}")
    return values
