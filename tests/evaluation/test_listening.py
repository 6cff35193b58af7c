"""Which frames are looked at, when a question is put, and that it gets nothing from behind its end."""

from __future__ import annotations

import math

import numpy as np
import pytest

from refstream.errors import UserError
from refstream.evaluation.ledger import MemoryLedger
from refstream.evaluation.listening import (
    FINAL,
    Ask,
    Heard,
    ListeningCost,
    listen,
    rate_of,
    speed_of,
    turn_frames,
    turn_indices,
    with_next,
)
from refstream.structures import StreamEvent
from tests.evaluation.scripted import Scripted, frames_at


def silent(query, time_s):
    return None, "silence"


def heard(pipeline: Scripted, times, *asks: Ask) -> dict[str, Heard]:
    found: dict[str, Heard] = {}
    listen(pipeline, frames_at(times), asks, lambda h: found.update({h.ask.id: h}), fps=pipeline.fps)
    return found


@pytest.mark.parametrize("native", [4.0, 23.976, 25.0, 29.97, 59.94])
@pytest.mark.parametrize("fps", [0.5, 1.0, 2.0])
def test_a_turn_is_the_first_frame_of_its_interval(native, fps):
    times = np.arange(int(600 * native)) / native
    turns = [frame.time_s for frame in turn_frames(frames_at(times), fps)]
    assert len(turns) == pytest.approx(600 * fps, abs=1)
    late = np.array(turns) - np.arange(len(turns)) / fps
    assert late.min() >= -1e-3
    assert late.max() < 1 / native + 1e-3, "no drift"
    assert times[turn_indices(times.tolist(), fps)].tolist() == turns


def test_turns_of_a_slow_or_broken_stream():
    assert [f.time_s for f in turn_frames(frames_at([0, 0.4, 3.2, 3.4, 4.1]), 1.0)] == [0, 3.2, 4.1]
    assert len(list(turn_frames(frames_at([0, 0.1, 0.2]), None))) == 3
    assert list(turn_frames(frames_at([]), 1.0)) == []


def test_a_question_is_put_in_the_turn_of_its_time_and_dropped_behind_its_end():
    pipeline = Scripted(silent)
    times = np.arange(0, 20, 0.25)
    found = heard(pipeline, times, Ask("a", "x", 4.5, 4.5), Ask("b", "x", 3.0, 7.9), Ask("c", "x", 0.0, 9.0))
    assert found["a"].turns == [4.0], "the last turn that is not later than the question"
    assert found["b"].turns == [3, 4, 5, 6, 7]
    assert found["c"].turns == list(range(10))
    assert pipeline.encoded == list(range(10)), "the stream is read no further than needed"
    for name, end in (("a", 4.5), ("b", 7.9), ("c", 9.0)):
        assert max(time for query, time in pipeline.shown if query == name) <= end


def test_times_between_two_frames():
    """At 29.97 frames a second the turn of second 5 comes at 5.005 s, later than a question at 5 s."""
    times = np.arange(300) / 29.97
    assert heard(Scripted(silent), times, Ask("a", "x", 5.0, 5.0))["a"].turns == pytest.approx([4.004004])
    assert heard(Scripted(silent), times, Ask("a", "x", 5.1, 5.1))["a"].turns == pytest.approx([5.005005])


def test_the_memory_of_the_stream_goes_back_before_the_question():
    pipeline = Scripted(silent)
    heard(pipeline, np.arange(0, 8, 0.5), Ask("a", "x", 5, 6))
    assert pipeline.encoded == [0, 1, 2, 3, 4, 5, 6]
    assert pipeline.shown == [("a", 5), ("a", 6)]


def test_side_by_side_is_alone():
    def script(query, time_s):
        return (f"{query.expression} {time_s:g}", "response") if time_s % 3 == 0 else (None, "standby")

    asks = [Ask(str(n), f"what {n}", n, n + 5) for n in range(6)]
    times = np.arange(0, 12, 0.1)
    together = heard(Scripted(script), times, *asks)
    for ask in asks:
        assert heard(Scripted(script), times, ask)[ask.id] == together[ask.id]
    assert together["2"].events[1] == (3.0, "what 2 3", "response")


