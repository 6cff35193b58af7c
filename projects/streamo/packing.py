"""Several dialogues in one row: nothing is spent on padding, and none sees another.

Positions start anew with every dialogue. Where neither mask nor cache is given, transformers' models take
that as the sign of a packed row, and let a token attend to its own dialogue alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from refstream.models.mllm.chat_tokens import ChatTokens


def pack(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Share sequences out among few rows: the longest first, each into the first row that has room.

    Args:
        lengths: Of each sequence, at least 1.
        max_tokens: Most tokens of a row.

    Returns:
        Indices of the sequences of each row, ascending; rows in the order of their first sequence.

    Raises:
        ValueError: If a sequence is empty or longer than a row.
    """
    if lengths and not 0 < min(lengths) <= max(lengths) <= max_tokens:
        raise ValueError(f"lengths must lie in 1..{max_tokens}, got {min(lengths)}..{max(lengths)}")
    rows: list[list[int]] = []
    room: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        at = next((row for row, left in enumerate(room) if left >= lengths[i]), len(rows))
        if at == len(rows):
            rows.append([])
            room.append(max_tokens)
        rows[at].append(i)
        room[at] -= lengths[i]
    return sorted(sorted(row) for row in rows)


def packed_hidden(mllm: Any, chats: Sequence[ChatTokens], image_tokens: Sequence[Tensor | None]) -> Tensor:
    """Run the language model once over several dialogues.

    Args:
        mllm: An adapter with ``embed``, ``positions`` and ``language_model``.
        chats: One dialogue each, (1, l) without padding, on the model's device.
        image_tokens: (images, n, D) of each dialogue, or None.

    Returns:
        (1, L, D) final-norm hidden states, L the sum of all l, in the order of ``chats``.
    """
    embeds = [mllm.embed(chat, tokens) for chat, tokens in zip(chats, image_tokens, strict=True)]
    positions = torch.cat([mllm.positions(chat, 0)[0] for chat in chats], dim=-1)
    if positions.ndim == 3:  # several axes, (3, 1, L): a packed row is told by a first axis that only counts
        counted = torch.cat([torch.arange(one.shape[1], device=positions.device) for one in embeds])
        positions = torch.cat((counted[None, None], positions))
    joined = torch.cat(embeds, dim=1)  # a row may be longer than a dialogue may be: ``extend`` forbids that
    output = mllm.language_model()(inputs_embeds=joined, position_ids=positions, use_cache=False)
    hidden: Tensor = output.last_hidden_state
    return hidden


def packed_labels(chats: Sequence[ChatTokens]) -> tuple[Tensor, Tensor]:
    """Labels of a packed row, and to which dialogue each place belongs: both (1, L) int64."""
    labels = torch.cat([chat.labels for chat in chats], dim=1)
    owners = torch.cat([torch.full_like(chat.labels, i) for i, chat in enumerate(chats)], dim=1)
    return labels, owners
