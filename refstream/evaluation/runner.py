"""Run a model over a benchmark of clips and score it: J, F, speed, floors and a ceiling.

A benchmark is anything that yields ``BenchmarkClip``s; the model is driven through ``StreamSession`` alone,
the same path as demo and serving. Floors say what a score is worth: a model that does not beat ``shuffled``
by a wide margin has not learned to refer.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from refstream.evaluation.metrics.jf import j_and_f
from refstream.evaluation.results import EvaluationResult, Score, Scores, Speed
from refstream.models.masks import upsample_mask
from refstream.models.protocols import Segmenter, StreamPipeline
from refstream.streaming.session import StreamSession
from refstream.structures import Frame, SegPrompt, StreamEvent

NEUTRAL_EXPRESSION = "the object"  # stands for no expression at all, which a session refuses
BLANK_VALUE = 128
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class BenchmarkItem:
    """One expression of a clip and what it means.

    Attributes:
        expression: The words.
        group: Scores are averaged within a group, then over groups with the benchmark's weights.
        mask: (T, H, W) bool ground truth.
        target: Names the meant objects, so that another target can be told apart.
        held_out: Whether training data hold nothing like the target.
    """

    expression: str
    group: str
    mask: np.ndarray
    target: tuple[int, ...]
    held_out: bool = False


@dataclass(frozen=True)
class BenchmarkClip:
    """One clip of a benchmark.

    Attributes:
        id: Unique in the benchmark.
        frames: (T, H, W, 3) uint8 RGB.
        fps: Frames per second.
        items: What is asked about it.
        object_masks: (N, T, H, W) bool of all objects.
    """

    id: str
    frames: np.ndarray
    fps: float
    items: tuple[BenchmarkItem, ...]
    object_masks: np.ndarray


class Benchmark(Protocol):
    """Clips to score on.

    Attributes:
        name: As registered.
        weights: Weight of each group in the overall score.
        settings: What was asked for, JSON-serialisable.
        seed: Of everything random in the evaluation.
    """

    name: str
    weights: dict[str, float]
    settings: dict[str, Any]
    seed: int

    def __len__(self) -> int:
        """Number of clips."""
        ...

    def __iter__(self) -> Iterator[BenchmarkClip]:
        """The clips, always in one order."""
        ...


@dataclass
class RunLog:
    """What running cost, summed over clips.

    Attributes:
        num_frames: Frames pushed.
        num_events: Masks that came out: frames times expressions.
        num_calls: How many of them the MLLM had looked at.
        seconds: Wall time of the sessions.
        latencies_ms: One per frame.
    """

    num_frames: int = 0
    num_events: int = 0
    num_calls: int = 0
    seconds: float = 0.0
    latencies_ms: list[float] = field(default_factory=list)

    def speed(self) -> Speed:
        """The figures to report."""
        p50, p95 = np.percentile(self.latencies_ms, [50, 95]) if self.latencies_ms else (0.0, 0.0)
        return Speed(
            fps=self.num_frames / self.seconds if self.seconds else 0.0,
            mllm_calls_per_frame=self.num_calls / max(1, self.num_events),
            latency_ms_p50=float(p50),
            latency_ms_p95=float(p95),
            expressions_per_stream=self.num_events / max(1, self.num_frames),
        )


def segment_clip(
    pipeline: StreamPipeline,
    frames: np.ndarray,
    expressions: Sequence[str],
    fps: float,
    log: RunLog | None = None,
) -> np.ndarray:
    """Stream a clip through one session.

    Args:
        pipeline: A method's pipeline.
        frames: (T, H, W, 3) uint8 RGB.
        expressions: E expressions; they share the session, hence the image encoders.
        fps: Frames per second.
        log: Where to count; None counts nowhere.

    Returns:
        (E, T, H, W) bool masks.

    Raises:
        ValueError: If the pipeline leaves out a mask or gives one of another size.
    """
    events: list[StreamEvent] = []
    start = time.perf_counter()
    with StreamSession(pipeline) as session:
        query_ids = session.open(expressions)
        for index, image in enumerate(frames):
            events += session.step(Frame(index, index / fps, image))
        events += session.close()
    seconds = time.perf_counter() - start
    masks = np.zeros((len(expressions), *frames.shape[:3]), dtype=bool)
    seen = np.zeros(masks.shape[:2], dtype=bool)
    for event in events:
        if event.mask is None:
            continue
        row = query_ids.index(event.query_id)
        if event.mask.shape != masks.shape[2:]:
            raise ValueError(
                f"{type(pipeline).__name__} gave a mask of {event.mask.shape} for frames of {masks.shape[2:]}"
            )
        masks[row, event.frame_index] = event.mask
        seen[row, event.frame_index] = True
    if not seen.all():
        row, index = np.argwhere(~seen)[0]
        raise ValueError(f"{type(pipeline).__name__} gave no mask for {expressions[row]!r} in frame {index}")
    if log is not None:
        log.seconds += seconds
        log.num_frames += len(frames)
        log.num_events += int(seen.size)
        log.num_calls += sum(event.invoked_mllm for event in events if event.mask is not None)
        log.latencies_ms += {event.frame_index: event.latency_ms for event in events}.values()
    return masks


def oracle_masks(segmenter: Segmenter, frames: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The segmenter's masks when each frame's true box is its prompt: what perfect referring could reach.

    Args:
        segmenter: The model's own.
        frames: (T, H, W, 3) uint8 RGB.
        targets: (N, T, H, W) bool; where a target is hidden, the answer is an empty mask.

    Returns:
        (N, T, H, W) bool.
    """
    side = float(segmenter.image_size)
    height, width = frames.shape[1:3]
    result = np.zeros_like(targets)
    with torch.inference_mode():
        for t, image in enumerate(frames):
            visible = np.flatnonzero(targets[:, t].any(axis=(1, 2)))
            if not len(visible):
                continue
            boxes = np.array([_box(targets[n, t]) for n in visible])
            boxes = boxes * np.array([side / width, side / height] * 2)
            pixels = segmenter.preprocess([image])
            box_xyxy = torch.tensor(boxes, dtype=torch.float32, device=pixels.device)
            prompt = SegPrompt(box_xyxy=box_xyxy)
            prediction = segmenter.decode(segmenter.encode(pixels), prompt)
            for row, n in enumerate(visible):
                result[n, t] = upsample_mask(prediction.mask_logits[row : row + 1], (height, width))
    return result


