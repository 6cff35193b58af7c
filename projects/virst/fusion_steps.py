"""The two steps of the Spatio-Temporal Fusion, and what may stand in the second one's place.

Source: VIRST (CVPR 2026), section on spatio-temporal fusion; details from the released code. Order of calls,
shapes and keys: see ``fusion``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .attention import FusionLayer, check_heads
from .downsampler import DownSampler
from .rope import band_pairs, cell_positions, query_positions, rotation


class InitialFusion(nn.Module):
    """Input embeddings look at all cells of all frames: ``embeds + gate * attention``; no positions.

    Args:
        hidden_size: H, width of embeddings and attention.
        in_channels: C_in of the map.
        token_dim: C_1 of the down-sampled cells.
        num_heads: Heads of the attention.
        gate: First value of the learned scalar (release: 0.1).
        strides: Of the down-sampler.
    """

    def __init__(
        self,
        hidden_size: int,
        in_channels: int = 256,
        token_dim: int = 256,
        num_heads: int = 8,
        gate: float = 0.1,
        strides: Sequence[int] = (2, 2, 2),
    ) -> None:
        super().__init__()
        check_heads(hidden_size, num_heads)
        self.down_sampler = DownSampler(in_channels, token_dim, strides)
        self.projection = nn.Linear(token_dim, hidden_size)
        self.query_norm, self.memory_norm = nn.LayerNorm(hidden_size), nn.LayerNorm(hidden_size)
        self.attention = nn.MultiheadAttention(hidden_size, num_heads, batch_first=True)
        self.gate = nn.Parameter(torch.full((1,), gate))

    def frame_tokens(self, features: Tensor) -> Tensor:
        """(B, T, C_in, h, w) -> (B, T, S, C_1); the features get no gradient (release: no-grad encoder)."""
        return self.down_sampler(features.detach().flatten(0, 1)).unflatten(0, features.shape[:2])

    def forward(self, embeds: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, N, H) embeddings, (B, T, S, C_1) tokens, (B, T) bool mask or None -> (B, N, H)."""
        memory = self.memory_norm(self.projection(tokens.flatten(1, 2)))
        hidden = None if mask is None else ~mask.repeat_interleave(tokens.shape[2], dim=1)
        queries = self.query_norm(embeds)
        fused, _ = self.attention(queries, memory, memory, key_padding_mask=hidden, need_weights=False)
        return embeds + self.gate * fused


