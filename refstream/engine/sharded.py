"""Checkpoints of runs whose states are divided among processes: the same folders, plus one file per process.

``model.safetensors``, ``state.json``, ``rng_rank0.safetensors`` and ``manifest.json`` are those of
``checkpoint``: what reads weights from a checkpoint reads these too. DeepSpeed adds its own ``*_states.pt``,
which only it can divide and join; FSDP's optimizer is gathered into ``optimizer.safetensors``.

DeepSpeed's files are read with ``weights_only``: tensors, plain values, the classes in ``DEEPSPEED_CLASSES``.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import broadcast_object_list, get_rank, get_world_size
from safetensors.torch import load_file
from torch import Tensor, distributed

from refstream.engine.checkpoint import (
    FORMAT,
    MODEL,
    OPTIMIZER,
    RNG,
    CheckpointFolderHook,
    _keepers,
    resume_from,
)
from refstream.engine.checkpoint_files import (
    STATE,
    CheckpointError,
    read_state,
    write_folder,
    write_tensors,
)
from refstream.engine.state import capture_rng, frozen_names, pack, unpack
from refstream.engine.strategies import consolidated_state, plain_name, training_model, zero_stage
from refstream.files import write_json
from refstream.registry import HOOKS

DEEPSPEED_CLASSES = (
    "deepspeed.runtime.fp16.loss_scaler.LossScaler",
    "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler",
    "deepspeed.runtime.zero.config.ZeroStageEnum",
    "deepspeed.utils.tensor_fragment.fragment_address",
)


@HOOKS.register_module()
class ShardedCheckpointHook(CheckpointFolderHook):
    """Write and resume checkpoints of DeepSpeed and FSDP.

    A run is resumed on the same number of processes; with FSDP also on another one.

    Args:
        interval: As for ``CheckpointFolderHook``,
        max_keep: likewise,
        save_last: likewise.
        resume: Go on from the last good checkpoint of the work directory (True), or from the folder named.
    """

    def __init__(
        self,
        interval: int = 500,
        max_keep: int | None = 2,
        save_last: bool = True,
        resume: bool | str = False,
    ) -> None:
        super().__init__(interval, max_keep, save_last)
        self.resume = resume

    def before_train(self, runner: Any) -> None:
        """Resume if asked to."""
        self._fingerprint = _fingerprint(runner)
        if not self.resume:
            return
        folder = resume_from(runner, None if self.resume is True else self.resume)
        runner.train_loop.resume_path = None  # the loop's own way knows nothing of divided states
        if folder is not None:
            resume_sharded(runner, folder, self._fingerprint)
            self._saved = runner.iter

    def _write(self, runner: Any, completed: int) -> Path:
        return save_sharded(runner, completed, self._fingerprint or "")


def save_sharded(runner: Any, completed: int, fingerprint: str) -> Path:
    """Write a checkpoint; called on all processes together.

    Args:
        runner: A FlexibleRunner with DeepSpeed or FSDP.
        completed: Iterations done, at the end of an optimizer step.
        fingerprint: Of the frozen parameters.

    Returns:
        Its folder, complete on disk.
    """
    target = Path(runner.work_dir) / f"iter_{completed:08d}"
    deepspeed = zero_stage(runner.cfg) is not None

    def write(part: Path) -> None:
        write_tensors(capture_rng(), part / RNG.format(get_rank()))
        state = consolidated_state(runner)
        optimizer = None if deepspeed else _fsdp_optimizer(runner)
        if deepspeed:
            engine = runner.model.model
            engine.config = json.loads(json.dumps(engine.config))  # it is stored: plain dictionaries only
            engine.save_checkpoint(
                str(part.parent), tag=part.name, save_latest=False, exclude_frozen_parameters=True
            )
            for path in part.glob(f"*rank_{get_rank()}_*.pt"):
                _flush(path)
        if get_rank() == 0:
            _write_run(runner, completed, part, fingerprint, state, optimizer)

    write_folder(target, write)
    return target


def _frozen(runner: Any) -> set[str]:
    return {plain_name(name) for name in frozen_names(training_model(runner))}


def _fingerprint(runner: Any) -> str:
    """SHA-256 over the frozen parameters, equal on all processes and for any number of them."""
    weights, digest = consolidated_state(runner), hashlib.sha256()
    for name in sorted(_frozen(runner) & set(weights)):
        value = weights[name].contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    found = [digest.hexdigest()]
    broadcast_object_list(found)
    return found[0]


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _write_run(
    runner: Any, completed: int, part: Path, fingerprint: str, weights: dict[str, Tensor], optimizer: Any
) -> None:
    loop, frozen = runner.train_loop, _frozen(runner)
    write_tensors({name: value for name, value in weights.items() if name not in frozen}, part / MODEL)
    tensors: dict[str, Tensor] = {}
    state = {
        "format": FORMAT,
        "written": time.time(),
        "iter": completed,
        "epoch": loop.epoch,
        "samples": loop.samples,
        "world_size": get_world_size(),
        "batch_size": loop.batch_size,
        "window": loop.window,
        "strategy": type(runner.strategy).__name__,
        "zero_stage": zero_stage(runner.cfg),
        "frozen": fingerprint,
        "optimizer": pack(optimizer, tensors, "optimizer"),
        "schedulers": pack([s.state_dict() for s in runner.param_schedulers or []], tensors, "schedulers"),
        "keepers": {
            name: pack(one.state_dict(), tensors, name)
            for name, one in _keepers(runner, training_model(runner)).items()
        },
    }
    apart = {name: value.clone() for name, value in tensors.items()}  # FSDP's may be views of one
    write_tensors(apart, part / OPTIMIZER)
    write_json(part / STATE, state)


def resume_sharded(runner: Any, folder: Path, fingerprint: str) -> None:
    """Set a prepared runner to the state in a verified checkpoint; called on all processes together.

    Raises:
        CheckpointError: If the checkpoint is of another strategy, number of processes or set of frozen
            parameters.
    """
    state, loop = read_state(folder), runner.train_loop
    stage, world = zero_stage(runner.cfg), get_world_size()
    mine = {"format": FORMAT, "strategy": type(runner.strategy).__name__, "zero_stage": stage}
    mine |= {"frozen": fingerprint} | ({"world_size": world} if stage is not None else {})
    for key, expected in mine.items():
        if state.get(key) != expected:
            raise CheckpointError(folder, f"has {key} {state.get(key)!r}, this run has {expected!r}")
    tensors = load_file(folder / OPTIMIZER)
    if stage is not None:
        _load_deepspeed(runner.model, folder)
    else:
        _load_fsdp(runner, load_file(folder / MODEL), unpack(state["optimizer"], tensors))
    for scheduler, kept in zip(
        runner.param_schedulers or [], unpack(state["schedulers"], tensors), strict=True
    ):
        scheduler.load_state_dict(kept)
    for name, keeper in _keepers(runner, training_model(runner)).items():
        if name in state["keepers"]:
            keeper.load_state_dict(unpack(state["keepers"][name], tensors))
    loop._epoch, loop._iter, loop.samples = state["epoch"], state["iter"], state["samples"]
    rng = folder / RNG.format(get_rank())
    loop.rng = load_file(rng) if rng.is_file() and state["world_size"] == world else None
    distributed.barrier()


def _load_deepspeed(engine: Any, folder: Path) -> None:
    def load(path: str, map_location: Any = None) -> Any:
        with torch.serialization.safe_globals(_deepspeed_classes()):
            return torch.load(path, map_location=map_location, weights_only=True)

    engine.checkpoint_engine.load = load  # DeepSpeed's own unpickles anything
    engine.load_checkpoint(
        str(folder.parent), tag=folder.name, load_module_strict=False, load_lr_scheduler_states=False
    )


def _deepspeed_classes() -> list[Any]:
    found = []
    for name in DEEPSPEED_CLASSES:
        module, _, attribute = name.rpartition(".")
        found.append(getattr(importlib.import_module(module), attribute))
    return found


def _fsdp_optimizer(runner: Any) -> dict[str, Any]:
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

    # on a CPU, FSDP's "offloading" copies nothing, and all states of a parameter come out as the last one
    options = StateDictOptions(full_state_dict=True, cpu_offload=torch.cuda.is_available())
    return get_optimizer_state_dict(runner.model, runner.optim_wrapper.optimizer, options=options)


def _load_fsdp(runner: Any, weights: dict[str, Any], optimizer: dict[str, Any]) -> None:
    from torch.distributed.checkpoint.state_dict import (
        StateDictOptions,
        set_model_state_dict,
        set_optimizer_state_dict,
    )

    options = StateDictOptions(full_state_dict=True, strict=False)
    set_model_state_dict(runner.model, weights, options=options)
    set_optimizer_state_dict(runner.model, runner.optim_wrapper.optimizer, optimizer, options=options)
