"""One file or shards: read back equal, nothing of the other form left, dtypes as asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from refstream.checkpoints.safe import INDEX_NAME, SINGLE_NAME, load_state
from refstream.checkpoints.writing import save_state


@pytest.fixture
def state() -> dict[str, Tensor]:
    table = torch.randn(64, 32)
    return {"table": table, "shared": table, "slice": table.t(), "steps": torch.arange(3), "row": table[5]}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_either_form_is_read_back_and_replaces_the_other(state: dict[str, Tensor], tmp_path: Path) -> None:
    assert save_state(state, tmp_path / "m") == [tmp_path / "m" / SINGLE_NAME]
    assert names(tmp_path / "m") == [SINGLE_NAME]
    for limit in (10_000, 20_000):
        files = save_state(state, tmp_path / "m", max_shard_size=limit)
        assert names(tmp_path / "m") == sorted([*(file.name for file in files), INDEX_NAME])
        loaded = load_state(tmp_path / "m")
        assert loaded.keys() == state.keys()
        assert all(torch.equal(loaded[name], value) for name, value in state.items())
        assert all(file.stat().st_size < limit + 2_000 for file in files)
    index = json.loads((tmp_path / "m" / INDEX_NAME).read_text())
    assert set(index["weight_map"]) == set(state)
    save_state(state, tmp_path / "m")
    assert names(tmp_path / "m") == [SINGLE_NAME]


def test_only_floating_values_are_cast(state: dict[str, Tensor], tmp_path: Path) -> None:
    save_state(state, tmp_path, dtype=torch.bfloat16)
    loaded = load_state(tmp_path)
    assert loaded["steps"].dtype == torch.int64
    assert torch.equal(loaded["table"], state["table"].bfloat16())
    assert state["table"].dtype == torch.float32
