"""Training with divided states: DeepSpeed's ZeRO-1/2/3 and FSDP, through mmengine's strategies.

A config chooses one with ``strategy=dict(type="DeepSpeedStrategy", ...)``; without that key, processes are
plain data parallel. What a method's config says otherwise (clipping, accumulation, precision) holds for all.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import FUNCTIONS
from torch import Tensor, distributed, nn

from refstream.errors import UserError
from refstream.registry import HOOKS

BASES = Path(__file__).resolve().parents[2] / "configs" / "_base_"
DEEPSPEED, FSDP = "DeepSpeedStrategy", "FSDPStrategy"


def named_strategy(name: str) -> dict[str, Any]:
    """The ``strategy`` of a base config, by its short name.

    Args:
        name: "zero1", "zero2", "zero3" or "fsdp"; also with ``deepspeed_`` before it, as XTuner names them.

    Raises:
        UserError: If there is no such base.
    """
    short = name.removeprefix("deepspeed_")
    files = {path.stem.removeprefix("deepspeed_"): path for path in BASES.glob("deepspeed_*.py")}
    files["fsdp"] = BASES / "fsdp.py"
    if short not in files or not files[short].is_file():
        raise UserError(f"no strategy is called {name!r}; known are {sorted(files)}")
    return Config.fromfile(str(files[short])).strategy.to_dict()


def zero_stage(config: Mapping[str, Any]) -> int | None:
    """ZeRO's stage, 0 to 3; None if the config does not use DeepSpeed."""
    strategy = config.get("strategy") or {}
    if _kind(strategy) != DEEPSPEED:
        return None
    own = (strategy.get("config") or {}).get("zero_optimization", {})
    return int((strategy.get("zero_optimization") or own).get("stage", 0))


def needs_uniform_calls(config: Mapping[str, Any]) -> bool:
    """Whether all processes must call the same layers equally often.

    So it is where parameters are divided (ZeRO-3, FSDP): every call of a layer gathers its parameters from
    all processes, and one process alone would wait for ever.
    """
    return zero_stage(config) == 3 or _kind(config.get("strategy") or {}) == FSDP


def adapt_to_strategy(config: Config, resume: bool | str = False) -> None:
    """Say what the config says of optimisation and checkpoints in the words of its strategy, in place.

    Args:
        config: With a ``strategy``.
        resume: For ``ShardedCheckpointHook``.

    Raises:
        UserError: For a strategy that is not one of mmengine's for divided states.
    """
    kind, window = _kind(config.strategy), int(config.optim_wrapper.get("accumulative_counts", 1))
    if kind == DEEPSPEED:
        _adapt_to_deepspeed(config, window)
    elif kind == FSDP:
        wrapper = config.strategy.setdefault("model_wrapper", dict(type="MMFullyShardedDataParallel"))
        if not torch.cuda.is_available():
            wrapper["device_id"] = "cpu"
        config.model.frozen_dtype = None  # a unit of FSDP has one type
    else:
        raise UserError(f"strategy type must be {DEEPSPEED} or {FSDP}, got {kind!r}")
    config.runner_type = "FlexibleRunner"
    if config.train_cfg.get("type") == "StepTrainLoop":
        config.train_cfg.setdefault("window", window)
    hooks = config.setdefault("default_hooks", {})
    own = hooks.get("checkpoint") or {}
    kept = {key: own[key] for key in ("interval", "max_keep", "save_last") if key in own}
    hooks["checkpoint"] = dict(type="ShardedCheckpointHook", resume=resume, **kept)
    config.custom_hooks = [dict(type=StrategyHook.__name__), *config.get("custom_hooks", [])]


def _adapt_to_deepspeed(config: Config, window: int) -> None:
    """DeepSpeed clips and accumulates itself; precision is the model's affair, unless bf16 is asked for."""
    strategy, wrapper = config.strategy, config.optim_wrapper
    clip = (wrapper.get("clip_grad") or {}).get("max_norm")
    if clip is not None:
        strategy.setdefault("gradient_clipping", float(clip))
    strategy.setdefault("gradient_accumulation_steps", window)
    if (strategy.get("bf16") or {}).get("enabled") == "auto":
        strategy["bf16"] = dict(enabled=torch.cuda.is_available())
    own = dict(zero_allow_untested_optimizer=True, zero_force_ds_cpu_optimizer=False)  # any of torch's
    strategy["config"] = {**own, **(strategy.get("config") or {})}
    kept = {key: wrapper[key] for key in ("optimizer", "constructor", "paramwise_cfg") if key in wrapper}
    config.optim_wrapper = dict(type="DeepSpeedOptimWrapper", **kept)


def _kind(strategy: Mapping[str, Any]) -> str:
    kind = strategy.get("type", "")
    return str(kind if isinstance(kind, str) else getattr(kind, "__name__", kind)).rpartition(".")[2]


def start_processes(launcher: str, strategy: Mapping[str, Any] | None = None) -> None:
    """Join the processes into a group where mmengine cannot do it: on the CPU, and for one process alone.

    Args:
        launcher: "none", "pytorch", "slurm" or "mpi".
        strategy: Of the config; with one a single process needs a group as well.

    Raises:
        UserError: For a launcher other than "none" and "pytorch" without CUDA.
    """
    cuda = torch.cuda.is_available()
    if _kind(strategy or {}) == DEEPSPEED:
        _prepare_deepspeed()
    if distributed.is_initialized():
        return
    if launcher == "none" and strategy:
        os.environ.setdefault("LOCAL_RANK", "0")
        store = distributed.HashStore()
        distributed.init_process_group("nccl" if cuda else "gloo", store=store, rank=0, world_size=1)
    elif launcher == "pytorch" and not cuda:
        distributed.init_process_group("gloo")
    elif launcher != "none" and not cuda:
        raise UserError(f"launcher {launcher!r} needs CUDA; without, start with `bash tools/dist.sh train`")


