"""Checkpoints that are whole or not there, and from which a run goes on to the last bit.

A checkpoint is a folder ``iter_00000500`` in the work directory:

=========================  ===========================================================================
``model.safetensors``      what training changes: trained parameters and buffers (frozen: a fingerprint)
``optimizer.safetensors``  tensors of the optimizer, and of hooks and learners that keep state
``rng_rank0.safetensors``  generators of Python, NumPy, torch CPU and CUDA; one file per rank
``state.json``             iteration, samples consumed, schedulers, and how the tensors fit together
``manifest.json``          size and SHA-256 of each of these
=========================  ===========================================================================

Nothing is ever unpickled. ``checkpoint_files`` sees to it that a folder is whole or not there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import broadcast_object_list, get_rank, get_world_size
from mmengine.hooks import Hook
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from refstream.engine.checkpoint_files import (
    FOLDER,
    MANIFEST,
    STATE,
    CheckpointError,
    checkpoint_folders,
    drop_old,
    find_last_good,
    read_state,
    verify,
    write_folder,
    write_tensors,
)
from refstream.engine.state import capture_rng, frozen_fingerprint, pack, trained_state, unpack
from refstream.engine.strategies import training_model
from refstream.files import write_json
from refstream.registry import HOOKS

logger = logging.getLogger(__name__)

FORMAT = 1
MODEL, OPTIMIZER, RNG = "model.safetensors", "optimizer.safetensors", "rng_rank{}.safetensors"
UNSHARDED = ("SingleDeviceStrategy", "DDPStrategy")


# ---------------------------------------------------------------- writing


def save_checkpoint(
    runner: Any, completed: int, *, fingerprint: str | None = None, with_frozen: bool = False
) -> Path:
    """Write a checkpoint; called on all ranks together.

    Args:
        runner: With model, optim wrapper, schedulers and ``StepTrainLoop``.
        completed: Iterations done; a multiple of the loop's window, so that no gradients are pending.
        fingerprint: Of the frozen parameters, if known already.
        with_frozen: Store the frozen parameters too.

    Returns:
        Its folder, complete on disk.

    Raises:
        OutputError: On every rank, if any rank could not write; checkpoints that were there are intact.
    """
    target = Path(runner.work_dir) / f"iter_{completed:08d}"

    def write(part: Path) -> None:
        write_tensors(capture_rng(), part / RNG.format(get_rank()))
        if get_rank() == 0:
            _write_run(runner, completed, part, fingerprint, with_frozen)

    write_folder(target, write)
    return target


def _write_run(runner: Any, completed: int, part: Path, fingerprint: str | None, with_frozen: bool) -> None:
    model, loop = training_model(runner), runner.train_loop
    write_tensors(trained_state(model, with_frozen=with_frozen), part / MODEL)
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
        "frozen": None if with_frozen else fingerprint or frozen_fingerprint(model),
        "optimized": _optimized(model, runner.optim_wrapper),
        "optimizer": pack(runner.optim_wrapper.state_dict(), tensors, "optimizer"),
        "schedulers": pack([s.state_dict() for s in _schedulers(runner)], tensors, "schedulers"),
        "keepers": {
            name: pack(one.state_dict(), tensors, name) for name, one in _keepers(runner, model).items()
        },
    }
    write_tensors(tensors, part / OPTIMIZER)
    write_json(part / STATE, state)


def _optimized(model: nn.Module, optim_wrapper: Any) -> list[list[str]]:
    """Names of the parameters in each of the optimizer's groups."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [[names[id(p)] for p in group["params"]] for group in optim_wrapper.param_groups]


def _schedulers(runner: Any) -> list[Any]:
    kept = runner.param_schedulers or []
    return [one for group in kept.values() for one in group] if isinstance(kept, Mapping) else list(kept)


def _keepers(runner: Any, model: nn.Module) -> dict[str, Any]:
    """Hooks, and a learner without layers, that have ``state_dict`` and ``load_state_dict``."""
    parts = [("hooks", hook) for hook in runner.hooks]
    learner = getattr(model, "learner", None)
    parts += [] if isinstance(learner, nn.Module) else [("learner", learner)]
    return {f"{kind}.{type(one).__name__}": one for kind, one in parts if hasattr(one, "load_state_dict")}


