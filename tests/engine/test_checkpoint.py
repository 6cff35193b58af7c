"""Checkpoint folders: whole or not there, checked, strict, and enough to go on from."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from refstream.engine import checkpoint_files
from refstream.engine.checkpoint import CheckpointFolderHook, resume_from
from refstream.engine.checkpoint_files import CheckpointError, find_last_good, verify, write_tensors
from refstream.engine.state import trained_state
from refstream.errors import OutputError

from .small_run import SmallModel, small_runner

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run of 8 iterations with a checkpoint after each optimizer step."""
    runner = small_runner(tmp_path_factory.mktemp("finished"))
    runner.train()
    return runner


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*iter_*"))


def same(a: nn.Module, b: nn.Module) -> bool:
    x, y = trained_state(a, with_frozen=True), trained_state(b, with_frozen=True)
    return x.keys() == y.keys() and all(torch.equal(x[name], y[name]) for name in x)


@pytest.mark.parametrize("stored", [2, 4, 6])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_ends_as_the_undisturbed_one(
    finished: Any, tmp_path: Path, stored: int, workers: int
) -> None:
    runner = small_runner(tmp_path, workers=workers)
    torch.rand(stored)  # whatever was drawn before
    resume_from(runner, Path(finished.work_dir) / f"iter_{stored:08d}")
    runner.train()
    assert same(runner.model, finished.model)
    assert runner.model.learner.seen == [str(draw) for draw in range(16)]
    mine, its = runner.optim_wrapper.state_dict(), finished.optim_wrapper.state_dict()
    assert mine["state"].keys() == its["state"].keys() == {2, 3, 4, 5}  # 0 and 1 are frozen
    for index, kept in its["state"].items():
        assert all(torch.equal(kept[name], mine["state"][index][name]) for name in kept)
    assert mine["param_groups"] == its["param_groups"]
    assert runner.param_schedulers[0].state_dict() == finished.param_schedulers[0].state_dict()


