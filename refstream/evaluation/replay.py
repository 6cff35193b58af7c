"""One pass of the image encoders over a video, many runs on its features.

For pipelines that differ in what does not touch the encoders, such as the gate. Each frame goes through each
encoder once; every pipeline then runs as it always does, through the same session, with the masks of a run of
its own. It is charged for the parts that it asked for, and for no others.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from refstream.errors import UserError
from refstream.evaluation.benchmark import MaskBenchmark
from refstream.evaluation.ledger import MemoryLedger
from refstream.evaluation.run import run_model
from refstream.models.protocols import StreamPipeline
from refstream.streaming.features import FrameFeatures
from refstream.structures import Frame, ImageFeatures, Query, StreamEvent


@dataclass
class Bill:
    """What one pipeline cost.

    Attributes:
        num_frames: Frames pushed, over all streams.
        num_events: Masks.
        num_calls: How many of them the MLLM had looked at.
        replay_s: Time in the session without the image encoders.
        encode_s: Time that the image encoders took, or would have taken again, for what it asked for.
    """

    num_frames: int = 0
    num_events: int = 0
    num_calls: int = 0
    replay_s: float = 0.0
    encode_s: float = 0.0

    def add(self, other: Bill) -> None:
        """Sum up."""
        self.num_frames += other.num_frames
        self.num_events += other.num_events
        self.num_calls += other.num_calls
        self.replay_s += other.replay_s
        self.encode_s += other.encode_s


def replay_video(
    pipelines: Sequence[StreamPipeline], benchmark: MaskBenchmark, video_id: str, per_stream: int
) -> list[tuple[MemoryLedger, Bill]]:
    """Run one video under each pipeline on shared features: the records of ``run_model``, and the costs.

    The features of the whole video stay in memory until all pipelines have run.

    Args:
        pipelines: Alike but for their gates.
        benchmark: Has the video.
        video_id: Of the video.
        per_stream: Most expressions in one session.

    Raises:
        UserError: If a pipeline's features are of a kind of its own.
    """
    alone = benchmark.subset([video_id])
    frames: dict[int, _SharedFeatures] = {}
    outcomes = []
    for pipeline in pipelines:
        masks, costs = MemoryLedger(), MemoryLedger()
        replayed = _Replayed(pipeline, frames)
        run_model(replayed, alone, masks, costs, per_stream=per_stream)
        bill = Bill(encode_s=replayed.charged_s)
        for record in (costs.read(name) or {} for name in costs.done()):
            bill.num_frames += record["num_frames"]
            bill.num_events += record["num_events"]
            bill.num_calls += record["num_calls"]
            bill.replay_s += record["seconds"]
        bill.replay_s = max(0.0, bill.replay_s - replayed.spent_s)
        outcomes.append((masks, bill))
    return outcomes


class _SharedFeatures:
    """The features of one frame, each part encoded when it is first asked for, and the time that took."""

    def __init__(self, features: FrameFeatures) -> None:
        self._features = features
        self._seconds: dict[str, float] = {}

    def part(self, name: str) -> tuple[Any, float, bool]:
        """(the part, seconds to encode it, whether it was encoded just now)."""
        fresh = name not in self._seconds
        start = now()
        value = getattr(self._features, name)  # kept by the features themselves
        if fresh:
            self._seconds[name] = now() - start
        return value, self._seconds[name], fresh


class _Charged(FrameFeatures):
    """Shared features as one session sees them: every part is charged once."""

    def __init__(self, shared: _SharedFeatures, replayed: _Replayed) -> None:
        self._shared, self._replayed = shared, replayed

    @cached_property
    def segmenter(self) -> ImageFeatures:
        """As ``FrameFeatures.segmenter``."""
        features: ImageFeatures = self._ask("segmenter")
        return features

    @cached_property
    def vision_tokens(self) -> Tensor:
        """As ``FrameFeatures.vision_tokens``."""
        tokens: Tensor = self._ask("vision_tokens")
        return tokens

    def _ask(self, name: str) -> Any:
        value, seconds, fresh = self._shared.part(name)
        self._replayed.charged_s += seconds
        if fresh:
            self._replayed.spent_s += seconds
        return value


class _Replayed:
    """A pipeline that finds the features of its frames in ``frames``, or puts them there.

    Attributes:
        spent_s: Time in the image encoders in the course of this run.
        charged_s: What that would have been without other runs before it.
    """

    def __init__(self, pipeline: StreamPipeline, frames: dict[int, _SharedFeatures]) -> None:
        self._pipeline, self._frames = pipeline, frames
        self.causal, self.max_frames = pipeline.causal, pipeline.max_frames
        self.spent_s = self.charged_s = 0.0

    def start(self, query: Query) -> Any:
        return self._pipeline.start(query)

    def encode(self, frame: Frame) -> FrameFeatures:
        shared = self._frames.get(frame.index)
        if shared is None:
            features = self._pipeline.encode(frame)
            if type(features) is not FrameFeatures:
                raise UserError(
                    f"{type(self._pipeline).__name__} has features of a kind of its own, "
                    f"{type(features).__name__}: it is not known what in them depends on the gate, so a "
                    "curve cannot share them; run one evaluation per gate instead"
                )
            shared = self._frames[frame.index] = _SharedFeatures(features)
        return _Charged(shared, self)

    def step(self, states: Sequence[Any], frame: Frame, features: Any) -> list[StreamEvent]:
        return self._pipeline.step(states, frame, features)

    def finish(self, state: Any) -> list[StreamEvent]:
        return self._pipeline.finish(state)


def now() -> float:
    """Seconds, once the GPU has done what it was told."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
