"""A model on a benchmark: videos in, one record of masks per expression out.

The model is driven through ``StreamSession`` alone, the same path as demo and serving. What is finished lies
in a ledger, so a run that was killed goes on where it stopped.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from refstream.data import rle
from refstream.errors import OutputError, UserError
from refstream.evaluation.benchmark import EvalExpression, EvalVideo, MaskBenchmark
from refstream.evaluation.ledger import FolderLedger, Ledger, Record
from refstream.evaluation.predictions.base import Prediction
from refstream.evaluation.shards import ONE, Shard
from refstream.evaluation.workers import FailedItems, Failure
from refstream.models.protocols import StreamPipeline
from refstream.streaming.session import StreamSession
from refstream.structures import Frame, StreamEvent

PER_STREAM = 8
"""Most expressions of a video that share a session, hence the image encoders; memory grows with them."""
NO_WORDS = "the object"
"""Stands for an expression without words, which a session refuses and some benchmarks have."""
PROMPTS = "prompts"
"""Key of a record for the boxes of a pipeline that prompts with boxes; others have none."""
Progress = Callable[[int, int], None]
log = logging.getLogger(__name__)


@dataclass
class StreamCost:
    """What one stream cost; reading frames and writing masks are not counted.

    Attributes:
        num_frames: Frames pushed.
        num_events: Masks that came out.
        num_calls: How many of them the MLLM had looked at.
        seconds: Time in the session.
        first_mask_ms: Time in the session until the first mask was there.
        latencies_ms: One per frame.
    """

    num_frames: int = 0
    num_events: int = 0
    num_calls: int = 0
    seconds: float = 0.0
    first_mask_ms: float | None = None
    latencies_ms: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """Expressions of one video that run in one session."""

    video: EvalVideo
    expressions: tuple[EvalExpression, ...]

    @property
    def name(self) -> str:
        """Of the job's cost in the ledger."""
        return f"{self.video.id}/{self.expressions[0].id}"

    @property
    def cost(self) -> int:
        """Roughly; see ``EvalVideo.cost``."""
        return len(self.video.frames) * (2 + len(self.expressions))


def item_name(video: EvalVideo, expression: EvalExpression) -> str:
    """The name of an expression in the ledger."""
    return f"{video.id}/{expression.id}"


def plan(benchmark: MaskBenchmark, per_stream: int = PER_STREAM) -> list[Job]:
    """All jobs of a run, in the benchmark's order."""
    if per_stream < 1:
        raise UserError(f"a stream needs at least one expression, got {per_stream}")
    return [
        Job(video, tuple(video.expressions[start : start + per_stream]))
        for video in benchmark.videos
        for start in range(0, len(video.expressions), per_stream)
    ]


def stream_events(
    pipeline: StreamPipeline,
    images: Iterable[np.ndarray],
    expressions: Sequence[str],
    fps: float,
    cost: StreamCost,
) -> Iterator[tuple[int, StreamEvent]]:
    """Stream frames through one session; yield (number of the expression, event with a mask) as they come.

    Args:
        pipeline: A method's pipeline.
        images: (H, W, 3) uint8 RGB, one by one.
        expressions: They share the session, hence the image encoders.
        fps: Frames per second.
        cost: Where to count.
    """
    with StreamSession(pipeline) as session:
        row_of = {query: row for row, query in enumerate(session.open(expressions))}
        for index, image in enumerate(images):
            start = time.perf_counter()
            events = session.step(Frame(index, index / fps, image))
            yield from _counted(events, row_of, cost, time.perf_counter() - start)
            cost.num_frames += 1
        start = time.perf_counter()
        events = session.close()
        yield from _counted(events, row_of, cost, time.perf_counter() - start)


def _counted(
    events: Sequence[StreamEvent], row_of: dict[str, int], cost: StreamCost, seconds: float
) -> Iterator[tuple[int, StreamEvent]]:
    cost.seconds += seconds
    masked = [event for event in events if event.mask is not None]
    if masked and cost.first_mask_ms is None:
        cost.first_mask_ms = cost.seconds * 1000
    for event in masked:
        cost.num_events += 1
        cost.num_calls += event.invoked_mllm
        latest = cost.latencies_ms.get(event.frame_index, 0.0)
        cost.latencies_ms[event.frame_index] = max(latest, event.latency_ms)
        yield row_of[event.query_id], event


