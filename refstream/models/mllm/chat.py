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

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from refstream.models.mllm import tokens as T
from refstream.models.mllm.chat_tokens import IGNORE, ChatTokens
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

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_ANSWER_PATTERN = re.compile("(" + "|".join(re.escape(token) for token in T.ANSWER_TOKENS) + ")")

__all__ = [
    "ANSWER",
    "ANSWERS",
    "IGNORE",
    "QUESTION",
    "QUESTIONS",
    "REPROMPT",
    "ChatTokens",
    "PromptBuilder",
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
    ) -> None:
        if num_image_tokens < 1 or num_context < 1:
            raise ValueError(
                f"num_image_tokens and num_context must be at least 1, got {num_image_tokens} and "
                f"{num_context}; with_context=False removes the context slot"
            )
        if template not in CHAT_TEMPLATES:
            raise ValueError(f"unknown chat template {template!r}, expected one of {sorted(CHAT_TEMPLATES)}")
        self.tokenizer = tokenizer
        self.ids = T.special_ids(tokenizer)
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
        self._special_ids = frozenset(i for i, t in tokenizer.added_tokens_decoder.items() if t.special)

    def options(self) -> dict[str, Any]:
        """The settings that rebuild this builder for the same tokenizer; JSON-serialisable."""
        names = """num_image_tokens num_context with_context newline_after_context question answer reprompt
            lowercase strip_periods system template max_characters"""
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

    def _dialogue(
        self, turns: Sequence[tuple[str, str | None]], view: _View
    ) -> tuple[list[int], list[int], int]:
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
            asked = self._encode([*pieces, question, *template.assistant])
            ids += asked
            labels += [IGNORE] * len(asked)
            if answer is None:
                if number != len(turns) - 1:
                    raise ValueError("only the last answer of a dialogue may be None")
                continue
            given = self._encode([*self._answer_pieces(answer), *template.end])
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
            pieces.append(Special(T.IMAGE_START))
            pieces.append(Special(T.IMAGE_CONTEXT, view.num_tiles * view.tile_tokens))
            pieces.append(Special(T.IMAGE_END))
        if view.with_context:
            pieces.append(Special(T.CONTEXT_START))
            pieces.append(Special(T.TIME_CONTEXT, self.num_context))
            pieces.append(Special(T.CONTEXT_END))
        if pieces and self.newline_after_context:
            pieces.append("\n")
        return pieces

    def _encode(self, pieces: Sequence[str | Special]) -> list[int]:
        """Special pieces by name; neighbouring texts as one plain text, as the released code does."""
        ids: list[int] = []
        text = ""
        for piece in pieces:
            if isinstance(piece, str):
                text += piece
                continue
            ids += self._plain(text)
            text = ""
            ids += [self._id(piece.token)] * piece.count
        return ids + self._plain(text)

    def _id(self, token: str) -> int:
        index = T.token_id(self.tokenizer, token)
        if index is None:
            raise ValueError(f"the tokenizer lacks the special token {token}; see tokens.add_special_tokens")
        return index

    def _plain(self, text: str) -> list[int]:
        """Tokens of text in which nothing is special, whatever it spells."""
        if not text:
            return []
        backend = self.tokenizer.backend_tokenizer
        before = backend.encode_special_tokens
        backend.encode_special_tokens = True
        try:
            # a lone surrogate cannot be encoded
            text = text.encode("utf-8", "replace").decode("utf-8")
            ids = backend.encode(text, add_special_tokens=False).ids
        finally:
            backend.encode_special_tokens = before
        if not self._special_ids.isdisjoint(ids):
            raise ValueError(f"this tokenizer reads special tokens out of plain text: {text[:80]!r}")
        return list(ids)

    def _answer_pieces(self, answer: str) -> list[str | Special]:
        """An answer in pieces: ``ANSWER_TOKENS`` are special in it, all else is plain text."""
        parts = _ANSWER_PATTERN.split(answer)
        return [Special(part) if part in T.ANSWER_TOKENS else part for part in parts]

    def _batch(self, rows: Sequence[tuple[list[int], list[int], int]]) -> ChatTokens:
        """Pad on the right and find the places of images, context and ``[SEG]``."""
        if not rows:
            raise ValueError("at least one dialogue is needed, got none")
        length = max(len(ids) for ids, _, _ in rows)
        input_ids = torch.full((len(rows), length), self.pad_id, dtype=torch.int64)
        labels = torch.full((len(rows), length), IGNORE, dtype=torch.int64)
        attention_mask = torch.zeros(len(rows), length, dtype=torch.bool)
        for i, (ids, targets, _) in enumerate(rows):
            input_ids[i, : len(ids)] = torch.tensor(ids)
            labels[i, : len(ids)] = torch.tensor(targets)
            attention_mask[i, : len(ids)] = True
        seg = [[at for at, target in enumerate(targets) if target == self.ids.seg] for _, targets, _ in rows]
        most = max(1, max(len(places) for places in seg))
        seg_positions = torch.tensor(
            [places + [-1] * (most - len(places)) for places in seg], dtype=torch.int64
        )
        context = [
            [at for at, token in enumerate(ids) if token == self.ids.time_context] for ids, _, _ in rows
        ]
        width = self.num_context if self.with_context else 0
        context_positions = torch.tensor(
            [places or [-1] * width for places in context], dtype=torch.int64
        ).reshape(len(rows), width)
        return ChatTokens(
            input_ids=input_ids,
            attention_mask=attention_mask,
            labels=labels,
            image_positions=input_ids == self.ids.image_context,
            context_positions=context_positions,
            seg_positions=seg_positions[:, 0] if most == 1 else seg_positions,
            image_slots=tuple(slots for _, _, slots in rows),
        )


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
