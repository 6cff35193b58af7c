"""Exports while training and at its end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook

from refstream.engine.convert import rebuild
from refstream.engine.export import export_model
from refstream.engine.hooks.common import aside, training_model
from refstream.engine.strategies import consolidated_state
from refstream.registry import HOOKS


@HOOKS.register_module()
class ExportHook(Hook):
    """Write the trained model as a RefStream folder, adapters merged.

    A killed export leaves the one before intact. The first process writes; where a strategy (DeepSpeed, FSDP)
    holds the weights, it makes a whole copy of the model in main memory first.

    Args:
        folder: Where to; None means ``export`` in the work directory. Each export replaces the one before.
        interval: Iterations between two exports; 0 exports at the end only.
        dtype: Storage type of floating weights, "float32", "float16" or "bfloat16".
    """

    priority = "VERY_LOW"

    def __init__(self, folder: str | None = None, interval: int = 0, dtype: str = "float32") -> None:
        self.folder, self.interval, self.dtype = folder, interval, getattr(torch, dtype)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Export if it is time."""
        if self.interval and self.every_n_train_iters(runner, self.interval):
            export_live(runner, self._place(runner), self.dtype)

    def after_train(self, runner: Any) -> None:
        """Export the final weights."""
        export_live(runner, self._place(runner), self.dtype)

    def _place(self, runner: Any) -> Path:
        return Path(self.folder) if self.folder else Path(runner.work_dir) / "export"


def export_live(
    runner: Any, folder: Path, dtype: torch.dtype | None = None, files: Mapping[str, str] | None = None
) -> None:
    """Export the model that a runner trains; every process must call it.

    Args:
        runner: mmengine's.
        folder: Replaced in one step, by the first process.
        dtype: Storage type of floating weights; None keeps them.
        files: Texts to lay beside the weights.
    """
    training = training_model(runner)
    if runner.cfg.get("strategy"):
        state = consolidated_state(runner)
        if runner.rank == 0:
            with aside(training):  # building draws random numbers
                training = rebuild(runner.cfg, state, device="cpu")
    if runner.rank == 0:
        export_model(training.model, folder, dtype=dtype, files=files)
        runner.logger.info(f"exported iteration {runner.iter} to {folder}")
