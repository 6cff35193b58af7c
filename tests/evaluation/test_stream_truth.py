"""When answers are due, worked out by hand from the rules."""

from __future__ import annotations

import pytest

from refstream.evaluation.stream_truth import StreamQuestion, questions_of, turn_truth
from refstream.stream_records import StreamAnswer, StreamAsk, StreamRecord

SECONDS = [float(k) for k in range(10)]
LETTERS = {"silence": "s", "standby": "t", "response": "r"}


def truth(answers: list[StreamAnswer], turns=SECONDS, fps=1.0, ask_s=0.0) -> tuple[list, str]:
    question = StreamQuestion("a", "v", "task", "what", ask_s, tuple(answers))
    found = turn_truth(question, turns, fps)
    return [(due.time_s, due.text) for due in found.due], "".join(LETTERS[s] for s in found.states)


def test_an_interval():
    due, states = truth([StreamAnswer("red", 6.0, 4.0)])
    assert due == [(6.0, "red")]
    assert states == "sssstt" + "r" + "sss"
    assert truth([StreamAnswer("red", 6.2, 4.9)]) == ([(6.2, "red")], "ssssttt" + "r" + "ss")


def test_a_moment():
    assert truth([StreamAnswer("red", 3.0)]) == ([(3.0, "red")], "sssrssssss")
    assert truth([StreamAnswer("red", 3.0001)]) == ([(3.0001, "red")], "sssrssssss"), "times are rounded"
    assert truth([StreamAnswer("red", 3.25)]) == ([(3.25, "red")], "ssssrsssss")
    assert truth([StreamAnswer("red", 0.0)])[1] == "rsssssssss"


def test_back_to_back_and_overlapping():
    due, states = truth([StreamAnswer("a", 5, 0), StreamAnswer("b", 9, 5)])
    assert due == [(5, "a"), (9, "b")]
    assert states == "tttttrtttr"
    due, states = truth([StreamAnswer("a", 4, 1), StreamAnswer("b", 6, 2)])
    assert states == "stttrtrsss"


def test_several_in_one_turn_are_one_text():
    due, states = truth([StreamAnswer("a", 3.25), StreamAnswer("b", 3.75, 3.0), StreamAnswer("c", 4.25)])
    assert due == [(3.75, "a b"), (4.25, "c")]
    assert states == "ssstrrssss"


def test_the_end_of_the_stream():
    due, states = truth([StreamAnswer("a", 10.0, 8.0)])
    assert due == [(9.0, "a")], "no turn shows it; the last one has to do"
    assert states == "sssssssstr"


def test_known_before_it_was_asked():
    """Asked at 5.5 s, in the turn of second 5: what was over by then is due at once, without standby."""
    answers = [StreamAnswer("a", 2.0, 1.0), StreamAnswer("b", 7.0, 4.0)]
    due, states = truth(answers, turns=SECONDS[5:], ask_s=5.5)
    assert due == [(5.0, "a"), (7.0, "b")]
    assert states == "rtrss"


def test_other_rates():
    halves = [k / 2 for k in range(20)]
    due, states = truth([StreamAnswer("a", 3.25, 1.5)], halves, 2.0)
    assert due == [(3.25, "a")]
    assert states == "sss" + "tttt" + "r" + "s" * 12
    late = [k + 0.03 for k in range(10)]  # the first frame of each second comes a little late
    assert truth([StreamAnswer("a", 3.02)], late, 1.0)[1] == "ssssrsssss"
    assert truth([StreamAnswer("a", 3.02)], late, None)[1] == "sssrssssss", "every frame is a turn"


def test_nothing_is_due():
    assert truth([]) == ([], "ssssssssss")
    with pytest.raises(ValueError, match="question a has no turn"):
        truth([], turns=[])


def test_a_record_with_two_questions():
    record = StreamRecord(
        "v.mp4",
        "narration",
        (StreamAsk("all", 0.0), StreamAsk("how many", 4.0)),
        (StreamAnswer("x", 2.0), StreamAnswer("3", 4.0, None, 1), StreamAnswer("y", 6.0)),
    )
    first, second = questions_of(record, "r", "v")
    assert (first.id, first.text, [a.text for a in first.answers]) == ("r/0", "all", ["x", "y"])
    assert (second.id, second.ask_s, [a.text for a in second.answers]) == ("r/1", 4.0, ["3"])
    (only,) = questions_of(StreamRecord("v.mp4", "t", (StreamAsk("all"),)), "r", "v")
    assert (only.id, only.stream, only.task) == ("r", "v", "t")
