"""Training: a config file in, a trained and exported model out; mmengine's Runner does the work.

refstream train projects/streamingrvos/configs/tiny_stage1.py [--cfg-options train_cfg.max_iters=100 ...]

Every process builds the same dataset; which samples it gets follows from the draw number alone
(``DrawSampler``, ``Mixture``), never from the state of a worker.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import (
    DATA_SAMPLERS,
    FUNCTIONS,
    LOG_PROCESSORS,
    LOOPS,
    MODEL_WRAPPERS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    RUNNERS,
    STRATEGIES,
    VISBACKENDS,
    VISUALIZERS,
    Registry,
)
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from refstream.data.collate import ClipBatch, ClipSample, collate_clips
from refstream.data.mixture import as_stream
from refstream.data.sampler import DrawSampler
from refstream.engine import checkpoint, hooks, loops, model, pretraining, sharded, signals  # noqa: F401
from refstream.engine.config import load_config, require_files
from refstream.engine.strategies import adapt_to_strategy, named_strategy, start_processes
from refstream.engine.xtuner_shim import make_importable
from refstream.registry import DATASETS, SCOPE, import_methods

JOINED = (
    *(DATA_SAMPLERS, LOG_PROCESSORS, LOOPS, MODEL_WRAPPERS, OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS),
    *(OPTIMIZERS, PARAM_SCHEDULERS, RUNNERS, STRATEGIES, VISBACKENDS, VISUALIZERS),
)
# mmengine looks into RefStream's scope first, and warns where a registry has none
for _registry in JOINED:
    Registry(_registry.name, parent=_registry, scope=SCOPE)
make_importable()


@FUNCTIONS.register_module()
def collate_training(samples: list[ClipSample]) -> dict[str, ClipBatch]:
    """Join samples as keyword arguments of ``TrainingModel.forward``."""
    return {"batch": collate_clips(samples)}


@DATASETS.register_module()
def StreamOfDraws(dataset: Any, seed: int = 0) -> Any:
    """A dataset as a stream of draws: what it is already, or a ``Mixture`` of it alone."""
    return as_stream(dataset, seed)


def prepare(
    path: str | Path, overrides: Mapping[str, Any] | None = None, strategy: str | None = None
) -> Config:
    """Read and check a config (``load_config``); a named strategy (``named_strategy``) replaces its own."""
    config = load_config(path, overrides)
    if strategy is not None:
        config.strategy = named_strategy(strategy)
    return config


def runner_config(
    config: Config, work_dir: str | Path, *, resume: bool | str = False, launcher: str = "none"
) -> Config:
    """All that a Runner needs, in one config that ``Runner.from_cfg`` and ``RUNNERS.build`` take.

    Args:
        config: A training config; left as it is.
        work_dir: Logs, checkpoints and the export.
        resume: Go on from the last checkpoint in ``work_dir``, or from the folder named. Only what divides
            its state among processes is resumed by the config; see ``build_runner`` for the rest.
        launcher: "none", "pytorch", "slurm" or "mpi".
    """
    config = copy.deepcopy(config)
    config.work_dir = str(work_dir)
    config.experiment_name = Path(work_dir).resolve().name
    config.default_scope, config.launcher, config.runner_type = SCOPE, launcher, "Runner"
    config.setdefault("env_cfg", dict(dist_cfg=dict(backend="nccl")))
    loader = config.train_dataloader
    loader.setdefault("collate_fn", dict(type=collate_training.__name__))
    if loader.sampler.type == DrawSampler.__name__:
        seed = config.get("randomness", {}).get("seed") or 0
        loader.dataset = dict(type=StreamOfDraws.__name__, dataset=loader.dataset, seed=seed)
    if config.get("strategy"):
        adapt_to_strategy(config, resume)
    elif launcher != "none":
        known = signature(DistributedDataParallel).parameters  # the newer name; buffers never change here
        sync = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        wrapper = {"type": "MMDistributedDataParallel", "find_unused_parameters": True, sync: False}
        if not torch.cuda.is_available():
            wrapper["device_ids"] = None
        config.setdefault("model_wrapper_cfg", wrapper)
    return config


def build_runner(
    config: Config, work_dir: str | Path, *, resume: bool | str = False, launcher: str = "none"
) -> Any:
    """The Runner of a config, or FlexibleRunner where it names a strategy; arguments as ``runner_config``.

    Processes that a launcher started are joined to a group, over gloo where there is no CUDA.
    """
    import_methods()
    full = runner_config(config, work_dir, resume=resume, launcher=launcher)
    start_processes(launcher, full.get("strategy"))
    runner = RUNNERS.build(full)
    if resume and "strategy" not in full:
        checkpoint.resume_from(runner, None if resume is True else resume)
    return runner


def work_folder(config: Config, path: str | Path, work_dir: str | Path | None = None) -> Path:
    """Where a run writes: what is asked for, else what the config says, else ``work_dirs/<its name>``."""
    return Path(work_dir or config.get("work_dir") or Path("work_dirs") / Path(path).stem)


def train(
    path: str | Path,
    overrides: Mapping[str, Any] | None = None,
    *,
    work_dir: str | Path | None = None,
    resume: bool | str = False,
    launcher: str = "none",
    strategy: str | None = None,
) -> Path:
    """Train what a config describes.

    Args:
        path: Config file.
        overrides: Dotted keys that replace values of the config.
        work_dir: Logs, checkpoints and the export; default ``work_dirs/<name of the config>``.
        resume: Go on from the last checkpoint in ``work_dir``, or from the folder named. Processes that
            torchrun has started anew after a failure always do.
        launcher: "none", "pytorch", "slurm" or "mpi".
        strategy: "zero1", "zero2", "zero3" or "fsdp" in place of the config's.

    Returns:
        The work directory.
    """
    config = prepare(path, overrides, strategy)
    require_files(config)
    folder = work_folder(config, path, work_dir)
    restarted = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
    build_runner(config, folder, resume=resume or restarted, launcher=launcher).train()
    if distributed.is_initialized():
        distributed.barrier()  # the first process may still write the export
        distributed.destroy_process_group()
    return folder
