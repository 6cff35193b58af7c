"""The public converter's golden turns, and where ours differ from them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from refstream_projects.streamo.clock import StreamClock
from refstream_projects.streamo.compiler import compile_record
from refstream_projects.streamo.records import parse_record
from refstream_projects.streamo.release import compile_release, release_frame, release_frame_count
from refstream_projects.streamo.states import RELEASE_TOKENS

from refstream.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = Path(os.environ.get("REFSTREAM_GOLDEN") or ROOT / "tests" / "golden") / "streamo"
CASES = {case["name"]: case for case in json.loads((GOLDEN / "converter.json").read_text())["cases"]}
RUNS = [(n, f) for n, case in CASES.items() for f in ("turns", "turns_fps2") if case[f] is not None]


def test_all_golden_runs_are_there():
    assert (len(CASES), len(RUNS)) == (10, 12)


@pytest.mark.parametrize(("name", "key"), RUNS)
def test_turns_equal_the_public_converters(name, key):
    case = CASES[name]
    made = compile_release(case["raw"], case["frame_count"], 2 if key == "turns_fps2" else 1)
    assert [list(turn) for turn in made] == case[key]


def ours(name):
    case = CASES[name]
    record = parse_record(case["raw"], name)
    return compile_record(record, StreamClock(), case["frame_count"])


@pytest.mark.parametrize("name", ["plain_interval", "question_later", "contiguous_events"])
def test_an_interval_is_answered_in_the_releases_frame_and_a_question_waits(name):
    """Of the release's answers to intervals, all that it keeps stand in the same turn as ours."""
    intervals = {r["content"] for r in CASES[name]["raw"]["response"] if r["st_time"]}
    mine = {text: k for k, turn in enumerate(ours(name).turns) for text in turn.answers}
    for k, (_, reply) in enumerate(CASES[name]["turns"]):
        text = reply.removeprefix(f"{RELEASE_TOKENS[2]} ")
        if text in intervals:
            assert mine[text] == k
    assert set(mine) == {r["content"] for r in CASES[name]["raw"]["response"]}  # none is lost


def test_what_the_release_loses_or_leaks_is_kept():
    turns = ours("contiguous_events").turns
    assert [t.answers for t in turns if t.answers] == [("event aiicgb.",), ("event hhdaje.",)]
    assert ours("event_to_end_of_video").turns[-1].answers == ("event eafbhg.",)
    assert [k for k, t in enumerate(ours("question_later").turns) if t.asks] == [7]
    assert [(k, t.answers) for k, t in enumerate(ours("answer_before_question").turns) if t.answers] == [
        (7, ("event jebigh.",))
    ]
    both = ours("two_in_one_second").turns
    assert both[2].asks == ("first question?", "second question?")
    assert both[4].answers == ("first answer.", "second answer.")


def test_what_the_release_drops_in_silence_is_an_error():
    with pytest.raises(UserError, match=r"question 0, time: 'soon' is not a time"):
        ours("out_of_range_and_unparsable")
    with pytest.raises(UserError, match="asks nothing"):
        ours("no_question")


@pytest.mark.parametrize(
    ("value", "fps", "frame"),
    [
        (5, 2, 5),
        (5.9, 2, 5),
        ("5", 2, 5),
        ("5.5", 2, 11),
        ("1:02", 2, 124),
        ("0:01:02.6", 1, 62),
        ("", 1, None),
    ],
)
def test_only_some_times_are_scaled(value, fps, frame):
    assert release_frame(value, fps) == frame


@pytest.mark.parametrize(("native", "count"), [(29.97, 310), (23.976, 312), (25, 300), (60, 300)])
def test_five_minutes_give_too_many_frames(native, count):
    assert release_frame_count(int(300 * native), native) == count
