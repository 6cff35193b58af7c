"""Semantic Embedding Reuse (SER): the last [SEG] states are the memory.

Source: StreamingRVOS (CVPR 2026), section 3 "SER": the MLLM reads <context> [INFO] </context> before the
question, where [INFO] is the [SEG] state of the previous frame, and a learned placeholder on the first frame.
The paper calls the memory a FIFO queue; the release hard-wires its length to 1. Here the length is a key, and
the memory itself is a config (``type=``) of the registry ``CONTEXTS``: anything with these methods can take
its place.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from refstream.registry import CONTEXTS


@CONTEXTS.register_module()
class SegMemory:
    """FIFO of the last K [SEG] states of one query.

    Args:
        length: K >= 1, number of context slots.
    """

    def __init__(self, length: int = 1) -> None:
        if length < 1:
            raise ValueError(f"SER needs at least one context slot, got {length}")
        self.length = length
        self.states: list[Tensor] = []

    def push(self, state: Tensor) -> None:
        """Remember a (D,) state; the oldest falls out when K are held."""
        self.states = [*self.states, state][-self.length :]

    def clear(self) -> None:
        """Back to the placeholder, as the release does when an answer has no [SEG]."""
        self.states = []


@CONTEXTS.register_module()
class NoMemory(SegMemory):
    """SER switched off: nothing is kept, the placeholder stays on every frame."""

    def push(self, state: Tensor) -> None:
        """Forget it."""


@CONTEXTS.register_module()
class ZeroedMemory(SegMemory):
    """The control of SER: slots are filled as usual, with zeros."""

    def push(self, state: Tensor) -> None:
        """Remember that there was a state, and nothing of it."""
        super().push(torch.zeros_like(state))


def stack_context(
    memories: Sequence[SegMemory], hidden_size: int, *, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Context slots for a batch of N queries, newest state in the last slot.

    Returns:
        (N, K, D) states and (N, K) bool, False where the placeholder stays.
    """
    length = memories[0].length
    mask = torch.zeros(len(memories), length, device=device, dtype=torch.bool)
    rows: list[Tensor] = []
    for memory in memories:
        pad = [torch.zeros(hidden_size, device=device, dtype=dtype)] * (length - len(memory.states))
        rows.append(torch.stack([*pad, *(s.to(device=device, dtype=dtype) for s in memory.states)]))
    for i, memory in enumerate(memories):
        mask[i, length - len(memory.states) :] = True
    return torch.stack(rows), mask
