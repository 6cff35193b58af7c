"""The training engine on the tiny configs, a few iterations each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import refstream
from refstream.engine.hooks import AtomicLocalBackend
from refstream.engine.pretraining import boxes_of, random_pixels
from refstream.engine.train import load_config, train

CONFIGS = Path(__file__).resolve().parents[2] / "projects" / "streamingrvos" / "configs"
SHORT = {
    "train_cfg.max_iters": 2,
    "train_dataloader.batch_size": 2,
    "train_dataloader.num_workers": 0,
    "train_dataloader.persistent_workers": False,
    "default_hooks.checkpoint.interval": 1,
}


@pytest.mark.parametrize("name", ["tiny_sam2", "tiny_vision"])
def test_a_stage_trains_and_exports(name: str, tmp_path: Path) -> None:
    folder = train(CONFIGS / f"{name}.py", {**SHORT, "custom_hooks.1.interval": 1}, work_dir=tmp_path)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["iter"] for line in lines] == [1, 2]
    assert all(torch.isfinite(torch.tensor(line["loss"])) for line in lines)
    assert (folder / "iter_2.pth").is_file()
    assert not list(folder.glob("*.partial"))
    model = refstream.load(folder / "export")
    assert model.config.pipeline["type"] == "StreamingRVOS"


def test_an_unknown_override_is_refused() -> None:
    with pytest.raises(ValueError, match="max_iter"):
        load_config(CONFIGS / "tiny_sam2.py", {"train_cfg.max_iter": 2})


def test_a_missing_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_config(tmp_path / "nowhere.py")


def test_a_checkpoint_is_replaced_at_once(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b.pth"
    AtomicLocalBackend().put(b"one", file)
    AtomicLocalBackend().put(b"two", file)
    assert file.read_bytes() == b"two"
    assert [path.name for path in file.parent.iterdir()] == ["b.pth"]


def test_boxes_and_points_lie_on_their_masks() -> None:
    masks = torch.zeros(2, 8, 10, dtype=torch.bool)
    masks[0, 2:4, 3:7] = True
    masks[1, 7, 0] = True
    assert boxes_of(masks).tolist() == [[3, 2, 6, 3], [0, 7, 0, 7]]
    x, y = random_pixels(masks)[:, 0].long().T
    assert masks[torch.arange(2), y, x].all()
