"""ZeRO and FSDP: what they ask of a config, and that they train, resume and export as plain processes do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.config import Config
from safetensors.torch import load_file
from torch import nn

import refstream
from refstream.engine.strategies import (
    StrategyHook,
    adapt_to_strategy,
    named_strategy,
    needs_uniform_calls,
    touch_parameters,
    zero_stage,
)
from refstream.errors import UserError

from .processes import Job, launch, small_config, train_all
from .test_distributed import difference, losses, weights

NO_DIVISION = dict(type="DeepSpeedStrategy", zero_optimization=dict(stage=0))


def strategy_of(name: str) -> dict[str, Any] | None:
    """A strategy as its base has it, and ZeRO-3 with all of the small parameters divided."""
    if name == "none":
        return None
    strategy = NO_DIVISION if name == "zero0" else named_strategy(name)
    if name == "zero3":
        strategy["zero_optimization"]["stage3_param_persistence_threshold"] = 0
    return strategy


def config_with(name: str, **changes: Any) -> Config:
    config = small_config(**changes)
    if (strategy := strategy_of(name)) is not None:
        config.strategy = strategy
    return config


# ---------------------------------------------------------------- what a strategy asks of a config


@pytest.mark.parametrize(
    ("name", "stage", "uniform"),
    [("zero1", 1, False), ("deepspeed_zero2", 2, False), ("zero3", 3, True), ("fsdp", None, True)],
)
def test_a_base_is_found_by_name(name: str, stage: int | None, uniform: bool) -> None:
    config = dict(strategy=named_strategy(name))
    assert zero_stage(config) == stage
    assert needs_uniform_calls(config) is uniform


def test_plain_processes_may_branch() -> None:
    assert zero_stage({}) is None
    assert not needs_uniform_calls({})


def test_an_unknown_strategy_is_refused() -> None:
    with pytest.raises(UserError, match=r"zero9.*zero3"):
        named_strategy("zero9")
    with pytest.raises(UserError, match="ColossalAIStrategy"):
        adapt_to_strategy(small_config(**{"strategy": dict(type="ColossalAIStrategy")}))


def test_clipping_and_accumulation_move_into_deepspeed() -> None:
    config = config_with(
        "zero2", **{"optim_wrapper.accumulative_counts": 3, "optim_wrapper.clip_grad": dict(max_norm=0.5)}
    )
    adapt_to_strategy(config, resume=True)
    assert config.strategy.gradient_clipping == 0.5
    assert config.strategy.gradient_accumulation_steps == 3
    assert config.train_cfg.window == 3
    assert set(config.optim_wrapper) == {"type", "optimizer"}
    assert config.runner_type == "FlexibleRunner"
    assert config.default_hooks.checkpoint.to_dict() == dict(
        type="ShardedCheckpointHook", resume=True, interval=2
    )


class Branches(nn.Module):
    """One of two layers is used, then a third."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.last = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 1)
        self.right.bias.requires_grad_(False)

    def forward(self, left: bool) -> dict[str, torch.Tensor]:
        hidden = (self.left if left else self.right)(torch.ones(2))
        return {"iou": torch.ones(()), "loss": self.last(hidden).sum()}


def test_touched_parameters_all_have_gradients_in_one_order() -> None:
    touched, plain = Branches(), Branches()
    plain.load_state_dict(touched.state_dict())
    touch_parameters(touched)
    orders = []
    for left in (True, False):
        came: list[str] = []
        handles = [
            p.register_post_accumulate_grad_hook(lambda _, n=n, came=came: came.append(n))
            for n, p in touched.named_parameters()
            if p.requires_grad
        ]
        touched.zero_grad()
        plain.zero_grad()
        touched(left)["loss"].backward()
        plain(left)["loss"].backward()
        for handle in handles:
            handle.remove()
        orders.append(came)
        for (name, one), other in zip(touched.named_parameters(), plain.parameters(), strict=True):
            expected = torch.zeros_like(one) if other.grad is None and one.requires_grad else other.grad
            assert (one.grad is None) == (expected is None), name
            assert one.grad is None or torch.equal(one.grad, expected), name
    assert orders[0] == orders[1]
    assert len(orders[0]) == 5


@pytest.mark.parametrize("name", ["zero3", "fsdp"])
def test_a_learner_must_know_of_uniform_calls(name: str) -> None:
    cfg = Config(dict(strategy=strategy_of(name)))
    learner = SimpleNamespace(uniform_calls=False)
    model = SimpleNamespace(learner=learner, register_forward_hook=lambda *_, **__: None)
    runner = SimpleNamespace(cfg=cfg, model=model, optim_wrapper=SimpleNamespace())
    StrategyHook().before_train(runner)
    assert learner.uniform_calls is True
    model.learner = SimpleNamespace()
    with pytest.raises(UserError, match="uniform_calls"):
        StrategyHook().before_train(runner)


