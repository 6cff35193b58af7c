"""The [ST] tokens: learned input embeddings, written into the prompt and read back from the last layer.

Source: VIRST (CVPR 2026): N = 10 learnable [ST] tokens. The released code has one word, "[SEG]", repeated N
times instead, finds it through the labels, and so cannot run without labels. Here they are parameters and
their places are given by index: the vocabulary is not touched.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class STTokens(nn.Module):
    """N learned input embeddings of width H.

    Args:
        num_tokens: N.
        hidden_size: H of the language model.
        shared: One embedding for all N (release); they then differ by their position alone.
        std: Standard deviation of the first values (assumed: the width of a language model's own).
    """

    def __init__(self, num_tokens: int, hidden_size: int, *, shared: bool = False, std: float = 0.02) -> None:
        super().__init__()
        if num_tokens < 1:
            raise ValueError(f"num_tokens must be at least 1, got {num_tokens}")
        self.num_tokens = num_tokens
        self.embeddings = nn.Parameter(torch.empty(1 if shared else num_tokens, hidden_size))
        nn.init.normal_(self.embeddings, std=std)

    def forward(self, batch_size: int = 1) -> Tensor:
        """(B, N, H), every row of the batch alike."""
        return self.embeddings.expand(batch_size, self.num_tokens, -1)


def scatter_states(embeds: Tensor, positions: Tensor, states: Tensor) -> Tensor:
    """Input embeddings with the [ST] rows replaced; all others are left as they are.

    Args:
        embeds: (B, L, H).
        positions: (B, N) int64, where each [ST] stands; -1 where a row has none.
        states: (B, N, H), cast to the dtype of ``embeds``.

    Returns:
        (B, L, H), a new tensor; gradients reach both inputs.
    """
    expected = (*positions.shape, embeds.shape[-1])
    if tuple(states.shape) != expected or positions.shape[0] != embeds.shape[0]:
        raise ValueError(
            f"states must be (B, N, H) = {expected} with B = {embeds.shape[0]}, got {tuple(states.shape)}"
        )
    given = positions >= 0
    rows = torch.arange(len(positions), device=positions.device)[:, None].expand_as(positions)
    return embeds.index_put((rows[given], positions[given]), states[given].to(embeds.dtype))


def read_back(hidden: Tensor, positions: Tensor) -> Tensor:
    """Last-layer states at the [ST] tokens themselves, not at the positions before them.

    Args:
        hidden: (B, L, H).
        positions: (B, N) int64; -1 where a row has none.

    Returns:
        (B, N, H); 0 where the position is -1.
    """
    if positions.ndim != 2 or positions.shape[0] != hidden.shape[0]:
        raise ValueError(f"positions must be (B, N) with B = {hidden.shape[0]}, got {tuple(positions.shape)}")
    rows = torch.arange(len(positions), device=positions.device)[:, None]
    states = hidden[rows, positions.clamp(min=0)]
    return states.masked_fill((positions < 0)[..., None], 0.0)
