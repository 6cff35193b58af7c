"""Fewer vision tokens per image: the grid of an image averaged over squares."""

from __future__ import annotations

import math

from torch import Tensor

from refstream.errors import UserError


def check_pooling(whole: int, wanted: int) -> None:
    """Raise a ``UserError`` unless a grid of ``whole`` tokens can be averaged down to ``wanted``."""
    grid, side = math.isqrt(whole), math.isqrt(max(wanted, 0))
    if wanted < 1 or side * side != wanted or grid * grid != whole or grid % side:
        choices = [n * n for n in range(1, grid + 1) if grid % n == 0]
        raise UserError(
            f"frame_tokens must be one of {choices} for an MLLM with {whole} tokens per image, got {wanted}"
        )


def pool_tokens(tokens: Tensor, wanted: int) -> Tensor:
    """(T, n, D) tokens of square grids -> (T, wanted, D), each the mean of a square of them.

    Raises:
        UserError: If the grid does not divide so.
    """
    whole = int(tokens.shape[1])
    if whole == wanted:
        return tokens
    check_pooling(whole, wanted)
    side = math.isqrt(wanted)
    step = math.isqrt(whole) // side
    return tokens.unflatten(1, (side, step, side, step)).mean(dim=(2, 4)).flatten(1, 2)