# ---------------------------------------------------------------- real runs


NAMES = ("zero0", "zero1", "zero2", "zero3", "fsdp")
OPPOSITE: dict[str, Any] = {"model.learner.gate": dict(_delete_=True, type="OppositeGate")}
TALKING = {**OPPOSITE, "train_dataloader.dataset.dialogues": True}  # refused where calls must be uniform
ALL = {"default_hooks.checkpoint.max_keep": None}
LAST = "iter_00000004"


def jobs(folder: Path, names: Sequence[str]) -> list[Job]:
    """Per strategy: four iterations, the last two of these again by resuming, and opposite branches."""
    found = []
    for name in names:
        found.append(Job(config_with(name, **ALL), folder / name))
        found.append(Job(config_with(name, **ALL), folder / f"{name}_copy"))
        found.append(Job(config_with(name, **ALL), folder / f"{name}_copy", forget=LAST))
        if name != "zero0":
            found.append(Job(config_with(name, **OPPOSITE), folder / f"{name}_opposite"))
        if name in ("none", "zero1", "zero2"):
            found.append(Job(config_with(name, **TALKING), folder / f"{name}_talking"))
    return found


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All runs on two processes."""
    folder = tmp_path_factory.mktemp("two")
    train_all(jobs(folder, ("none", *NAMES)), 2)
    return folder


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All runs on one process."""
    folder = tmp_path_factory.mktemp("one")
    train_all(jobs(folder, ("none", *NAMES)), 1)
    return folder


def assert_close(folder: Path, plain: Path) -> None:
    for rank in range(len(list(plain.glob("losses*")))):
        assert torch.allclose(losses(folder, rank), losses(plain, rank), rtol=0, atol=2e-5)
    assert difference(weights(folder, 4), weights(plain, 4)) < 2e-4


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["one", "two"])
@pytest.mark.parametrize("name", NAMES)
def test_it_trains_as_plain_processes_do(name: str, processes: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(processes)
    assert_close(folder / name, folder / "none")
    assert losses(folder / name)[-1] < losses(folder / name)[0]


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["one", "two"])
@pytest.mark.parametrize("name", ["none", *NAMES])
def test_a_resumed_run_ends_bit_equal(name: str, processes: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(processes)
    assert len(losses(folder / f"{name}_copy")) == 2  # iterations 3 and 4, after resuming from 2
    assert torch.equal(losses(folder / f"{name}_copy"), losses(folder / name)[2:])
    assert difference(weights(folder / f"{name}_copy", 4), weights(folder / name, 4)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_export_holds_the_trained_weights(name: str, two: Path) -> None:
    exported = load_file(two / name / "export" / "model.safetensors")
    trained = {key.removeprefix("model."): value for key, value in weights(two / name, 4).items()}
    common = exported.keys() & trained.keys()
    assert len(common) > 50
    assert all(torch.equal(exported[key], trained[key]) for key in common)
    refstream.load(two / name / "export")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["zero1", "zero2", "zero3", "fsdp"])
def test_processes_may_branch(name: str, two: Path) -> None:
    assert_close(two / f"{name}_opposite", two / "none_opposite")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["zero1", "zero2"])
def test_a_process_may_have_dialogues_alone(name: str, two: Path) -> None:
    assert_close(two / f"{name}_talking", two / "none_talking")


@pytest.mark.slow
def test_deepspeed_refuses_another_number_of_processes(two: Path, tmp_path: Path) -> None:
    config = config_with("zero2", **{"train_cfg.max_iters": 6})
    done = launch(config, tmp_path, 1, "--resume", str(two / "zero2" / LAST))
    assert done.returncode == 1
    assert "has world_size 2, this run has 1" in done.stderr


@pytest.mark.slow
def test_fsdp_goes_on_with_another_number_of_processes(two: Path, tmp_path: Path) -> None:
    config = config_with("fsdp", **{"train_cfg.max_iters": 6})
    done = launch(config, tmp_path, 1, "--resume", str(two / "fsdp" / LAST))
    assert done.returncode == 0, done.stderr
    assert len(losses(tmp_path)) == 2


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["zero1", "zero2", "zero3", "fsdp"])
def test_it_trains_on_a_gpu(name: str, tmp_path: Path) -> None:
    config = config_with(name, **{"model.autocast": "bfloat16"})
    done = launch(config, tmp_path, max(torch.cuda.device_count(), 1))
    assert done.returncode == 0, done.stderr
    assert losses(tmp_path)[-1] < losses(tmp_path)[0]
    refstream.load(tmp_path / "export")
