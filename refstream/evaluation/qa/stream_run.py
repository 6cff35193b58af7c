"""OVO-Bench by streaming: each thing is asked once, at its time, and the answers are read from what was said.

A video is streamed once for all of its questions (at most ``per_stream`` at a time). What was heard lies in a
ledger, one record per query, so that a killed run goes on where it stopped. No query sees a frame behind the
last time that is asked about; of what it said, the answer at a query point t uses what came until t.

Choices are asked in the words of the benchmark. What to say in the tasks that look ahead is worded here
(``WORDING``): the benchmark leaves it to the model, and no published run states its words.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from refstream.errors import OutputError, UserError
from refstream.evaluation.ledger import Ledger, Record
from refstream.evaluation.listening import Ask, Heard, check_speaks, listen, rate_of
from refstream.evaluation.metrics.timing import Timed, Timing, timing
from refstream.evaluation.qa.base import QABenchmark
from refstream.evaluation.qa.ovo import MODE_OF, OVOBench
from refstream.evaluation.qa.ovo_events import EventLog, StreamQuery, query_id, stream_queries
from refstream.evaluation.shards import ONE, Shard
from refstream.files import atomic_write_text
from refstream.models.protocols import StreamPipeline
from refstream.structures import Frame
from refstream.video import open_video

PER_STREAM = 8
"""Most queries that share a stream; each has a dialogue of its own in memory."""
Progress = Callable[[int, int], None]

TASK, PLAIN = "task", "plain"
WORDING: Mapping[str, Mapping[str, str]] = {
    TASK: {
        "REC": "Tell me each time this has been done once more: {text}",
        "SSR": "Tell me when this step is done: {text}",
        "CRR": "{text} Answer as soon as you have seen enough.",
    },
    PLAIN: {},
}
"""Name -> task -> template; a task without one is asked in the words of the annotations."""


@dataclass(frozen=True)
class StreamJob:
    """Queries of one video that share a stream."""

    video: str
    queries: tuple[StreamQuery, ...]

    @property
    def name(self) -> str:
        """Of the job's cost in the ledger."""
        return f"{self.video}#{self.queries[0].id}"

    @property
    def cost(self) -> int:
        """Roughly: seconds of video times dialogues."""
        return int(max(query.end_s for query in self.queries) + 1) * (1 + len(self.queries))


def plan_streams(benchmark: QABenchmark, per_stream: int = PER_STREAM) -> list[StreamJob]:
    """All jobs of a run: videos in the order of the file, their queries in the order of time.

    Raises:
        UserError: If ``per_stream`` is below 1.
    """
    if per_stream < 1:
        raise UserError(f"a stream needs at least one query, got {per_stream}")
    by_video: dict[str, list[StreamQuery]] = {}
    for query in stream_queries(benchmark):
        by_video.setdefault(query.video, []).append(query)
    jobs = []
    for video, queries in by_video.items():
        ordered = sorted(queries, key=lambda query: query.ask_s)
        starts = range(0, len(ordered), per_stream)
        jobs += [StreamJob(video, tuple(ordered[start : start + per_stream])) for start in starts]
    return jobs


def stream_key(
    benchmark: QABenchmark, pipeline: StreamPipeline, wording: str, per_stream: int
) -> dict[str, Any]:
    """What the records depend on besides the model, for the key of a ledger."""
    return {
        "benchmark": benchmark.name,
        "questions": benchmark.fingerprint,
        "way": "stream",
        "turns_per_second": rate_of(pipeline),
        "wording": wording,
        "words": dict(_wording(wording)),
        "per_stream": per_stream,
    }


def run_streams(
    pipeline: StreamPipeline,
    benchmark: QABenchmark,
    ledger: Ledger,
    costs: Ledger,
    *,
    wording: str = TASK,
    per_stream: int = PER_STREAM,
    max_side: int | None = None,
    shard: Shard = ONE,
    progress: Progress | None = None,
) -> dict[str, str]:
    """Ask what the ledger does not hold yet.

    Args:
        pipeline: Causal, answers in words; decides ``pipeline.fps`` times a second, or at every frame.
        benchmark: OVO-Bench, with its source videos.
        ledger: Gets a record per query, see ``Heard.record``.
        costs: Gets a ``ListeningCost`` per job that ran; differs from run to run.
        wording: Name of ``WORDING``.
        per_stream: Most queries in one stream.
        max_side: Shrink frames whose longer side is larger; None: as they are.
        shard: The part of the jobs that this process takes.
        progress: Called with the numbers of jobs done and in all, of this process.

    Returns:
        Query id -> why it could not be asked: its video is missing, broken or too short. It has no record,
        counts as wrong, and is tried again in the next run.

    Raises:
        UserError: If the pipeline gives no words, the wording is unknown, or the videos are cut to clips.
    """
    check_speaks(pipeline)
    words = _wording(wording)
    if isinstance(benchmark, OVOBench) and benchmark.chunked_dir is not None:
        raise UserError("a streaming run wants the source videos, not clips cut at the questions' times")
    jobs = shard.take(plan_streams(benchmark, per_stream), lambda job: job.cost)
    done = ledger.done()
    problems: dict[str, str] = {}
    for number, job in enumerate(jobs, 1):
        left = [query for query in job.queries if query.id not in done]
        if left:
            with shard.working_on(job.name):
                try:
                    _run_job(pipeline, benchmark, job, left, words, ledger, costs, max_side)
                except OutputError:  # the next one could not be written either
                    raise
                except UserError as error:
                    ended = ledger.done()
                    problems |= {query.id: str(error) for query in left if query.id not in ended}
        if progress is not None:
            progress(number, len(jobs))
    return problems


