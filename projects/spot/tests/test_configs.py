"""The configs: read, built without memory, checked against the paper, and the tiny ones run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from refstream_projects.spot import learner, losses, pipeline, pretraining
from refstream_projects.spot.geometry import grid_points, mask_box, point_labels
from refstream_projects.spot.text import SpotFormat

from refstream.data.collate import collate_clips
from refstream.engine.ablation import arm_waves, check
from refstream.engine.config import load_config
from refstream.engine.dry_run import dry_run
from refstream.engine.model import build_learner, outline
from refstream.registry import DATASETS
from refstream.testing import small_model

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
REGISTERED = (learner.SPOTLearner, losses.SPOTLoss, pipeline.SPOT, pretraining.JudgedPointsLearner)


def read(name: str) -> Config:
    return load_config(CONFIGS / f"{name}.py")


@pytest.mark.parametrize("name", ["1b", "4b", "1b_sam1"])
def test_lora_alone_is_trained(name: str) -> None:
    run = dry_run(read(name), processes=8)
    trained = {part.name: part.trained for part in run.parts if part.trained}
    assert set(trained) == {"mllm.language_model (LoRA)"}
    width, layers, feed, keys = (2048, 36, 11008, 256) if name == "4b" else (896, 24, 4864, 128)
    expected = 128 * layers * (2 * (width + width) + 2 * (width + keys) + 3 * (width + feed))
    assert trained["mllm.language_model (LoRA)"] == expected
    assert run.load.samples == 1
    assert run.load.supervised > 8 * (25 + 12)  # eight frames with 25 judgements and 12 digits each


@pytest.mark.parametrize("name", ["1b", "4b", "1b_sam1", "tiny"])
def test_numbers_of_the_paper(name: str) -> None:
    model = read(name).model
    loss = model.learner.loss
    weights = (loss.bridge_weight, loss.text_weight, loss.box_weight, loss.class_weight)
    assert weights == (0.1, 0.5, 1, 1)
    assert (loss.bridge.form, loss.bridge.on, loss.bridge.weights) == ("paper", "points", "variance")
    assert (model.learner.segment_length, model.model.pipeline.text.grid) == (8, 5)
    assert model.model.pipeline.memory == "off"
    assert model.model.pipeline.gate.type == "EveryFrameGate"
    assert "text" not in model.learner  # the pipeline's
    if name == "4b":  # built above
        return
    built = outline(model.to_dict())
    assert isinstance(built.learner, learner.SPOTLearner)
    assert built.learner.format(built.model) == SpotFormat(**model.model.pipeline.text)


def test_the_tiny_clips_are_segments() -> None:
    config = read("tiny")
    dataset = DATASETS.build(config.train_dataloader.dataset)
    batch = collate_clips([dataset[0]])
    assert batch.num_frames == config.model.learner.segment_length == 8


def test_the_ablation_is_sound() -> None:
    plan = {k: v for k, v in Config.fromfile(str(CONFIGS / "ablation.py")).items() if not k.startswith("_")}
    check(plan)
    arm_waves(plan["arms"])
    base = read("tiny").to_dict()
    for arm in plan["arms"].values():
        if "config" not in arm:
            continue
        node = Config(base)
        node.merge_from_dict(dict(arm.get("overrides", {})))
        built = build_learner(node.model.learner.to_dict(), 128)
        assert built.segment_length == node.train_dataloader.dataset.num_frames
    names = {re.sub(r"_\d+$", "", arm) for arm in plan["arms"]}
    assert {"full", "no_bridge", "no_quality", "no_text", "constant", "joint", "segments"} <= names


def test_judged_points_for_a_segmenter() -> None:
    torch.manual_seed(0)
    model = small_model().train()
    batch = collate_clips([DATASETS.build(dict(type="MiniRVOSStills", expressions=3, size=64))[0]])
    prepared = pretraining.JudgedPointsLearner(mask_side=16)
    found = prepared.losses(model, batch)
    sum(value for name, value in found.items() if name.startswith("loss")).backward()
    assert any(p.grad is not None for p in model.segmenter.parameters())
    with pytest.raises(ValueError, match="jitter must lie"):
        pretraining.JudgedPointsLearner(jitter=0.6)


def test_judged_points_are_judged_by_the_mask() -> None:
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[0, 10:30, 20:50] = True
    masks[1, 40:60, 4:12] = True
    torch.manual_seed(1)
    made = pretraining.JudgedPointsLearner(boxes_alone=0.0, points_alone=0.0, jitter=0.0, kept=0.5)
    prompt, present = made._prompts(masks, torch.arange(2))
    assert present.all()
    for row, mask in enumerate(masks):
        box = mask_box(mask)
        assert torch.allclose(prompt.box_xyxy[row], box * 64)
        grid = grid_points(box)
        kept = prompt.point_labels[row] >= 0
        assert 0 < int(kept.sum()) <= 25
        assert torch.equal(prompt.point_labels[row][kept], point_labels(mask, grid)[kept])
