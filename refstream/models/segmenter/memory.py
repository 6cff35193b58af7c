"""Bounded memory of a tracked object: what is kept, and what a frame reads of it.

A policy is one class: it decides which entries stay (``write``) and which a frame attends to, at which
temporal position (``read``). It holds no weights; the segmenter makes the entries and attends to them. One
``Memory`` belongs to one query (or to N objects that are always decoded together).

Source: Ravi et al., SAM 2 (2024), section 4, and the behaviour of the ``sam2`` package 1.1.0.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from mmengine.registry import Registry
from torch import Tensor

from refstream.registry import SCOPE

MEMORIES = Registry("memory", scope=SCOPE)


@dataclass(frozen=True)
class MemoryEntry:
    """What is remembered of one frame.

    Attributes:
        frame_index: Which frame.
        pointer: (N, C) the object's token.
        features: (N, C_mem, h16, w16), or None when only the pointer is kept.
        is_conditioning: Whether the frame was prompted.
    """

    frame_index: int
    pointer: Tensor
    features: Tensor | None
    is_conditioning: bool


@dataclass(frozen=True)
class MemoryRead:
    """What one frame attends to.

    Attributes:
        maps: Entries with features, each with its row of the temporal position table; -1 is the row of
            conditioning frames, r - 1 that of the frame r frames ago.
        pointers: Entries with their distance in frames to the reading frame; positive is the past.
        pointer_span: Distance at which the temporal encoding of pointers reaches 1.
    """

    maps: tuple[tuple[MemoryEntry, int], ...]
    pointers: tuple[tuple[MemoryEntry, int], ...]
    pointer_span: int


class Memory(ABC):
    """A policy and its entries.

    Attributes:
        blank_absent: Whether predictions under this policy blank the mask of an object that is not visible.
        hard_prompted_masks: Whether conditioning frames are remembered by their hard mask instead of
            probabilities.
        stores: Whether the segmenter has to encode memories at all.
        map_dtype: In which maps are kept; None: as they are computed.
    """

    blank_absent: bool = False
    hard_prompted_masks: bool = False
    stores: bool = True
    map_dtype: torch.dtype | None = torch.bfloat16

    @property
    @abstractmethod
    def last_index(self) -> int:
        """Newest frame that was written, -1 if none."""

    @abstractmethod
    def write(self, entry: MemoryEntry) -> None:
        """Keep an entry, forget others: the number of entries stays below a bound."""

    @abstractmethod
    def read(self, frame_index: int) -> MemoryRead | None:
        """What that frame attends to; None means that there is nothing."""

    @abstractmethod
    def clear(self) -> None:
        """Forget everything."""

    @abstractmethod
    def entries(self) -> tuple[MemoryEntry, ...]:
        """All entries that are kept."""

    def __len__(self) -> int:
        return len(self.entries())

    @property
    def num_bytes(self) -> int:
        """Size of all maps and pointers that are kept."""
        tensors = [t for entry in self.entries() for t in (entry.features, entry.pointer) if t is not None]
        return sum(t.numel() * t.element_size() for t in tensors)


@MEMORIES.register_module(name="none")
class NoMemory(Memory):
    """Every frame stands alone (StreamingRVOS)."""

    stores = False

    @property
    def last_index(self) -> int:
        """Always -1."""
        return -1

    def write(self, entry: MemoryEntry) -> None:
        """Keep nothing."""

    def read(self, frame_index: int) -> MemoryRead | None:
        """Nothing."""
        return None

    def clear(self) -> None:
        """Nothing to forget."""

    def entries(self) -> tuple[MemoryEntry, ...]:
        """None."""
        return ()


def closest(entries: dict[int, MemoryEntry], frame_index: int, limit: int | None) -> dict[int, MemoryEntry]:
    """At most ``limit`` entries: the nearest before a frame, the nearest from it on, then by distance.

    All of them, in their own order, if there are no more than that.
    """
    if limit is None or len(entries) <= limit:
        return dict(entries)
    before = [t for t in entries if t < frame_index]
    after = [t for t in entries if t >= frame_index]
    chosen = ([max(before)] if before else []) + ([min(after)] if after else [])
    rest = [t for t in entries if t not in chosen]
    chosen += sorted(rest, key=lambda t: abs(t - frame_index))
    return {t: entries[t] for t in chosen[:limit]}


@MEMORIES.register_module(name="sam2")
class Sam2Memory(Memory):
    """SAM2's bank: conditioning frames, the most recent frames, and object pointers.

    A policy that differs in which conditioning frames are attended to or kept overrides ``select`` or
    ``forget``.

    Args:
        num_maps: Rows of the temporal table; ``num_maps - 1`` recent frames are attended to (7 in SAM2).
        max_pointers: Most object pointers of recent frames plus one (16 in SAM2).
        max_cond_frames: How many conditioning frames, the closest ones, a frame attends to; None: all.
        max_stored_cond: Bound on the conditioning frames kept: the first and the newest ones stay.
        known_num_frames: Length of the whole video if it is known. SAM2 divides the distance of a pointer by
            ``min(length, max_pointers) - 1``; a stream of unknown length corresponds to None.
        signed_pointers: Sign distances to future pointers; False uses absolute distances.
        future_pointers: Attend to pointers of conditioning frames ahead, too (SAM2: not at inference).
        blank_absent: Blank the mask of an object with score <= 0 (the ``sam2`` package does, Sa2VA does not).
        hard_prompted_masks: Remember the hard mask of conditioning frames (likewise).
    """

    def __init__(
        self,
        num_maps: int = 7,
        max_pointers: int = 16,
        max_cond_frames: int | None = None,
        max_stored_cond: int = 32,
        known_num_frames: int | None = None,
        signed_pointers: bool = True,
        future_pointers: bool = False,
        blank_absent: bool = True,
        hard_prompted_masks: bool = True,
    ) -> None:
        lowest = {"num_maps": num_maps, "max_pointers": max_pointers, "max_stored_cond": max_stored_cond}
        lowest |= {"max_cond_frames": max_cond_frames or 1, "known_num_frames": known_num_frames or 1}
        for name, value in lowest.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.num_maps = num_maps
        self.max_pointers = max_pointers
        self.max_cond_frames = max_cond_frames
        self.max_stored_cond = max_stored_cond
        self.known_num_frames = known_num_frames
        self.signed_pointers = signed_pointers
        self.future_pointers = future_pointers
        self.blank_absent = blank_absent
        self.hard_prompted_masks = hard_prompted_masks
        self._conditioning: dict[int, MemoryEntry] = {}
        self._recent: dict[int, MemoryEntry] = {}

    @property
    def last_index(self) -> int:
        """Newest frame that was written, -1 if none."""
        return max((*self._conditioning, *self._recent), default=-1)

    def entries(self) -> tuple[MemoryEntry, ...]:
        """All entries that are kept, conditioning frames first."""
        return (*self._conditioning.values(), *self._recent.values())

    def clear(self) -> None:
        """Forget everything."""
        self._conditioning.clear()
        self._recent.clear()

    def write(self, entry: MemoryEntry) -> None:
        """Keep an entry; an earlier one of the same frame is replaced.

        One recent frame more than attended to stays, so that the newest frame can be decoded a second time.
        """
        index = entry.frame_index
        self._conditioning.pop(index, None)
        self._recent.pop(index, None)
        (self._conditioning if entry.is_conditioning else self._recent)[index] = entry
        self.forget()
        self._forget_recent()

    def forget(self) -> None:
        """Bound the conditioning frames; called after every write."""
        while len(self._conditioning) > self.max_stored_cond:
            ordered = sorted(self._conditioning)
            del self._conditioning[ordered[min(1, len(ordered) - 1)]]

    def _forget_recent(self) -> None:
        newest = max(self._recent, default=-1)
        for old in [t for t in self._recent if t <= newest - max(self.max_pointers, self.num_maps)]:
            del self._recent[old]
        for old, kept in self._recent.items():
            if old <= newest - self.num_maps and kept.features is not None:
                self._recent[old] = replace(kept, features=None)

    def select(self, frame_index: int) -> dict[int, MemoryEntry]:
        """Conditioning frames that a frame attends to."""
        return closest(self._conditioning, frame_index, self.max_cond_frames)

    def read(self, frame_index: int) -> MemoryRead | None:
        """Conditioning frames and the ``num_maps - 1`` frames before, with pointers of the past."""
        selected = self.select(frame_index)
        unselected = {t: e for t, e in self._conditioning.items() if t not in selected}

        def past(distance: int) -> MemoryEntry | None:
            t = frame_index - distance
            return self._recent.get(t) or unselected.get(t)

        maps = [(entry, -1) for entry in selected.values()]
        for distance in range(self.num_maps - 1, 0, -1):
            entry = past(distance)
            if entry is not None and entry.features is not None:
                maps.append((entry, distance - 1))
        length = self.max_pointers
        if self.known_num_frames is not None:
            length = min(length, self.known_num_frames)
        pointers = []
        for t, entry in selected.items():
            if self.future_pointers or t <= frame_index:
                distance = frame_index - t
                pointers.append((entry, distance if self.signed_pointers else abs(distance)))
        for distance in range(1, length):
            entry = past(distance)
            if entry is not None:
                pointers.append((entry, distance))
        if not maps and not pointers:
            return None
        return MemoryRead(tuple(maps), tuple(pointers), max(length - 1, 1))


def build_memory(policy: str | Mapping[str, Any]) -> Memory:
    """A fresh memory from the name of a policy or from ``dict(type=name, ...)``.

    Raises:
        ValueError: If there is no such policy or an argument is not one of its own.
    """
    config = {"type": policy} if isinstance(policy, str) else dict(policy)
    name = config.pop("type", None)
    kind = MEMORIES.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ValueError(f"unknown memory policy {name!r}; known are {sorted(MEMORIES.module_dict)}")
    try:
        return kind(**config)
    except TypeError as error:
        raise ValueError(f"memory policy {name!r} does not accept {config}: {error}") from error
