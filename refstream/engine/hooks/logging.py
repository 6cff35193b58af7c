"""Numbers of the training in three places: a table in the terminal, JSON lines, TensorBoard.

All three write the same record, the means over their interval:

====================  ================================================================================
``iter``              iterations (micro-batches) done
``seconds``           since this process began to train
``lr``                of the first parameter group, in the last iteration
``grad_norm``         before clipping, mean over the interval; left out where gradients are not clipped
``samples_per_s``     of all processes
``data_seconds``      waited for data in the interval; null where the training loop does not measure it
``data_share``        of the time that is, in [0, 1]; null likewise
``cpu_mb``            resident memory of this process, without its workers
``cuda_mb``           peak of allocated CUDA memory since the last record; null without CUDA
``sample_hash``       over the ids of the interval's samples on this process, in order: equal for equal data
``loss``, ...         what the learner returned on the first process, by name
``NAME``              a rate that the learner returned as two numbers, ``NAME_hits`` and ``NAME_cases``: all
                      hits of the interval over all cases, null where there was no case
====================  ================================================================================
"""

from __future__ import annotations

import hashlib
import logging
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import torch
from mmengine.hooks import Hook
from rich.console import Console
from rich.text import Text

from refstream.engine.hooks.common import write_line
from refstream.registry import HOOKS

MEGABYTE = 2**20
ROWS_PER_HEADING = 20


class IntervalHook(Hook):
    """Adds up what iterations say and hands the record to ``write`` on the first process.

    Args:
        interval: Iterations per record.
    """

    priority = "LOW"

    def __init__(self, interval: int = 50) -> None:
        if interval < 1:
            raise ValueError(f"interval must be at least 1, got {interval}")
        self.interval = interval
        self._start = time.perf_counter()
        self._begin()

    def _begin(self) -> None:
        self._sums: dict[str, Any] = {}
        self._count, self._hash = 0, ""
        self._start_clocks()

    def _start_clocks(self) -> None:
        self._samples = 0
        self._waited: float | None = 0.0
        self._since = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """What was added up since the last record: a resumed run writes the same losses and hashes."""
        sums = {name: float(total) for name, total in self._sums.items()}
        return {"sums": sums, "count": self._count, "hash": self._hash}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what ``state_dict`` said."""
        self._sums, self._count, self._hash = dict(state["sums"]), state["count"], state["hash"]

    def before_train(self, runner: Any) -> None:
        """Start the clocks."""
        self._start = time.perf_counter()
        self._start_clocks()

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Add up; write when the interval is full."""
        for name, value in (outputs or {}).items():
            value = value.detach() if isinstance(value, torch.Tensor) else value
            self._sums[name] = self._sums.get(name, 0.0) + value  # on its device: reading it would wait
        batch = data_batch.get("batch") if isinstance(data_batch, dict) else None
        ids = list(getattr(batch, "sample_ids", []))
        self._hash = hashlib.sha256("\n".join([self._hash, *ids]).encode()).hexdigest()
        waited = getattr(runner.train_loop, "data_seconds", None)
        self._waited = None if waited is None or self._waited is None else self._waited + waited
        self._count, self._samples = self._count + 1, self._samples + len(ids)
        if self.every_n_train_iters(runner, self.interval) or runner.iter + 1 == runner.max_iters:
            if runner.rank == 0:
                self.write(runner, self._record(runner))
            self._begin()

    def _record(self, runner: Any) -> dict[str, Any]:
        means: dict[str, float | None] = {
            name: round(float(total) / self._count, 5) for name, total in self._sums.items()
        }
        for name in [name.removesuffix("_hits") for name in means if name.endswith("_hits")]:
            cases = float(self._sums.get(f"{name}_cases", 0.0))
            means[name] = round(float(self._sums[f"{name}_hits"]) / cases, 5) if cases else None
        now = time.perf_counter()
        passed = now - self._since
        cuda = torch.cuda.is_available()
        record = {
            "iter": runner.iter + 1,
            "seconds": round(now - self._start, 1),
            "lr": runner.optim_wrapper.get_lr()["lr"][0],
            "samples_per_s": round(self._samples * runner.world_size / passed, 3),
            "data_seconds": None if self._waited is None else round(self._waited, 3),
            "data_share": None if self._waited is None else round(min(1.0, self._waited / passed), 3),
            "cpu_mb": round(psutil.Process().memory_info().rss / MEGABYTE),
            "cuda_mb": round(torch.cuda.max_memory_allocated() / MEGABYTE) if cuda else None,
            "sample_hash": self._hash[:16],
            **means,
        }
        norm = runner.message_hub.log_scalars.get("train/grad_norm")
        if norm is not None and "grad_norm" not in record:
            record["grad_norm"] = round(float(norm.mean(self._count)), 5)
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        return record

    def write(self, runner: Any, record: dict[str, Any]) -> None:
        """Put the record in its place; called on the first process."""
        raise NotImplementedError


