"""How fast a stream runs and where the milliseconds go."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from refstream.structures import StreamEvent

MAX_SAMPLES = 100_000
"""Latencies kept for the percentiles: the newest ones, so that an endless stream needs no endless memory."""


class LatencyStats:
    """Percentiles of the newest ``MAX_SAMPLES`` latencies; count and sum over all of them."""

    def __init__(self) -> None:
        self.count = 0
        self.total_ms = 0.0
        self._samples: deque[float] = deque(maxlen=MAX_SAMPLES)

    def add(self, latency_ms: float) -> None:
        """Record one latency."""
        if not latency_ms >= 0:
            raise ValueError(f"a latency must not be negative, got {latency_ms}")
        self.count += 1
        self.total_ms += latency_ms
        self._samples.append(latency_ms)

    def percentile(self, q: float) -> float | None:
        """The q-th percentile (0 to 100, linear between samples) in ms; None without samples."""
        return float(np.percentile(np.asarray(self._samples), q)) if self._samples else None

    @property
    def mean_ms(self) -> float | None:
        """Mean over all samples; None without any."""
        return self.total_ms / self.count if self.count else None


class StreamTimer:
    """Times frames and, inside them, named stages.

        timer = StreamTimer()
        pipeline = model.pipeline(stage=timer.stage)
        with timer.frame() as frame_events:
            frame_events.extend(session.step(frame))
        with timer.ending() as late_events:
            late_events.extend(session.close())
        timer.summary()

    Args:
        synchronize: Wait for the GPU at the borders of stages, so that each pays for its own kernels, at some
            cost in speed. Default: only where CUDA is initialised.
        clock: Seconds; replaced in tests.
    """

    def __init__(
        self, *, synchronize: bool | None = None, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._synchronize = synchronize
        self._clock = clock
        self.latency = LatencyStats()
        self.num_frames = 0
        self.num_mllm_calls = 0
        self.num_events = 0
        self._busy_ms = 0.0
        self._stage_ms: dict[str, float] = defaultdict(float)
        self._stage_count: dict[str, int] = defaultdict(int)
        self._start: float | None = None
        self._end = 0.0

    def _now(self) -> float:
        wanted = torch.cuda.is_initialized() if self._synchronize is None else self._synchronize
        if wanted:
            torch.cuda.synchronize()
        return self._clock()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time inside to the stage ``name``; stages may repeat within a frame."""
        start = self._now()
        try:
            yield
        finally:
            self._stage_ms[name] += (self._now() - start) * 1000.0
            self._stage_count[name] += 1

    @contextmanager
    def frame(self) -> Iterator[list[StreamEvent]]:
        """Time one frame; append its events to the list given, so that MLLM calls are counted.

        A frame without events has no latency yet: see ``ending``.
        """
        with self._busy() as events:
            yield events
        self.num_frames += 1

    @contextmanager
    def ending(self) -> Iterator[list[StreamEvent]]:
        """Time the end of a stream, where pipelines that buffer answer; append the events to the list."""
        with self._busy() as events:
            yield events

    @contextmanager
    def _busy(self) -> Iterator[list[StreamEvent]]:
        """The time inside is the latency of every frame whose events come with it."""
        events: list[StreamEvent] = []
        start = self._now()
        self._start = start if self._start is None else self._start
        yield events
        self._end = self._now()
        spent_ms = (self._end - start) * 1000.0
        self._busy_ms += spent_ms
        for _ in {event.frame_index for event in events}:
            self.latency.add(spent_ms)
        self.num_events += len(events)
        self.num_mllm_calls += sum(event.invoked_mllm for event in events)

    def summary(self) -> dict[str, Any]:
        """JSON-serialisable figures; those that need frames are None without any.

        ``fps`` is frames over the time spent in them and at the end; ``fps_end_to_end`` also counts what lies
        between (reading, writing). ``mllm_calls_per_frame`` is the share of events at which the MLLM looked,
        in [0, 1] however many queries there are. ``stage_ms`` is the mean per frame.
        """
        n = self.num_frames
        busy_s = self._busy_ms / 1000.0
        wall_s = self._end - self._start if self._start is not None else 0.0
        return {
            "frames": n,
            "fps": n / busy_s if busy_s > 0 else None,
            "fps_end_to_end": n / wall_s if wall_s > 0 else None,
            "mllm_calls": self.num_mllm_calls,
            "mllm_calls_per_frame": self.num_mllm_calls / self.num_events if self.num_events else None,
            "latency_ms_p50": self.latency.percentile(50),
            "latency_ms_p95": self.latency.percentile(95),
            "latency_ms_mean": self.latency.mean_ms,
            "stage_ms": {name: total / n for name, total in self._stage_ms.items()} if n else {},
            "stage_calls": dict(self._stage_count),
        }
