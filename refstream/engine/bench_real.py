"""``refstream bench real``: real sizes, random weights; what a skipped and an invoked frame cost.

Four arms on the same frames: ``skip`` reuses the first prompt (segmenter only), ``invoked`` calls the MLLM on
every frame, ``blended`` judges every frame and calls the MLLM on 40 % of them, ``release`` re-enacts the
released loop.
"""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
import torch

from refstream.engine.bench import Arm, CostlyRandomGate, plan_answers, run_arm
from refstream.models.random_init import random_model
from refstream.registry import PIPELINES
from refstream.structures import Frame

BLENDED_RATE = 0.4
EXPRESSION = "the person on the left"


def bench_real(
    sizes: str,
    *,
    device: str | torch.device = "cuda",
    dtype: torch.dtype = torch.bfloat16,
    size: tuple[int, int] = (480, 854),
    num_frames: int = 20,
    rounds: int = 3,
) -> dict[str, Any]:
    """Frames per second and peak memory of each arm.

    Args:
        sizes: See ``random_model``.
        device: Where to run.
        dtype: Of the weights.
        size: (H, W) of the frames.
        num_frames: Per round; the first frame of a round always calls the MLLM.
        rounds: Counted rounds, after one that is not.

    Returns:
        JSON-serialisable rows.
    """
    model = random_model(sizes, device=device, dtype=dtype)
    plan_answers(model)
    rng = np.random.default_rng(0)
    frames = [Frame(i, i / 25, rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for i in range(num_frames)]
    release = PIPELINES.get(model.config.pipeline["type"]).presets["release"]
    arms = [
        Arm("skip", dict(gate=dict(type="FirstFrameGate"))),
        Arm("invoked", dict(gate=dict(type="EveryFrameGate"))),
        Arm("blended", dict(gate=CostlyRandomGate(BLENDED_RATE, seed=1))),
        Arm("release", release, "pil"),
    ]
    cuda = torch.device(device).type == "cuda"
    peaks: dict[str, float] = {}
    for turn in range(rounds + 1):
        for arm in arms:
            if cuda:
                torch.cuda.reset_peak_memory_stats()
            run_arm(model, arm, frames, [EXPRESSION])
            if cuda:
                peaks[arm.name] = torch.cuda.max_memory_allocated() / 2**30
            if turn == 0:
                arm.seconds.clear()
    rows = [
        dict(
            model=sizes,
            arm=arm.name,
            fps=round(1 / statistics.median(arm.seconds), 2),
            mllm_calls_per_frame=round(arm.looks / num_frames, 3),
            peak_memory_gb=round(peaks[arm.name], 2) if cuda else None,
            stage_ms={k: round(v, 2) for k, v in arm.stage_ms.items()},
        )
        for arm in arms
    ]
    return {"rows": rows}
