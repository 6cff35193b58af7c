"""From pieces of a prompt to token numbers, and from rows of numbers to :class:`ChatTokens`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from refstream.models.mllm import tokens as T
from refstream.models.mllm.chat_tokens import IGNORE, ChatTokens
from refstream.models.mllm.templates import Special

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Row = tuple[list[int], list[int], int]
"""One dialogue before padding: token ids, labels, and how many of the ids are places of vision tokens."""


class PieceEncoder:
    """Tokens of text in which nothing is special, and of special tokens by their names.

    Args:
        tokenizer: Knows the special tokens.
        answer_tokens: What is special inside an answer; everything else in it is plain text.

    Raises:
        ValueError: If an answer token beyond ``tokens.ANSWER_TOKENS`` is no special token of the tokenizer,
            so that answers would spell it in letters. (The others are missed when an answer holds them.)
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, answer_tokens: Sequence[str]) -> None:
        if isinstance(answer_tokens, str):
            raise ValueError(f"answer_tokens must be a list of tokens, got the text {answer_tokens!r}")
        self.tokenizer = tokenizer
        self.answer_tokens = tuple(answer_tokens)
        self._special_ids = frozenset(i for i, t in tokenizer.added_tokens_decoder.items() if t.special)
        lacking = [
            token
            for token in self.answer_tokens
            if token not in T.ANSWER_TOKENS and T.token_id(tokenizer, token) not in self._special_ids
        ]
        if lacking:
            raise ValueError(
                f"answer_tokens {lacking} are no special tokens of the tokenizer; add them to the MLLM's "
                "added_tokens, or with tokens.add_special_tokens"
            )
        # the longest first, so that no token hides in another
        ordered = sorted(self.answer_tokens, key=len, reverse=True)
        self._pattern = re.compile("(" + "|".join(map(re.escape, ordered)) + ")") if ordered else None

    def encode(self, pieces: Sequence[str | Special]) -> list[int]:
        """Special pieces by name; neighbouring texts as one plain text, as the released code does."""
        ids: list[int] = []
        text = ""
        for piece in pieces:
            if isinstance(piece, str):
                text += piece
                continue
            ids += self.plain(text)
            text = ""
            ids += [self.token(piece.token)] * piece.count
        return ids + self.plain(text)

    def token(self, token: str) -> int:
        """Number of a special token.

        Raises:
            ValueError: If the tokenizer lacks it.
        """
        index = T.token_id(self.tokenizer, token)
        if index is None:
            raise ValueError(f"the tokenizer lacks the special token {token}; see tokens.add_special_tokens")
        return index

    def plain(self, text: str) -> list[int]:
        """Tokens of text in which nothing is special, whatever it spells.

        Raises:
            ValueError: If the tokenizer reads a special token out of it all the same.
        """
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

    def answer(self, answer: str) -> list[str | Special]:
        """An answer in pieces: ``answer_tokens`` are special in it, all else is plain text."""
        if self._pattern is None:
            return [answer]
        parts = self._pattern.split(answer)
        return [Special(part) if part in self.answer_tokens else part for part in parts]


def pad_rows(rows: Sequence[Row], ids: T.SpecialIds, pad_id: int, context_width: int) -> ChatTokens:
    """Pad on the right and find the places of images, context and ``[SEG]``.

    Args:
        rows: B rows.
        ids: Of the special tokens.
        pad_id: Fills ``input_ids``.
        context_width: K, context slots of a row that has any.

    Raises:
        ValueError: If there is no row.
    """
    if not rows:
        raise ValueError("at least one dialogue is needed, got none")
    length = max(len(tokens) for tokens, _, _ in rows)
    input_ids = torch.full((len(rows), length), pad_id, dtype=torch.int64)
    labels = torch.full((len(rows), length), IGNORE, dtype=torch.int64)
    attention_mask = torch.zeros(len(rows), length, dtype=torch.bool)
    for i, (tokens, targets, _) in enumerate(rows):
        input_ids[i, : len(tokens)] = torch.tensor(tokens)
        labels[i, : len(tokens)] = torch.tensor(targets)
        attention_mask[i, : len(tokens)] = True
    seg = [[at for at, target in enumerate(targets) if target == ids.seg] for _, targets, _ in rows]
    most = max(1, max(len(places) for places in seg))
    seg_positions = torch.tensor([places + [-1] * (most - len(places)) for places in seg], dtype=torch.int64)
    context = [[at for at, token in enumerate(tokens) if token == ids.time_context] for tokens, _, _ in rows]
    context_positions = torch.tensor(
        [places or [-1] * context_width for places in context], dtype=torch.int64
    ).reshape(len(rows), context_width)
    return ChatTokens(
        input_ids=input_ids,
        attention_mask=attention_mask,
        labels=labels,
        image_positions=input_ids == ids.image_context,
        context_positions=context_positions,
        seg_positions=seg_positions[:, 0] if most == 1 else seg_positions,
        image_slots=tuple(slots for _, _, slots in rows),
    )