def test_dropout_makes_the_generators_matter(finished: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """The test above would not notice generators that are not restored, if nothing were drawn from them."""
    from refstream.engine import loops

    monkeypatch.setattr(loops, "restore_rng", lambda state: torch.manual_seed(99))
    runner = small_runner(tmp_path)
    resume_from(runner, Path(finished.work_dir) / "iter_00000004")
    runner.train()
    assert not same(runner.model, finished.model)


def test_a_checkpoint_holds_tensors_and_json_only(finished: Any) -> None:
    folder = Path(finished.work_dir) / "iter_00000004"
    kept = {path.name for path in folder.iterdir()}
    assert kept == {
        *("model.safetensors", "optimizer.safetensors", "rng_rank0.safetensors"),
        *("state.json", "manifest.json"),
    }
    state = json.loads((folder / "state.json").read_text())
    assert (state["iter"], state["samples"], state["world_size"]) == (4, 8, 1)
    assert len(state["frozen"]) == 64


@pytest.mark.parametrize(
    ("interval", "window", "iters", "expected"),
    [(2, 2, 6, [2, 4, 6]), (3, 2, 8, [4, 6, 8]), (5, 2, 7, [6, 7]), (1, 4, 8, [4, 8]), (0, 2, 5, [5])],
)
def test_saving_waits_for_the_end_of_an_optimizer_step(
    tmp_path: Path, interval: int, window: int, iters: int, expected: list[int]
) -> None:
    small_runner(tmp_path, window=window, iters=iters, checkpoint=dict(interval=interval)).train()
    assert names(tmp_path) == [f"iter_{number:08d}" for number in expected]


def test_old_ones_go_when_a_new_one_is_complete(tmp_path: Path) -> None:
    small_runner(tmp_path, checkpoint=dict(max_keep=2)).train()
    assert names(tmp_path) == ["iter_00000006", "iter_00000008"]


def test_damaged_ones_and_a_wrong_clock_do_not_push_out_the_new_one(tmp_path: Path) -> None:
    runner = small_runner(tmp_path, iters=6)
    runner.train()
    (tmp_path / "iter_00000004" / "state.json").unlink()
    state = json.loads((tmp_path / "iter_00000006" / "state.json").read_text())
    state["written"] = 0.5  # long before
    (tmp_path / "iter_00000006" / "state.json").write_text(json.dumps(state))
    checkpoint_files.drop_old(tmp_path / "iter_00000006", 2)
    assert names(tmp_path) == ["iter_00000002", "iter_00000006"]


def test_all_can_be_stored_with_the_frozen_weights(finished: Any, tmp_path: Path) -> None:
    small_runner(tmp_path / "a", iters=4, checkpoint=dict(save_frozen=True)).train()
    other = SmallModel()
    nn.init.zeros_(other.model[0].weight)
    runner = small_runner(tmp_path / "b", other, iters=4)
    resume_from(runner, tmp_path / "a")
    runner.train()
    assert same(other, SmallModel()) is False
    assert torch.equal(other.model[0].weight, SmallModel().model[0].weight)


# ---------------------------------------------------------------- damage


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def save_two(folder: Path) -> None:
    small_runner(folder, iters=4).train()


FILES = ("model.safetensors", "optimizer.safetensors", "rng_rank0.safetensors", "state.json", "manifest.json")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [flip_a_byte, cut, Path.unlink])
def test_a_damaged_file_is_never_loaded(
    tmp_path: Path, name: str, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    save_two(tmp_path)
    damage(tmp_path / "iter_00000004" / name)
    if (name, damage) == ("manifest.json", cut):  # the last byte of it is a line break
        return
    with caplog.at_level(logging.WARNING):
        assert find_last_good(tmp_path) == tmp_path / "iter_00000002"
    assert "skipped" in caplog.text
    assert "iter_00000004" in caplog.text
    with pytest.raises(CheckpointError, match=r"damaged|incomplete"):
        verify(tmp_path / "iter_00000004")


def test_if_all_are_damaged_training_does_not_begin_anew_in_silence(tmp_path: Path) -> None:
    save_two(tmp_path)
    for folder in tmp_path.glob("iter_*"):
        cut(folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="all checkpoints are damaged"):
        resume_from(small_runner(tmp_path))


def test_without_any_checkpoint_training_begins_at_the_beginning(tmp_path: Path) -> None:
    assert resume_from(small_runner(tmp_path)) is None
    with pytest.raises(CheckpointError, match="no such folder"):
        resume_from(small_runner(tmp_path), tmp_path / "nowhere")


class Stopped(BaseException):
    """As a kill: nothing cleans up after it."""


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), Stopped()])
def test_failing_at_any_step_of_writing_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """Fail at the 1st, 2nd, ... operation on the disk: what was there, or the new one, is found whole."""
    runner = small_runner(tmp_path, iters=2)
    runner.train()
    left = [0]

    def failing(action: Callable[..., Any]) -> Callable[..., Any]:
        def act(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                raise error
            return action(*args, **kwargs)

        return act

    for owner, name in ((os, "fsync"), (os, "replace"), (Path, "rename"), (checkpoint_files, "save_file")):
        monkeypatch.setattr(owner, name, failing(getattr(owner, name)))
    saved = 0
    for operation in range(1, 40):
        left[0] = operation
        folder = tmp_path / "iter_00000009"
        try:
            checkpoint_files.write_folder(folder, partial(write_one, operation))
        except (OutputError, Stopped):
            assert operation < 39
        left[0] = -1
        good = find_last_good(tmp_path)
        assert good is not None
        if good == folder:
            saved += 1
            break
        assert good.name == "iter_00000002"
        if isinstance(error, OSError):
            assert not list(tmp_path.glob(".iter*"))
    assert saved
    assert operation > 8


def write_one(number: int, part: Path) -> None:
    write_tensors({"a": torch.full((100,), float(number))}, part / "model.safetensors")
    write_tensors({"b": torch.zeros(())}, part / "optimizer.safetensors")
    checkpoint_files.write_json(part / "state.json", {"written": 9e9, "number": number})


SAVE_LOOP = """
import itertools, sys
from pathlib import Path
import torch
from refstream.engine import checkpoint_files as files
torch.set_num_threads(1)
folder = Path(sys.argv[1])
def write(number, part):
    for name in ("model", "optimizer"):
        files.write_tensors({name: torch.full((300_000,), float(number))}, part / f"{name}.safetensors")
    files.write_json(part / "state.json", {"written": float(number), "number": number})
import os, random, signal, time
random.seed(0)
lost = []
for kill in range(int(sys.argv[2])):
    start = int(files.find_last_good(folder).name[5:]) if kill else 0
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        for number in itertools.count(start + 1):
            new = folder / f"iter_{number:08d}"
            files.write_folder(new, lambda part: write(number, part))
            os.write(writing, number.to_bytes(4, "big"))
            files.drop_old(new, 2)
    os.close(writing)
    time.sleep(0.1 if kill == 0 else random.uniform(0.0, 0.1))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    told = os.read(reading, 1 << 20)
    done = int.from_bytes(told[-4:], "big") if told else start
    good = files.find_last_good(folder)
    if good is None or int(good.name[5:]) < done:
        lost.append((done, good))
    parts = len(list(folder.glob(".iter_*.part")))
    sys.stdout.write(f"{done} {good} {parts}\\n")
sys.exit(1 if lost else 0)
"""


@pytest.mark.slow
def test_killed_at_30_random_moments_of_saving(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SAVE_LOOP, str(tmp_path), "30"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert len(lines) == 30
    assert any(parts != "0" for *_, parts in lines), "no kill fell into the writing of a folder"
    assert "damaged" not in done.stderr
    assert "incomplete" not in done.stderr
    assert len(names(tmp_path)) <= 4  # two kept, one new, one hidden


def test_a_real_write_error_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    """The system refuses to write beyond a size: as a full disk, in the middle of a file."""
    import resource

    small_runner(tmp_path, iters=2).train()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OutputError, match="what was written before is intact"):
            checkpoint_files.write_folder(
                tmp_path / "iter_00000004",
                lambda part: write_tensors({"a": torch.zeros(100_000)}, part / "model.safetensors"),
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert names(tmp_path) == ["iter_00000002"]
    assert find_last_good(tmp_path) == tmp_path / "iter_00000002"


# ---------------------------------------------------------------- strictness


class Deeper(SmallModel):
    """One layer more."""

    def __init__(self) -> None:
        super().__init__()
        self.model.append(nn.Linear(1, 1))


def test_a_checkpoint_of_another_model_is_refused(finished: Any, tmp_path: Path) -> None:
    for model, words in (
        (Deeper(), "2 missing: model.4.bias, model.4.weight"),
        (SmallModel(width=6), r"model.1.weight .*\(5, 4\)\) instead of .*\(6, 4\)"),
    ):
        runner = small_runner(tmp_path, model)
        before = {name: value.clone() for name, value in trained_state(model).items()}
        resume_from(runner, finished.work_dir)
        with pytest.raises(CheckpointError, match=words):
            runner.train()
        assert all(torch.equal(value, before[name]) for name, value in trained_state(model).items())


def test_other_frozen_weights_are_refused(finished: Any, tmp_path: Path) -> None:
    model = SmallModel()
    with torch.no_grad():
        model.model[0].bias[0] += 1e-6
    runner = small_runner(tmp_path, model)
    resume_from(runner, finished.work_dir)
    with pytest.raises(CheckpointError, match="frozen parameters were others"):
        runner.train()


def test_a_sampler_that_cannot_skip_is_refused(finished: Any, tmp_path: Path) -> None:
    runner = small_runner(tmp_path, sampler="InfiniteSampler")
    resume_from(runner, Path(finished.work_dir) / "iter_00000004")
    with pytest.raises(ValueError, match="DrawSampler"):
        runner.train()


def test_another_batch_size_goes_on_with_the_samples_and_says_so(
    finished: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runner = small_runner(tmp_path, batch_size=3)
    resume_from(runner, Path(finished.work_dir) / "iter_00000004")
    with caplog.at_level(logging.WARNING):
        runner.train()
    assert "'batch_size': (2, 3)" in caplog.text
    assert runner.model.learner.seen == [str(draw) for draw in range(20)]


@pytest.mark.parametrize("wrong", [dict(interval=-1), dict(max_keep=0)])
def test_wrong_options_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected interval"):
        CheckpointFolderHook(**wrong)
