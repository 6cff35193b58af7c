"""The dry run: counts against a real model, steps against the training loop, memory against the formula."""

from __future__ import annotations

import io
from typing import Any

import pytest
from mmengine.config import Config
from rich.console import Console

from refstream.engine.config import register_all
from refstream.engine.dry_run import (
    DryRun,
    Load,
    Part,
    count_iterations,
    count_parts,
    dry_run,
    estimate_memory,
)
from refstream.registry import MODELS

from .small import training_keys


def config(**keys: Any) -> Config:
    register_all()
    stills = dict(type="MiniRVOSStills", length=100, expressions=3)
    sources = [dict(name="a", dataset=stills, repeats=2), dict(name="b", dataset=dict(stills, length=31))]
    base = dict(
        model=training_keys(lora=dict(r=2), token_rows="new", trainable=["head.*"]),
        train_dataloader=dict(batch_size=4, dataset=dict(type="Mixture", sources=sources)),
        optim_wrapper=dict(accumulative_counts=3),
        train_cfg=dict(max_epochs=2),
    )
    return Config({**base, **keys})


def shown(run: DryRun) -> str:
    stream = io.StringIO()
    run.show(Console(file=stream, width=200))
    return stream.getvalue()


def test_parameters_are_those_of_the_real_model() -> None:
    run = dry_run(config())
    real = MODELS.build(config().model.to_dict()).model
    assert run.parts == count_parts(real)
    assert sum(p.trained for p in run.parts) == sum(p.numel() for p in real.parameters() if p.requires_grad)
    by_name = {part.name: part for part in run.parts}
    assert by_name["mllm.lm_head"].trained == 8 * 32
    assert by_name["mllm.language_model (LoRA)"].frozen == 0
    assert by_name["mllm.language_model"].trained == 0


def test_data_is_counted_and_steps_follow() -> None:
    run = dry_run(config(), processes=2)
    assert [(row["name"], row["per_epoch"]) for row in run.mixture] == [("a", 200), ("b", 31)]
    # 231 draws, 116 on each of two processes, 29 micro-batches of 4, two epochs, steps of 3
    assert (run.iterations, run.steps) == (58, 20)
    assert run.load.looks == 4 * 3
    assert dry_run(config(train_cfg=dict(max_iters=7))).steps == 3


def test_missing_data_is_listed_and_no_error() -> None:
    videos = dict(type="MeViSDataset", root="data/none/mevis")
    stills = dict(name="stills", dataset=dict(type="MiniRVOSStills", length=5))
    sources = [dict(name="mevis", dataset=videos), stills]
    loader = dict(batch_size=1, dataset=dict(type="Mixture", sources=sources))
    run = dry_run(config(train_dataloader=loader))
    assert "data/none/mevis" in run.mixture[0]["missing"]
    assert run.mixture[1]["samples"] == 5
    assert run.iterations is run.steps is None
    assert run.missing == ["data/none/mevis (see data/README.md)"]
    text = shown(run)
    assert "unknown until the data is there" in text
    assert text.count("data/none/mevis") >= 2


def test_what_a_config_calls_missing_is_listed_with_its_weight() -> None:
    stills = dict(name="stills", dataset=dict(type="MiniRVOSStills", length=5), weight=1)
    gone = dict(name="videos", weight=2.5, missing="no reader for it")
    loader = dict(batch_size=1, dataset=dict(type="Mixture", sources=[gone, stills]))
    run = dry_run(config(train_dataloader=loader))
    assert [row["name"] for row in run.mixture] == ["stills", "videos"]
    assert run.iterations == 10  # two epochs of the five stills
    text = shown(run)
    assert "weight 2.5" in text
    assert "no reader for it" in text


def test_everything_is_shown() -> None:
    text = shown(dry_run(config(), processes=2))
    for part in ("StreamingRVOSLearner", "mllm.language_model (LoRA)", "86.6%", "2 processes", "20", "GB"):
        assert part in text


@pytest.mark.parametrize(("stage", "expected"), [(0, (100, 60, 80)), (1, (100, 60, 20)), (2, (100, 15, 20))])
def test_memory_follows_the_formula(stage: int, expected: tuple[int, int, int]) -> None:
    class Text:
        hidden_size, intermediate_size, num_hidden_layers, vocab_size = 10, 20, 3, 50

    training = type("T", (), {})()
    training.model = training.mllm = training.config = training
    training.text_config = Text
    strategy = dict(type="DeepSpeedStrategy", zero_optimization=dict(stage=stage))
    keys = config(strategy=strategy, model=dict(gradient_checkpointing=True, autocast="bfloat16"))
    part = Part("all", trained=10, frozen=5, size=100, gradients=60)
    load = Load(samples=1, looks=2, tokens=7, most_tokens=7, supervised=4)
    memory = estimate_memory(keys, training, [part], load, processes=4)
    assert (memory["weights"], memory["gradients"], memory["optimizer"]) == expected
    assert memory["activations"] == 2 * 7 * 2 * (3 * 10 + 8 * 10 + 4 * 20) + 2 * 4 * 50 * 10


def test_iterations_are_those_of_the_loop() -> None:
    rows = [{"per_epoch": 10}, {"per_epoch": 3}]
    keys = dict(train_cfg=dict(max_epochs=1), train_dataloader=dict(batch_size=2))
    assert count_iterations(keys, rows, 1) == 7
    assert count_iterations(keys, rows, 3) == 3
