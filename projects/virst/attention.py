"""The decoder layer of the second fusion: self-attention, rotary cross-attention, feed-forward; post-norm.

Source: VIRST (CVPR 2026), section on spatio-temporal fusion; released code: width 256, 8 heads, dropout 0.1,
feed-forward of four times the width with GELU, keys and queries rotated, values not.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refstream.errors import UserError

from .rope import Rotation

QUERY_CHUNK = 256  # queries whose attention weights are in memory at a time


class RotaryCrossAttention(nn.Module):
    """Multi-head attention from queries to memory tokens, both with rotary positions.

    Args:
        width: C, a multiple of ``num_heads``.
        num_heads: Heads.
        dropout: On the attention weights while training.
    """

    def __init__(self, width: int, num_heads: int, dropout: float = 0.1) -> None:
        super().__init__()
        check_heads(width, num_heads)
        self.num_heads, self.dropout = num_heads, dropout
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def _heads(self, x: Tensor) -> Tensor:
        """(B, L, C) -> (B, heads, L, C / heads)."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        query_rotation: Rotation,
        key_rotation: Rotation,
        key_mask: Tensor | None = None,
    ) -> Tensor:
        """Attend.

        Args:
            x: (B, L, C) queries.
            memory: (B, S, C).
            query_rotation, key_rotation: Of the L queries and the S keys.
            key_mask: (B, S) bool or None; False hides a key.

        Returns:
            (B, L, C).
        """
        out = F.scaled_dot_product_attention(
            query_rotation.apply(self._heads(self.query(x))),
            key_rotation.apply(self._heads(self.key(memory))),
            self._heads(self.value(memory)),
            attn_mask=None if key_mask is None else key_mask[:, None, None],
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.out(out.transpose(1, 2).flatten(2))

    @torch.no_grad()
    def frame_shares(
        self,
        x: Tensor,
        memory: Tensor,
        query_rotation: Rotation,
        key_rotation: Rotation,
        num_frames: int,
        key_mask: Tensor | None = None,
    ) -> Tensor:
        """How much of each query's attention falls on each frame: (B, heads, L, T) float32, sums to 1 over T.

        Arguments as of ``forward``, with ``num_frames`` T: the S keys are T frames of S / T cells. No graph,
        no dropout. The weights themselves (B, heads, L, S) are made for a part of the queries at a time.
        """
        queries = query_rotation.apply(self._heads(self.query(x))).float()
        keys = key_rotation.apply(self._heads(self.key(memory))).float().transpose(-2, -1)
        shares = []
        with torch.autocast(x.device.type, enabled=False):
            for part in (queries / queries.shape[-1] ** 0.5).split(QUERY_CHUNK, dim=2):
                logits = part @ keys
                if key_mask is not None:
                    logits = logits.masked_fill(~key_mask[:, None, None], -torch.inf)
                shares.append(logits.softmax(-1).unflatten(-1, (num_frames, -1)).sum(-1))
        return torch.cat(shares, dim=2)


class FusionLayer(nn.Module):
    """One post-norm decoder layer.

    Args:
        width: C.
        num_heads: Heads of both attentions.
        dropout: On attention weights and after each of the three parts, while training.
    """

    def __init__(self, width: int, num_heads: int, dropout: float = 0.1) -> None:
        super().__init__()
        check_heads(width, num_heads)
        self.self_attention = nn.MultiheadAttention(width, num_heads, dropout=dropout, batch_first=True)
        self.cross_attention = RotaryCrossAttention(width, num_heads, dropout)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def attend_self(self, x: Tensor, query_mask: Tensor | None = None) -> Tensor:
        """(B, L, C) -> (B, L, C): self-attention, sum, norm; what ``cross_attention`` then gets.

        Args:
            x: Queries; no positions are added.
            query_mask: (B, L) bool or None; False hides a query from the others.
        """
        hidden = None if query_mask is None else ~query_mask
        attended, _ = self.self_attention(x, x, x, key_padding_mask=hidden, need_weights=False)
        return self.norms[0](x + self.dropout(attended))

    def attend_memory(
        self,
        x: Tensor,
        memory: Tensor,
        query_rotation: Rotation,
        key_rotation: Rotation,
        key_mask: Tensor | None = None,
    ) -> Tensor:
        """(B, L, C) of ``attend_self`` -> (B, L, C): cross-attention, feed-forward, sum and norm after each.

        Arguments as of ``RotaryCrossAttention.forward``.
        """
        attended = self.cross_attention(x, memory, query_rotation, key_rotation, key_mask)
        x = self.norms[1](x + self.dropout(attended))
        return self.norms[2](x + self.dropout(self.feed_forward(x)))

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        query_rotation: Rotation,
        key_rotation: Rotation,
        query_mask: Tensor | None = None,
        key_mask: Tensor | None = None,
    ) -> Tensor:
        """(B, L, C) queries and (B, S, C) memory -> (B, L, C); masks (B, L) and (B, S), False hides."""
        x = self.attend_self(x, query_mask)
        return self.attend_memory(x, memory, query_rotation, key_rotation, key_mask)


def check_heads(width: int, num_heads: int) -> None:
    """Raise a ``UserError`` unless ``width`` divides into ``num_heads`` heads."""
    if num_heads < 1 or width % num_heads:
        raise UserError(f"a width of {width} does not divide into {num_heads} heads; choose another number")
