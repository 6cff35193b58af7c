"""The configs of the released sizes: read, built without memory, and checked against paper and release."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS

from refstream.engine.config import load_config
from refstream.engine.dry_run import dry_run

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
NAMES = [f"{s}_stage{n}{p}" for s in ("1b", "4b") for n in (1, 2) for p in ("", "_release")]
MILLION = 1_000_000


def read(name: str) -> Config:
    return load_config(CONFIGS / f"{name}.py")


@pytest.mark.parametrize("name", NAMES)
def test_a_config_builds_and_trains_what_it_should(name: str) -> None:
    config = read(name)
    run = dry_run(config, processes=4)
    trained = {part.name: part.trained for part in run.parts if part.trained}
    release, large = name.endswith("release"), name.startswith("4b")
    width, layers, feed, keys = (2048, 36, 11008, 256) if large else (896, 24, 4864, 128)
    # LoRA of rank 128 on q, o (D x D), k, v (D x K), gate, up, down (D x F)
    lora = 128 * layers * (2 * (width + width) + 2 * (width + keys) + 3 * (width + feed))
    rows = 151_682 if release else 8
    expected = {
        "mllm.multi_modal_projector",
        "mllm.language_model (LoRA)",
        "mllm.language_model.embed_tokens",
        "mllm.lm_head",
        "head.layers",
    }
    assert set(trained) == (expected | {"segmenter.mask_decoder"} if release else expected)
    assert trained["mllm.language_model (LoRA)"] == lora
    assert trained["mllm.lm_head"] == trained["mllm.language_model.embed_tokens"] == rows * width
    vision = next(part for part in run.parts if part.name == "mllm.vision_tower")
    assert vision.frozen == pytest.approx(304 * MILLION, rel=0.001)
    assert run.load.tokens > 256
    assert run.load.looks == config.train_dataloader.batch_size * 5


@pytest.mark.parametrize("name", NAMES)
def test_the_schedule(name: str) -> None:
    config = read(name)
    optimizer = config.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.weight_decay, tuple(optimizer.betas)) == (4e-5, 0.05, (0.9, 0.999))
    assert config.optim_wrapper.clip_grad.max_norm == 1.0
    batch = {"1b_stage1": 1, "1b_stage2": 2, "4b_stage1": 2, "4b_stage2": 1}[name.removesuffix("_release")]
    assert (config.train_dataloader.batch_size, config.optim_wrapper.accumulative_counts) == (batch, 4)


@pytest.mark.parametrize(("name", "tau"), [("1b_stage2", (0.7, 0.1)), ("4b_stage2", (0.8, 0.2))])
def test_the_paper_trains_with_the_gate_of_inference(name: str, tau: tuple[float, float]) -> None:
    model = read(name).model
    assert model.learner.gate == model.model.pipeline.gate
    assert model.learner.gate == dict(type="ConsistencyGate", tau1=tau[0], tau2=tau[1])
    assert model.learner.truncate is None
    loss = model.learner.mask_loss
    assert loss.bce_weight == loss.dice_weight == model.learner.text_weight == 1.0


@pytest.mark.parametrize("name", ["1b_stage2_release", "4b_stage2_release"])
def test_the_release_has_its_weights_and_quirks(name: str) -> None:
    model = read(name).model
    assert model.learner.gate == dict(type="LaggedConsistencyGate", tau1=0.7, tau2=0.0)
    assert model.learner.batch_gate
    assert model.learner.truncate == 0
    loss = model.learner.mask_loss
    assert (loss.bce_weight, loss.dice_weight, loss.num_points) == (2.0, 0.5, 12544)
    assert model.model.pipeline.reprompt == model.learner.reprompt == False  # noqa: E712
    assert model.sources[0][0] == f"work_dirs/{name[:2]}_stage1_release/export"


def test_the_mixtures_are_those_of_the_release() -> None:
    shares = {
        stage: {
            source.name: source.repeats
            for source in read(f"1b_stage{stage}").train_dataloader.dataset.sources
        }
        for stage in (1, 2)
    }
    assert shares[1] == dict(refcoco=4, refcoco_plus=4, refcocog=4, llava=1)
    assert shares[2] == dict(mevis=4, revos=10, ref_youtube_vos=4, ref_sav=4)


def test_the_learning_rate_warms_up_for_a_twentieth_of_the_epoch_and_ends_at_zero() -> None:
    config = read("1b_stage1")
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=config.optim_wrapper.optimizer.lr)
    defaults = dict(optimizer=optimizer, epoch_length=1000)
    schedulers = [PARAM_SCHEDULERS.build(s, default_args=defaults) for s in config.param_scheduler]
    rates = []
    for _ in range(1000):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    assert rates[0] == pytest.approx(4e-10)
    assert max(rates) == pytest.approx(4e-5)
    assert rates.index(max(rates)) == pytest.approx(50, abs=1)
    assert rates[525] == pytest.approx(2e-5, rel=0.01)  # half-way down the cosine
    assert rates[-1] < 1e-9
