"""The configs: built without memory, checked against paper and release, and a tiny one trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from refstream_projects.streamo import dataset, learner, minirvos, pipeline
from refstream_projects.streamo.records import TASKS
from refstream_projects.streamo.states import STATE_TOKENS, state_ids

import refstream
from refstream.engine.ablation import arm_waves, check
from refstream.engine.config import load_config, require_files
from refstream.engine.dry_run import DryRun, dry_run
from refstream.engine.model import outline
from refstream.engine.train import train
from refstream.evaluation.metrics.timing import Timing

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
PAPER = ["1b", "4b", "3b_qwen", "7b_qwen"]
TINY = ["tiny", "tiny_ce", "tiny_fixed"]
REGISTERED = (dataset.StreamoDataset, learner.StreamoLearner, minirvos.MiniStreamDialogues, pipeline.Streamo)
VISION = {"mllm.vision_tower", "mllm.visual"}


def read(name: str, **overrides: Any) -> Config:
    return load_config(CONFIGS / f"{name}.py", overrides)


def trained(run: DryRun) -> dict[str, int]:
    return {part.name: part.trained for part in run.parts if part.trained}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n[:2] in ("4b", "7b"))) for n in PAPER]
)
def test_the_vision_tower_is_frozen_and_the_rest_learns(name: str) -> None:
    run = dry_run(read(name), processes=8)
    found = trained(run)
    frozen = {part.name: part.frozen for part in run.parts if part.frozen}
    assert {"mllm.language_model", "mllm.language_model.embed_tokens"} <= set(found)
    if name.endswith("qwen"):
        assert set(frozen) == {"mllm.visual"}
        width = 1280 * 4
        hidden = 2048 if name == "3b_qwen" else 3584
        # the connector: a norm of 1280, width -> width, width -> hidden
        assert found["mllm.visual"] == 1280 + width * width + width + width * hidden + hidden
        assert ("mllm.lm_head" in found) == (name == "7b_qwen")  # 3B ties it to the embeddings
    else:
        assert set(frozen) == {"mllm.vision_tower"}
        assert {"mllm.multi_modal_projector", "mllm.lm_head"} <= set(found)
    assert not any(part.name.startswith(("segmenter", "head")) for part in run.parts)
    per_clip = run.load.tokens
    assert per_clip <= 32_768
    assert per_clip > 30_000
    assert run.load.samples * run.accumulation * 8 == 512


@pytest.mark.parametrize("name", PAPER)
def test_schedule_and_loss_are_those_of_the_paper(name: str) -> None:
    config = read(name)
    assert config.optim_wrapper.optimizer.lr == 1e-5
    assert config.train_cfg.max_epochs == 1
    warm_up, cosine = config.param_scheduler
    assert (warm_up.end, cosine.begin, cosine.end) == (0.05, 0.05, 1)
    model = config.model
    assert (model.autocast, model.gradient_checkpointing) == ("bfloat16", True)
    loss = model.learner.loss
    assert (loss.gamma, loss.alpha, loss.classes) == (2, "global", "all")
    assert model.learner.max_tokens == 32_768
    assert set(STATE_TOKENS) <= set(model.model.mllm.added_tokens)
    assert model.model.mllm.prompts.answer_tokens == list(STATE_TOKENS)
    with pytest.raises(FileNotFoundError, match=r"pretrained/.*data/streamo"):
        require_files(config)


def test_the_three_losses_differ_in_nothing_else() -> None:
    focal, plain, fixed = (read(name).to_dict() for name in TINY)
    losses = [config["model"]["learner"].pop("loss") for config in (focal, plain, fixed)]
    assert [one["gamma"] for one in losses] == [2, 0, 0]
    assert [one["alpha"] for one in losses] == ["global", None, "fixed"]
    assert losses[2]["scales"] == [0.3, 1.3, 2.0]
    assert len({config.pop("work_dir") for config in (focal, plain, fixed)}) == 3
    assert focal == plain == fixed


@pytest.mark.parametrize("name", TINY)
def test_tiny_configs_are_whole(name: str) -> None:
    config = read(name)
    assert config.work_dir == f"work_dirs/streamo/{name}"
    model = outline(config.model.to_dict()).model
    state_ids(model.mllm.tokenizer)
    assert len(model.mllm.tokenizer) > 600  # with the words of streams
    learns = {n for n, p in model.named_parameters() if p.requires_grad}
    assert learns
    assert not any("vision_tower" in name for name in learns)


def test_a_tiny_one_trains_and_exports(tmp_path: Path) -> None:
    short = {
        "train_cfg.max_iters": 2,
        "train_dataloader.num_workers": 0,
        "train_dataloader.persistent_workers": False,
        "train_dataloader.batch_size": 2,
        "default_hooks.checkpoint.interval": 2,
        "default_hooks.lines.interval": 1,
        "model.sources": [],
    }
    folder = train(CONFIGS / "tiny.py", short, work_dir=tmp_path)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["iter"] for line in lines] == [1, 2]
    for line in lines:
        assert torch.isfinite(torch.tensor(line["loss"]))
        cases = [line[f"recall_{state}_cases"] for state in ("silence", "standby", "response")]
        assert sum(cases) == 2 * 20
        assert 0 <= line["recall_silence"] <= 1
    model = refstream.load(folder / "export")
    assert model.segmenter is None
    assert model.config.pipeline == dict(type="Streamo", fps=1.0, frame_tokens=9)
    assert isinstance(model.pipeline(), pipeline.Streamo)


def test_the_ablation_names_what_there_is() -> None:
    plan = {k: v for k, v in Config.fromfile(str(CONFIGS / "ablation.py")).to_dict().items() if k[0] != "_"}
    check(plan)
    states = {f"{state}_recall" for state in ("silence", "standby", "response")}
    known = {*Timing(1, 1, 1, right=1, delays_s=[0.0]).figures(), *states, *TASKS}
    assert set(plan["columns"]) <= known
    assert set(arm_waves(plan["arms"])[0]) == set(plan["arms"])
    for arm in (arm for arm in plan["arms"].values() if "config" in arm):
        config = load_config(CONFIGS.parents[2] / arm["config"], arm.get("overrides", {}))
        outline(config.model.to_dict())
