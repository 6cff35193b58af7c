"""What the memory keeps and what a frame reads, against a bank without bounds."""

from __future__ import annotations

import pytest
import torch

from refstream.models.segmenter.memory import (
    MEMORIES,
    Memory,
    MemoryEntry,
    NoMemory,
    Sam2Memory,
    build_memory,
)


def entry(index: int, conditioning: bool = False) -> MemoryEntry:
    return MemoryEntry(index, torch.full((1, 4), float(index)), torch.zeros(1, 2, 3, 3), conditioning)


def reference(
    t: int, conditioning: list[int], recent: list[int], max_cond: int, length: int
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Maps (frame, row) and pointers (frame, distance) as the sam2 package gathers them."""
    select = pytest.importorskip("sam2.modeling.sam2_utils").select_closest_cond_frames
    chosen, others = select(t, dict.fromkeys(conditioning), max_cond)
    maps = [(frame, -1) for frame in chosen]
    for t_pos in range(1, 7):
        frame = t - (7 - t_pos)
        if frame in recent or frame in others:
            maps.append((frame, 7 - t_pos - 1))
    pointers = [(frame, t - frame) for frame in chosen if frame <= t]
    for distance in range(1, length):
        if t - distance >= 0 and (t - distance in recent or t - distance in others):
            pointers.append((t - distance, distance))
    return maps, pointers


@pytest.mark.parametrize("max_cond", [None, 2, 3])
@pytest.mark.parametrize("known", [None, 9, 40])
@pytest.mark.parametrize("conditioning", [[0], [0, 9, 21], [0, 1, 2, 3, 4], [5, 0, 30]])
def test_reads_as_an_unbounded_bank(conditioning: list[int], known: int | None, max_cond: int | None) -> None:
    memory = Sam2Memory(known_num_frames=known, max_cond_frames=max_cond)
    for t in conditioning:
        memory.write(entry(t, conditioning=True))
    recent: list[int] = []
    for t in range(35):
        if t in conditioning:
            continue
        length = 16 if known is None else min(known, 16)
        maps, pointers = reference(t, conditioning, recent, max_cond or -1, length)
        read = memory.read(t)
        assert read is not None
        assert sorted((e.frame_index, row) for e, row in read.maps) == sorted(maps)
        assert sorted((e.frame_index, d) for e, d in read.pointers) == sorted(pointers)
        assert read.pointer_span == length - 1
        assert all(e.features is not None for e, _ in read.maps)
        memory.write(entry(t))
        recent.append(t)


def test_size_is_bounded() -> None:
    memory = Sam2Memory(max_stored_cond=5)
    sizes = []
    for t in range(500):
        memory.write(entry(t, conditioning=t % 10 == 0))
        sizes.append((len(memory), sum(e.features is not None for e in memory.entries())))
    assert max(sizes[:100]) == max(sizes)
    assert max(size for size, _ in sizes) <= 5 + 16
    assert max(maps for _, maps in sizes) <= 5 + 7
    kept = [e.frame_index for e in memory.entries() if e.is_conditioning]
    assert kept == [0, 460, 470, 480, 490]
    assert memory.last_index == 499


def test_the_newest_frame_can_be_read_again() -> None:
    memory = Sam2Memory()
    memory.write(entry(0, conditioning=True))
    for t in range(1, 30):
        memory.write(entry(t))
    read = memory.read(29)
    assert read is not None
    assert [e.frame_index for e, row in read.maps if row >= 0] == [23, 24, 25, 26, 27, 28]
    assert len(read.pointers) == 1 + 15


def test_a_frame_is_remembered_once() -> None:
    memory = Sam2Memory()
    memory.write(entry(3))
    memory.write(entry(3, conditioning=True))
    assert [e.is_conditioning for e in memory.entries()] == [True]
    memory.write(entry(3))
    assert [e.is_conditioning for e in memory.entries()] == [False]
    memory.clear()
    assert len(memory) == 0
    assert memory.last_index == -1
    assert memory.read(4) is None


@pytest.mark.parametrize(("signed", "expected"), [(True, [-5, 4]), (False, [4, 5])])
def test_future_pointers(signed: bool, expected: list[int]) -> None:
    memory = Sam2Memory(future_pointers=True, signed_pointers=signed)
    for t in (0, 9):
        memory.write(entry(t, conditioning=True))
    read = memory.read(4)
    assert read is not None
    assert sorted(d for _, d in read.pointers) == expected


def test_one_frame_video_does_not_divide_by_zero() -> None:
    memory = Sam2Memory(known_num_frames=1)
    memory.write(entry(0, conditioning=True))
    read = memory.read(1)
    assert read is not None
    assert read.pointer_span == 1


def test_policies_by_name() -> None:
    assert isinstance(build_memory("none"), NoMemory)
    assert not build_memory("none").stores
    memory = build_memory({"type": "sam2", "known_num_frames": 6, "blank_absent": False})
    assert isinstance(memory, Sam2Memory)
    assert not memory.blank_absent
    with pytest.raises(ValueError, match=r"unknown memory policy 'fifo'.*none.*sam2"):
        build_memory("fifo")
    with pytest.raises(ValueError, match="num_slots"):
        build_memory({"type": "sam2", "num_slots": 3})
    with pytest.raises(ValueError, match="num_maps"):
        build_memory({"type": "sam2", "num_maps": 0})


def test_another_policy_is_one_class() -> None:
    class LastFrame(Memory):
        """Only the frame before."""

        def __init__(self) -> None:
            self.kept: list[MemoryEntry] = []

        @property
        def last_index(self) -> int:
            return self.kept[-1].frame_index if self.kept else -1

        def write(self, entry: MemoryEntry) -> None:
            self.kept = [entry]

        def read(self, frame_index: int) -> None:
            return None

        def clear(self) -> None:
            self.kept = []

        def entries(self) -> tuple[MemoryEntry, ...]:
            return tuple(self.kept)

    MEMORIES.register_module(name="last_frame", module=LastFrame)
    try:
        memory = build_memory("last_frame")
        memory.write(entry(2))
        assert len(memory) == 1
    finally:
        MEMORIES.module_dict.pop("last_frame")


def test_size_in_bytes() -> None:
    memory = Sam2Memory()
    assert memory.num_bytes == 0
    memory.write(entry(0, conditioning=True))
    assert memory.num_bytes == 4 * 4 + 2 * 3 * 3 * 4
    memory.write(MemoryEntry(1, torch.zeros(1, 4, dtype=torch.bfloat16), None, False))
    assert memory.num_bytes == 4 * 4 + 2 * 3 * 3 * 4 + 4 * 2


def test_another_choice_of_conditioning_frames() -> None:
    """A policy overrides ``select`` and ``forget``: what it does not choose is an ordinary frame."""

    class Newest(Sam2Memory):
        """The newest conditioning frame only; the two newest are kept."""

        def select(self, frame_index: int) -> dict[int, MemoryEntry]:
            newest = max(self._conditioning)
            return {newest: self._conditioning[newest]}

        def forget(self) -> None:
            for old in sorted(self._conditioning)[:-2]:
                del self._conditioning[old]

    memory = Newest()
    for t in (0, 2, 4):
        memory.write(entry(t, conditioning=True))
    memory.write(entry(5))
    read = memory.read(6)
    assert read is not None
    assert [(e.frame_index, row) for e, row in read.maps] == [(4, -1), (2, 3), (5, 0)]
    assert [(e.frame_index, d) for e, d in read.pointers] == [(4, 2), (5, 1), (2, 4)]
