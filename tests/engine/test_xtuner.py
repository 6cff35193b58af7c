"""XTuner's loop by name in our Runner, and our configs through XTuner's own script."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from safetensors.torch import load_file

import refstream
from refstream.engine.train import build_runner
from refstream.engine.xtuner_shim import make_importable
from refstream.engine.xtuner_train import train_with_xtuner
from refstream.errors import UserError

from .processes import ROOT, small_config


def config_for_xtuner() -> Config:
    """XTuner's loop, and mmengine's checkpoints, which work with any loop."""
    return small_config(
        **{
            "train_cfg": dict(_delete_=True, type="xtuner.engine.runner.TrainLoop", max_iters=2),
            "default_hooks.checkpoint": dict(
                _delete_=True, type="CheckpointHook", by_epoch=False, interval=2
            ),
        }
    )


def xtuner(config: Config, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    path = folder / "config.py"
    config.dump(path)
    command = [sys.executable, "-m", "refstream.engine.xtuner_train", str(path), "--work-dir", str(folder)]
    return subprocess.run(
        [*command, *options],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )


def test_the_shim_says_that_safetensors_is_there() -> None:
    make_importable()
    assert importlib.import_module("transformers.utils").is_safetensors_available()


def test_its_loop_runs_by_name(tmp_path: Path) -> None:
    runner = build_runner(config_for_xtuner(), tmp_path)
    runner.train()
    assert type(runner.train_loop).__module__ == "xtuner.engine.runner.loops"
    assert runner.iter == 2
    assert (tmp_path / "iter_2.pth").is_file()
    refstream.load(tmp_path / "export")


def test_what_it_cannot_resume_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.py"
    small_config().dump(path)
    with pytest.raises(UserError, match="refstream train --resume"):
        train_with_xtuner(path, work_dir=tmp_path, resume=True)


def test_a_package_that_it_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("xtuner.tools")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "xtuner.registry", None)
    with pytest.raises(UserError, match="pip install xtuner"):
        train_with_xtuner(tmp_path / "config.py")


@pytest.mark.slow
def test_its_script_trains_the_same_config_to_the_same_weights(tmp_path: Path) -> None:
    config = config_for_xtuner()
    build_runner(config, tmp_path / "ours").train()
    (tmp_path / "theirs").mkdir()
    done = xtuner(config, tmp_path / "theirs")
    assert done.returncode == 0, done.stderr
    ours, theirs = (
        load_file(tmp_path / side / "export" / "model.safetensors") for side in ("ours", "theirs")
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in ours.keys() | theirs.keys())


@pytest.mark.slow
def test_its_script_trains_with_zero_and_goes_on(tmp_path: Path) -> None:
    config = small_config()
    done = xtuner(
        config, tmp_path, "--deepspeed", "deepspeed_zero2", "--cfg-options", "train_cfg.max_iters=2"
    )
    assert done.returncode == 0, done.stderr
    done = xtuner(config, tmp_path, "--deepspeed", "deepspeed_zero2", "--resume")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["iter"] for line in lines] == [1, 2, 3, 4]
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert (tmp_path / "iter_00000004" / "zero_pp_rank_0_mp_rank_00_optim_states.pt").is_file()
    refstream.load(tmp_path / "export")
