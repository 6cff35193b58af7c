"""Loading of weights: every layout, and a clear error for everything that is wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from refstream.checkpoints.safe import load_state, load_strict


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)}


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return set(left) == set(right) and all(torch.equal(left[k], right[k]) for k in left)


def test_safetensors_file_and_folder(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    save_file(state, tmp_path / "model.safetensors")
    assert same(load_state(tmp_path / "model.safetensors"), state)
    assert same(load_state(str(tmp_path)), state)


@pytest.mark.parametrize("wrapper", [None, "model", "state_dict"])
def test_pt(tmp_path: Path, state: dict[str, torch.Tensor], wrapper: str | None) -> None:
    torch.save(state if wrapper is None else {wrapper: state, "step": 3}, tmp_path / "w.pt")
    assert same(load_state(tmp_path / "w.pt"), state)


def write_sharded(folder: Path, state: dict[str, torch.Tensor]) -> dict[str, str]:
    names = {key: f"model-{i:05d}-of-00002.safetensors" for i, key in enumerate(state, start=1)}
    for key, name in names.items():
        save_file({key: state[key]}, folder / name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    return names


def test_sharded(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    names = write_sharded(tmp_path, state)
    assert same(load_state(tmp_path), state)
    assert same(load_state(tmp_path / "model.safetensors.index.json"), state)
    (tmp_path / names["b"]).unlink()
    with pytest.raises(FileNotFoundError, match="model-00002-of-00002"):
        load_state(tmp_path)


def test_index_must_agree_with_its_shards(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    names = write_sharded(tmp_path, state)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {**names, "lost.weight": names["b"]}}))
    with pytest.raises(ValueError, match=r"lost\.weight"):
        load_state(tmp_path)
    index.write_text(json.dumps({"weight_map": {"b": "../" + tmp_path.name + "/" + names["b"]}}))
    with pytest.raises(ValueError, match="outside its folder"):
        load_state(tmp_path)
    index.write_text("{")
    with pytest.raises(ValueError, match="weight_map"):
        load_state(tmp_path)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_state(tmp_path / "nowhere.pt")
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        load_state(tmp_path)
    (tmp_path / "w.ckpt").write_bytes(b"x")
    with pytest.raises(ValueError, match="unknown kind"):
        load_state(tmp_path / "w.ckpt")


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize("cut", [0, 5, 40])
def test_truncated(tmp_path: Path, state: dict[str, torch.Tensor], suffix: str, cut: int) -> None:
    path = tmp_path / f"w.{suffix}"
    if suffix == "pt":
        torch.save(state, path)
    else:
        save_file(state, path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"w\."):
        load_state(path)


class Harmful:
    """Something whose unpickling would run a command."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.target}",)


def test_code_is_not_run(tmp_path: Path) -> None:
    target = tmp_path / "was_run"
    torch.save({"model": Harmful(target)}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match="more than tensors"):
        load_state(tmp_path / "w.pt")
    assert not target.exists()


def test_pt_of_other_things(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "w.pt")
    with pytest.raises(ValueError, match="list"):
        load_state(tmp_path / "w.pt")
    torch.save({"step": 3}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match="step"):
        load_state(tmp_path / "w.pt")


def test_strict_names_everything_and_copies_nothing() -> None:
    module = nn.Linear(3, 2)
    before = module.weight.detach().clone()
    with pytest.raises(
        ValueError, match=r"my file.*missing: bias.*unexpected: extra.*weight \(3, 3\) instead of"
    ):
        load_strict(module, {"weight": torch.zeros(3, 3), "extra": torch.zeros(1)}, "my file")
    assert torch.equal(module.weight, before)
    load_strict(module, {"weight": torch.zeros(2, 3), "bias": torch.ones(2, dtype=torch.bfloat16)}, "my file")
    assert torch.equal(module.bias, torch.ones(2))
    assert module.bias.dtype == torch.float32
