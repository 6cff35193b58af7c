"""What the hooks share: the model behind the wrappers, a step aside from training, lines of the log."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from refstream.engine.strategies import needs_uniform_calls, training_model
from refstream.errors import UserError

LOG_NAME = "log.jsonl"

__all__ = ["aside", "require_whole", "training_model", "write_line"]


def write_line(runner: Any, content: dict[str, Any]) -> None:
    """Append one JSON line to ``log.jsonl`` in the work directory."""
    with (Path(runner.work_dir) / LOG_NAME).open("a", encoding="utf-8") as file:
        file.write(json.dumps(content) + "\n")


def require_whole(runner: Any, hook: Any) -> None:
    """Refuse a run whose parameters are divided, for a hook that runs the live model on one process alone.

    Raises:
        UserError: With ZeRO-3 or FSDP, where that process would wait for the others for ever.
    """
    if needs_uniform_calls(runner.cfg):
        raise UserError(
            f"{type(hook).__name__} runs the model on the first process alone, which never ends where ZeRO-3 "
            "or FSDP divides the parameters; take it out of custom_hooks (BenchmarkHook works), or use ZeRO-2"
        )


@contextmanager
def aside(training: Any) -> Iterator[None]:
    """Eval mode, no gradients, the precision of training; then training goes on as if nothing had been.

    Put back are the mode of every module and the states of the random generators of Python, NumPy, the CPU
    and, once CUDA is in use, of all its devices.

    Args:
        training: A ``TrainingModel``.
    """
    modes = [(module, module.training) for module in training.modules()]
    python, numpy, torch_cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    training.eval()
    device, dtype = training.model.mllm.device.type, training.autocast
    try:
        with torch.no_grad(), torch.autocast(device, dtype=dtype, enabled=dtype is not None):
            yield
    finally:
        for module, training in modes:
            module.training = training
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(torch_cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
