"""Tokenised dialogues: what ``PromptBuilder`` makes and an MLLM reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

IGNORE = -100


@dataclass(frozen=True)
class ChatTokens:
    """B tokenised dialogues, padded on the right.

    Attributes:
        input_ids: (B, L) int64.
        attention_mask: (B, L) bool, False on padding.
        labels: (B, L) int64, the token itself where an answer is supervised (end token included), else -100.
        image_positions: (B, L) bool, True where a vision token belongs.
        context_positions: (B, K) int64 positions of the context slots; -1 where a row has none.
        seg_positions: (B,) int64 position of ``[SEG]`` in the answer, -1 where there is none; (B, n) if any
            row has several.
        image_slots: Vision tokens expected per row, as plain numbers, so that checking them needs no device.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    image_positions: Tensor
    context_positions: Tensor
    seg_positions: Tensor
    image_slots: tuple[int, ...] = ()

    def to(self, device: torch.device | str) -> ChatTokens:
        """The same dialogues on another device."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        moved = {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in moved.items()}
        return replace(self, **moved)

    @property
    def batch_size(self) -> int:
        """B."""
        return int(self.input_ids.shape[0])

    @property
    def num_image_slots(self) -> int:
        """Vision tokens expected in the whole batch."""
        return sum(self.image_slots) if self.image_slots else int(self.image_positions.sum())


def token_piece(ids: Sequence[int]) -> ChatTokens:
    """(1, L) piece of a dialogue made of token numbers as they were generated: no images, no labels."""
    input_ids = torch.tensor([list(ids)], dtype=torch.int64).reshape(1, -1)
    return ChatTokens(
        input_ids=input_ids,
        attention_mask=torch.ones_like(input_ids, dtype=torch.bool),
        labels=torch.full_like(input_ids, IGNORE),
        image_positions=torch.zeros_like(input_ids, dtype=torch.bool),
        context_positions=torch.zeros(1, 0, dtype=torch.int64),
        seg_positions=torch.full((1,), -1),
        image_slots=(0,),
    )
