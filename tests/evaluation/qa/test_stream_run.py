"""OVO-Bench by streaming: who knows the truth is perfect, who is late loses what can be told beforehand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from refstream.errors import UserError
from refstream.evaluation.ledger import FolderLedger, MemoryLedger
from refstream.evaluation.qa import QA_BENCHMARKS, score_answers
from refstream.evaluation.qa import stream_run as module
from refstream.evaluation.qa.ovo import OVOBench
from refstream.evaluation.qa.ovo_events import answers_from_events, read_event_log, stream_queries
from refstream.evaluation.qa.stream_run import (
    forward_timing,
    heard_logs,
    plan_streams,
    run_streams,
    stream_key,
    write_event_log,
)
from refstream.structures import Frame, Query
from refstream.synthetic.stream_writers import write_ovo
from refstream.synthetic.streams import MiniStreams
from refstream.video import write_video
from tests.evaluation.scripted import Script, Scripted

FPS, ROUNDED_S = 4.0, 1e-3
STRICT = QA_BENCHMARKS["ovo"].scorer("strict")


def knowing(benchmark: OVOBench, shift_s: float = 0.0, fps: float = 1.0) -> Script:
    """Speaks by the label laws of the file, in the first turn that shows it, later by a shift."""
    records = {str(record["id"]): record for record in benchmark.records}

    def script(query: Query, time_s: float) -> tuple[str | None, str | None]:
        record = records[query.id.split("/")[0]]
        now = time_s - shift_s + ROUNDED_S
        before = now - 1 / fps

        def begins(moment: float) -> float:
            """Where the turn of a moment begins."""
            return float(np.floor((moment + ROUNDED_S) * fps)) / fps

        def over(end: float) -> bool:
            return before < end <= now

        if record["task"] == "REC":
            ended = sum(over(end) for end in record["end_times"])
            return ("once more", "response") if ended else (None, "silence")
        if record["task"] == "CRR":
            return (record["answer"], "response") if over(record["clue_time"]) else (None, "silence")
        if record["task"] == "SSR":
            spans = zip(record["all_steps"], record["start_time"], record["end_time"], strict=True)
            own = [(start, end) for step, start, end in spans if query.id.endswith(f"/{step}")]
            if any(over(end) for _, end in own):
                return "done", "response"
            going = any(begins(start) <= now < end for start, end in own)
            return None, "standby" if going else "silence"
        # asked in the turn of its time
        is_now = 0 <= now - begins(record["realtime"]) < 2 * ROUNDED_S
        return ("ABCDE"[record["gt"]], "response") if is_now else (None, "silence")

    return script


def accuracies(benchmark: OVOBench, ledger: MemoryLedger) -> dict[str, float]:
    answers = answers_from_events(benchmark, heard_logs(benchmark, ledger), state="state")
    summary = score_answers(benchmark, answers, STRICT, with_floors=False).summary
    return {group: figures["accuracy"] for group, figures in summary.items()}


def run(benchmark: OVOBench, pipeline: Scripted, ledger=None, **options):
    ledger = MemoryLedger() if ledger is None else ledger
    return ledger, run_streams(pipeline, benchmark, ledger, MemoryLedger(), **options)


@pytest.fixture
def benchmark(ovo: OVOBench, tmp_path: Path) -> OVOBench:
    """The five records on two videos of ten seconds."""
    (tmp_path / "src_videos/a").mkdir(parents=True)
    images = [np.full((32, 48, 3), 2 * i + 20, dtype=np.uint8) for i in range(40)]
    write_video(tmp_path / "src_videos/b.mp4", images, fps=FPS)
    (tmp_path / "src_videos/a/one.mp4").symlink_to(tmp_path / "src_videos/b.mp4")
    return ovo


def test_one_that_knows_is_perfect(benchmark):
    pipeline = Scripted(knowing(benchmark))
    ledger, problems = run(benchmark, pipeline)
    assert problems == {}
    found = accuracies(benchmark, ledger)
    assert set(found.values()) == {100}
    assert {"task/EPM", "task/STU", "task/REC", "task/SSR", "task/CRR"} <= set(found)


def test_a_late_one_loses_what_it_should(benchmark):
    """One second late: at the question nothing is there yet; the counts at 2 and 9 s are 0 and 2, the second
    still right; pouring from 6 to 9 s instead of 5 to 8 is wrong at 9 s only; the clue comes after 6 s."""
    ledger, _ = run(benchmark, Scripted(knowing(benchmark, 1.0)))
    found = accuracies(benchmark, ledger)
    assert found["mode/Backward"] == found["mode/Realtime"] == 0
    assert found["task/REC"] == pytest.approx(100 * 2 / 3)
    assert found["task/SSR"] == pytest.approx(100 * 3 / 4)
    assert found["task/CRR"] == pytest.approx(100 * 2 / 3)


def test_timing_of_the_tasks_that_look_ahead(benchmark):
    ledger, _ = run(benchmark, Scripted(knowing(benchmark)))
    logs = heard_logs(benchmark, ledger)
    found = forward_timing(benchmark, logs)
    assert {task: (t.due, t.said, t.hits) for task, t in found.items()} == {
        "REC": (2, 2, 2),
        "SSR": (1, 1, 1),
        "CRR": (1, 1, 1),
    }, "the run of 8/boil ends before boiling does"
    assert found["REC"].delays_s == pytest.approx([0, 0], abs=1e-3)
    late, _ = run(benchmark, Scripted(knowing(benchmark, 1.0)))
    found = forward_timing(benchmark, heard_logs(benchmark, late))
    assert found["REC"].f1 == 1
    assert found["REC"].delay_s(50) == pytest.approx(1)
    assert (found["CRR"].hits, found["CRR"].missed) == (0, 1), "its run ends with the last question, at 6 s"
    assert forward_timing(benchmark, {"9": logs["9"]}).keys() == {"CRR"}


def test_no_frame_behind_the_last_question_of_a_query(benchmark):
    pipeline = Scripted(knowing(benchmark))
    run(benchmark, pipeline)
    ends = {query.id: query.end_s for query in stream_queries(benchmark)}
    assert {query for query, _ in pipeline.shown} == set(ends)
    assert all(time <= ends[query] + 1e-3 for query, time in pipeline.shown)
    assert max(time for query, time in pipeline.shown if query == "5") == pytest.approx(4.0)


@pytest.mark.parametrize("per_stream", [1, 8])
def test_how_many_share_a_stream_does_not_matter(benchmark, per_stream):
    ledger, _ = run(benchmark, Scripted(knowing(benchmark)), per_stream=per_stream)
    assert accuracies(benchmark, ledger)["overall"] == 100
    sizes = {1: 6, 8: 2}
    assert len(plan_streams(benchmark, per_stream)) == sizes[per_stream]


def test_a_killed_run_goes_on(benchmark, tmp_path):
    ledger = FolderLedger(tmp_path / "run", {"a": 1})
    pipeline = Scripted(knowing(benchmark))
    pipeline.fail_after = 5 + 8  # in the second video, at its 8th second: 8/boil ended with 2 s, 9 with 6 s
    with pytest.raises(KeyboardInterrupt):
        run(benchmark, pipeline, ledger)
    assert ledger.done() == {"5", "6", "8/boil", "9"}
    before = {name: ledger.path(name).stat().st_mtime_ns for name in ledger.done()}
    again = Scripted(knowing(benchmark))
    run(benchmark, again, FolderLedger(tmp_path / "run", {"a": 1}))
    assert {query for query, _ in again.shown} == {"7", "8/pour"}
    assert {name: ledger.path(name).stat().st_mtime_ns for name in before} == before
    assert accuracies(benchmark, ledger)["overall"] == 100
    finished = Scripted(knowing(benchmark))
    run(benchmark, finished, ledger)
    assert finished.encoded == []


def test_videos_that_cannot_be_read(benchmark, tmp_path):
    (tmp_path / "src_videos/a/one.mp4").unlink()
    ledger, problems = run(benchmark, Scripted(knowing(benchmark)))
    assert set(problems) == {"5", "6"}
    assert "one.mp4: no such file" in problems["5"]
    found = accuracies(benchmark, ledger)
    assert found["mode/Forward"] == 100
    assert found["mode/Backward"] == 0
    write_video(tmp_path / "src_videos/a/one.mp4", [np.zeros((16, 16, 3), dtype=np.uint8)] * 4, fps=FPS)
    _, problems = run(benchmark, Scripted(knowing(benchmark)), ledger)
    assert set(problems) == {"5"}, "question 6 at 2 s is within the slack of the second that there is"
    assert "one.mp4: the stream ends at 0.00 s, before question 5 at 4.50 s" in problems["5"]


def test_the_log_on_disk_says_the_same(benchmark, tmp_path):
    def script(query: Query, time_s: float) -> tuple[str | None, str | None]:
        return (None, None) if query.id == "7" else knowing(benchmark)(query, time_s)

    ledger, _ = run(benchmark, Scripted(script))
    path = write_event_log(tmp_path / "events.jsonl", benchmark, ledger)
    logs = read_event_log(path)
    assert logs.keys() == heard_logs(benchmark, ledger).keys()
    answers = answers_from_events(benchmark, logs, state="state")
    assert answers == answers_from_events(benchmark, heard_logs(benchmark, ledger), state="state")
    assert answers["7_2"] == "0", "it was asked and said nothing"


def test_words(benchmark):
    asked: dict[str, str] = {}

    def script(query: Query, time_s: float) -> tuple[str | None, str | None]:
        asked[query.id] = query.expression
        return None, None

    run(benchmark, Scripted(script))
    assert asked["7"] == "Tell me each time this has been done once more: jump"
    assert asked["8/pour"] == "Tell me when this step is done: pour"
    assert asked["9"] == "What falls? Answer as soon as you have seen enough."
    assert asked["5"] == benchmark.by_id["5"].prompt
    run(benchmark, Scripted(script), wording="plain")
    assert (asked["7"], asked["8/pour"], asked["9"]) == ("jump", "pour", "What falls?")
    assert asked["5"] == benchmark.by_id["5"].prompt


def test_wrong_requests(benchmark, ovo_file):
    speaker = Scripted(knowing(benchmark))
    with pytest.raises(UserError, match="unknown wording 'nice'; there are task, plain"):
        run(benchmark, speaker, wording="nice")
    with pytest.raises(UserError, match="at least one query, got 0"):
        run(benchmark, speaker, per_stream=0)
    with pytest.raises(UserError, match="source videos, not clips"):
        run(OVOBench(ovo_file.parent, chunked_dir=ovo_file.parent), speaker)
    speaker.answers = "masks"
    with pytest.raises(UserError, match="answers in masks"):
        run(benchmark, speaker)
    keys = [
        stream_key(benchmark, Scripted(knowing(benchmark), fps), w, 8)
        for fps, w in ((1, "task"), (2, "task"), (1, "plain"))
    ]
    assert keys[0] != keys[1]
    assert keys[0] != keys[2]


def test_minirvos_streams_as_ovo(tmp_path):
    """Whoever looks at every frame is perfect; at a turn a second the present and the past still are, but
    what ends between two turns is told too late for a question in between."""
    streams = MiniStreams("test", num_streams=2, size=32)
    report = write_ovo(tmp_path, streams)
    benchmark = OVOBench(tmp_path)
    assert sum(report.points.values()) == len(benchmark.questions)
    whole, _ = run(benchmark, Scripted(knowing(benchmark, fps=streams.fps), streams.fps), per_stream=64)
    assert set(accuracies(benchmark, whole).values()) == {100}
    slow, _ = run(benchmark, Scripted(knowing(benchmark), 1.0), per_stream=64)
    found = accuracies(benchmark, slow)
    assert found["mode/Backward"] == found["mode/Realtime"] == 100
    assert 50 < found["task/REC"] < 100
    late, _ = run(benchmark, Scripted(knowing(benchmark, 1.0), 1.0), per_stream=64)
    worse = accuracies(benchmark, late)
    assert worse["mode/Backward"] == worse["mode/Realtime"] == 0
    assert all(worse[f"task/{task}"] < found[f"task/{task}"] for task in ("REC", "SSR", "CRR"))


@pytest.mark.slow
def test_the_public_annotations(real_ovo, monkeypatch):
    """On frames without content. What is counted by its turns loses, beside the six counts that break the
    file's own law, those of actions that end within one second."""

    class Blank:
        def __init__(self, path: Path, **_: object) -> None:
            self.image = np.zeros((2, 2, 3), dtype=np.uint8)

        def __enter__(self) -> Blank:
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def __iter__(self) -> Iterator[Frame]:
            return (Frame(index, float(index), self.image) for index in range(3600))

    monkeypatch.setattr(module, "open_video", Blank)
    ledger, problems = run(real_ovo, Scripted(knowing(real_ovo)), per_stream=16)
    assert problems == {}
    found = accuracies(real_ovo, ledger)
    assert found["mode/Backward"] == found["mode/Realtime"] == 100
    assert found["task/REC"] == pytest.approx(100 * counted_in_turns(real_ovo, 0) / 698)
    assert found["task/SSR"] == found["task/CRR"] == 100
    late, _ = run(real_ovo, Scripted(knowing(real_ovo, 1.0)), per_stream=16)
    found = accuracies(real_ovo, late)
    assert found["mode/Backward"] == found["mode/Realtime"] == 0
    assert found["task/REC"] == pytest.approx(100 * counted_in_turns(real_ovo, 1) / 698)


def counted_in_turns(benchmark: OVOBench, shift: int) -> int:
    """Of how many points the count is that of the whole seconds in which an action ended by then."""
    right = 0
    for record in benchmark.records:
        for point in record["test_info"] if record["task"] == "REC" else ():
            seconds = {math.ceil(end) + shift for end in record["end_times"]}
            right += sum(second <= point["realtime"] for second in seconds) == point["count"]
    return right
