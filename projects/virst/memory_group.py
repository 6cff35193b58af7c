"""Queries that are decoded together although each has a memory of its own.

Queries of a stream come and go, and set their anchors when they need them; so each keeps its own memory.
Where the memories of several queries have the same shape on a frame (the same rows of the temporal table, the
same distances), they can still be read as one memory of N objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from refstream.models.segmenter.memory import Memory, MemoryEntry, MemoryRead

Shape = tuple[tuple[int, ...], tuple[int, ...], int]


def shape_of(memory: Memory, frame_index: int) -> Shape | None:
    """What must be equal in memories that are read together on a frame; None if there is nothing to read."""
    read = memory.read(frame_index)
    if read is None:
        return None
    return tuple(row for _, row in read.maps), tuple(at for _, at in read.pointers), read.pointer_span


class MemoryGroup(Memory):
    """N memories of one object each as one memory of N objects; keeps nothing itself.

    Args:
        policy: One of their kind, for its settings.
        members: The memories; may be set later.
    """

    def __init__(self, policy: Memory, members: Sequence[Memory] = ()) -> None:
        self.blank_absent = policy.blank_absent
        self.hard_prompted_masks = policy.hard_prompted_masks
        self.stores, self.map_dtype = policy.stores, policy.map_dtype
        self.members = list(members)

    @property
    def last_index(self) -> int:
        """Newest frame that any member holds, -1 if none."""
        return max((member.last_index for member in self.members), default=-1)

    def entries(self) -> tuple[MemoryEntry, ...]:
        """The entries of all members."""
        return tuple(entry for member in self.members for entry in member.entries())

    def clear(self) -> None:
        """Let all members forget everything."""
        for member in self.members:
            member.clear()

    def write(self, entry: MemoryEntry) -> None:
        """Give every member its row, in storage of its own."""
        for i, member in enumerate(self.members):
            features = None if entry.features is None else entry.features[i : i + 1].clone()
            member.write(replace(entry, pointer=entry.pointer[i : i + 1].clone(), features=features))

    def read(self, frame_index: int) -> MemoryRead | None:
        """What all members read, row by row.

        Raises:
            ValueError: If the members' memories differ in shape on this frame.
        """
        if len({shape_of(member, frame_index) for member in self.members}) > 1:
            raise ValueError("memories of different shape cannot be read together; group them by shape_of")
        reads = [read for member in self.members if (read := member.read(frame_index)) is not None]
        if len(reads) < 2:
            return reads[0] if reads else None
        maps = zip(*(read.maps for read in reads), strict=True)
        pointers = zip(*(read.pointers for read in reads), strict=True)
        return MemoryRead(
            tuple((_joined([entry for entry, _ in row]), row[0][1]) for row in maps),
            tuple((_joined([entry for entry, _ in row]), row[0][1]) for row in pointers),
            reads[0].pointer_span,
        )


def _joined(entries: Sequence[MemoryEntry]) -> MemoryEntry:
    features = [entry.features for entry in entries if entry.features is not None]
    return replace(
        entries[0],
        pointer=torch.cat([entry.pointer for entry in entries]),
        features=torch.cat(features) if len(features) == len(entries) else None,
    )