def test_every_frame_is_a_turn_without_a_rate():
    assert len(heard(Scripted(silent, None), np.arange(0, 3, 0.25), Ask("a", "x"))["a"].turns) == 12


def test_the_last_turn_takes_what_was_rounded_up():
    found = heard(Scripted(silent), np.arange(0, 9.7, 0.1), Ask("a", "x", 10.0, 10.0))
    assert found["a"].turns == [9.0]
    with pytest.raises(UserError, match=r"ends at 9\.00 s, before question b at 14\.00 s"):
        heard(Scripted(silent), np.arange(0, 9.7, 0.1), Ask("b", "x", 14, 15))
    with pytest.raises(UserError, match="ends at no frame, before question b"):
        heard(Scripted(silent), [], Ask("b", "x", 1, 2))


def test_what_was_finished_before_an_error_is_kept():
    found: list[str] = []
    asks = [Ask("a", "x", 0, 2), Ask("b", "x", 50)]
    with pytest.raises(UserError, match="before question b"):
        listen(
            Scripted(silent), frames_at(np.arange(0, 9, 0.5)), asks, lambda h: found.append(h.ask.id), fps=1
        )
    assert found == ["a"]


def test_an_answer_for_the_end_counts_where_one_is_wanted():
    pipeline = Scripted(silent)
    final = StreamEvent("a", 4, 4.0, text="last", reason=FINAL, extra={"state": "response"})
    pipeline.finish = lambda state: [final]
    times = np.arange(0, 9, 0.5)
    events = heard(pipeline, times, Ask("a", "x", 3, 4.2, at_end=True))["a"].events
    assert events == [(3.0, None, "silence"), (4.0, None, "silence"), (4.0, "last", "response")]
    assert len(heard(pipeline, times, Ask("a", "x", 3, 4.2))["a"].events) == 2


def test_pipelines_that_do_not_fit():
    masks, ahead, odd, future = (Scripted(silent) for _ in range(4))
    masks.answers = "masks"
    ahead.causal = False
    odd.script = lambda q, t: (None, "asleep")
    future.step = lambda states, frame, x: [StreamEvent("a", 9, frame.time_s + 1, text="soon")]
    for pipeline, message in (
        (masks, "answers in masks"),
        (ahead, "waits for the end"),
        (odd, "state is 'asleep'"),
        (future, r"spoke of 1\.0 s when the last frame was of 0\.0 s"),
    ):
        with pytest.raises(ValueError, match=message):
            heard(pipeline, [0, 1], Ask("a", "x"))


def test_rates():
    assert rate_of(Scripted(silent, 2)) == 2.0
    assert rate_of(Scripted(silent, None)) is None
    with pytest.raises(UserError, match="object does not say how often it decides"):
        rate_of(object())
    with pytest.raises(UserError, match="decides 0 times a second"):
        rate_of(Scripted(silent, 0))
    with pytest.raises(ValueError, match="asked at 3 s, ends at 2 s"):
        Ask("a", "x", 3, 2)


def test_records_and_costs():
    ledger = MemoryLedger()
    assert speed_of(ledger) is None
    cost = listen(Scripted(silent), frames_at([0, 0.5, 1]), [Ask("a", "x")], lambda h: None, fps=1.0)
    assert (cost.num_turns, len(cost.latencies_ms)) == (2, 2)
    ledger.write("1", {"item": "1", "seconds": 2.0, "num_turns": 2, "latencies_ms": [500.0, 1500.0]})
    speed = speed_of(ledger)
    assert speed == {
        "turns": 2.0,
        "turns_per_second": 1.0,
        "latency_ms_p50": 1000.0,
        "latency_ms_p95": pytest.approx(1450.0),
    }
    assert ListeningCost().seconds == 0
    record = Heard(Ask("a", "x", 1), [1.0000001], [(1.0000001, "hi", None)]).record()
    assert record["turns"] == [1.0]
    assert record["events"] == [[1.0, "hi", None]]
    assert record["end_s"] is None
    assert math.isinf(Ask("a", "x").end_s)


def test_with_next():
    assert list(with_next([1, 2, 3])) == [(1, 2), (2, 3), (3, None)]
    assert list(with_next([])) == []
