"""Being told to stop: saved at the end of the optimizer step, exit code 85, and the run goes on exactly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook

from refstream.engine.checkpoint import resume_from
from refstream.engine.checkpoint_files import find_last_good
from refstream.engine.signals import REQUEUE, SignalHook
from refstream.engine.state import trained_state

from .small_run import small_runner

ROOT = Path(__file__).resolve().parents[2]


class Sender(Hook):
    """Signals this process in the middle of an optimizer step."""

    def __init__(self, at: int, *names: str) -> None:
        self.at, self.names = at, names

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        if runner.iter + 1 == self.at:
            for name in self.names:
                os.kill(os.getpid(), signal.Signals[name])


@pytest.mark.parametrize("names", [("SIGTERM",), ("SIGUSR1",), ("SIGUSR1", "SIGTERM")])
def test_a_signal_saves_at_the_end_of_the_step_and_the_run_goes_on(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    """Two signals at once are one request."""
    before = signal.getsignal(signal.SIGTERM)
    quiet = dict(checkpoint=dict(interval=100))
    undisturbed = small_runner(tmp_path / "a", **quiet)
    undisturbed.train()
    told = small_runner(tmp_path / "b", hooks=[Sender(3, *names), SignalHook()], **quiet)
    try:
        with pytest.raises(SystemExit) as left:
            told.train()
    finally:
        told.call_hook("after_train")  # gives the signals back, as the process would end here
    assert left.value.code == REQUEUE == 85
    assert signal.getsignal(signal.SIGTERM) is before
    assert find_last_good(tmp_path / "b").name == "iter_00000004"
    resumed = small_runner(tmp_path / "b", hooks=[SignalHook()], **quiet)
    resume_from(resumed)
    resumed.train()
    assert signal.getsignal(signal.SIGTERM) is before
    mine, its = trained_state(resumed.model), trained_state(undisturbed.model)
    assert all(torch.equal(mine[name], its[name]) for name in its)


def test_nobody_listens_without_a_way_to_save(tmp_path: Path) -> None:
    runner = small_runner(tmp_path)
    runner._hooks = [hook for hook in runner.hooks if not hasattr(hook, "save_now")]
    with pytest.raises(ValueError, match="CheckpointFolderHook"):
        SignalHook().before_train(runner)


SECOND = """
import os, signal, time
from refstream.engine.signals import SignalHook
hook = SignalHook(burst_seconds=0.1)
signal.signal(signal.SIGTERM, hook._hear)
os.kill(os.getpid(), signal.SIGTERM)
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(0.2)
os.write(1, b"alive")
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(30)
"""


@pytest.mark.slow
def test_a_second_signal_exits_at_once() -> None:
    done = subprocess.run([sys.executable, "-c", SECOND], cwd=ROOT, capture_output=True, timeout=120)
    assert (done.returncode, done.stdout) == (128 + signal.SIGTERM, b"alive")
