"""Streams with mixed tasks: what a speaker that knows gets, what a shift costs, floors, resumption."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

from refstream.errors import UserError, VideoError
from refstream.evaluation.protocols.base import OVERALL
from refstream.evaluation.readers.minirvos_streams import minirvos_streams
from refstream.evaluation.stream_evaluation import BLACK, StreamEvaluation
from refstream.evaluation.stream_tasks import (
    StreamWorld,
    TaskStream,
    same_answer,
    score_question,
    summarize,
    usual_texts,
)
from refstream.evaluation.stream_truth import StreamQuestion
from refstream.stream_records import StreamAnswer, StreamAsk, StreamRecord
from refstream.structures import Frame
from tests.evaluation.scripted import Script, Scripted, frames_at

DURATION = 12
# Moments, an interval, a span to state, and one that changes; ends lie on whole seconds.
RECORDS = (
    StreamRecord(
        "v",
        "narration",
        (StreamAsk("say all", 0.0),),
        (StreamAnswer("it comes", 2.0), StreamAnswer("it goes", 6.0)),
    ),
    StreamRecord("v", "caption", (StreamAsk("say who", 1.0),), (StreamAnswer("it goes", 6.0, 4.0),)),
    StreamRecord("v", "grounding", (StreamAsk("when", 0.0),), (StreamAnswer("<4s-6s>", 6.0, 4.0),)),
    StreamRecord(
        "v",
        "now",
        (StreamAsk("how many", 3.0),),
        (StreamAnswer("1", 3.0), StreamAnswer("2", 7.0), StreamAnswer("1", 9.0)),
    ),
)


def frames(fps: float | None) -> Iterator[Frame]:
    return frames_at(np.arange(0, DURATION, 0.25))


def world(number: int = 2) -> StreamWorld:
    streams = [TaskStream(f"s{n}", RECORDS, frames) for n in range(number)]
    return StreamWorld("made up", "test", {"seed": 1}, streams)


def knowing(made: StreamWorld, shift: float = 0.0) -> Script:
    """By each record as it is written, not by the evaluation's own reading of it."""

    def script(query, time_s):
        question = made.questions[query.id]
        now = time_s - shift
        said = [answer.text for answer in question.answers if answer.end_s == now]
        if said:
            return said[0], "response"
        going = any(a.start_s is not None and a.start_s <= now < a.end_s for a in question.answers)
        return None, "standby" if going else "silence"

    return script


def test_one_that_knows_gets_everything():
    made = world()
    result = StreamEvaluation(Scripted(knowing(made)), made).result("it", floors=True)
    shares = ("f1", "f1_text", "precision", "recall", "text_accuracy", "silence_recall", "standby_recall")
    for group, values in result.summary.items():
        assert all(values[name] == 100 for name in shares if name in values), group
        assert (values["early"], values["late"], values["missed"], values["extra"]) == (0, 0, 0, 0)
    assert result.summary["grounding"]["span_iou"] == 100
    overall = result.summary[OVERALL]
    assert (overall["due"], overall["said"], overall["questions"]) == (14, 14, 8)
    assert (overall["delay_p50_s"], overall["delay_p95_s"]) == (0, 0)
    assert result.expected == {"streams": 2, "questions": 8}


def test_a_late_one():
    """One second late is within the tolerance, two are not; the standby turns that are left are counted."""
    made = world(1)
    one = StreamEvaluation(Scripted(knowing(made, 1.0)), made).result("it").summary
    assert one["caption"]["f1_text"] == 100
    assert one["caption"]["delay_p50_s"] == 1
    assert one["caption"]["standby_recall"] == 50
    assert one["caption"]["response_recall"] == 0
    two = StreamEvaluation(Scripted(knowing(made, 2.0)), made).result("it").summary
    assert two["caption"]["f1"] == 0
    assert (two["caption"]["late"], two["caption"]["extra"]) == (1, 0)
    # due 3, 7, 9; said 5, 9, 11: 9 is a hit for 9 with the words for 7, then 5 and 7 are two late and early
    assert (two["now"]["hits"], two["now"]["late"], two["now"]["text_accuracy"]) == (1, 2, 0)