# ---------------------------------------------------------------- resuming


def resume_from(runner: Any, where: str | Path | None = None) -> Path | None:
    """Let ``runner.train()`` go on from a checkpoint; called on all ranks, before ``train``.

    Args:
        runner: With ``StepTrainLoop``.
        where: A checkpoint folder, or a work directory whose last good one is taken; None: the runner's.

    Returns:
        The checkpoint, or None if there is none yet, and training begins at the beginning.

    Raises:
        CheckpointError: If the folder is damaged or missing, or all checkpoints are damaged.
    """
    found: list[Any] = [None, None]
    if get_rank() == 0:
        try:
            found[0] = _choose(Path(where or runner.work_dir), named=where is not None)
        except CheckpointError as error:
            found[1] = (error.path, error.message)
    broadcast_object_list(found)
    path, problem = found
    if problem is not None:
        raise CheckpointError(*problem)
    runner.logger.info(f"resuming from {path}" if path else "nothing to resume from, beginning anew")
    runner.train_loop.resume_path = path
    return path


def _choose(where: Path, *, named: bool) -> Path | None:
    if (where / MANIFEST).is_file() or (named and FOLDER.fullmatch(where.name)):
        verify(where)
        return where
    if named and not where.is_dir():
        raise CheckpointError(where, "there is no such folder to resume from")
    good = find_last_good(where)
    if good is None and checkpoint_folders(where):
        raise CheckpointError(where, "all checkpoints are damaged; move them away to begin anew")
    return good


def resume(runner: Any, folder: str | Path) -> None:
    """Set a built runner to the state in a verified checkpoint; the loop sets the generators when it begins.

    With another number of ranks, or another batch size, the samples go on where they stopped, but later
    results are not those of the undisturbed run; a warning says so.

    Raises:
        CheckpointError: If model, frozen parameters, optimizer or schedulers are not those of the checkpoint;
            nothing has been changed then.
    """
    folder = Path(folder)
    state, model, loop = read_state(folder), training_model(runner), runner.train_loop
    if state["format"] != FORMAT:
        raise CheckpointError(folder, f"has format {state['format']}, expected {FORMAT}")
    tensors = load_file(folder / OPTIMIZER)
    _check_model(model, folder, state["frozen"])
    _check_optimizer(runner, folder, state)
    with safe_open(folder / MODEL, "pt") as stored, torch.no_grad():
        for name, value in trained_state(model, with_frozen=state["frozen"] is None).items():
            value.copy_(stored.get_tensor(name))
    runner.optim_wrapper.load_state_dict(unpack(state["optimizer"], tensors))
    for scheduler, kept in zip(_schedulers(runner), unpack(state["schedulers"], tensors), strict=True):
        scheduler.load_state_dict(kept)
    for name, keeper in _keepers(runner, model).items():
        if name in state["keepers"]:
            keeper.load_state_dict(unpack(state["keepers"][name], tensors))
        else:
            logger.warning("%s has no state for %s, which begins anew", folder, name)
    loop._epoch, loop._iter, loop.samples = state["epoch"], state["iter"], state["samples"]
    now = {"world_size": get_world_size(), "batch_size": loop.batch_size, "window": loop.window}
    if other := {key: (state[key], value) for key, value in now.items() if state[key] != value}:
        logger.warning("%s: results will differ from an undisturbed run; (then, now): %s", folder, other)
    rng = folder / RNG.format(get_rank())
    loop.rng = load_file(rng) if rng.is_file() else None