def segment_clip(
    pipeline: StreamPipeline, frames: np.ndarray, expressions: Sequence[str], fps: float
) -> np.ndarray:
    """Stream a clip through one session.

    Args:
        pipeline: A method's pipeline.
        frames: (T, H, W, 3) uint8 RGB.
        expressions: E expressions.
        fps: Frames per second.

    Returns:
        (E, T, H, W) bool masks.

    Raises:
        ValueError: If the pipeline leaves out a mask or gives one of another size.
    """
    masks = np.zeros((len(expressions), *frames.shape[:3]), dtype=bool)
    seen = np.zeros(masks.shape[:2], dtype=bool)
    for row, event in stream_events(pipeline, frames, expressions, fps, StreamCost()):
        masks[row, event.frame_index] = _checked(pipeline, event, frames.shape[1:3])
        seen[row, event.frame_index] = True
    _check_seen(pipeline, seen, expressions)
    return masks


def run_model(
    pipeline: StreamPipeline,
    benchmark: MaskBenchmark,
    masks: Ledger,
    costs: Ledger,
    *,
    per_stream: int = PER_STREAM,
    shard: Shard = ONE,
    progress: Progress | None = None,
) -> None:
    """Run what is not yet in the ledgers.

    Args:
        pipeline: A method's pipeline, of ``model.pipeline()``.
        benchmark: What to run it on.
        masks: A record per expression: ``masks`` (K codes), ``confidence`` (K), ``called`` (positions of
            frames at which the MLLM looked), ``size``. The same in every run. Where the pipeline prompts with
            boxes (``extra["boxes"]`` of its events) also ``prompts`` (K boxes around them, or None): x0, y0,
            x1, y1 in [0, 1].
        costs: A record per job: ``StreamCost``. Differs from run to run.
        per_stream: Most expressions in one session.
        shard: The part of the jobs that this process takes.
        progress: Called with the numbers of jobs done and in all, of this process.

    Raises:
        FailedItems: If frames of some videos cannot be read, once all others are in the ledgers.
    """
    silent = [item_name(v, e) for v in benchmark.videos for e in v.expressions if not e.text.strip()]
    if silent:
        log.warning("%d expressions have no words, such as %s; %r is asked", len(silent), silent[0], NO_WORDS)
    jobs = shard.take(plan(benchmark, per_stream), lambda job: job.cost)
    done, timed = masks.done(), costs.done()
    failures = []
    for number, job in enumerate(jobs):
        finished = all(item_name(job.video, e) in done for e in job.expressions) and job.name in timed
        if not finished:
            with shard.working_on(job.name):
                try:
                    _run_job(pipeline, benchmark, job, masks, costs)
                except OutputError:  # the next one could not be written either
                    raise
                except UserError as error:
                    failures.append(Failure(job.name, str(error)))
        if progress is not None:
            progress(number + 1, len(jobs))
    if failures:
        raise FailedItems(failures, len(jobs), "running")


def _run_job(
    pipeline: StreamPipeline, benchmark: MaskBenchmark, job: Job, masks: Ledger, costs: Ledger
) -> None:
    video = job.video
    row_in = {frame: k for k, frame in enumerate(video.scored_positions)}
    codes: list[list[rle.RLE | None]] = [[None] * len(row_in) for _ in job.expressions]
    sure = [[0.0] * len(row_in) for _ in job.expressions]
    prompts: list[list[list[float] | None]] = [[None] * len(row_in) for _ in job.expressions]
    called: list[list[int]] = [[] for _ in job.expressions]
    seen = np.zeros((len(job.expressions), len(row_in)), dtype=bool)
    cost = StreamCost()
    sizes: list[tuple[int, int]] = []

    def images() -> Iterator[np.ndarray]:
        for image in benchmark.images(video):
            sizes.append((image.shape[0], image.shape[1]))
            yield image

    texts = [expression.text if expression.text.strip() else NO_WORDS for expression in job.expressions]
    for row, event in stream_events(pipeline, images(), texts, video.fps, cost):
        mask = _checked(pipeline, event, sizes[event.frame_index])
        if event.invoked_mllm:
            called[row].append(event.frame_index)
        if event.frame_index in row_in:
            k = row_in[event.frame_index]
            codes[row][k] = rle.encode(mask) if mask.any() else None
            sure[row][k] = _confidence(event)
            prompts[row][k] = _prompt(pipeline, event)
            seen[row, k] = True
    if cost.num_frames != len(video.frames):
        raise UserError(f"{video.id}: {cost.num_frames} frames could be read, {len(video.frames)} are listed")
    _check_seen(pipeline, seen, texts)
    for row, expression in enumerate(job.expressions):
        item = item_name(video, expression)
        record: Record = {
            "item": item,
            "video": video.id,
            "expression": expression.id,
            "text": expression.text,
            "frames": list(video.scored_frames),
            "size": list(sizes[0]),
            "masks": codes[row],
            "confidence": sure[row],
            "called": called[row],
        }
        if any(box is not None for box in prompts[row]):
            record[PROMPTS] = prompts[row]
        masks.write(item, record)
    costs.write(
        job.name, {"item": job.name, **asdict(cost), "latencies_ms": list(cost.latencies_ms.values())}
    )


