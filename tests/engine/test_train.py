"""The training engine on the tiny configs, a few iterations each, and what it makes of a config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import refstream
from refstream.cli import main
from refstream.data.mixture import Mixture
from refstream.engine.pretraining import boxes_of, random_pixels
from refstream.engine.strategies import needs_uniform_calls, start_processes
from refstream.engine.train import build_runner, prepare, runner_config, train
from refstream.errors import UserError
from refstream.registry import DATASETS

from .processes import small_config

CONFIGS = Path(__file__).resolve().parents[2] / "projects" / "streamingrvos" / "configs"
SHORT = {
    "train_cfg.max_iters": 2,
    "train_dataloader.batch_size": 2,
    "train_dataloader.num_workers": 0,
    "train_dataloader.persistent_workers": False,
    "default_hooks.checkpoint.interval": 1,
    "default_hooks.lines.interval": 1,
}


@pytest.mark.parametrize("name", ["tiny_sam2", "tiny_vision"])
def test_a_stage_trains_and_exports(name: str, tmp_path: Path) -> None:
    folder = train(CONFIGS / f"{name}.py", SHORT, work_dir=tmp_path)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["iter"] for line in lines] == [1, 2]
    assert all(torch.isfinite(torch.tensor(line["loss"])) for line in lines)
    assert (folder / "iter_00000002" / "manifest.json").is_file()
    model = refstream.load(folder / "export")
    assert model.config.pipeline["type"] == "StreamingRVOS"


def test_a_run_goes_on_to_the_same_end(tmp_path: Path) -> None:
    """Also one that torchrun has started anew, which asks for nothing."""
    config = small_config(**{"default_hooks.checkpoint.max_keep": None, "train_cfg.max_iters": 4})
    build_runner(config, tmp_path / "whole").train()
    config.train_cfg.max_iters = 2
    build_runner(config, tmp_path / "parts").train()
    config.train_cfg.max_iters = 4
    build_runner(config, tmp_path / "parts", resume=True).train()
    ends = [
        (tmp_path / side / "iter_00000004" / "model.safetensors").read_bytes() for side in ("whole", "parts")
    ]
    assert ends[0] == ends[1]


def test_nothing_is_changed_in_the_config_given() -> None:
    config = small_config()
    before = config.pretty_text
    full = runner_config(config, "work_dirs/x", launcher="pytorch")
    assert config.pretty_text == before
    assert full.model_wrapper_cfg.find_unused_parameters is True
    assert full.default_scope == "refstream"
    assert full.experiment_name == "x"
    assert "model_wrapper_cfg" not in runner_config(config, "work_dirs/x")


def test_a_dataset_becomes_a_stream_of_draws() -> None:
    config = small_config()
    wrapped = DATASETS.build(runner_config(config, "work_dirs/x").train_dataloader.dataset)
    assert isinstance(wrapped, Mixture)
    assert wrapped[10_000].frames.shape == (2, 64, 64, 3)
    config.train_dataloader.dataset = dict(type="Mixture", sources=[dict(dataset=dict(type="UnevenSquares"))])
    kept = DATASETS.build(runner_config(config, "work_dirs/x").train_dataloader.dataset)
    assert [source.name for source in kept.sources] == [source.name for source in wrapped.sources]
    config.train_dataloader.sampler = dict(type="InfiniteSampler")
    bare: Any = runner_config(config, "work_dirs/x").train_dataloader.dataset
    assert bare.type == "Mixture"


def test_a_named_strategy_replaces_the_configs() -> None:
    assert needs_uniform_calls(prepare(CONFIGS / "tiny_sam2.py", strategy="deepspeed_zero3"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="what is refused where there is no CUDA")
def test_slurm_needs_cuda() -> None:
    with pytest.raises(UserError, match="slurm"):
        start_processes("slurm")


def test_a_dry_run_trains_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = CONFIGS / "tiny_sam2.py"
    assert main(["train", str(path), "--dry-run", "--work-dir", str(tmp_path), "--deepspeed", "zero2"]) == 0
    shown = capsys.readouterr().out
    assert "DeepSpeedStrategy" in shown
    assert "optimizer steps" in shown
    assert not list(tmp_path.iterdir())


def test_boxes_and_points_lie_on_their_masks() -> None:
    masks = torch.zeros(2, 8, 10, dtype=torch.bool)
    masks[0, 2:4, 3:7] = True
    masks[1, 7, 0] = True
    assert boxes_of(masks).tolist() == [[3, 2, 6, 3], [0, 7, 0, 7]]
    x, y = random_pixels(masks)[:, 0].long().T
    assert masks[torch.arange(2), y, x].all()