class SecondFusion(nn.Module):
    """States become one prompt per frame: projected, repeated over time, decoded against the frames' cells.

    Args:
        hidden_size: H of the states.
        prompt_dim: C of prompts and down-sampled cells.
        in_channels: C_in of the map.
        num_heads: Heads of all attentions.
        num_layers: Decoder layers.
        dropout: Of the decoder, while training.
        strides: Of the down-sampler.
        query_space: False: queries have a time but no place (release); True: the middle of the grid.
        time_rotation: False switches the time bands off: all prompts of a token are then the same.
    """

    def __init__(
        self,
        hidden_size: int,
        prompt_dim: int = 256,
        in_channels: int = 256,
        num_heads: int = 8,
        num_layers: int = 2,
        dropout: float = 0.1,
        strides: Sequence[int] = (2, 2, 2),
        query_space: bool = False,
        time_rotation: bool = True,
    ) -> None:
        super().__init__()
        check_heads(prompt_dim, num_heads)
        self.head_dim = prompt_dim // num_heads
        band_pairs(self.head_dim)
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, got {num_layers}")
        self.query_space, self.time_rotation = query_space, time_rotation
        self.down_sampler = DownSampler(in_channels, prompt_dim, strides)
        self.projection = nn.Linear(hidden_size, prompt_dim)
        self.layers = nn.ModuleList(FusionLayer(prompt_dim, num_heads, dropout) for _ in range(num_layers))

    def frame_tokens(self, features: Tensor) -> Tensor:
        """(B, T, C_in, h, w) -> (B, T, S, C)."""
        return self.down_sampler(features.flatten(0, 1)).unflatten(0, features.shape[:2])

    def expand(self, hidden: Tensor, num_frames: int) -> Tensor:
        """(B, N, H) states -> (B, N * T, C): projected, each repeated T times; token, then time."""
        return self.projection(hidden).repeat_interleave(num_frames, dim=1)

    def positions(
        self, num_frames: int, num_cells: int, num_tokens: int, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """(N * T, 3) positions of the queries and (T * S, 3) of the keys; a frame's cells are a square."""
        side = math.isqrt(num_cells)
        if side * side != num_cells:
            raise ValueError(f"the cells of a frame must be a square, got {num_cells}")
        cells = cell_positions(num_frames, side, side, device)
        if not self.time_rotation:
            cells = cells * cells.new_tensor([0.0, 1.0, 1.0])
        return query_positions(cells, num_frames, num_tokens, space=self.query_space), cells

    def forward(
        self, hidden: Tensor, tokens: Tensor, mask: Tensor | None = None, token_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Decode.

        Args:
            hidden: (B, N, H) states.
            tokens: (B, T, S, C).
            mask: (B, T) bool or None; False on padded frames.
            token_mask: (B, N) bool or None; False on padded tokens, which the others then do not see. Their
                own prompts mean nothing, and they still count in the scores (as in the released code).

        Returns:
            (B, T, N, C) prompts, and (B, T) float32: the share of the last layer's attention on each frame,
            averaged over heads, tokens and the queries of unpadded frames; sums to 1.
        """
        (batch, num_tokens, _), (_, num_frames, num_cells, _) = hidden.shape, tokens.shape
        queries, cells = self.positions(num_frames, num_cells, num_tokens, tokens.device)
        turns = rotation(queries, self.head_dim), rotation(cells, self.head_dim)
        memory = tokens.flatten(1, 2)
        key_mask = None if mask is None else mask.repeat_interleave(num_cells, dim=1)
        query_mask = None
        if mask is not None or token_mask is not None:
            seen = torch.ones(batch, num_tokens, num_frames, dtype=torch.bool, device=tokens.device)
            if mask is not None:
                seen = seen & mask[:, None]
            if token_mask is not None:
                seen = seen & token_mask[..., None]
            query_mask = seen.flatten(1)

        x = asked = self.expand(hidden, num_frames)
        layers: list[Any] = list(self.layers)
        for layer in layers:
            asked = layer.attend_self(x, query_mask)
            x = layer.attend_memory(asked, memory, *turns, key_mask)
        shares = layers[-1].cross_attention.frame_shares(asked, memory, *turns, num_frames, key_mask)
        shares = shares.mean(1).unflatten(1, (num_tokens, num_frames)).mean(1)  # (B, T of queries, T)
        prompts = x.unflatten(1, (num_tokens, num_frames)).transpose(1, 2)
        if mask is None:
            return prompts, shares.mean(1)
        scores = (shares * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return prompts * mask[..., None, None], scores


class RepeatedPrompt(nn.Module):
    """In the place of the second fusion: the same projected state on every frame.

    Args:
        hidden_size: H.
        prompt_dim: C.
        mlp: Two layers with a ReLU between, as ``SegTokenHead``, instead of one (release: one).
    """

    def __init__(self, hidden_size: int, prompt_dim: int = 256, *, mlp: bool = False) -> None:
        super().__init__()
        first = [nn.Linear(hidden_size, hidden_size), nn.ReLU()] if mlp else []
        self.projection = nn.Sequential(*first, nn.Linear(hidden_size, prompt_dim))

    def forward(self, hidden: Tensor, num_frames: int, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, N, H) -> (B, T, N, C), 0 on padded frames, and (B, T) scores of 0: nothing is attended to."""
        prompts = self.projection(hidden)[:, None].expand(-1, num_frames, -1, -1)
        scores = hidden.new_zeros(len(hidden), num_frames, dtype=torch.float32)
        return prompts if mask is None else prompts * mask[..., None, None], scores
