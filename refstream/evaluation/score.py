"""Predictions against the truth: a record per video, then the protocol's figures."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from refstream.evaluation.benchmark import EvalVideo, MaskBenchmark
from refstream.evaluation.ledger import Ledger, MemoryLedger, Record
from refstream.evaluation.predictions.base import Predictions
from refstream.evaluation.protocols.base import EvalProtocol, ItemScore
from refstream.evaluation.shards import ONE, Shard
from refstream.evaluation.workers import ITEM_TIMEOUT_S, run_items

Progress = Callable[[int, int], None]
SMALL = 20_000
"""Cost of all videos together below which starting processes takes longer than scoring."""


def score(
    benchmark: MaskBenchmark,
    predictions: Predictions,
    protocol: EvalProtocol,
    ledger: Ledger | None = None,
    *,
    shard: Shard = ONE,
    progress: Progress | None = None,
    jobs: int = 0,
    item_timeout: float = ITEM_TIMEOUT_S,
) -> list[ItemScore]:
    """Score every video that is not yet in the ledger.

    Args:
        benchmark: The truth.
        predictions: What to score.
        protocol: How.
        ledger: Where finished videos lie; None: nowhere.
        shard: The part of the videos that this process takes.
        progress: Called with the numbers of videos done and in all.
        jobs: Processes that score, each with a copy of benchmark and predictions; 0: this one alone. The
            scores are the same.
        item_timeout: Seconds for one video, with ``jobs``.

    Returns:
        The scores of the videos in the ledger, in the benchmark's order: all of them, if no other process
        has a part.

    Raises:
        FailedItems: If some videos could not be scored, once all others are in the ledger. See ``run_items``.
    """
    ledger = MemoryLedger() if ledger is None else ledger
    videos = shard.take(list(benchmark.videos), lambda video: video.cost)
    done = ledger.done()
    todo = [video for video in videos if video.id not in done]
    if jobs:  # the longest first, so that no process is left with it at the end
        todo.sort(key=lambda video: -video.cost)
    finished = len(videos) - len(todo)
    if progress is not None and finished:
        progress(finished, len(videos))

    def finish(item: str, record: Record) -> None:
        nonlocal finished
        ledger.write(item, record)
        finished += 1
        shard.report(f"after {item}" if jobs else "")
        if progress is not None:
            progress(finished, len(videos))

    work = ScoreVideo(benchmark, predictions, protocol)
    reporting = work if jobs else _Reported(work, shard)
    run_items(reporting, [video.id for video in todo], finish, jobs=jobs, timeout_s=item_timeout)
    shard.report("")
    return collect(benchmark, ledger)


class ScoreVideo:
    """From a video's id to its record; goes to other processes as a whole."""

    def __init__(self, benchmark: MaskBenchmark, predictions: Predictions, protocol: EvalProtocol) -> None:
        self.benchmark, self.predictions, self.protocol = benchmark, predictions, protocol
        self._videos: dict[str, EvalVideo] = {}

    def __call__(self, video_id: str) -> Record:
        """Score one video."""
        if not self._videos:
            self._videos = {video.id: video for video in self.benchmark.videos}
        return score_record(self.benchmark, self._videos[video_id], self.predictions, self.protocol)


class _Reported:
    """Says which video is in work."""

    def __init__(self, work: ScoreVideo, shard: Shard) -> None:
        self._work, self._shard = work, shard

    def __call__(self, video_id: str) -> Record:
        self._shard.report(video_id)
        return self._work(video_id)


def usual_jobs(benchmark: MaskBenchmark, shard: Shard = ONE) -> int:
    """Processes that are worth their start: one per core of this process's share, 0 for little work."""
    if sum(video.cost for video in benchmark.videos) < SMALL * shard.world:
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // shard.world)


def score_record(
    benchmark: MaskBenchmark, video: EvalVideo, predictions: Predictions, protocol: EvalProtocol
) -> Record:
    """The record of one video."""
    scores = protocol.score_video(benchmark, video, predictions)
    return {"item": video.id, "scores": [asdict(one) for one in scores]}


def collect(benchmark: MaskBenchmark, ledger: Ledger) -> list[ItemScore]:
    """All scores in a ledger, in the benchmark's order."""
    records = (ledger.read(video.id) for video in benchmark.videos)
    return [item_score(one) for record in records if record is not None for one in record["scores"]]


def item_score(record: dict[str, Any]) -> ItemScore:
    """An ``ItemScore`` that was JSON."""
    return ItemScore(**{**record, "missing": tuple(record["missing"])})