def evaluate(
    pipeline: StreamPipeline,
    benchmark: Benchmark,
    *,
    model_name: str = "",
    floors: bool = False,
    segmenter: Segmenter | None = None,
    progress: Progress | None = None,
) -> EvaluationResult:
    """Score a pipeline on a benchmark.

    Floors, all scored against the true targets:
        shuffled: the model's masks for another expression of the same clip that means another object.
        empty: the model's masks for "the object".
        blank: the model's masks on constant grey frames, with the true expressions.
        largest: the true mask of the clip's largest object; no model.

    Args:
        pipeline: A method's pipeline, of ``model.pipeline()``.
        benchmark: See ``refstream.evaluation.benchmarks``.
        model_name: For the report.
        floors: Also measure the floors (the model runs over the clips about two more times).
        segmenter: The model's own; given, the ceiling ``oracle`` is measured with true boxes as prompts.
        progress: Called with the numbers of clips done and in all.
    """
    scores: dict[str, _Collector] = defaultdict(_Collector)
    log = RunLog()
    for number, clip in enumerate(benchmark):
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([benchmark.seed, number])))
        _score_clip(pipeline, clip, rng, floors, segmenter, scores, log)
        if progress is not None:
            progress(number + 1, len(benchmark))
    if not scores:
        raise ValueError(f"benchmark {benchmark.name!r} has no clips to score")
    model = scores.pop("model")
    ceiling = scores.pop("oracle", None)
    return EvaluationResult(
        benchmark=benchmark.name,
        model=model_name,
        settings=dict(benchmark.settings),
        num_clips=len(benchmark),
        scores=model.scores(benchmark.weights),
        speed=log.speed(),
        floors={name: collector.scores(benchmark.weights) for name, collector in scores.items()},
        ceiling=None if ceiling is None else ceiling.scores(benchmark.weights),
    )


class _Collector:
    """J and F of every item of one kind of run."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, bool, float, float]] = []

    def add(self, item: BenchmarkItem, result: np.ndarray) -> None:
        j, f = j_and_f(item.mask, result)
        self.rows.append((item.group, item.held_out, j, f))

    def scores(self, weights: dict[str, float]) -> Scores:
        groups = {
            group: _mean([row for row in self.rows if row[0] == group])
            for group in weights
            if any(row[0] == group for row in self.rows)
        }
        total = sum(weights[group] for group in groups)
        j = sum(weights[group] * score.j for group, score in groups.items()) / total
        f = sum(weights[group] * score.f for group, score in groups.items()) / total
        held_out = [row for row in self.rows if row[1]]
        return Scores(
            overall=Score(j, f, len(self.rows)),
            groups=groups,
            held_out=_mean(held_out) if held_out else None,
        )


def _mean(rows: list[tuple[str, bool, float, float]]) -> Score:
    """Mean J and F of the rows, x 100."""
    return Score(
        100 * sum(row[2] for row in rows) / len(rows),
        100 * sum(row[3] for row in rows) / len(rows),
        len(rows),
    )


def _score_clip(
    pipeline: StreamPipeline,
    clip: BenchmarkClip,
    rng: np.random.Generator,
    floors: bool,
    segmenter: Segmenter | None,
    scores: dict[str, _Collector],
    log: RunLog,
) -> None:
    expressions = [item.expression for item in clip.items]
    runs = {"model": segment_clip(pipeline, clip.frames, expressions, clip.fps, log)}
    if floors:
        blank = np.full_like(clip.frames, BLANK_VALUE)
        neutral = segment_clip(pipeline, clip.frames, [NEUTRAL_EXPRESSION], clip.fps)
        largest = clip.object_masks[int(np.argmax(clip.object_masks.sum(axis=(1, 2, 3))))]
        runs["shuffled"] = runs["model"][_other_targets(clip, rng)]
        runs["empty"] = np.repeat(neutral, len(expressions), axis=0)
        runs["blank"] = segment_clip(pipeline, blank, expressions, clip.fps)
        runs["largest"] = np.repeat(largest[None], len(expressions), axis=0)
    if segmenter is not None:
        runs["oracle"] = oracle_masks(segmenter, clip.frames, np.stack([item.mask for item in clip.items]))
    for name, masks in runs.items():
        for item, mask in zip(clip.items, masks, strict=True):
            scores[name].add(item, mask)


def _other_targets(clip: BenchmarkClip, rng: np.random.Generator) -> list[int]:
    """For each item the number of a random other one that means something else."""
    chosen = []
    for item in clip.items:
        others = [n for n, other in enumerate(clip.items) if other.target != item.target]
        if not others:
            raise ValueError(f"clip {clip.id} has one target only, so its expressions cannot be shuffled")
        chosen.append(others[int(rng.integers(len(others)))])
    return chosen


def _box(mask: np.ndarray) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 of a (H, W) bool mask's pixels, the last ones exclusive."""
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return float(cols[0]), float(rows[0]), float(cols[-1] + 1), float(rows[-1] + 1)
