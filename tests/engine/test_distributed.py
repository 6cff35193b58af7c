"""Several processes over gloo: one process's results, other branches on other processes, failures."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from refstream.engine.train import build_runner

from .processes import Job, launch, small_config, train_all

STEP = {  # plain steps of length 1: what the weights change by is the gradient
    "optim_wrapper.optimizer": dict(_delete_=True, type="SGD", lr=1.0),
    "optim_wrapper.clip_grad": None,
    "param_scheduler": [],
    "default_hooks.checkpoint.interval": 1,
    "default_hooks.checkpoint.max_keep": None,
}


def weights(folder: Path, iteration: int) -> dict[str, torch.Tensor]:
    return load_file(folder / f"iter_{iteration:08d}" / "model.safetensors")


def losses(folder: Path, rank: int = 0) -> torch.Tensor:
    return load_file(folder / f"losses{rank}.safetensors")["loss"]


def difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def alone(folder: Path, **changes: Any) -> None:
    """Train in this process."""
    build_runner(small_config(**changes), folder).train()


OPPOSITE = {"model.learner.gate": dict(_delete_=True, type="OppositeGate")}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trainings on two processes, each in a folder."""
    folder = tmp_path_factory.mktemp("pairs")
    dialogues = {"train_dataloader.dataset.dialogues": True}
    changes: dict[str, dict[str, Any]] = {
        "plain": {**STEP, **dialogues, "train_cfg.max_iters": 2},
        "accumulated": {**STEP, "train_cfg.max_iters": 2, "optim_wrapper.accumulative_counts": 2},
        "opposite": {**OPPOSITE, "train_cfg.max_iters": 50, "default_hooks.checkpoint.interval": 0},
    }
    train_all([Job(small_config(**keys), folder / name) for name, keys in changes.items()], 2)
    return folder


def test_two_processes_equal_one_at_twice_the_batch(pairs: Path, tmp_path: Path) -> None:
    """Masks are uneven over the processes, and one of them has a dialogue where the other has none."""
    changes = {**STEP, "train_cfg.max_iters": 2, "train_dataloader.batch_size": 4}
    alone(tmp_path, **changes, **{"train_dataloader.dataset.dialogues": True})
    first, second = losses(pairs / "plain", 0), losses(pairs / "plain", 1)
    assert torch.allclose((first + second) / 2, losses(tmp_path), rtol=0, atol=1e-6)
    assert abs(float(first[0] - second[0])) > 0.1  # uneven
    assert difference(weights(pairs / "plain", 1), weights(tmp_path, 1)) < 1e-6
    assert difference(weights(tmp_path, 1), weights(tmp_path, 2)) > 1e-3  # a gradient, not nothing
    assert (pairs / "plain" / "export" / "model.safetensors").is_file()


def test_accumulation_over_two_processes_equals_one_batch(pairs: Path, tmp_path: Path) -> None:
    alone(tmp_path, **{**STEP, "train_cfg.max_iters": 1, "train_dataloader.batch_size": 8})
    assert difference(weights(pairs / "accumulated", 2), weights(tmp_path, 1)) < 1e-6


def test_opposite_branches_end(pairs: Path) -> None:
    seen = [load_file(pairs / "opposite" / f"losses{rank}.safetensors") for rank in (0, 1)]
    assert seen[0]["looks_per_frame"].tolist() == [1.0] * 50
    assert seen[1]["looks_per_frame"].tolist() == [0.5] * 50
    assert float(seen[0]["loss"][-5:].mean()) < float(seen[0]["loss"][:5].mean())
    lines = (pairs / "opposite" / "log.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["seconds"] < 60


@pytest.mark.slow
def test_a_process_that_fails_ends_the_job_and_is_named(tmp_path: Path) -> None:
    config = small_config()
    config.custom_hooks.append(dict(type="FailOnce", at=2))
    done = launch(config, tmp_path, 2)
    assert time.time() - float((tmp_path / "failed").read_text()) < 30
    assert done.returncode == 1
    assert "ArithmeticError: failing on purpose" in done.stderr
    assert "in after_train_iter" in done.stderr
    cause = done.stderr[done.stderr.rindex("Root Cause") :]
    assert "rank      : 1" in cause
    assert "failing on purpose" in cause


@pytest.mark.slow
def test_processes_started_anew_end_as_if_nothing_had_been(tmp_path: Path) -> None:
    config = small_config(**{"default_hooks.checkpoint.interval": 1})
    done = launch(config, tmp_path / "calm", 2)
    assert done.returncode == 0, done.stderr
    config.custom_hooks.append(dict(type="FailOnce", at=3))
    done = launch(config, tmp_path / "upset", 2, "--max-restarts", "1")
    assert done.returncode == 0, done.stderr
    assert "failing on purpose" in done.stderr
    assert difference(weights(tmp_path / "calm", 4), weights(tmp_path / "upset", 4)) == 0
