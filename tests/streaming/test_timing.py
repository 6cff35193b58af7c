"""Closed forms on a clock that the tests turn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from refstream.streaming.timing import MAX_SAMPLES, LatencyStats, StreamTimer
from refstream.structures import StreamEvent


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def event(invoked: bool) -> StreamEvent:
    return StreamEvent("0", 0, 0.0, invoked_mllm=invoked)


def test_percentiles_are_linear_between_samples():
    stats = LatencyStats()
    for value in (40.0, 10.0, 30.0, 20.0):
        stats.add(value)
    assert stats.percentile(50) == pytest.approx(25.0)
    assert stats.percentile(95) == pytest.approx(38.5)
    assert (stats.percentile(0), stats.percentile(100)) == (10.0, 40.0)
    assert (stats.mean_ms, stats.count) == (25.0, 4)


def test_no_samples_no_figures():
    assert LatencyStats().percentile(50) is None
    assert LatencyStats().mean_ms is None
    summary = StreamTimer().summary()
    assert summary["frames"] == 0
    assert summary["fps"] is summary["latency_ms_p95"] is summary["mllm_calls_per_frame"] is None


@pytest.mark.parametrize("value", [-1.0, float("nan")])
def test_impossible_latency(value):
    with pytest.raises(ValueError, match="negative"):
        LatencyStats().add(value)


def test_memory_is_bounded():
    stats = LatencyStats()
    for value in np.arange(MAX_SAMPLES + 1000, dtype=float):
        stats.add(value)
    assert stats.count == MAX_SAMPLES + 1000
    assert stats.percentile(0) == 1000.0


def test_stream_figures():
    clock = Clock()
    timer = StreamTimer(clock=clock)
    for number, busy_s in enumerate((0.1, 0.2, 0.3, 0.4)):
        with timer.frame() as events:
            for _ in range(2):
                with timer.stage("decode"):
                    clock.now += busy_s / 4
            with timer.stage("mllm"):
                clock.now += busy_s / 2
            events += [event(number == 0), event(False)]
        clock.now += 0.25  # reading and writing
    summary = timer.summary()
    assert summary["frames"] == 4
    assert summary["fps"] == pytest.approx(4 / 1.0)
    assert summary["fps_end_to_end"] == pytest.approx(4 / 1.75)
    assert summary["latency_ms_p50"] == pytest.approx(250.0)
    assert summary["latency_ms_p95"] == pytest.approx(385.0)
    assert summary["mllm_calls"] == 1
    assert summary["mllm_calls_per_frame"] == pytest.approx(1 / 8)
    assert summary["stage_ms"] == pytest.approx({"decode": 125.0, "mllm": 125.0})
    assert summary["stage_calls"] == {"decode": 8, "mllm": 4}


def test_a_frame_that_fails_is_not_counted_and_its_stage_is_closed():
    clock = Clock()
    timer = StreamTimer(clock=clock)

    def fail() -> None:
        with timer.frame(), timer.stage("decode"):
            clock.now += 1.0
            raise RuntimeError("poison")

    with pytest.raises(RuntimeError, match="poison"):
        fail()
    assert timer.num_frames == 0
    assert timer.summary()["stage_calls"] == {"decode": 1}


def test_masks_that_come_at_the_end():
    """A pipeline that buffers: all frames are paid for at the end, and all have waited for it."""
    clock = Clock()
    timer = StreamTimer(clock=clock)
    for _ in range(4):
        with timer.frame():
            clock.now += 0.01
    with timer.ending() as late:
        clock.now += 1.96
        late += [replace(event(t == 0), frame_index=t, query_id=q) for q in "01" for t in range(4)]
    summary = timer.summary()
    assert summary["frames"] == 4
    assert summary["fps"] == summary["fps_end_to_end"] == pytest.approx(2.0)
    assert summary["latency_ms_p50"] == pytest.approx(1960.0)
    assert summary["mllm_calls_per_frame"] == pytest.approx(2 / 8)
    assert timer.latency.count == 4


def test_synchronises_at_every_border_if_told_to(monkeypatch):
    calls: list[int] = []
    monkeypatch.setattr("torch.cuda.synchronize", lambda: calls.append(1))
    timer = StreamTimer(synchronize=True)
    with timer.frame(), timer.stage("decode"):
        pass
    assert len(calls) == 4
