"""TDAU's memory against the reference's tables, against a bank that forgets nothing, and its size."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from refstream_projects.virst.memory import AnchorMemory

from refstream.errors import UserError
from refstream.models.segmenter.memory import MemoryEntry, MemoryRead, Sam2Memory, build_memory

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = Path(os.environ.get("REFSTREAM_GOLDEN") or ROOT / "tests" / "golden") / "virst"
SCENARIOS: list[dict[str, Any]] = json.loads((GOLDEN / "memory_selection.json").read_text())["scenarios"]
RUNS = [(s, mode) for s in SCENARIOS for mode in ("eval", "train") if mode in s]


def entry(frame: int, anchor: bool = False) -> MemoryEntry:
    return MemoryEntry(frame, torch.full((1, 4), float(frame)), torch.zeros(1, 2, 3, 3), anchor)


def maps(read: MemoryRead) -> list[tuple[int, int]]:
    return [(e.frame_index, row) for e, row in read.maps]


def pointers(read: MemoryRead) -> list[tuple[int, int]]:
    return [(e.frame_index, distance) for e, distance in read.pointers]


def check(read: MemoryRead | None, row: dict[str, Any], anchors: list[int], num_rows: int) -> None:
    """All that one row of the tables says: maps and pointers in order, divisor, roles, numbers of tokens."""
    assert read is not None
    roles = ["anchor" if e.frame_index in anchors else "frame" for e, _ in read.maps]
    got = [[e.frame_index, r % num_rows, role] for (e, r), role in zip(read.maps, roles, strict=True)]
    assert got == row["maps"]
    assert [list(p) for p in pointers(read)] == row["pointers"]
    if row["pointers"]:
        assert read.pointer_span == row["pointer_divisor"]
    assert [64 * len(read.maps), 4 * len(read.pointers)] == row["tokens"]
    assert all(e.features is not None for e, _ in read.maps)


@pytest.mark.parametrize(("scenario", "mode"), RUNS, ids=[f"{s['name']}-{m}" for s, m in RUNS])
def test_the_tables_of_the_release(scenario: dict[str, Any], mode: str) -> None:
    alpha = scenario["alpha"] if scenario["alpha"] > 0 else None
    memory = AnchorMemory(
        alpha,
        scenario["num_maskmem"] - 1,
        known_num_frames=scenario["T"],
        future_pointers=mode == "train",
    )
    num_tracked = 0
    for row in scenario[mode]:
        anchor = row.get("anchor_prompted", False)
        if not anchor:
            num_tracked += 1
            check(memory.read(row["frame"]), row, scenario["anchors"], scenario["num_maskmem"])
        memory.write(entry(row["frame"], anchor))
    assert len(scenario[mode]) == scenario["T"]
    assert num_tracked == scenario["T"] - len(scenario["anchors"])


def test_there_are_fifteen_scenarios() -> None:
    assert len(SCENARIOS) == 15
    assert len(RUNS) == 29


@pytest.mark.parametrize("scenario", [s for s in SCENARIOS if s["alpha"] > 0], ids=lambda s: str(s["name"]))
def test_recent_anchors_are_those_of_training(scenario: dict[str, Any]) -> None:
    """In training later anchors are unseen until reached: the causal memory reads just that."""
    memory = AnchorMemory(
        scenario["alpha"],
        scenario["num_maskmem"] - 1,
        anchors="recent",
        known_num_frames=scenario["T"],
        future_pointers=True,
    )
    for row in scenario["train"]:
        anchor = row.get("anchor_prompted", False)
        if not anchor:
            check(memory.read(row["frame"]), row, scenario["anchors"], scenario["num_maskmem"])
        memory.write(entry(row["frame"], anchor))


def test_release_at_frame_15_of_32() -> None:
    """The example of the mechanism report, written out."""
    anchors = [0, 4, 9, 13, 18, 22, 27, 31]
    memory = AnchorMemory(known_num_frames=32)
    for t in anchors:
        memory.write(entry(t, anchor=True))
    for t in range(15):
        if t not in anchors:
            memory.write(entry(t))
    read = memory.read(15)
    assert read is not None
    assert maps(read) == [(13, -1), (18, -1), (9, -1), (10, 4), (11, 3), (12, 2), (14, 0)]
    assert len(read.pointers) == 15
    assert 18 not in [t for t, _ in pointers(read)]


def test_a_causal_frame_sees_no_anchor_ahead() -> None:
    memory = AnchorMemory(anchors="recent", known_num_frames=10)
    for t in range(6):
        memory.write(entry(t, anchor=t in (0, 4)))
    read = memory.read(6)
    assert read is not None
    assert maps(read) == [(0, -1), (4, -1), (1, 4), (2, 3), (3, 2), (5, 0)]
    assert pointers(read) == [(0, 6), (4, 2), (5, 1), (3, 3), (2, 4), (1, 5)]
    assert read.pointer_span == 9


def test_recent_takes_frames_in_order_of_time() -> None:
    memory = AnchorMemory(anchors="recent")
    for t in (0, 4, 9):
        memory.write(entry(t, anchor=True))
    with pytest.raises(UserError, match=r"order of time.*frame 9 came frame 1.*order='time'"):
        memory.write(entry(1))
    memory.clear()
    memory.write(entry(0, anchor=True))
    memory.write(entry(1))
    memory.write(entry(1))  # the newest frame may be written again
    assert len(memory) == 2


class Unbounded(Sam2Memory):
    """A bank that forgets nothing."""

    def write(self, entry: MemoryEntry) -> None:
        (self._conditioning if entry.is_conditioning else self._recent)[entry.frame_index] = entry


@pytest.mark.parametrize("mode", ["nearest", "recent"])
@pytest.mark.parametrize("density", [0.03, 0.2, 0.9, 1.0])
def test_forgetting_changes_nothing(mode: str, density: float) -> None:
    """On the way, with anchors of any density: each frame reads what a bank without bounds gives."""
    rng = np.random.default_rng(0)
    for alpha, num_recent, max_pointers in ((1, 6, 16), (3, 6, 16), (8, 2, 4), (2, 9, 5), (3, 0, 1)):
        memory = AnchorMemory(alpha, num_recent, mode, max_pointers)
        full = Unbounded(num_recent + 1, max_pointers, alpha)
        for t in range(120):
            anchor = t == 0 or rng.random() < density
            if t:
                seen, expected = memory.read(t), full.read(t)
                assert seen is not None
                assert expected is not None
                assert maps(seen) == maps(expected)
                assert pointers(seen) == pointers(expected)
                assert all(e.features is not None for e, _ in seen.maps)
            for bank in (memory, full):
                bank.write(entry(t, anchor))


def test_forgetting_changes_nothing_with_anchors_ahead() -> None:
    anchors = sorted(np.random.default_rng(1).choice(200, 40, replace=False).tolist())
    memory, full = AnchorMemory(3), Unbounded(max_cond_frames=3)
    for t in anchors:
        memory.write(entry(t, anchor=True))
        full.write(entry(t, anchor=True))
    for t in range(200):
        if t in anchors:
            continue
        seen, expected = memory.read(t), full.read(t)
        assert seen is not None
        assert expected is not None
        assert (maps(seen), pointers(seen)) == (maps(expected), pointers(expected))
        memory.write(entry(t))
        full.write(entry(t))
    assert len(memory) < 40 < len(full)


@pytest.mark.parametrize("every", [1, 2, 5, 10])
def test_size_is_the_same_at_frame_50_and_500(every: int) -> None:
    memory = AnchorMemory(anchors="recent")
    sizes = {}
    for t in range(501):
        memory.write(entry(t, anchor=t % every == 0))
        sizes[t] = memory.num_bytes
    assert sizes[50] == sizes[500] > 0
    assert max(sizes.values()) == max(v for t, v in sizes.items() if t <= 100)
    pointer, grid = 4 * 4, 2 * 3 * 3 * 4
    assert max(sizes.values()) <= (3 + 7 + 1) * grid + (4 + 16 + 1) * pointer


def test_built_by_name() -> None:
    memory = build_memory(dict(type="tdau", alpha=5, num_recent=4, anchors="recent", map_dtype=None))
    assert isinstance(memory, AnchorMemory)
    assert (memory.max_cond_frames, memory.num_maps, memory.map_dtype) == (5, 5, None)
    assert build_memory("tdau").map_dtype == torch.bfloat16
    assert not build_memory("tdau").hard_prompted_masks


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (dict(alpha=0), "alpha must be at least 1, got 0"),
        (dict(num_recent=-1), "num_recent must be at least 0"),
        (dict(known_num_frames=0), "known_num_frames must be at least 1"),
        (dict(anchors="newest"), r"anchors must be one of .*'newest'"),
        (dict(anchors="recent", alpha=None), "needs a number alpha"),
        (dict(map_dtype="float64"), "map_dtype must be one of"),
    ],
)
def test_bad_values(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        AnchorMemory(**keys)
    with pytest.raises(ValueError, match="num_anchors"):
        build_memory(dict(type="tdau", num_anchors=3))
