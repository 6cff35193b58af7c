"""Several dialogues side by side in one key-value cache: the queries of a frame cost one pass per token
together.

Each piece is fed for all rows at once, filled up on the right to its longest row. What fills up is masked
for ever and takes no position, so a row says what it says alone, up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from refstream.models.mllm.chat_tokens import ChatTokens


class ParallelDialogues:
    """N running dialogues, without gradients.

    Args:
        mllm: An adapter with ``embed``, ``positions``, ``new_cache``, ``language_model`` and ``logits``.
        count: N.

    Attributes:
        lengths: Tokens of each dialogue.
    """

    def __init__(self, mllm: Any, count: int) -> None:
        if count < 1:
            raise ValueError(f"at least one dialogue is needed, got {count}")
        self.mllm = mllm
        self.lengths = [0] * count
        self._starts = [0] * count  # next position of each row
        self._cache = mllm.new_cache()
        self._seen = torch.zeros(count, 0, dtype=torch.int64, device=mllm.device)  # 1 at tokens, 0 at filling
        self._last: Tensor | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    @torch.no_grad()
    def append(
        self, pieces: Sequence[ChatTokens | None], image_tokens: Sequence[Tensor | None] | None = None
    ) -> Tensor:
        """Feed a piece to each row.

        Args:
            pieces: N pieces (1, l) without padding; None leaves a row as it is. The first piece of a row
                must not be None.
            image_tokens: N times (..., D) vision tokens of the pieces' places, or None.

        Returns:
            (N, D) final-norm hidden state of each row's last token.

        Raises:
            ValueError: If numbers do not fit, nothing is fed, or a row gets longer than the language model
                takes.
        """
        images = [None] * len(self) if image_tokens is None else list(image_tokens)
        if len(pieces) != len(self) or len(images) != len(self):
            raise ValueError(f"{len(self)} dialogues need as many pieces and images, got {len(pieces)}")
        sizes = [0 if piece is None else int(piece.input_ids.shape[1]) for piece in pieces]
        if not any(sizes) or (self._last is None and not all(sizes)):
            raise ValueError("every dialogue begins with tokens, and some row must be fed")
        embeds, places = self._inputs(pieces, images, max(sizes))
        device = embeds.device
        ends = torch.tensor(sizes, device=device)
        fresh = (torch.arange(max(sizes), device=device) < ends[:, None]).long()
        self._seen = torch.cat((self._seen, fresh), dim=1)
        hidden = self.mllm.language_model()(
            inputs_embeds=embeds,
            attention_mask=self._seen,
            position_ids=places,
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state
        found = hidden[torch.arange(len(self), device=device), (ends - 1).clamp(min=0)]
        if self._last is not None:
            found = torch.where((ends > 0)[:, None], found, self._last)
        self._last = found
        return found

    def _inputs(
        self, pieces: Sequence[ChatTokens | None], images: Sequence[Tensor | None], longest: int
    ) -> tuple[Tensor, Tensor]:
        """(N, longest, D) embeddings and (..., N, longest) positions."""
        limit = int(self.mllm.config.text_config.max_position_embeddings)
        embeds: list[Tensor | None] = []
        places: list[Tensor | None] = []
        for row, (piece, seen) in enumerate(zip(pieces, images, strict=True)):
            if piece is None:
                embeds.append(None)
                places.append(None)
                continue
            chat = piece.to(self.mllm.device)
            own, self._starts[row] = self.mllm.positions(chat, self._starts[row])
            given = self.mllm.embed(chat, seen)
            size = given.shape[1]
            self.lengths[row] += size
            if self.lengths[row] > limit:
                raise ValueError(
                    f"the dialogue has {self.lengths[row]} tokens, the language model takes {limit}; use "
                    "fewer frame_tokens or a smaller grid"
                )
            embeds.append(F.pad(given, (0, 0, 0, longest - size)))
            places.append(F.pad(own, (0, longest - size)))
        return _filled(embeds, 0), _filled(places, -2)


def _filled(rows: Sequence[Tensor | None], dim: int) -> Tensor:
    """Rows joined along ``dim``, zeros where a row is None."""
    like = next(row for row in rows if row is not None)
    return torch.cat([torch.zeros_like(like) if row is None else row for row in rows], dim=dim)
