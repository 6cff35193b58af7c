"""The training loop: one optimizer step is a window of micro-batches, and a resumed run goes on exactly."""

from __future__ import annotations

import ctypes
import dataclasses
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.registry import LOOPS
from mmengine.runner import IterBasedTrainLoop
from mmengine.runner.base_loop import BaseLoop
from mmengine.runner.utils import calc_dynamic_intervals
from torch import Tensor
from torch.utils.data import DataLoader

from refstream.engine.checkpoint import resume
from refstream.engine.state import restore_rng
from refstream.engine.strategies import training_model


@LOOPS.register_module()
class StepTrainLoop(IterBasedTrainLoop):
    """mmengine's loop over micro-batches, with the batches of one optimizer step fetched together.

    Iterations count micro-batches. Before the first of a window runs, the learner's ``counts(model, batch)``
    of all of them are added up over the ranks, and every ``ClipBatch`` gets the mean per micro-batch as its
    ``totals``. A learner that divides its sums by these has the gradients of one large batch: accumulation
    and data parallelism then average over masks and tokens, not over micro-batches. Counts that are 0 in the
    whole window become 1, so that sums of nothing stay 0. A learner without ``counts`` is left alone.

    The loader is not replayed when a run is resumed: its sampler (``DrawSampler``) starts behind the samples
    that were consumed.

    Args:
        runner: mmengine's.
        dataloader: Or its config.
        max_iters: Micro-batches to train on each rank.
        max_epochs: Instead of ``max_iters``: passes over the dataset.
        window: Micro-batches of one optimizer step; None takes the optim wrapper's ``accumulative_counts``.
        val_begin: First iteration after which mmengine's validation loop may run.
        val_interval: Iterations between two validations.

    Attributes:
        samples: Samples that all ranks together have consumed.
        data_seconds: Time waited for data before this micro-batch; the first of a window waits for all.
        sample_ids: Ids of the samples in this micro-batch.
        resume_path: Checkpoint folder to go on from when ``run`` begins.
        rng: Generator states to set right before the first iteration.

    Raises:
        ValueError: If not exactly one of ``max_iters`` and ``max_epochs`` is given.
    """

    def __init__(
        self,
        runner: Any,
        dataloader: DataLoader[Any] | dict[str, Any],
        max_iters: int | None = None,
        max_epochs: float | None = None,
        window: int | None = None,
        val_begin: int = 1,
        val_interval: int = 1000,
    ) -> None:
        # not IterBasedTrainLoop's, which would start the workers before the sampler knows where to begin
        BaseLoop.__init__(self, runner, dataloader)
        if (max_iters is None) == (max_epochs is None):
            raise ValueError(f"give max_iters or max_epochs, got {max_iters=} and {max_epochs=}")
        self._max_iters = int(max_iters or round((max_epochs or 0) * len(self.dataloader)))
        self._max_epochs, self._epoch, self._iter = 1, 0, 0
        self._window = window
        self.val_begin, self.val_interval = val_begin, val_interval
        self.dynamic_milestones, self.dynamic_intervals = calc_dynamic_intervals(val_interval, None)
        self.stop_training = False
        self.samples = 0
        self.data_seconds = 0.0
        self.sample_ids: list[str] = []
        self.resume_path: Path | None = None
        self.rng: Mapping[str, Tensor] | None = None

    @property
    def window(self) -> int:
        """Micro-batches of one optimizer step."""
        counts: int = getattr(self.runner.optim_wrapper, "_accumulative_counts", 1)
        return self._window or counts

    @property
    def batch_size(self) -> int:
        """Samples of one micro-batch on one rank."""
        loader: Any = self.dataloader
        return loader.batch_size or loader.batch_sampler.batch_size

    def run(self) -> torch.nn.Module:
        """Train, from the checkpoint in ``resume_path`` if there is one."""
        if self.resume_path is not None:
            resume(self.runner, self.resume_path)
            self.runner.optim_wrapper.initialize_count_status(self.runner.model, self._iter, self._max_iters)
        self.runner.call_hook("before_train")
        self.runner.call_hook("before_train_epoch")
        batches = self._batches()
        if self.rng is not None:
            restore_rng(self.rng)
        try:
            self._train(batches)
        finally:
            self._stop_workers()
        self.runner.call_hook("after_train_epoch")
        self.runner.call_hook("after_train")
        return self.runner.model

    def _train(self, batches: Iterator[Any]) -> None:
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(next(batches))
            self._decide_current_val_interval()
            if self._validation_is_due():
                self.runner.val_loop.run()

    def run_iter(self, data_batch: Any) -> None:
        """Train on one micro-batch."""
        self.samples += self.batch_size * get_world_size()
        self.runner.message_hub.update_info("samples", self.samples)
        super().run_iter(data_batch)

    def _validation_is_due(self) -> bool:
        return (
            self.runner.val_loop is not None
            and self._iter >= self.val_begin
            and (self._iter % self.val_interval == 0 or self._iter == self._max_iters)
        )

    def _batches(self) -> Iterator[Any]:
        """Micro-batches, behind what was consumed; starts the workers at once."""
        if self._iter and not self.samples:  # another's checkpoint, as those of mmengine's strategies
            default = self._iter * self.batch_size * get_world_size()
            self.samples = self.runner.message_hub.get_info("samples", default)
        if self.samples:
            self._skip(self.samples)
        # of its own, so that starting workers draws nothing from the generator that dropout uses
        self.dataloader.generator = torch.Generator()
        self.dataloader.worker_init_fn = partial(_init_worker, self.dataloader.worker_init_fn)
        self._loader = iter(self.dataloader)
        return self._windows(self._loader)

    def _stop_workers(self) -> None:
        """Now, not when Python exits: it would terminate them, which they ignore under ``SignalHook``."""
        stop = getattr(self._loader, "_shutdown_workers", None)  # absent without workers
        if stop is not None:
            stop()

    def _skip(self, samples: int) -> None:
        sampler = self.dataloader.sampler
        if not hasattr(sampler, "start"):
            raise ValueError(
                f"the sampler {type(sampler).__name__} cannot start behind {samples} samples, so the run "
                "cannot be resumed; use sampler=dict(type='DrawSampler')"
            )
        sampler.start = samples

    def _windows(self, loader: Iterator[Any]) -> Iterator[Any]:
        while True:
            size = min(self.window - self._iter % self.window, self._max_iters - self._iter)
            start = time.perf_counter()
            fetched = [next(loader) for _ in range(size)]
            self.data_seconds = time.perf_counter() - start
            fetched = self._with_totals(fetched)
            while fetched:
                data = fetched.pop(0)
                batch = data.get("batch") if isinstance(data, dict) else None
                self.sample_ids = list(getattr(batch, "sample_ids", []))
                yield data
                self.data_seconds = 0.0

    def _with_totals(self, window: list[Any]) -> list[Any]:
        """Tell the batches of a window what all of them count, on all ranks."""
        training = training_model(self.runner)
        count_batch = getattr(getattr(training, "learner", None), "counts", None)
        if count_batch is None:
            return window
        counts = [count_batch(training.model, data["batch"]) for data in window]
        names = sorted(counts[0])
        if any(sorted(count) != names for count in counts):
            raise ValueError(f"counts must have the same names for every batch, got {counts}")
        sums = torch.tensor([sum(count[name] for count in counts) for name in names], dtype=torch.float64)
        all_reduce(sums)
        means = (sums / (len(window) * get_world_size())).tolist()
        totals = {name: mean or 1.0 for name, mean in zip(names, means, strict=True)}
        return [{**data, "batch": dataclasses.replace(data["batch"], totals=totals)} for data in window]


def _init_worker(init: Callable[[int], None] | None, number: int) -> None:
    """Let a loader's worker end with its parent.

    A worker whose parent was killed while the queue between them was full would wait for ever, with all that
    it holds in memory. Linux can signal it instead (``prctl``, PR_SET_PDEATHSIG = 1).
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if init is not None:
        init(number)
