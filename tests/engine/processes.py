"""A training config of a very small real model, what it needs by name, and processes that train it.

The config imports this module, so that ``tools/train.py`` knows the names as well.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from safetensors.torch import save_file

from refstream.data.collate import ClipSample
from refstream.registry import DATASETS, GATES, HOOKS
from refstream.streaming.gates import GateDecision, GateSignals
from refstream.testing import moving_square_video
from refstream.testing.small import MLLM, SAM2

ROOT = Path(__file__).resolve().parents[2]
COLOURS = ("red", "blue", "yellow")


@DATASETS.register_module(force=True)
class UnevenSquares:
    """Clips of two frames with one to three squares each; every fourth sample may be a dialogue instead."""

    def __init__(self, dialogues: bool = False) -> None:
        self.dialogues = dialogues

    def __len__(self) -> int:
        return 16

    def sample(self, index: int, rng: np.random.Generator) -> ClipSample:
        colours = COLOURS[: 1 + index % 3]
        frames, masks = moving_square_video(2, colours=colours, side=8 + index % 5)
        clip, name = np.stack([frame.image for frame in frames]), f"squares {index}"
        if self.dialogues and index % 4 == 1:
            talk = (("What is it?", "A square " + "and a square " * (index % 3) + "."),)
            return ClipSample(clip[:1], [], np.zeros((0, 1, 64, 64), dtype=bool), name, talk)
        return ClipSample(clip, [f"the {colour} square" for colour in colours], masks, name)


@GATES.register_module(force=True)
class OppositeGate:
    """Even processes look at every frame, odd ones at the first alone."""

    needs_mask = True

    def decide(self, signals: GateSignals) -> GateDecision:
        look = get_rank() % 2 == 0
        return GateDecision(look, "always" if look else "reuse")


@HOOKS.register_module(force=True)
class LossesOfAll(Hook):
    """``losses<rank>.safetensors``: the loss of every iteration, and how many looks each frame had."""

    def __init__(self) -> None:
        self.seen: dict[str, list[float]] = {"loss": [], "looks_per_frame": []}

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        for name, values in self.seen.items():
            values.append(float(torch.as_tensor(outputs.get(name, float("nan"))).detach()))
        tensors = {name: torch.tensor(values, dtype=torch.float64) for name, values in self.seen.items()}
        save_file(tensors, Path(runner.work_dir) / f"losses{get_rank()}.safetensors")


@HOOKS.register_module(force=True)
class FailOnce(Hook):
    """The last process fails in iteration ``at``; not again where torchrun has started it anew."""

    def __init__(self, at: int) -> None:
        self.at = at

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        again = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
        if runner.iter + 1 == self.at and get_rank() == runner.world_size - 1 and not again:
            (Path(runner.work_dir) / "failed").write_text(str(time.time()))
            raise ArithmeticError("failing on purpose")


def small_config(**changes: Any) -> Config:
    """Stage 2 of the smallest real model on clips of two frames; dotted keys replace values."""
    config = Config(
        dict(
            model=dict(
                type="TrainingModel",
                model=dict(
                    mllm=dict(type="InternVL", config=MLLM),
                    segmenter=dict(type="Sam2Segmenter", config=SAM2),
                    head=dict(type="SegTokenHead"),
                    pipeline=dict(type="StreamingRVOS"),
                ),
                learner=dict(type="StreamingRVOSLearner", gate=dict(type="ConsistencyGate")),
                initialise={},
                trainable=[
                    "mllm.model.model.multi_modal_projector.*",
                    "mllm.model.model.language_model.*",
                    "mllm.model.lm_head.*",
                    "head.*",
                    "segmenter.model.mask_decoder.*",
                ],
            ),
            train_cfg=dict(type="StepTrainLoop", max_iters=4),
            train_dataloader=dict(
                batch_size=2,
                num_workers=0,
                sampler=dict(type="DrawSampler"),
                dataset=dict(type="UnevenSquares"),
            ),
            optim_wrapper=dict(
                type="OptimWrapper",
                optimizer=dict(type="AdamW", lr=1e-3, betas=(0.9, 0.98), weight_decay=0.01),
                clip_grad=dict(max_norm=1.0),
            ),
            param_scheduler=[dict(type="LinearLR", start_factor=0.5, end=4, by_epoch=False)],
            default_hooks=dict(
                logger=dict(type="LoggerHook", interval=1000),
                checkpoint=dict(type="CheckpointFolderHook", interval=2),
            ),
            custom_hooks=[
                dict(type="LossesOfAll"),
                dict(type="ExportHook"),
                dict(type="JsonLinesHook", interval=1),
            ],
            custom_imports=dict(imports=["tests.engine.processes"]),
            log_processor=dict(by_epoch=False),
            randomness=dict(seed=0),
            env_cfg=dict(cudnn_benchmark=False),
            visualizer=dict(type="Visualizer", vis_backends=[]),
        )
    )
    config.merge_from_dict(changes)
    return config


def launch(
    config: Config, folder: Path, processes: int, *options: str, limit: float = 7200
) -> subprocess.CompletedProcess[str]:
    """Train in processes of their own with ``tools/dist.sh``; logs and weights go to ``folder``."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_suffix(".py")  # not inside: the Runner keeps a completed copy there
    config.dump(path)
    command = [
        "bash",
        "tools/dist.sh",
        "train",
        str(path),
        str(processes),
        "--work-dir",
        str(folder),
        *options,
    ]
    own = {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **own},
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
    )


@dataclass(frozen=True)
class Job:
    """A training in ``work_dir``; ``forget`` names a checkpoint to remove before, and regain by resuming."""

    config: Config
    work_dir: Path
    forget: str = ""


def train_all(jobs: Sequence[Job], processes: int, limit: float = 7200) -> None:
    """Train one after the other in processes that start once; all must succeed."""
    lines = []
    for job in jobs:
        path = job.work_dir.with_suffix(".py")
        job.config.dump(path)
        line = {"config": str(path), "work_dir": str(job.work_dir), "forget": job.forget}
        lines.append({**line, "resume": bool(job.forget)})
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1"]
    command += [
        f"--nproc-per-node={processes}",
        str(Path(__file__).with_name("train_worker.py")),
        json.dumps(lines),
    ]
    own = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **own},
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
    )
    assert done.returncode == 0, done.stderr
