"""The rules of compiling, each on a record small enough to work out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from refstream_projects.streamo.clock import StreamClock
from refstream_projects.streamo.compiler import StreamTurn, chunk_starts, chunks, compile_record, truncate

from refstream.errors import UserError
from refstream.stream_records import StreamAnswer, StreamAsk, StreamRecord

LETTER = {"silence": ".", "standby": "s", "response": "R"}


def record(asks=((0, "q"),), answers=(), duration=None):
    """asks: (time, text); answers: (start or None, end, text[, ask])."""
    return StreamRecord(
        video="v.mp4",
        task="narration",
        asks=tuple(StreamAsk(text, time) for time, text in asks),
        answers=tuple(StreamAnswer(text, end, start, *ask) for start, end, text, *ask in answers),
        duration_s=duration,
        id="r1",
    )


def states(dialogue):
    return "".join(LETTER[turn.state] for turn in dialogue.turns)


def said(dialogue):
    return {k: turn.answers for k, turn in enumerate(dialogue.turns) if turn.answers}


def asked(dialogue):
    return {k: turn.asks for k, turn in enumerate(dialogue.turns) if turn.asks}


@pytest.mark.parametrize(
    ("asks", "answers", "fps", "expected", "told"),
    [
        # an interval, asked when it begins: once, at its time, and answered by the frame that shows its end
        (((5, "q"),), ((5, 6, "A"),), 1, ".....sR...", {6: ("A",)}),
        (((0, "q"),), ((4, 6, "A"),), 1, "....ssR...", {6: ("A",)}),
        (((0, "q"),), ((4.2, 5.9, "A"),), 1, "....ssR...", {6: ("A",)}),
        (((0, "q"),), ((5, 6, "A"),), 2, "..........ssR.......", {12: ("A",)}),
        (((0, "q"),), ((5, 6, "A"),), 0.5, "..sR.", {3: ("A",)}),
        # a moment: no frame before it can show it
        (((0, "q"),), ((None, 5, "A"),), 1, ".....R....", {5: ("A",)}),
        (((0, "q"),), ((None, 5.2, "A"),), 1, "......R...", {6: ("A",)}),
        (((0, "q"),), ((None, 0, "A"),), 1, "R.........", {0: ("A",)}),
        # no time passes: no standby
        (((0, "q"),), ((5, 5, "A"),), 1, ".....R....", {5: ("A",)}),
        # back to back, overlapping, and several at once: none is lost
        (((0, "q"),), ((0, 5, "A"), (5, 10, "B")), 1, "sssssRsssR", {5: ("A",), 9: ("B",)}),
        (((0, "q"),), ((1, 4, "A"), (2, 6, "B")), 1, ".sssRsR...", {4: ("A",), 6: ("B",)}),
        (((0, "q"),), ((1, 4, "A"), (3, 4, "B"), (None, 3.5, "C")), 1, ".sssR.....", {4: ("C", "A", "B")}),
        # the end of the video
        (((0, "q"),), ((8, 10, "A"),), 1, "........sR", {9: ("A",)}),
        (((0, "q"),), ((8, 11, "A"),), 1, "........sR", {9: ("A",)}),
        (((0, "q"),), ((None, 9.7, "A"),), 1, ".........R", {9: ("A",)}),
        (((0, "q"),), ((8, 9, "A"), (9, 10, "B")), 1, "........sR", {9: ("A", "B")}),
        # before its question: at the question, and no standby earlier
        (((7, "q"),), ((1, 3, "A"),), 1, ".......R..", {7: ("A",)}),
        (((7, "q"),), ((5, 9, "A"),), 1, ".......ssR", {9: ("A",)}),
        (((3, "q"),), ((None, 1, "A"), (None, 2, "B")), 1, "...R......", {3: ("A", "B")}),
    ],
)
def test_states_and_answers(asks, answers, fps, expected, told):
    answers = sorted(answers, key=lambda a: a[1])
    dialogue = compile_record(record(asks, answers), StreamClock(fps), 10)
    assert (states(dialogue), said(dialogue)) == (expected, told)


def test_questions_stand_in_their_own_interval_and_nowhere_else():
    asks = ((2, "a"), (2.9, "b"), (5.5, "c"), (9.9, "d"))
    dialogue = compile_record(record(asks), StreamClock(), 10)
    assert asked(dialogue) == {2: ("a", "b"), 5: ("c",), 9: ("d",)}
    assert dialogue.turns[2].user_text() == "a\nb\n<2s-3s>"
    assert dialogue.turns[0].user_text() == "<0s-1s>"


def test_the_words_of_a_turn():
    turn = StreamTurn(0.5, 1, ("q",), "response", ("A.", "B."), (0, 0))
    assert (turn.user_text(), turn.assistant_text()) == ("q\n<0.5s-1s>", "<Response> A. B.")
    assert StreamTurn(0, 1).assistant_text() == "<Silence>"
    assert StreamTurn(0, 1, state="standby").assistant_text() == "<Standby>"
    for wrong in (dict(state="response"), dict(answers=("A",), answers_to=(0,)), dict(state="asleep")):
        with pytest.raises(ValueError, match="state"):
            StreamTurn(0, 1, **wrong)


def test_answers_know_their_questions():
    asks, answers = ((0, "a"), (4, "b")), ((None, 2, "A", 0), (None, 6, "B", 1), (None, 6.5, "C", 0))
    dialogue = compile_record(record(asks, answers), StreamClock(), 10)
    assert [turn.answers_to for turn in dialogue.turns if turn.answers] == [(0,), (1,), (0,)]


@pytest.mark.parametrize(
    ("kwargs", "duration", "message"),
    [
        (dict(asks=((10, "q"),)), 10, r"record 'r1': question 'q' is asked at 10 s, after the end .* 10 s"),
        (dict(asks=((10.3, "q"),)), 10.2, "asked at 10.3 s"),
        (
            dict(answers=((None, 11.5, "A"),)),
            10,
            r"answer 'A' ends at 11.5 s, more than one interval \(1 s\)",
        ),
        ({}, 0, "longer than 0 s, got 0"),
        ({}, float("nan"), "longer than 0 s"),
        ({}, None, "how long is the video"),
    ],
)
def test_what_lies_outside_of_the_video_is_an_error(kwargs, duration, message):
    with pytest.raises(UserError, match=message):
        compile_record(record(**kwargs), StreamClock(), duration)


def test_the_record_may_say_how_long_its_video_is():
    assert len(compile_record(record(duration=3.5), StreamClock()).turns) == 4


def random_record(rng, duration):
    asks = sorted((float(rng.uniform(0, duration - 1)), f"q{i}") for i in range(rng.integers(1, 4)))
    answers = []
    for i in range(rng.integers(0, 8)):
        end = float(np.round(rng.uniform(0, duration + 0.5), rng.integers(0, 3)))
        start = None if rng.random() < 0.4 else float(rng.uniform(0, end))
        answers.append((start, end, f"A{i}", int(rng.integers(len(asks)))))
    return record(asks, sorted(answers, key=lambda a: a[1]))


@pytest.mark.parametrize("fps", [0.5, 1, 2])
@pytest.mark.parametrize("seed", range(20))
def test_a_prefix_is_the_dialogue_of_the_shorter_stream(seed, fps):
    """Nothing in a turn depends on what comes later, and nothing of a record is lost."""
    rng, clock, duration = np.random.default_rng(seed), StreamClock(fps), 20.0
    made = random_record(rng, duration)
    dialogue = compile_record(made, clock, duration)
    assert len(dialogue.turns) == clock.intervals(duration)
    for count in range(1, len(dialogue.turns)):
        assert truncate(dialogue, count) == compile_record(made, clock, count / fps, ongoing=True)
    assert sorted(text for turn in dialogue.turns for text in turn.answers) == sorted(
        answer.text for answer in made.answers
    )
    assert [text for turn in dialogue.turns for text in turn.asks] == [ask.text for ask in made.asks]
    first_asked = {text: k for k, turn in enumerate(dialogue.turns) for text in turn.asks}
    for k, turn in enumerate(dialogue.turns):
        assert turn.state == "silence" or k >= min(first_asked.values())
        assert all(k >= first_asked[made.asks[q].text] for q in turn.answers_to)
    for ask in made.asks:  # never earlier than its interval
        assert dialogue.turns[first_asked[ask.text]].start_s <= ask.time_s + 1e-3
        assert dialogue.turns[first_asked[ask.text]].end_s > ask.time_s


def test_truncating_needs_turns():
    dialogue = compile_record(record(), StreamClock(), 5)
    for count in (0, 6):
        with pytest.raises(ValueError, match="has 5 turns"):
            truncate(dialogue, count)


@pytest.mark.parametrize(
    ("length", "size", "overlap"), [(10, 4, 0), (10, 4, 1), (9, 4, 1), (5, 4, 3), (4, 4, 0)]
)
def test_chunks_cover_everything_once_but_for_the_overlap(length, size, overlap):
    asks, answers = ((0, "q"),), [(None, k, f"A{k}") for k in range(length)]
    whole = compile_record(record(asks, answers), StreamClock(), length)
    pieces = chunks(whole, size, overlap)
    assert [piece.turns[0].start_s for piece in pieces] == list(chunk_starts(length, size, overlap))
    covered = [turn.label for piece in pieces for turn in piece.turns]
    assert len(covered) == length + overlap * (len(pieces) - 1)
    assert list(dict.fromkeys(covered)) == [turn.label for turn in whole.turns]
    assert all(len(piece.turns) <= size for piece in pieces)
    for piece in pieces:
        assert [turn.answers for turn in piece.turns] == [(f"A{turn.start_s:g}",) for turn in piece.turns]
        assert all(turn.answers_to == (0,) for turn in piece.turns)


def test_a_chunk_repeats_the_questions_that_are_still_open():
    asks = ((0, "one answer"), (1, "two answers"), (2, "to come"), (3, "no answer"), (5, "own"))
    answers = ((None, 1, "A", 0), (None, 1, "B", 1), (None, 2, "C", 1), (None, 6, "E", 4), (4, 7, "D", 2))
    first, second, third = chunks(compile_record(record(asks, answers), StreamClock(), 12), 4)
    assert asked(first) == {0: ("one answer",), 1: ("two answers",), 2: ("to come",), 3: ("no answer",)}
    assert asked(second) == {0: ("two answers", "to come", "no answer"), 1: ("own",)}
    assert second.turns[0].user_text().endswith("\n<4s-5s>")
    assert second.id == "r1 4s-8s"
    assert states(second) == "ssRR"  # E at 6 hides the standby of D
    assert [turn.answers_to for turn in second.turns] == [(), (), (3,), (1,)]
    assert asked(third) == {0: ("two answers", "no answer")}


def test_a_chunk_with_nothing_open_keeps_the_last_question():
    dialogue = compile_record(
        record(((0, "a"), (1, "b")), ((None, 1, "A", 0), (None, 2, "B", 1))), StreamClock(), 9
    )
    assert [asked(piece) for piece in chunks(dialogue, 3)] == [
        {0: ("a",), 1: ("b",)},
        {0: ("b",)},
        {0: ("b",)},
    ]
    later = compile_record(record(((0, "a"), (4, "b")), ((None, 1, "A", 0),)), StreamClock(), 6)
    assert asked(chunks(later, 3)[1]) == {1: ("b",)}  # it has a question of its own


def test_impossible_chunks_are_refused():
    dialogue = compile_record(record(), StreamClock(), 5)
    for size, overlap in ((0, 0), (3, 3), (3, -1)):
        with pytest.raises(ValueError, match="max_turns"):
            chunks(dialogue, size, overlap)


def test_states_are_counted():
    dialogue = compile_record(record(answers=((4, 6, "A"),)), StreamClock(), 10)
    assert dialogue.state_counts() == {"silence": 7, "standby": 2, "response": 1}
