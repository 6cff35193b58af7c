"""The configs: read, built without memory, checked against paper and release, and the tiny ones run."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config

import refstream
from refstream.data.collate import ClipSample
from refstream.data.mixture import Mixture
from refstream.engine.ablation import arm_waves, check
from refstream.engine.config import load_config, require_files
from refstream.engine.dry_run import DryRun, dry_run
from refstream.engine.model import outline
from refstream.engine.train import train
from refstream.errors import UserError

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
NAMES = [f"{s}_stage{n}{p}" for s in ("1b", "4b") for n in (1, 2, 3) for p in ("", "_release")]
TINY = ["tiny_memory", "tiny_memory_fit", *(f"tiny_stage{n}" for n in (1, 2, 3))]
FUSION = {"head.st_tokens", "head.initial_fusion", "head.second_fusion"}
LORA = "mllm.language_model (LoRA)"
MEMORY = {
    "segmenter.no_memory_embedding",
    "segmenter.memory_temporal_positional_encoding",
    "segmenter.no_object_pointer",
    "segmenter.occlusion_spatial_embedding_parameter",
    "segmenter.memory_attention",
    "segmenter.memory_encoder",
    "segmenter.object_pointer_proj",
    "segmenter.temporal_positional_encoding_projection_layer",
}
DECODER = "segmenter.mask_decoder"


def read(name: str) -> Config:
    return load_config(CONFIGS / f"{name}.py")


def trained(run: DryRun) -> dict[str, int]:
    return {part.name: part.trained for part in run.parts if part.trained}


@pytest.mark.parametrize("name", NAMES)
def test_a_config_builds_and_trains_what_it_should(name: str) -> None:
    run = dry_run(read(name), processes=8)
    found, release, stage = trained(run), name.endswith("release"), int(name[8])
    fusion = FUSION - ({"head.initial_fusion"} if release else set())
    if stage == 3:
        assert {part.name for part in run.parts if part.frozen} == set()
        assert fusion | MEMORY | {DECODER, "mllm.vision_tower", "segmenter.vision_encoder"} <= set(found)
        return
    assert set(found) == fusion | {LORA} | ({DECODER} | MEMORY if stage == 2 else set())
    width, layers, feed, keys = (2048, 36, 11008, 256) if name.startswith("4b") else (896, 24, 4864, 128)
    # LoRA of rank 64 on q, o (D x D), k, v (D x K), gate, up, down (D x F)
    assert found[LORA] == 64 * layers * (2 * (width + width) + 2 * (width + keys) + 3 * (width + feed))
    if name == "1b_stage1":  # counted by hand in the reference
        assert (found["head.initial_fusion"], found["head.second_fusion"]) == (5_219_457, 4_107_264)
        assert found["head.st_tokens"] == 10 * 896


@pytest.mark.parametrize("name", NAMES)
def test_the_schedule(name: str) -> None:
    config = read(name)
    assert (config.train_dataloader.batch_size, config.optim_wrapper.accumulative_counts) == (1, 16)
    assert config.optim_wrapper.optimizer.lr == 1e-5
    assert config.optim_wrapper.optimizer.weight_decay == 0
    assert config.model.autocast == "bfloat16"
    run = dry_run(config, processes=8)
    assert run.steps == 10_000
    assert run.load.looks == 3  # one sequence per expression
    assert 8 * 16 + 10 < run.load.tokens < 8 * (16 + 20) + 10 + 80  # frames with labels, [ST], words


def test_loss_weights_are_those_of_the_paper() -> None:
    loss = read("1b_stage3").model.learner.loss
    names = ("bce_weight", "dice_weight", "token_weight", "occlusion_weight", "iou_weight")
    assert tuple(loss[name] for name in names) == (1, 1, 1, 0.05, 0.05)
    assert outline(read("1b_stage3_release").model.to_dict()).learner.loss.iou_weight == 0.1  # twice


@pytest.mark.parametrize(("stage", "supervise"), [(1, "anchors"), (2, "clip"), (3, "clip")])
def test_the_paper_trains_as_it_infers(stage: int, supervise: str) -> None:
    model = read(f"1b_stage{stage}").model
    learner, pipeline = model.learner, model.model.pipeline
    assert learner.supervise == supervise
    assert (learner.order, learner.multimask) == (pipeline.order, pipeline.multimask)
    own = {k: v for k, v in learner.memory.items() if k not in ("blank_absent", "map_dtype")}
    assert own == pipeline.memory
    assert "reader" not in learner  # the pipeline's


def test_the_release_has_its_quirks() -> None:
    model = read("1b_stage3_release").model
    assert (model.learner.order, model.learner.multimask, model.learner.clip_times) == (
        "first_anchor",
        False,
        False,
    )
    assert model.learner.memory.anchors == model.model.pipeline.memory.anchors == "nearest"
    assert model.model.pipeline.order == "anchors_first"
    assert model.model.pipeline.anchors == dict(type="release", divisor=4)
    assert model.model.head.fusion == "second_only"
    assert read("1b_stage2_release").model.learner.supervise == "anchors"


@pytest.mark.parametrize("name", [n for n in NAMES if "stage1" not in n] + TINY[-2:])
def test_a_stage_begins_where_the_one_before_it_ends(name: str) -> None:
    before = name.replace("stage2", "stage1") if "stage2" in name else name.replace("stage3", "stage2")
    config = read(name)
    folder = f"{read(before).work_dir}/export"
    assert [tuple(source) for source in config.model.sources] == [(folder, "*")]
    assert "init_from" not in config.model


def test_a_missing_stage_names_its_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = read("1b_stage2")
    monkeypatch.chdir(CONFIGS.parents[2])
    config.model.sources[0] = [str(tmp_path / "virst" / "1b_stage1" / "export"), "*"]
    command = "python tools/train.py projects/virst/configs/1b_stage1.py"
    with pytest.raises(FileNotFoundError, match=command):
        require_files(config)


@pytest.mark.parametrize("scope", ["all", "encoders_frozen", "stage2"])
def test_scopes_of_stage_3(scope: str) -> None:
    config = Config.fromfile(str(CONFIGS / "1b_stage3.py"))
    keys = {**config.model.to_dict(), "trainable": None, **config.scopes[scope].to_dict()}
    keys["learner"] = {**config.model.learner.to_dict(), **keys["learner"]}
    assert keys["learner"]["supervise"] == "clip"
    names = {n for n, p in outline(keys).model.named_parameters() if p.requires_grad}
    encoders = ("vision_tower", "vision_encoder")
    assert any(e in name for name in names for e in encoders) == (scope == "all")
    assert any("memory_attention" in name for name in names)
    assert any("lora_" in name for name in names) == (scope == "stage2")


# ---------------------------------------------------------------- the mixture


class Source:
    def __init__(self, length: int = 10_000) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def sample(self, index: int, rng: np.random.Generator) -> ClipSample:
        raise AssertionError("only counted")


RELEASE = dict(sem_seg=9, refer_seg=3, vqa=3, reason_seg=1, video_vqa=4, rvos=12)
RVOS = dict(mevis=4000, ref_youtube_vos=15000, davis=400, revos=3000, lv_vis=3000)


def sources(stage: int) -> list[dict[str, Any]]:
    listed = read(f"1b_stage{stage}").train_dataloader.dataset.sources
    return [source.to_dict() for source in listed]


def test_the_mixture_is_that_of_the_release() -> None:
    weights = {source["name"]: source["weight"] for source in sources(2)}
    for name, number in RVOS.items():
        assert weights[name] == pytest.approx(12 * number / 25_400)
    assert weights["refcoco"] + weights["refcoco_plus"] + weights["refcocog"] == pytest.approx(3)
    for name in ("sem_seg", "vqa", "reason_seg", "video_vqa"):
        assert weights[name] == RELEASE[name]
    assert sum(weights.values()) == pytest.approx(32)


def test_ten_thousand_draws_keep_the_shares() -> None:
    """With every source there; of each the count lies within 3 sigma of its share."""
    specs = [{**{k: v for k, v in s.items() if k != "missing"}, "dataset": Source()} for s in sources(2)]
    mixture = Mixture(specs, seed=1)
    found = Counter(mixture.sources[mixture.locate(draw)[0]].name for draw in range(10_000))
    for spec in specs:
        share = spec["weight"] / 32
        assert abs(found[spec["name"]] - 10_000 * share) <= 3 * (10_000 * share * (1 - share)) ** 0.5


def test_what_has_no_reader_is_named_with_its_weight() -> None:
    run = dry_run(read("1b_stage2"))
    absent = {row["name"]: row["weight"] for row in run.mixture if "why" in row}
    assert absent == pytest.approx(
        dict(sem_seg=9, reason_seg=1, video_vqa=4, lv_vis=12 * 3000 / 25_400), abs=1e-6
    )
    assert {row["name"] for row in run.mixture if "missing" in row} >= {"mevis", "revos", "davis", "vqa"}


def test_an_unknown_source_is_an_error() -> None:
    config = (CONFIGS / "_base_" / "data.py").read_text(encoding="utf-8")
    assert config.count('type="MeViSDataset"') == 1
    with pytest.raises(UserError, match="no class is registered as 'MevisDataset'"):
        load_config(
            CONFIGS / "1b_stage3.py", {"train_dataloader.dataset.sources.0.dataset.type": "MevisDataset"}
        )


# ---------------------------------------------------------------- the tiny model

SHORT = {
    "train_cfg.max_iters": 2,
    "train_dataloader.num_workers": 0,
    "train_dataloader.persistent_workers": False,
    "default_hooks.checkpoint.interval": 2,
    "default_hooks.lines.interval": 1,
    "model.sources": [],
    "model.initialise": {},
}


@pytest.mark.parametrize("name", TINY)
def test_tiny_configs_are_whole(name: str) -> None:
    config = read(name)
    assert config.work_dir == f"work_dirs/virst/{name}"
    training = outline(config.model.to_dict())
    assert any(p.requires_grad for p in training.model.parameters())


@pytest.mark.parametrize("stage", [1, 2])
def test_a_stage_trains_and_exports(stage: int, tmp_path: Path) -> None:
    size = {"train_dataloader.batch_size": 1}
    folder = train(CONFIGS / f"tiny_stage{stage}.py", {**SHORT, **size}, work_dir=tmp_path)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["iter"] for line in lines] == [1, 2]
    assert all(torch.isfinite(torch.tensor(line["loss"])) for line in lines)
    model = refstream.load(folder / "export")
    assert model.config.pipeline["type"] == "VIRST"
    assert model.pipeline().max_frames


def test_the_ablation_names_what_there_is() -> None:
    plan = {k: v for k, v in Config.fromfile(str(CONFIGS / "ablation.py")).to_dict().items() if k[0] != "_"}
    check(plan)
    waves = [set(wave) for wave in arm_waves(plan["arms"])]
    assert waves[1] == {"stages_23"}
    for arm in plan["arms"].values():
        if "config" in arm:
            config = load_config(CONFIGS.parents[2] / arm["config"], arm.get("overrides", {}))
            outline(config.model.to_dict())
