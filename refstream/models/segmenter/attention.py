"""Attention of SAM2's image trunk (Hiera), without the work that transformers' module throws away.

transformers 5.17 first multiplies queries and keys of every token across heads and discards the result
(``Sam2MultiScaleAttention.forward``): one tiny matrix product per token and block.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


class TrunkAttention(nn.Module):
    """Multi-head attention over the tokens of a window, with pooled queries where a stage begins.

    Args:
        source: A ``Sam2MultiScaleAttention``; its layers are taken over under the same names.
    """

    def __init__(self, source: Any) -> None:
        super().__init__()
        self.qkv: nn.Linear = source.qkv
        self.proj: nn.Linear = source.proj
        self.num_heads: int = source.num_attention_heads
        self.pool: tuple[int, int] | None = tuple(source.query_stride) if source.query_stride else None

    def forward(self, hidden_states: Tensor, **kwargs: Any) -> Tensor:
        """(B, h, w, C_in) -> (B, h', w', C); h' and w' are smaller where queries are pooled."""
        batch, height, width, _ = hidden_states.shape
        qkv = self.qkv(hidden_states).reshape(batch, height * width, 3, self.num_heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        if self.pool is not None:
            maps = query.transpose(2, 3).reshape(batch, -1, height, width)
            maps = F.max_pool2d(maps, kernel_size=self.pool, stride=self.pool)
            height, width = maps.shape[2:]
            query = maps.reshape(batch, self.num_heads, -1, height * width).transpose(2, 3)
        output = F.scaled_dot_product_attention(query, key, value)
        return self.proj(output.transpose(1, 2).reshape(batch, height, width, -1))
