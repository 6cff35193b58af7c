"""Several dialogues side by side in one key-value cache: the queries of a frame cost one pass per token
together.

Each piece is fed for all rows at once, filled up on the right to its longest row. What fills up is masked
for ever and takes no position, so a row says what it says alone, up to rounding. In the same way a row may
forget the end of its last piece, however much of it the others keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from refstream.models.mllm.chat_tokens import ChatTokens

Piece = tuple[Tensor, Tensor]  # (1, l, D) embeddings and (..., 1, l) positions


class ParallelDialogues:
    """N running dialogues, without gradients.

    Args:
        mllm: An adapter with ``embed``, ``positions``, ``new_cache``, ``language_model`` and ``logits``.
        count: N.

    Attributes:
        lengths: Tokens of each dialogue.
        passes: How often the language model has run.
    """

    def __init__(self, mllm: Any, count: int) -> None:
        if count < 1:
            raise ValueError(f"at least one dialogue is needed, got {count}")
        self.mllm = mllm
        self.lengths = [0] * count
        self.passes = 0
        self._starts = [0] * count  # next position of each row
        self._cache = mllm.new_cache()
        self._seen = torch.zeros(count, 0, dtype=torch.int64, device=mllm.device)  # 1 at tokens, 0 at filling
        self._waiting: list[list[Piece]] = [[] for _ in range(count)]
        self._last: list[Tensor | None] = [None] * count  # (l, D) states of each row's last piece
        self._words = [0] * count  # tokens behind the last vision token of that piece

    def __len__(self) -> int:
        return len(self.lengths)

    @torch.no_grad()
    def append(
        self, pieces: Sequence[ChatTokens | None], image_tokens: Sequence[Tensor | None] | None = None
    ) -> Tensor:
        """As ``extend``.

        Returns:
            (N, D) final-norm hidden state of each row's last token.
        """
        self.extend(pieces, image_tokens)
        return torch.stack([states[-1] for states in self._last if states is not None])

    @torch.no_grad()
    def extend(
        self, pieces: Sequence[ChatTokens | None], image_tokens: Sequence[Tensor | None] | None = None
    ) -> list[Tensor]:
        """Feed a piece to each row in one pass, behind what it has waiting.

        Args:
            pieces: N pieces (1, l) without padding, l > 0; None leaves a row as it is. The first piece of a
                row must not be None.
            image_tokens: N times (..., D) vision tokens of the pieces' places, or None.

        Returns:
            N times (l, D) final-norm hidden states of the piece, (0, D) where it is None.

        Raises:
            ValueError: If numbers do not fit, nothing is fed, or a row gets longer than the language model
                takes.
        """
        images = self._matched(pieces, image_tokens)
        sizes = [0 if piece is None else int(piece.input_ids.shape[1]) for piece in pieces]
        unheard = any(last is None and not size for last, size in zip(self._last, sizes, strict=True))
        if unheard or not any(sizes):
            raise ValueError("every dialogue begins with tokens, and some row must be fed")
        rows: list[Piece | None] = []
        for row, (piece, seen) in enumerate(zip(pieces, images, strict=True)):
            if piece is None:
                rows.append(None)
                continue
            parts = [*self._waiting[row], self._laid_out(row, piece, seen)]
            self._waiting[row] = []
            rows.append((torch.cat([p[0] for p in parts], 1), torch.cat([p[1] for p in parts], -1)))
        hidden, fed = self._run(rows)
        found = []
        for row, size in enumerate(sizes):
            states = hidden[row, fed[row] - size : fed[row]]
            found.append(states)
            if (piece := pieces[row]) is not None:
                self._last[row] = states
                images_at = piece.image_positions[0].nonzero()
                self._words[row] = size - (int(images_at[-1]) + 1 if len(images_at) else 0)
        return found

    @torch.no_grad()
    def defer(self, pieces: Sequence[ChatTokens | None]) -> None:
        """Say something of which no state is read: it waits for the next piece, and costs no pass.

        Args and errors as of ``extend``, but that a dialogue may begin so.
        """
        images = self._matched(pieces, None)
        for row, (piece, seen) in enumerate(zip(pieces, images, strict=True)):
            if piece is not None and piece.input_ids.shape[1]:
                self._waiting[row].append(self._laid_out(row, piece, seen))

    def room(self, row: int) -> int:
        """Tokens that a dialogue can still take; what waits in it is counted."""
        return int(self.mllm.config.text_config.max_position_embeddings) - self.lengths[row]

    def forget(self, counts: Sequence[int]) -> None:
        """Take back the last tokens of each row, as if they had never been said.

        Args:
            counts: N numbers of words of the row's last piece, fewer than it has; 0 leaves a row as it is.

        Raises:
            ValueError: For vision tokens, more than that, or a row that has something waiting.
        """
        if len(counts) != len(self):
            raise ValueError(f"{len(self)} dialogues need as many counts, got {len(counts)}")
        for row, count in enumerate(counts):
            last = self._last[row]
            held = 0 if last is None else min(self._words[row], len(last) - 1)
            if not 0 <= count <= held or (count and self._waiting[row]):
                raise ValueError(f"dialogue {row} can forget {held} tokens if none wait, got {count}")
        for row, count in enumerate(counts):
            last = self._last[row]
            if not count or last is None:
                continue
            self._seen[row, self._seen[row].nonzero()[-count:, 0]] = 0
            self._last[row] = last[:-count]
            self._words[row] -= count
            self._starts[row] -= count  # a word takes one position
            self.lengths[row] -= count
        width = int(self._seen.any(0).nonzero()[-1]) + 1 if self._seen.any() else 0
        if width < self._seen.shape[1]:
            self._cache.crop(width - self._seen.shape[1])  # below 0: so many are cut off
            self._seen = self._seen[:, :width].clone()

    def _matched(
        self, pieces: Sequence[ChatTokens | None], image_tokens: Sequence[Tensor | None] | None
    ) -> list[Tensor | None]:
        images: list[Tensor | None] = [None] * len(self)
        if image_tokens is not None:
            images = list(image_tokens)
        if len(pieces) != len(self) or len(images) != len(self):
            raise ValueError(f"{len(self)} dialogues need as many pieces and images, got {len(pieces)}")
        return images

    def _laid_out(self, row: int, piece: ChatTokens, seen: Tensor | None) -> Piece:
        """Embeddings and positions of a row's next piece; the row is longer by it from now on."""
        size = int(piece.input_ids.shape[1])
        if size > self.room(row):
            limit = self.lengths[row] + self.room(row)
            raise ValueError(
                f"the dialogue has {self.lengths[row] + size} tokens, the language model takes {limit}; use "
                "fewer frame_tokens or a smaller grid"
            )
        self.lengths[row] += size
        chat = piece.to(self.mllm.device)
        places, self._starts[row] = self.mllm.positions(chat, self._starts[row])
        return self.mllm.embed(chat, seen), places

    def _run(self, rows: Sequence[Piece | None]) -> tuple[Tensor, list[int]]:
        """One pass: (N, longest, D) hidden states, and how many of them each row has."""
        fed = [0 if row is None else int(row[0].shape[1]) for row in rows]
        longest = max(fed)
        embeds = _filled(
            [None if r is None else F.pad(r[0], (0, 0, 0, longest - r[0].shape[1])) for r in rows]
        )
        places = _filled(
            [None if r is None else F.pad(r[1], (0, longest - r[1].shape[-1])) for r in rows], -2
        )
        device = embeds.device
        fresh = (torch.arange(longest, device=device) < torch.tensor(fed, device=device)[:, None]).long()
        self._seen = torch.cat((self._seen, fresh), dim=1)
        self.passes += 1
        hidden = self.mllm.language_model()(
            inputs_embeds=embeds,
            attention_mask=self._seen,
            position_ids=places,
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state
        return hidden, fed


def _filled(rows: Sequence[Tensor | None], dim: int = 0) -> Tensor:
    """Rows joined along ``dim``, zeros where a row is None."""
    like = next(row for row in rows if row is not None)
    return torch.cat([torch.zeros_like(like) if row is None else row for row in rows], dim=dim)
