"""The papers' command: a checkpoint becomes a folder, from which training goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from refstream_projects.streamingrvos.hf.convert_to_hf import main
from safetensors.torch import load_file

import refstream
from refstream.engine.train import train
from refstream.testing import moving_square_video
from refstream.testing.small import MLLM, SAM2

ROOT = Path(__file__).resolve().parents[3]


def write_config(path: Path, **changes: object) -> Path:
    """Stage 2 of a very small model with LoRA, two iterations, as a file."""
    config = Config(
        dict(
            model=dict(
                type="TrainingModel",
                model=dict(
                    mllm=dict(type="InternVL", config=MLLM),
                    segmenter=dict(type="Sam2Segmenter", config=SAM2),
                    head=dict(type="SegTokenHead"),
                    pipeline=dict(type="StreamingRVOS", gate=dict(type="ConsistencyGate", tau1=0.3)),
                ),
                learner=dict(type="StreamingRVOSLearner"),
                initialise={},
                trainable=["head.*", "segmenter.model.mask_decoder.*"],
                lora=dict(r=4, alpha=8),
                token_rows="new",
            ),
            train_cfg=dict(type="StepTrainLoop", max_iters=2),
            train_dataloader=dict(
                batch_size=2,
                num_workers=0,
                sampler=dict(type="DrawSampler"),
                dataset=dict(type="MiniRVOSClips", num_frames=2, expressions=2),
            ),
            optim_wrapper=dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-2)),
            default_hooks=dict(checkpoint=dict(type="CheckpointFolderHook")),
            custom_hooks=[dict(type="JsonLinesHook", interval=1)],
            log_processor=dict(by_epoch=False),
            visualizer=dict(type="Visualizer", vis_backends=[]),
        )
    )
    config.merge_from_dict(changes)
    config.dump(path)
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A config and its work directory after training."""
    folder = tmp_path_factory.mktemp("run")
    config = write_config(folder / "stage2.py")
    return config, train(config, work_dir=folder / "stage2")


def masks(folder: Path) -> np.ndarray:
    session = refstream.StreamSession(refstream.load(folder).pipeline())
    session.open(["the red square", "the blue square"])
    return np.stack([event.mask for frame in moving_square_video(3)[0] for event in session.step(frame)])


def test_there_and_back(run: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, work_dir = run
    assert main([str(config), str(work_dir), "--save-path", str(tmp_path / "hf")]) == 0
    assert "none missing" in capsys.readouterr().err
    model = refstream.load(tmp_path / "hf")
    assert model.config.pipeline["gate"] == {"type": "ConsistencyGate", "tau1": 0.3}
    trained = load_file(work_dir / "iter_00000002" / "model.safetensors")
    decoder = {k: v for k, v in trained.items() if "mask_decoder" in k}
    assert decoder
    for name, value in decoder.items():
        assert torch.equal(model.state_dict()[name.removeprefix("model.")], value)
    page = (tmp_path / "hf" / "README.md").read_text()
    assert "iter_00000002" in page
    onward = write_config(tmp_path / "onward.py", **{"model.sources": [(str(tmp_path / "hf"), "*")]})
    folder = train(
        onward, {"train_cfg.max_iters": 1, "optim_wrapper.optimizer.lr": 0.0}, work_dir=tmp_path / "on"
    )
    assert main([str(onward), str(folder), "--save-path", str(tmp_path / "again")]) == 0
    assert np.array_equal(masks(tmp_path / "again"), masks(tmp_path / "hf"))
    first, last = (json.loads((f / "log.jsonl").read_text().splitlines()[0]) for f in (work_dir, folder))
    assert first["sample_hash"] == last["sample_hash"]
    assert last["loss"] != pytest.approx(first["loss"], abs=1e-3)  # the same data, the trained weights


def test_the_layout_of_sa2va_and_a_smaller_dtype(run: tuple[Path, Path], tmp_path: Path) -> None:
    config, work_dir = run
    words = [str(config), str(work_dir), "--save-path", str(tmp_path / "x")]
    assert main([*words, "--layout", "sa2va", "--dtype", "float16", "--quiet"]) == 0
    state = load_file(tmp_path / "x" / "model.safetensors")
    assert "text_hidden_fcs.0.weight" in state
    assert {value.dtype for value in state.values()} == {torch.float16}
    assert masks(tmp_path / "x").shape == (6, 64, 64)


def test_what_is_missing_is_said(
    run: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, work_dir = run
    for words, message in (
        ([str(config), str(work_dir)], "--save-path"),
        ([str(config), str(tmp_path / "none"), "--save-path", str(tmp_path / "x")], "no checkpoint at"),
        ([str(config), str(work_dir), "--save-path", str(work_dir)], "not an empty folder"),
        ([str(work_dir), "--save-path", str(tmp_path / "x"), "--licence", "MIT"], "CONFIG.py PTH"),
    ):
        assert main(words) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


SCRIPT, MODULE = (
    "projects/streamingrvos/hf/convert_to_hf.py",
    "refstream_projects.streamingrvos.hf.convert_to_hf",
)


@pytest.mark.parametrize("how", [[SCRIPT], pytest.param(["-m", MODULE], marks=pytest.mark.slow)])
def test_both_ways_of_calling_it(how: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, *how, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "--save-path" in done.stdout