def _checked(pipeline: StreamPipeline, event: StreamEvent, size: tuple[int, ...]) -> np.ndarray:
    mask = np.asarray(event.mask, dtype=bool)
    if mask.shape != tuple(size):
        raise ValueError(f"{type(pipeline).__name__} gave a mask of {mask.shape} for frames of {tuple(size)}")
    return mask


def _check_seen(pipeline: StreamPipeline, seen: np.ndarray, expressions: Sequence[str]) -> None:
    if not seen.all():
        row, index = np.argwhere(~seen)[0]
        raise ValueError(f"{type(pipeline).__name__} gave no mask for {expressions[row]!r} in frame {index}")


def _confidence(event: StreamEvent) -> float:
    """The decoder's own estimate of its mask's IoU; 0 if it has none."""
    value = event.pred_iou
    return 0.0 if value is None or not math.isfinite(value) else min(1.0, max(0.0, float(value)))


def _prompt(pipeline: StreamPipeline, event: StreamEvent) -> list[float] | None:
    """The box around the event's boxes, each x0, y0, x1, y1 in [0, 1]; None if it has none, or took those of
    before (``extra["unspoken"]``)."""
    if event.extra.get("unspoken"):
        return None
    boxes = np.asarray(event.extra.get("boxes") or np.zeros((0, 4)), dtype=np.float64)
    if not len(boxes):
        return None
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not ((boxes >= 0) & (boxes <= 1)).all():
        raise ValueError(
            f"{type(pipeline).__name__} gave the boxes {event.extra['boxes']}; expected x0, y0, x1, y1 in "
            "[0, 1] for each"
        )
    return [float(side) for side in (*boxes[:, :2].min(0), *boxes[:, 2:].max(0))]


class RunPredictions:
    """The masks of a run, from its ledger or from the folder of one.

    Args:
        source: A ledger, or the folder of a ``FolderLedger``.
    """

    def __init__(self, source: Ledger | str | Path) -> None:
        self.ledger: Any = FolderLedger(source, must_exist=True) if isinstance(source, str | Path) else source

    @property
    def fingerprint(self) -> str:
        """Of the run's key; one key gives one set of masks."""
        return str(sorted(getattr(self.ledger, "key", {}).items()))

    def read(self, video: EvalVideo, expression: EvalExpression, size: tuple[int, int]) -> Prediction | None:
        """See ``Predictions.read``."""
        record = self.ledger.read(item_name(video, expression))
        if record is None:
            return None
        lacking = {"size", "frames", "text", "masks", "confidence"} - record.keys()
        if lacking:
            raise UserError(
                f"the run's record of {item_name(video, expression)} lacks {', '.join(sorted(lacking))}; "
                "delete its file in items/, then the same command makes it again"
            )
        if tuple(record["size"]) != tuple(size) or tuple(record["frames"]) != video.scored_frames:
            raise UserError(
                f"the run's record of {item_name(video, expression)} has {len(record['frames'])} frames of "
                f"{tuple(record['size'])}, the truth {len(video.scored_frames)} of {tuple(size)}; "
                "was it run on other data?"
            )
        if record["text"] != expression.text:
            raise UserError(
                f"the run's masks of {item_name(video, expression)} are for {record['text']!r}, not for "
                f"{expression.text!r}; was it run on another version of the data?"
            )
        return Prediction(
            masks=rle.decode_clip(record["masks"], size),
            confidence=np.array(record["confidence"], dtype=np.float64),
            prompts=_boxes(record.get(PROMPTS)),
        )


def _boxes(prompts: Sequence[Sequence[float] | None] | None) -> np.ndarray | None:
    """(K, 4), NaN for None."""
    if prompts is None:
        return None
    return np.array([[math.nan] * 4 if box is None else box for box in prompts], dtype=np.float64)
