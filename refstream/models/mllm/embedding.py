"""Putting vision tokens and context states into their places among the word embeddings."""

from __future__ import annotations

import torch
from torch import Tensor

from refstream.models.mllm.chat_tokens import ChatTokens


def write_images(embeds: Tensor, chat: ChatTokens, image_tokens: Tensor | None) -> Tensor:
    """(B, L, D) with vision tokens at ``chat.image_positions``, in reading order.

    Args:
        embeds: (B, L, D) word embeddings of ``chat.input_ids``.
        chat: B dialogues.
        image_tokens: (..., D), as many as the chat has places; None where it has none.

    Raises:
        ValueError: If the numbers of places and vision tokens differ.
    """
    expected = chat.num_image_slots
    given = 0 if image_tokens is None else image_tokens.shape[:-1].numel()
    if given != expected:
        raise ValueError(
            f"the prompt has places for {expected} vision tokens, got {given}; build the prompt with "
            "num_tiles equal to the tiles that were encoded"
        )
    if image_tokens is None or not expected:
        return embeds
    places = chat.image_positions[..., None].expand_as(embeds)
    return embeds.masked_scatter(places, image_tokens.to(embeds.dtype))


def write_context(embeds: Tensor, positions: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
    """Overwrite slots (B, K) of ``embeds`` (B, L, D) by ``context`` (B, K, D) where ``mask`` allows.

    Raises:
        ValueError: If ``context`` has another shape.
    """
    expected = (*positions.shape, embeds.shape[-1])
    if tuple(context.shape) != expected:
        raise ValueError(f"context must be {expected} (B, K, D), got {tuple(context.shape)}")
    valid = positions >= 0
    if mask is not None:
        valid = valid & (mask[:, None] if mask.ndim == 1 else mask)
    rows = torch.arange(embeds.shape[0], device=embeds.device)[:, None].expand_as(positions)
    places = (rows, positions.clamp(min=0))
    weight = valid[..., None].to(embeds.dtype)
    values = torch.where(valid[..., None], context.to(embeds.dtype), 0)
    written = torch.zeros_like(embeds).index_put(places, values, accumulate=True)
    written_at = torch.zeros_like(embeds[..., :1]).index_put(places, weight, accumulate=True) > 0
    return torch.where(written_at, written, embeds)