def test_overall_is_the_mean_of_tasks():
    made = world(1)
    script = knowing(made)
    only = Scripted(lambda q, t: script(q, t) if q.expression == "say all" else (None, "silence"))
    summary = StreamEvaluation(only, made).result("it").summary
    assert [summary[task]["f1"] for task in ("narration", "caption", "grounding", "now")] == [100, 0, 0, 0]
    assert summary[OVERALL]["f1"] == 25
    assert summary[OVERALL]["missed"] == 5
    assert summary[OVERALL]["silence_recall"] == 100


def test_floors():
    made = world()
    evaluation = StreamEvaluation(Scripted(knowing(made)), made)
    floors = evaluation.result("it", floors=True).floors
    assert set(floors) == {"silent", "periodic", "constant", "true times", BLACK}
    silent = floors["silent"][OVERALL]
    assert (silent["f1"], silent["said"], silent["silence_recall"], silent["response_recall"]) == (
        0,
        0,
        100,
        0,
    )
    assert floors["true times"][OVERALL]["f1"] == 100
    # of three answers "1" is right twice; of two narrations one
    assert floors["true times"]["now"]["text_accuracy"] == pytest.approx(100 * 2 / 3)
    assert floors["true times"]["narration"]["text_accuracy"] == 50
    assert floors["constant"]["now"]["hits"] == 2, "at 3 s in both streams, as asked"
    assert floors["constant"]["now"]["f1_text"] == pytest.approx(100 * 2 * 2 / (6 + 2))
    # asked at 1 s and due once at 6 s: every six seconds is best, once and one second late
    periodic = floors["periodic"]["caption"]
    assert (periodic["hits"], periodic["said"], periodic["delay_p50_s"]) == (2, 2, 1)
    assert floors[BLACK][OVERALL]["f1"] == 100, "the script does not look"


def test_black_frames_are_black():
    brightest: list[int] = []
    made = world(1)
    pipeline = Scripted(knowing(made))
    encode = pipeline.encode
    pipeline.encode = lambda frame: (brightest.append(int(frame.image.max())), encode(frame))[1]
    evaluation = StreamEvaluation(pipeline, made)
    evaluation.run()
    assert set(brightest) == {50}
    brightest.clear()
    evaluation.run(BLACK)
    assert set(brightest) == {0}


def test_a_killed_run_goes_on(tmp_path):
    made = world(3)
    pipeline = Scripted(knowing(made))
    pipeline.fail_after = DURATION + 3
    with pytest.raises(KeyboardInterrupt):
        StreamEvaluation(pipeline, made, folder=tmp_path, key={"model": 1}).result("it")
    again = Scripted(knowing(made))
    result = StreamEvaluation(again, made, folder=tmp_path, key={"model": 1}).result("it")
    assert {query.split("/")[0] for query, _ in again.shown} == {"s1", "s2"}
    whole = StreamEvaluation(Scripted(knowing(made)), made).result("it")
    assert result.summary == whole.summary
    assert result.items == whole.items
    with pytest.raises(UserError, match=r"turns_per_second = 1\.0 then, 2\.0 now"):
        StreamEvaluation(Scripted(knowing(made), 2.0), made, folder=tmp_path, key={"model": 1}).run()


@pytest.mark.parametrize("per_stream", [1, 3])
def test_how_many_share_a_stream_does_not_matter(per_stream):
    made = world(1)
    alone = StreamEvaluation(Scripted(knowing(made)), made, per_stream=per_stream).run()
    assert alone == StreamEvaluation(Scripted(knowing(made)), made).run()


def test_a_stream_that_breaks_does_not_keep_the_others_from_being_run():
    def broken(fps: float | None) -> Iterator[Frame]:
        yield from frames_at([0.0, 1.0])
        raise VideoError("s0.mp4", "is damaged")

    made = world(2)
    made = StreamWorld("made up", "test", {}, [TaskStream("s0", RECORDS, broken), made.streams[1]])
    evaluation = StreamEvaluation(Scripted(knowing(made)), made)
    with pytest.raises(UserError, match=r"1 of 2 items failed.*s0\.mp4: is damaged"):
        evaluation.run()
    assert evaluation.ledger("model", "run").done() == {f"s1/{n}" for n in range(4)}