def _check_model(model: nn.Module, folder: Path, fingerprint: str | None) -> None:
    """Every stored weight must have its place, of its shape and type, and the frozen ones be the same."""
    own = trained_state(model, with_frozen=fingerprint is None)
    expected = {name: (str(value.dtype), tuple(value.shape)) for name, value in own.items()}
    with safe_open(folder / MODEL, "pt") as stored:
        found = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        kept = {name: (str(value.dtype), tuple(value.shape)) for name, value in found.items()}
    problems = {
        "missing": sorted(set(expected) - set(kept)),
        "unexpected": sorted(set(kept) - set(expected)),
        "of wrong shape or type": [
            f"{name} {kept[name]} instead of {expected[name]}"
            for name in sorted(set(kept) & set(expected))
            if kept[name] != expected[name]
        ],
    }
    if any(problems.values()):
        report = "; ".join(f"{len(n)} {what}: {', '.join(n[:5])}" for what, n in problems.items() if n)
        raise CheckpointError(folder, f"does not fit the model: {report}")
    if fingerprint not in (None, frozen_fingerprint(model)):
        raise CheckpointError(
            folder,
            "its frozen parameters were others than this config's sources give now; bring back the sources "
            "that it was trained on (or train with save_frozen=True)",
        )


def _check_optimizer(runner: Any, folder: Path, state: Mapping[str, Any]) -> None:
    """The optimizer must have the same parameters in the same groups; the schedulers must be of one kind."""
    optimized = _optimized(training_model(runner), runner.optim_wrapper)
    if state["optimized"] != optimized:
        kept, now = [len(group) for group in state["optimized"]], [len(group) for group in optimized]
        raise CheckpointError(
            folder, f"its optimizer has groups of {kept} parameters, the config's {now}, or other parameters"
        )
    scheduled = [sorted(scheduler.state_dict()) for scheduler in _schedulers(runner)]
    if scheduled != [sorted(name for name, _ in kept["dict"]) for kept in state["schedulers"]]:
        raise CheckpointError(
            folder, f"its {len(state['schedulers'])} schedulers are not the config's {len(scheduled)}"
        )


# ---------------------------------------------------------------- the hook


def at_boundary(runner: Any) -> bool:
    """Whether the running iteration, in ``after_train_iter``, ended an optimizer step."""
    completed = runner.iter + 1
    return completed % runner.train_loop.window == 0 or completed == runner.max_iters


@HOOKS.register_module()
class CheckpointFolderHook(Hook):
    """Write checkpoints, at the ends of optimizer steps only; takes the place of mmengine's CheckpointHook.

    Args:
        interval: Iterations between two; rounded up to the end of an optimizer step. 0: only the last.
        max_keep: How many to keep; older ones go when a new one is complete. None keeps all.
        save_last: Also write one when training ends.
        save_frozen: Store frozen parameters too, for sources that may change or go away.
    """

    priority = "LOWEST"

    def __init__(
        self,
        interval: int = 500,
        max_keep: int | None = 2,
        save_last: bool = True,
        save_frozen: bool = False,
    ) -> None:
        if interval < 0 or (max_keep is not None and max_keep < 1):
            raise ValueError(f"expected interval >= 0 and max_keep >= 1 or None, got {interval}, {max_keep}")
        self.interval, self.max_keep = interval, max_keep
        self.save_last, self.save_frozen = save_last, save_frozen
        self._fingerprint: str | None = None
        self._saved = -1

    def before_train(self, runner: Any) -> None:
        """Refuse strategies that spread weights over ranks, which have checkpoints of their own."""
        strategy = type(getattr(runner, "strategy", None)).__name__
        if hasattr(runner, "strategy") and strategy not in UNSHARDED:
            raise ValueError(f"{strategy} spreads the weights over ranks; use ShardedCheckpointHook")
        if not self.save_frozen:
            self._fingerprint = frozen_fingerprint(training_model(runner))

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Save if it is time."""
        completed, window = runner.iter + 1, runner.train_loop.window
        last = completed == runner.max_iters
        since = completed - (completed % window or window)
        passed = self.interval and completed // self.interval > since // self.interval
        if at_boundary(runner) and (passed or (last and self.save_last)):
            self.save_now(runner)

    def save_now(self, runner: Any) -> None:
        """Save, unless this iteration is saved already; called at a boundary, on all ranks."""
        completed = runner.iter + 1
        if self._saved == completed:
            return
        folder = self._write(runner, completed)
        self._saved = completed
        runner.logger.info(f"saved {folder}")
        if self.max_keep is not None and get_rank() == 0:
            drop_old(folder, self.max_keep)

    def _write(self, runner: Any, completed: int) -> Path:
        return save_checkpoint(runner, completed, fingerprint=self._fingerprint, with_frozen=self.save_frozen)