def _prepare_deepspeed() -> None:
    """What DeepSpeed and mmengine's strategy for it need before one is built, in any number of them."""
    from deepspeed import ops
    from mmengine._strategy import deepspeed as strategy

    if not hasattr(strategy.register_deepspeed_optimizers, "cache_info"):
        # mmengine would register them for every strategy, and the second time is an error
        strategy.register_deepspeed_optimizers = cache(strategy.register_deepspeed_optimizers)
    if not torch.cuda.is_available():
        # else every start on a CPU compiles it, behind a lock that a killed run leaves shut
        ops.__compatible_ops__["deepspeed_shm_comm"] = False


def plain_name(name: str) -> str:
    """A parameter's name without what FSDP puts into it."""
    return name.replace("_fsdp_wrapped_module.", "")


def training_model(runner: Any) -> Any:
    """The runner's ``TrainingModel``, unwrapped."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def consolidated_state(runner: Any) -> dict[str, Tensor]:
    """The whole state dict of the runner's training model, under its own names, on the CPU.

    All processes must call it. With ZeRO, trained weights are the float32 ones of the optimizer. ZeRO-3
    gathers all weights on the device of every process for a moment.

    Returns:
        Complete on the first process, empty on all others.
    """
    model, first, stage = training_model(runner), get_rank() == 0, zero_stage(runner.cfg)
    if _kind(runner.cfg.get("strategy") or {}) == FSDP:
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        state: dict[str, Any] = get_model_state_dict(runner.model, options=options)
        return state if first else {}
    with _gathered(model) if stage == 3 else nullcontext():
        named = model.state_dict() if first else {}
        state = {name: value.detach().cpu().clone() for name, value in named.items()}
    return _with_master_copies(model, state) if stage else state


def _gathered(model: nn.Module) -> AbstractContextManager[Any]:
    from deepspeed import zero

    return zero.GatheredParameters(list(model.parameters()))


def _with_master_copies(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The float32 values of the trained parameters that ``state`` has, from DeepSpeed's optimizer."""
    from deepspeed.utils import safe_get_full_fp32_param

    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter.requires_grad:
            value = safe_get_full_fp32_param(parameter)  # all processes take part
            if name in state:
                state[name] = value.detach().cpu().clone()
    return state


@HOOKS.register_module()
class StrategyHook(Hook):
    """Tells the learner and the model of what the strategy asks of them, before training.

    With ZeRO-3 and FSDP the learner's ``uniform_calls`` becomes True. With ZeRO-1 and 2 every trained
    parameter gets a gradient on every process, in one order (``touch_parameters``).
    """

    priority = "VERY_HIGH"

    def before_train(self, runner: Any) -> None:
        """Set what follows from ``runner.cfg``.

        Raises:
            UserError: If the learner cannot make uniform calls and must.
        """
        training = training_model(runner)
        if needs_uniform_calls(runner.cfg):
            if not hasattr(training.learner, "uniform_calls"):
                raise UserError(
                    f"{type(training.learner).__name__} has no attribute `uniform_calls`: its processes may "
                    "call the model differently, which never ends with ZeRO-3 or FSDP; use ZeRO-2 or no "
                    "strategy"
                )
            training.learner.uniform_calls = True
            training.register_forward_hook(_give_all_a_graph, prepend=True)
        if (
            _kind(runner.cfg.strategy) == FSDP
        ):  # torch's own clipping would see the shards of one process only
            runner.optim_wrapper.clip_func = lambda parameters, **keys: runner.model.clip_grad_norm_(**keys)
        elif zero_stage(runner.cfg) in (1, 2):
            touch_parameters(training)
            optimizer = runner.model.optimizer
            # with gradients on, gloo refuses to gather into views of the parameters
            optimizer.step = torch.no_grad()(optimizer.step)


def _give_all_a_graph(module: nn.Module, args: Any, losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """Let losses that are constant on one process alone have a graph; ZeRO-3 counts those that have one."""
    graph = sum(value for name, value in losses.items() if "loss" in name and value.requires_grad) * 0.0
    flat = {name: value + graph for name, value in losses.items() if "loss" in name}
    return losses | {name: value for name, value in flat.items() if not losses[name].requires_grad}


def touch_parameters(model: nn.Module) -> None:
    """Let every trained parameter take part in every loss, with weight 0.

    ZeRO-1 and 2 flatten gradients in the order in which they come, and average position by position: all
    processes must have the same gradients in the same order, also when one has skipped a part of the model.
    The touch comes first in the forward pass, so last in the backward pass: it completes every gradient, in
    the order of the parameters.
    """
    touches: list[Tensor] = []

    def before(*_: Any) -> None:
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        touches[:] = [torch.stack([p.view(-1)[:1].sum() for p in trained]).float().sum() * 0.0]

    def after(module: nn.Module, args: Any, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        name = next(name for name in losses if "loss" in name)
        return {**losses, name: losses[name] + touches.pop()}

    model.register_forward_pre_hook(before)
    model.register_forward_hook(after)


@FUNCTIONS.register_module()
def wrap_layers(
    module: nn.Module,
    recurse: bool,
    nonwrapped_numel: int,
    endings: tuple[str, ...] = ("DecoderLayer", "VisionLayer"),
) -> bool:
    """FSDP's policy: each layer of the language model and of its vision tower is a unit of its own.

    Args:
        module: A module.
        recurse: Whether FSDP asks to look into the module, which it may always do.
        nonwrapped_numel: Of its parameters; does not matter here.
        endings: Of the layers' class names.
    """
    return recurse or type(module).__name__.endswith(endings)
