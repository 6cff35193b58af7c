"""Training the rows of a few tokens of a vocabulary matrix, all others frozen.

The trained rows are a parameter of their own. So the optimizer holds states for them alone, and weight decay,
momentum and the norm of clipped gradients have nothing to do with the other rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refstream.models.mllm import tokens as T

RowMode = Literal["new", "all", "frozen"]


class TokenRows(nn.Module):
    """Some rows of a (V, D) matrix, trained in place of those of the frozen ``base``.

    Args:
        base: Input embeddings or output head.
        ids: The n rows.

    Attributes:
        rows: (n, D) parameter, starting as the base's rows.
    """

    ids: Tensor

    def __init__(self, base: nn.Module, ids: Sequence[int]) -> None:
        super().__init__()
        weight: Tensor = base.weight  # type: ignore[assignment]
        self.base = base.requires_grad_(False)
        self.register_buffer("ids", torch.tensor(list(ids), device=weight.device), persistent=False)
        self.rows = nn.Parameter(weight.detach()[self.ids].clone().float())

    @property
    def weight(self) -> Tensor:
        """(V, D) with the trained rows in their places, with a graph."""
        base: Tensor = self.base.weight  # type: ignore[assignment]
        return base.to(self.rows.dtype).index_copy(0, self.ids, self.rows)


class EmbeddingRows(TokenRows):
    """For ``nn.Embedding``."""

    def forward(self, ids: Tensor) -> Tensor:
        """(...) int64 -> (..., D)."""
        out = self.base(ids)
        hit = ids[..., None] == self.ids  # (..., n)
        fresh = F.embedding(hit.int().argmax(-1), self.rows)
        return torch.where(hit.any(-1, keepdim=True), fresh.to(out.dtype), out)


class HeadRows(TokenRows):
    """For a bias-free ``nn.Linear`` from states to logits."""

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., V)."""
        logits = self.base(hidden)
        fresh = F.linear(hidden.to(self.rows.dtype), self.rows)
        return logits.index_copy(-1, self.ids, fresh.to(logits.dtype))


def train_token_rows(mllm: Any, mode: RowMode) -> None:
    """Say which rows of the input embeddings and of ``lm_head`` are trained, in place.

    Args:
        mllm: An adapter such as ``InternVL``.
        mode: "new" trains the rows of the added special tokens (``tokens.ADDED_TOKENS``) alone, "all" both
            matrices (StreamingRVOS' released code), "frozen" none.

    Raises:
        ValueError: For another mode, or if "new" finds none of these tokens.
    """
    if mode not in ("new", "all", "frozen"):
        raise ValueError(f"token_rows must be 'new', 'all' or 'frozen', got {mode!r}")
    if mode != "new":
        for module in mllm.vocabulary_modules():
            module.requires_grad_(mode == "all")
        return
    found = (T.token_id(mllm.tokenizer, token) for token in T.ADDED_TOKENS)
    ids = [number for number in found if number is not None]
    if not ids:
        raise ValueError(f"the vocabulary has none of the added tokens {T.ADDED_TOKENS}; nothing to train")
    embeddings, head = mllm.vocabulary_modules()
    mllm.replace_vocabulary(EmbeddingRows(embeddings, ids), HeadRows(head, ids))
