"""Rotary positions in time, row and column (3D RoPE) for the second fusion.

Source: VIRST (CVPR 2026), section on spatio-temporal fusion, with the details of its released code: a head
of width d gives ``2 * floor(d / 6)`` channels to each of time, row and column, in this order, and leaves the
rest unrotated (d = 32: 10, 10, 10 and 2). Frequency i of a band with n pairs is ``base ** (-i / n)``; pairs
are neighbouring channels, as in RoFormer (2021).

Positions are (L, 3) float32 rows of (time, row, column). A rotation by position 0 is the identity, so "time
only" for the queries is a row and a column of 0: every query stands at the top left cell.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from refstream.errors import UserError

NUM_AXES = 3  # time, row, column


def band_pairs(head_dim: int) -> int:
    """Pairs of channels that each axis gets in a head of width ``head_dim``.

    Raises:
        UserError: If there is no room for one pair per axis.
    """
    pairs = head_dim // (2 * NUM_AXES)
    if pairs < 1:
        raise UserError(
            "3D rotary positions need heads of width 6 or more (two channels each for time, row and column), "
            f"got {head_dim}; use fewer heads"
        )
    return pairs


def band_widths(head_dim: int) -> tuple[int, int, int, int]:
    """Channels for time, row, column, and channels that are never rotated."""
    width = 2 * band_pairs(head_dim)
    return width, width, width, head_dim - NUM_AXES * width


@dataclass(frozen=True)
class Rotation:
    """One angle per position and pair of channels.

    Attributes:
        cos, sin: (L, P) float32; the first 2 P channels of a head are rotated.
    """

    cos: Tensor
    sin: Tensor

    def apply(self, x: Tensor) -> Tensor:
        """Rotate (..., L, d) vectors; the result has their dtype."""
        num_rotated = 2 * self.cos.shape[-1]
        even, odd = x[..., :num_rotated].float().unflatten(-1, (-1, 2)).unbind(-1)
        rotated = torch.stack((even * self.cos - odd * self.sin, odd * self.cos + even * self.sin), dim=-1)
        return torch.cat((rotated.flatten(-2).to(x.dtype), x[..., num_rotated:]), dim=-1)


def rotation(positions: Tensor, head_dim: int, base: float = 10000.0) -> Rotation:
    """The rotation of heads of width ``head_dim`` at (L, 3) positions (time, row, column)."""
    pairs = band_pairs(head_dim)
    steps = torch.arange(pairs, device=positions.device, dtype=torch.float32)
    frequencies = 1.0 / base ** (steps / pairs)
    angles = (positions.float()[:, :, None] * frequencies).flatten(1)
    return Rotation(angles.cos(), angles.sin())


def cell_positions(
    num_frames: int, rows: int, columns: int, device: torch.device | str | None = None
) -> Tensor:
    """(T * rows * columns, 3) float32 positions of the cells of T frames: frame, then row, then column."""
    axes = [torch.arange(n, device=device, dtype=torch.float32) for n in (num_frames, rows, columns)]
    return torch.cartesian_prod(*axes).reshape(-1, NUM_AXES)


def query_positions(cells: Tensor, num_frames: int, num_tokens: int, *, space: bool = False) -> Tensor:
    """(N * T, 3) float32 positions of N tokens repeated over T frames: token, then frame.

    Args:
        cells: (T * S, 3) positions of the keys, frame by frame, as of ``cell_positions``.
        num_frames: T.
        num_tokens: N.
        space: False gives queries the time alone (release): where a cell is then counts from the top left
            corner. True puts them into the middle of the cells: only the offset from there counts.
    """
    frames = cells.reshape(num_frames, -1, NUM_AXES)
    if space:
        place = frames.mean(dim=1)
    else:
        place = torch.cat((frames[:, 0, :1], torch.zeros_like(frames[:, 0, 1:])), dim=1)
    return place.repeat(num_tokens, 1)