def test_without_states_what_is_said_counts():
    question = StreamQuestion("a", "v", "t", "x", 0.0, (StreamAnswer("hi", 1.0),))
    record = {"turns": [0.0, 1.0, 2.0], "events": [[1.0, "hi", None]]}
    item = score_question(question, record, 1.0)
    assert item.values == {"f1": 1, "f1_text": 1, "precision": 1, "recall": 1}
    assert item.details["states"] == {"silence": [2, 2], "standby": [0, 0], "response": [1, 1]}
    wordless = {"turns": [0.0, 1.0, 2.0], "events": [[1.0, None, "response"]]}
    item = score_question(question, wordless, 1.0)
    assert (item.values["f1"], item.values["f1_text"]) == (1, 0), "a response without words is one"


def test_answers_that_are_the_same():
    assert same_answer("The red Circle.", "the red circle")
    assert not same_answer("the blue circle", "the red circle")
    assert same_answer("<4s-7s>", "<4s-6s>")
    assert not same_answer("<1s-4s>", "<4s-6s>")
    assert not same_answer("soon", "<4s-6s>")


def test_wrong_requests():
    made = world()
    masks = Scripted(knowing(made))
    masks.answers = "masks"
    with pytest.raises(UserError, match="answers in masks"):
        StreamEvaluation(masks, made)
    with pytest.raises(UserError, match="at least one question, got 0"):
        StreamEvaluation(Scripted(knowing(made)), made, per_stream=0)
    with pytest.raises(UserError, match="no question, or two streams of one id"):
        _ = StreamWorld("x", "test", {}, [made.streams[0], made.streams[0]]).questions
    with pytest.raises(UserError, match="no question was scored"):
        summarize([])
    with pytest.raises(UserError, match="at least 10 s"):
        minirvos_streams(duration_s=1)


# ---------------------------------------------------------------- MiniRVOS


def test_minirvos_streams():
    made = minirvos_streams("val", seed=3, num_streams=4, size=32)
    again = minirvos_streams("val", seed=3, num_streams=4, size=32)
    other = minirvos_streams("val", seed=4, num_streams=4, size=32)
    assert made.fingerprint == again.fingerprint != other.fingerprint
    tasks = {question.task for question in made.questions.values()}
    assert tasks >= {"narration", "event_caption", "event_grounding", "time_sensitive_qa"}
    assert set(usual_texts(made)) == tasks
    stream = made.streams[0]
    assert [frame.time_s for frame in stream.frames(1.0)] == list(range(20))
    every = list(stream.frames(None))
    assert len(every) == 80
    np.testing.assert_array_equal(next(stream.frames(2.0)).image, every[0].image)
    assert made.first(2).settings["max_streams"] == 2
    assert len(made.first(2).questions) < len(made.questions)
    assert made.first(9) is made
    json.dumps(made.settings)


@pytest.mark.parametrize("fps", [1.0, 2.0])
def test_one_that_knows_minirvos_streams(fps):
    """Spoken in the first turn at or after each end, by the records themselves; ends lie between turns."""
    made = minirvos_streams("test", num_streams=5, size=32)

    def script(query, time_s):
        question = made.questions[query.id]
        turns = [k / fps for k in range(round(20 * fps))]
        first = max(turn for turn in turns if turn <= question.ask_s)
        before = {now: then for then, now in pairwise(turns)}.get(time_s, -1.0)
        is_first, is_last = time_s == first, time_s == turns[-1]
        said = [
            answer.text
            for answer in question.answers
            if (is_first or answer.end_s > before) and (is_last or answer.end_s <= time_s)
        ]
        return (" ".join(said), "response") if said else (None, None)

    summary = StreamEvaluation(Scripted(script, fps), made).result("it").summary
    assert summary[OVERALL]["f1_text"] == summary[OVERALL]["response_recall"] == 100
    assert 0 <= summary[OVERALL]["delay_p50_s"] <= summary[OVERALL]["delay_p95_s"] < 1 / fps
