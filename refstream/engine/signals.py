"""Being told to stop: save at the end of the optimizer step, then leave with a code that means "requeue"."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook

from refstream.engine.checkpoint import at_boundary
from refstream.registry import HOOKS

REQUEUE = 85
"""Exit code of a run that was told to stop and has saved: start it again with ``--resume``."""

SIGNALS = ("SIGTERM", "SIGUSR1")


@HOOKS.register_module()
class SignalHook(Hook):
    """On SIGTERM or SIGUSR1, to any rank: save, then exit with code 85 on all of them.

    A second signal exits at once, with 128 + its number; what is on disk stays whole, as it does on Ctrl-C.
    torchrun reports the code of its workers, and itself exits with 1.

    Args:
        signals: Names of the signals that ask to stop.
        burst_seconds: A launcher and a cluster may both pass on one request: signals that come within this
            time of the first count as one (assumed).
    """

    priority = "LOWEST"

    def __init__(self, signals: tuple[str, ...] = SIGNALS, burst_seconds: float = 1.0) -> None:
        self.signals = [signal.Signals[name] for name in signals]
        self.burst_seconds = burst_seconds
        self._since: float | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._keeper: Any = None

    def before_train(self, runner: Any) -> None:
        """Begin to listen.

        Raises:
            ValueError: If no hook can save at once.
        """
        keepers = [hook for hook in runner.hooks if hasattr(hook, "save_now")]
        if not keepers:
            raise ValueError("SignalHook needs a hook that can save at once, such as CheckpointFolderHook")
        self._keeper = keepers[0]
        self._before = {number: signal.signal(number, self._hear) for number in self.signals}

    def after_train(self, runner: Any) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """At the end of an optimizer step, leave if any rank was told to.

        Raises:
            SystemExit: With code 85, on all ranks.
        """
        if not at_boundary(runner):
            return
        told = torch.tensor([self._since is not None], dtype=torch.int64)
        all_reduce(told)
        if not told.item():
            return
        self._keeper.save_now(runner)
        runner.logger.info(f"told to stop: saved iteration {runner.iter + 1}, exiting with code {REQUEUE}")
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        raise SystemExit(REQUEUE)

    def _hear(self, number: int, frame: Any) -> None:
        now = time.monotonic()
        if self._since is None:
            self._since = now
        elif now - self._since > self.burst_seconds:
            os._exit(128 + number)
