"""``refstream bench stream``: what a frame costs, and against a re-enactment of the released loop.

All arms run in one process, with the same weights on the same frames, in alternating rounds; the medians and
their ratios are what counts, absolute times are the machine's. The re-enactment is the ``release`` preset of
the pipeline: MLLM on every frame, free generation that keeps all hidden states, up to 12 tiles and a
thumbnail, PIL resizing, nothing shared between expressions.

Two comparisons. ``exact``: same tiles, same resizing, MLLM on every frame, so that the masks are equal; what
remains is the forced answer and the shared encoders. ``full``: the default settings, one tile, a gate that
decodes the reused prompt first and then calls the MLLM on 30 % of the frames: as costly as OMCP at that rate.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from refstream.evaluation.provenance import provenance
from refstream.files import write_json
from refstream.models.loading import load
from refstream.models.mllm.tokenizer import build_tiny_tokenizer
from refstream.models.modeling import RefStreamConfig, RefStreamModel
from refstream.registry import PIPELINES, foreign_pipeline, import_methods
from refstream.streaming.gates import RandomGate
from refstream.streaming.session import StreamSession
from refstream.streaming.timing import StreamTimer
from refstream.structures import Frame
from refstream.synthetic.expressions import all_words
from refstream.synthetic.minirvos import MiniRVOS

CALL_RATE = 0.3

# Each part has about a hundredth of the FLOPs of its part in the 1B model with SAM2 Hiera-L at 1024 px:
# InternViT 724, LLM prefill of 300 tokens 219, SAM2 image encoder 1,823 GFLOP.
HUNDREDTH = dict(
    mllm=dict(
        type="InternVL",
        config=dict(
            vision_config=dict(
                hidden_size=256,
                num_hidden_layers=3,
                num_attention_heads=4,
                intermediate_size=1024,
                image_size=[448, 448],
                patch_size=[14, 14],
            ),
            text_config=dict(
                model_type="qwen2",
                vocab_size=1,
                hidden_size=256,
                intermediate_size=1024,
                num_hidden_layers=4,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=8192,
            ),
            downsample_ratio=0.5,
        ),
    ),
    segmenter=dict(
        type="Sam2Segmenter",
        config=dict(
            image_size=256,
            hidden_dim=256,
            mem_dim=64,
            trunk=dict(embed_dim=96, num_heads=1, stages=[1, 2, 7, 2], global_att_blocks=[5, 7, 9]),
        ),
    ),
)


class CostlyRandomGate(RandomGate):
    """Calls at a given rate, but asks for the reused mask first: the cost of OMCP without its judgement."""

    needs_mask = True


class PlannedHead(nn.Module):
    """A language-model head that says what was planned: random weights would speak nonsense without end.

    The real head is computed all the same, so that a step costs what it costs.
    """

    def __init__(self, head: nn.Module, plan: Sequence[int]) -> None:
        super().__init__()
        self.head, self.plan, self.turn = head, list(plan), 0

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., V) logits whose largest is the next planned token."""
        logits = self.head(hidden)
        if hidden.ndim == 1:
            logits = logits.clone()
            logits[self.plan[self.turn % len(self.plan)]] = torch.finfo(logits.dtype).max
            self.turn += 1
        return logits


@dataclass
class Arm:
    """One way of running the stream."""

    name: str
    keys: dict[str, Any]
    resize: str | None = None
    seconds: list[float] = field(default_factory=list)
    looks: int = 0
    masks: list[np.ndarray] = field(default_factory=list)
    stage_ms: dict[str, float] = field(default_factory=dict)


def build_model(which: str | Path, *, device: str | torch.device, dtype: torch.dtype) -> RefStreamModel:
    """``hundredth`` for random weights of a hundredth of the 1B model's cost, else a model folder."""
    if str(which) != "hundredth":
        return load(which, device=device, dtype=dtype)
    torch.manual_seed(0)
    config = RefStreamConfig(**HUNDREDTH, pipeline=foreign_pipeline("sa2va_chat"))
    model = RefStreamModel(config, build_tiny_tokenizer(all_words()))
    model.to(device, dtype).eval()  # type: ignore[arg-type]
    plan_answers(model)
    return model


def plan_answers(model: RefStreamModel) -> None:
    """Let a model with random weights generate the forced answer, token by token, in place."""
    mllm = model.mllm
    row = mllm.prompts.referring(["the red circle"])
    plan = row.labels[0][row.labels[0] >= 0].tolist()
    mllm.model.lm_head = PlannedHead(mllm.model.lm_head, plan)


