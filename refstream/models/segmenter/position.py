"""Position tables of SAM2, always computed in float32 and cached per grid and device.

Tables are functions of the grid alone, so they are neither parameters nor buffers: casting a model to
bfloat16 does not touch them.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

TEMPERATURE = 10000.0


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # a cached table must serve training too
@torch.no_grad()
def sine_grid(channels: int, height: int, width: int, device: torch.device) -> Tensor:
    """Sine position encoding of a grid, normalised to 2 pi.

    Source: Carion et al., DETR (ECCV 2020), supplement; in SAM2 on every feature map and on memories.

    Returns:
        (1, channels, height, width) float32: first half encodes y, second half x.
    """
    half = channels // 2
    index = torch.arange(half, dtype=torch.float32, device=device)
    period = TEMPERATURE ** (2 * torch.div(index, 2, rounding_mode="floor") / half)

    def axis(length: int) -> Tensor:
        steps = torch.arange(1, length + 1, dtype=torch.float32, device=device)
        angle = (steps / (length + 1e-6) * 2 * math.pi)[:, None] / period
        return torch.stack((angle[:, 0::2].sin(), angle[:, 1::2].cos()), dim=2).flatten(1)

    y = axis(height)[:, None, :].expand(height, width, half)
    x = axis(width)[None, :, :].expand(height, width, half)
    return torch.cat((y, x), dim=2).permute(2, 0, 1)[None].contiguous()


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # a cached table must serve training too
@torch.no_grad()
def axial_rotary(
    head_dim: int, height: int, width: int, theta: float, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Axial rotary table: the first half of the channel pairs turns with x, the second with y.

    Source: Ravi et al., SAM 2 (2024), section 4, memory attention; Heo et al., RoPE-ViT (ECCV 2024).

    Returns:
        cos and sin, each (1, height * width, head_dim) float32, pairs of channels next to each other.
    """
    quarter = torch.arange(0, head_dim // 2, 2, dtype=torch.float32, device=device) / (head_dim // 2)
    frequency = 1.0 / theta**quarter
    cell = torch.arange(height * width, device=device)
    x, y = (cell % width).float(), torch.div(cell, width, rounding_mode="floor").float()
    angle = torch.cat((x[:, None] * frequency, y[:, None] * frequency), dim=1).repeat_interleave(2, dim=1)
    return angle.cos()[None], angle.sin()[None]


def sine_1d(positions: Tensor, channels: int) -> Tensor:
    """(P,) positions -> (P, channels) float32: sines, then cosines (Vaswani et al. 2017, 3.5)."""
    half = channels // 2
    index = torch.arange(half, dtype=torch.float32, device=positions.device)
    period = TEMPERATURE ** (2 * torch.div(index, 2, rounding_mode="floor") / half)
    angle = positions.float()[:, None] / period
    return torch.cat((angle.sin(), angle.cos()), dim=1)


def random_fourier(points: Tensor, matrix: Tensor) -> Tensor:
    """Encode points with a random matrix.

    Source: Tancik et al. (NeurIPS 2020); Kirillov et al., Segment Anything (ICCV 2023), prompt encoder.

    Args:
        points: (..., 2) x, y in [0, 1].
        matrix: (2, C / 2) float32.

    Returns:
        (..., C) float32.
    """
    angle = 2 * math.pi * ((2 * points.float() - 1) @ matrix.float())
    return torch.cat((angle.sin(), angle.cos()), dim=-1)