def heard_logs(benchmark: QABenchmark, ledger: Ledger) -> dict[str, EventLog]:
    """What the queries of a benchmark got, as ``answers_from_events`` takes it; those without a record are
    left out."""
    logs: dict[str, EventLog] = {}
    for query, record in _records(benchmark, ledger):
        log = logs.setdefault(query.id, EventLog())
        for time_s, text, state in record["events"]:
            if text is not None:
                log.text_times.append(time_s)
                log.texts.append(text)
            if state is not None:
                log.state_times.append(time_s)
                log.states.append(state)
    return logs


def write_event_log(path: str | Path, benchmark: QABenchmark, ledger: Ledger) -> Path:
    """All events as JSONL that ``read_event_log`` and ``refstream score`` read.

    A query that was asked and got nothing has one event without text.
    """
    lines = []
    for query, record in _records(benchmark, ledger):
        for time_s, text, state in record["events"] or [[record["turns"][0], None, None]]:
            row = {"query_id": query.id, "time_s": time_s, "text": text}
            lines.append(row if state is None else {**row, "extra": {"state": state}})
    atomic_write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return Path(path)


def forward_timing(benchmark: OVOBench, logs: Mapping[str, EventLog], **options: Any) -> dict[str, Timing]:
    """When it was said in the tasks that look ahead, which the benchmark's accuracy hardly tells.

    Due are, up to the end of the query: in REC every end of the action, in SSR the end of the step, in CRR
    the clue. Words are not compared. Queries that were not run count nowhere.

    Args:
        benchmark: With its annotations.
        logs: By query id.
        options: Of ``timing``: ``delta_s``, ``reach_s``.

    Returns:
        By task, those that were run.
    """
    records = {str(record["id"]): record for record in benchmark.records}
    record_of = {query_id(question): str(question.details["record"]) for question in benchmark.questions}
    found: dict[str, Timing] = {}
    for query in stream_queries(benchmark):
        if query.id not in logs or MODE_OF[query.task] != "Forward":
            continue
        times = _due_times(records[record_of[query.id]], query)
        said = [Timed(at) for at in logs[query.id].text_times if at <= query.end_s]
        due = [Timed(at) for at in times if query.ask_s <= at <= query.end_s]
        found[query.task] = found.get(query.task, Timing()) + timing(said, due, **options)
    return found


def _due_times(record: Mapping[str, Any], query: StreamQuery) -> list[float]:
    if query.task == "REC":
        return [float(at) for at in record["end_times"]]
    if query.task == "CRR":
        return [float(record["clue_time"])]
    steps = zip(record["all_steps"], record["end_time"], strict=True)
    return [float(end) for step, end in steps if step == query.text]


def _run_job(
    pipeline: StreamPipeline,
    benchmark: QABenchmark,
    job: StreamJob,
    queries: Sequence[StreamQuery],
    words: Mapping[str, str],
    ledger: Ledger,
    costs: Ledger,
    max_side: int | None,
) -> None:
    question = benchmark.by_id[queries[0].points[0]]
    path, fps = benchmark.video_path(question), benchmark.video_fps(question)
    asks = [
        Ask(
            query.id,
            words.get(query.task, "{text}").format(text=query.text),
            query.ask_s,
            query.end_s,
            at_end=MODE_OF[query.task] != "Forward",
        )
        for query in queries
    ]

    def finish(heard: Heard) -> None:
        ledger.write(heard.ask.id, {**heard.record(), "video": job.video})

    def frames() -> Iterator[Frame]:
        with open_video(path, max_side=max_side, fps=fps) as source:
            yield from source

    try:
        cost = listen(pipeline, frames(), asks, finish, fps=rate_of(pipeline))
    except UserError as error:
        raise error if str(path) in str(error) else UserError(f"{path}: {error}") from error
    costs.write(job.name, {"item": job.name, **asdict(cost)})


def _records(benchmark: QABenchmark, ledger: Ledger) -> Iterator[tuple[StreamQuery, Record]]:
    for query in stream_queries(benchmark):
        record = ledger.read(query.id)
        if record is not None:
            yield query, record


def _wording(name: str) -> Mapping[str, str]:
    if name not in WORDING:
        raise UserError(f"unknown wording {name!r}; there are {', '.join(WORDING)}")
    return WORDING[name]