@contextlib.contextmanager
def resizing(model: RefStreamModel, mode: str | None) -> Iterator[None]:
    """Let both encoders resize with PIL, as the release does, or as they are."""
    before = model.mllm.resize, model.segmenter.resize
    if mode == "pil":
        model.mllm.resize, model.segmenter.resize = "pil", "pil_bicubic"
    try:
        yield
    finally:
        model.mllm.resize, model.segmenter.resize = before


def run_arm(model: RefStreamModel, arm: Arm, frames: Sequence[Frame], expressions: Sequence[str]) -> None:
    """One round of one arm; appends its seconds per frame."""
    timer = StreamTimer()
    with resizing(model, arm.resize):
        session = StreamSession(model.pipeline(**arm.keys, stage=timer.stage))
        session.open(expressions)
        masks: list[np.ndarray] = []
        start = time.perf_counter()
        for frame in frames:
            with timer.frame() as events:
                events.extend(session.step(frame))
            masks += [e.mask for e in events if e.mask is not None]
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        arm.seconds.append((time.perf_counter() - start) / len(frames))
        session.close()
    summary = timer.summary()
    arm.masks, arm.looks, arm.stage_ms = masks, summary["mllm_calls"], summary["stage_ms"]


def arms_for(pipeline: str, presets: dict[str, dict[str, Any]]) -> list[Arm]:
    """The re-enactment and ours in both settings.

    Raises:
        ValueError: If the pipeline has no preset ``release`` to compare with.
    """
    if "release" not in presets:
        raise ValueError(f"{pipeline} has no preset 'release'; presets are {sorted(presets)}")
    release = presets["release"]
    exact = dict(release, answer="forced", generate=None, share_encoders=True)
    full = dict(presets.get("paper", {}), gate=CostlyRandomGate(CALL_RATE, seed=1))
    return [Arm("release", release, "pil"), Arm("exact", exact, "pil"), Arm("full", full)]


def bench_stream(
    model_path: str | Path = "hundredth",
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    size: tuple[int, int] = (480, 854),
    num_frames: int = 10,
    rounds: int = 5,
) -> dict[str, Any]:
    """Measure all arms with one and with three expressions.

    Args:
        model_path: Model folder, or "hundredth".
        device: Where to run.
        dtype: Of the weights.
        size: (H, W) of the frames.
        num_frames: Per round.
        rounds: Counted rounds per arm, after one that is not.

    Returns:
        JSON-serialisable rows, ratios (of medians of seconds per frame), and mask agreement.
    """
    model = build_model(model_path, device=device, dtype=dtype)
    import_methods()
    name = model.config.pipeline["type"]
    presets = PIPELINES.get(name).presets
    clip = MiniRVOS("test", 0, 1, num_frames=num_frames, size=size)[0]
    frames = [Frame(i, i / 25, image) for i, image in enumerate(clip.frames)]
    said = [e.text for e in clip.expressions]
    expressions = (said * 3)[:3]
    arms = {n: arms_for(name, presets) for n in (1, 3)}
    for turn in range(rounds + 1):
        for n, group in arms.items():
            for arm in group:
                run_arm(model, arm, frames, expressions[:n])
                if turn == 0:
                    arm.seconds.clear()
    return _result(arms, num_frames)


def _result(arms: dict[int, list[Arm]], num_frames: int) -> dict[str, Any]:
    median = {(n, a.name): statistics.median(a.seconds) for n, group in arms.items() for a in group}
    rows = [
        dict(
            arm=a.name,
            expressions=n,
            ms_per_frame=round(1000 * median[n, a.name], 2),
            fps=round(1 / median[n, a.name], 2),
            mllm_calls_per_frame=round(a.looks / (num_frames * n), 3),
            stage_ms={k: round(v, 2) for k, v in a.stage_ms.items()},
        )
        for n, group in arms.items()
        for a in group
    ]
    release, exact, _ = arms[1]
    differing = [float((x != y).mean()) for x, y in zip(release.masks, exact.masks, strict=True)]
    ratios = {
        "exact_1_expression": median[1, "release"] / median[1, "exact"],
        "exact_3_expressions": median[3, "release"] / median[3, "exact"],
        "full_1_expression": median[1, "release"] / median[1, "full"],
        "full_3_expressions": median[3, "release"] / median[3, "full"],
        "three_expressions_against_one": median[3, "full"] / median[1, "full"],
    }
    return {
        "rows": rows,
        "ratios": {k: round(v, 3) for k, v in ratios.items()},
        "exact_differing_pixels_max": max(differing),
    }


def write_result(path: str | Path, seeds: Sequence[int], content: dict[str, Any]) -> None:
    """Write a result file with its command, commit, seeds and machine, atomically."""
    write_json(Path(path), {**provenance(seeds), **content})