@HOOKS.register_module()
class JsonLinesHook(IntervalHook):
    """Append the record to ``log.jsonl`` in the work directory.

    Args:
        interval: Iterations per line.
    """

    def write(self, runner: Any, record: dict[str, Any]) -> None:
        """One line."""
        write_line(runner, record)


@HOOKS.register_module()
class TensorBoardHook(IntervalHook):
    """Write the record's numbers for TensorBoard, into ``tensorboard`` in the work directory.

    Args:
        interval: Iterations per record.
    """

    def __init__(self, interval: int = 50) -> None:
        super().__init__(interval)
        self._writer: Any = None

    def before_train(self, runner: Any) -> None:
        """Open the file of events.

        Raises:
            ImportError: If TensorBoard is not installed.
        """
        super().before_train(runner)
        if runner.rank == 0:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(Path(runner.work_dir) / "tensorboard"))

    def write(self, runner: Any, record: dict[str, Any]) -> None:
        """One scalar per number."""
        for name, value in record.items():
            if name != "iter" and isinstance(value, int | float):
                self._writer.add_scalar(f"train/{name}", value, record["iter"])

    def after_train(self, runner: Any) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()


@HOOKS.register_module()
class TerminalHook(IntervalHook):
    """A table in the terminal, one row per interval; mmengine's own messages go to its file only.

    It is drawn on standard error; warnings and errors are shown as they come. Columns: every loss, ``iou``,
    ``gate`` (``looks_per_frame``: how often the MLLM looked), ``norm`` of the gradients, learning rate,
    samples per second, share of the time waited for data, memory of process and CUDA peak, time left.

    Args:
        interval: Iterations per row.
    """

    def __init__(self, interval: int = 50) -> None:
        super().__init__(interval)
        self.console = Console(stderr=True)
        self._heading: list[str] = []
        self._rows = self._first = 0

    def before_run(self, runner: Any) -> None:
        """Silence mmengine's logger in the terminal."""
        quiet_terminal(runner.logger)

    def write(self, runner: Any, record: dict[str, Any]) -> None:
        """One row, now and then under a new heading."""
        left = (runner.max_iters - record["iter"]) * record["seconds"] / max(1, record["iter"] - self._first)
        cells = table_cells(record, runner.max_iters, left)
        heading = list(cells)
        if heading != self._heading or self._rows % ROWS_PER_HEADING == 0:
            self._line([name.rjust(len(cells[name])) for name in heading], "bold")
            self._heading, self._rows = heading, 0
        self._line([value.rjust(len(name)) for name, value in cells.items()])
        self._rows += 1

    def before_train(self, runner: Any) -> None:
        """Start the clock."""
        super().before_train(runner)
        self._first = runner.iter

    def _line(self, cells: list[str], style: str = "") -> None:
        self.console.print(Text("  ".join(cells), style=style), soft_wrap=True)


def table_cells(record: dict[str, Any], max_iters: int, seconds_left: float) -> dict[str, str]:
    """The row of a record: heading -> text, every text at least as wide as it will ever be.

    Args:
        record: See the module.
        max_iters: Of the run.
        seconds_left: Expected until its end.
    """
    share, cuda = record["data_share"], record["cuda_mb"]
    width = len(str(max_iters))
    cells = {"iter": f"{record['iter']:>{width}}/{max_iters}"}
    for name in ("loss", *sorted(name for name in record if name.startswith("loss_"))):
        if name in record:
            cells[name.removeprefix("loss_")] = f"{record[name]:7.4f}"
    for name, heading in (("iou", "iou"), ("looks_per_frame", "gate"), ("grad_norm", "norm")):
        if name in record:
            cells[heading] = f"{record[name]:6.3f}"
    memory = f"{record['cpu_mb'] / 1024:5.1f}"
    return cells | {
        "lr": f"{record['lr']:.2e}",
        "samples/s": f"{record['samples_per_s']:7.1f}",
        "wait": "    -" if share is None else f"{100 * share:4.0f}%",
        "GB": memory if cuda is None else f"{memory} + {cuda / 1024:5.1f}",
        "left": f"{timedelta(seconds=round(seconds_left))!s:>8}",
    }


def quiet_terminal(logger: logging.Logger, level: int = logging.WARNING) -> None:
    """Show only what is at least ``level`` in the terminal; files keep everything.

    Args:
        logger: Of mmengine's Runner.
        level: Of Python's ``logging``.
    """
    for handler in logger.handlers:
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
            handler.setLevel(max(handler.level, level))
