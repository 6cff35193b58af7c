"""Streamo-Instruct JSON: the published example, both spellings, tags, and broken records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from refstream_projects.streamo.clock import StreamClock
from refstream_projects.streamo.compiler import chunks, compile_record
from refstream_projects.streamo.states import RELEASE_TOKENS, STATE_TOKENS
from refstream_projects.streamo.stream_json import (
    instruct_row,
    parse_instruct,
    read_instruct,
    system_prompt,
    write_instruct,
    write_rows,
)

from refstream.errors import OutputError, UserError
from refstream.stream_records import StreamAnswer, StreamAsk, StreamRecord

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT.parent / "shared" / "data" / "streaming_text" / "streamo"


def dialogue(fps=1.0, duration=6.0):
    asks = (StreamAsk("q\nwith two lines?", 1),)
    answers = (StreamAnswer("a.", 4, 2.5), StreamAnswer("b.", 5))
    return compile_record(
        StreamRecord("x/v.mp4", "narration", asks, answers, id="i"), StreamClock(fps), duration
    )


def row(*turns, **changes):
    said = [
        m for u, a in turns for m in ({"role": "user", "content": u}, {"role": "assistant", "content": a})
    ]
    return {"messages": said, "videos": ["v.mp4"], "task_type": "QA", **changes}


GOOD = ("q\n<0s-1s>\n<stream>", "<Silence>")


@pytest.mark.parametrize("tokens", [STATE_TOKENS, RELEASE_TOKENS])
@pytest.mark.parametrize("fps", [0.5, 1, 2, 3, 1 / 3])
def test_written_dialogues_are_read_as_they_were(tmp_path, tokens, fps):
    made = [dialogue(fps), *chunks(dialogue(fps, 30.0), 4)]
    assert write_instruct(tmp_path / "out.json", made, tokens) == len(made)
    read = read_instruct(tmp_path / "out.json")
    assert [(d.video, d.task, d.id) for d in read] == [(d.video, d.task, d.id) for d in made]
    for got, expected in zip(read, made, strict=True):
        assert got.clock.fps == pytest.approx(fps)
        assert [t.label for t in got.turns] == [t.label for t in expected.turns]
        assert [t.user_text() for t in got.turns] == [t.user_text() for t in expected.turns]
        assert [t.assistant_text() for t in got.turns] == [t.assistant_text() for t in expected.turns]
        assert [t.state for t in got.turns] == [t.state for t in expected.turns]
        assert got.system == system_prompt(tokens)


def test_the_form_of_a_record():
    made = instruct_row(dialogue(), RELEASE_TOKENS, system="be quiet")
    assert made["messages"][0] == {"role": "system", "content": "be quiet"}
    assert [m["role"] for m in made["messages"][1:]] == ["user", "assistant"] * 6
    assert made["messages"][1] == {"role": "user", "content": "<0s-1s>\n<stream>"}
    assert made["messages"][3]["content"] == "q\nwith two lines?\n<1s-2s>\n<stream>"
    assert made["messages"][10]["content"] == "</Response> a."
    assert {key: value for key, value in made.items() if key != "messages"} == {
        "videos": ["x/v.mp4"],
        "video_name": "v.mp4",
        "task_type": "narration",
        "id": "i",
    }
    assert instruct_row(dialogue(), system="")["messages"][0]["role"] == "user"


def test_the_system_message_writes_the_states_as_the_turns_do():
    for tokens in (STATE_TOKENS, RELEASE_TOKENS):
        assert all(token in system_prompt(tokens) for token in tokens)
    released = parse_instruct({**row(GOOD), **instruct_row(dialogue(), RELEASE_TOKENS)}, "r")
    assert instruct_row(released)["messages"][0]["content"] == system_prompt(STATE_TOKENS)


def test_an_answer_belongs_to_the_last_question_before_it():
    turns = [GOOD, ("r\n<1s-2s>\n<stream>", "<Response> a"), ("<2s-3s>\n<stream>", "<Response> b")]
    made = parse_instruct(row(*turns), "r")
    assert [t.answers_to for t in made.turns] == [(), (1,), (1,)]
    early = row(("<0s-1s>\n<stream>", "</Response> a"), ("q\n<1s-2s>\n<stream>", "</Silence>"))
    assert parse_instruct(early, "r").turns[0].answers_to == (0,)


def test_dialogues_without_tags_take_the_rate_that_is_given():
    made = parse_instruct(row(("Find them.<stream>", "</Standby>"), ("<image>", "</Response> x")), "r", 2)
    assert [t.label for t in made.turns] == ["<0s-0.5s>", "<0.5s-1s>"]
    assert [t.asks for t in made.turns] == [("Find them.",), ()]


def test_a_question_leaked_to_the_start_can_be_taken_out():
    turns = [GOOD, ("q\n<1s-2s>\n<stream>", "<Silence>")]
    assert [t.asks for t in parse_instruct(row(*turns), "r").turns] == [("q",), ("q",)]
    assert [t.asks for t in parse_instruct(row(*turns), "r", drop_leaked=True).turns] == [(), ("q",)]
    assert parse_instruct(row(GOOD), "r", drop_leaked=True).turns[0].asks == ("q",)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (row(), "expected user and assistant to take turns, got nothing"),
        (row(GOOD, ("<1s-2s>\n<stream>", "Hello")), "turn 1: expected <Silence>.*got 'Hello'"),
        (row(("q\n<0s-1s>\n<stream>", "<Response>")), "turn 0: expected <Silence>"),
        (row(("q\n<0s-1s>\n<stream>", "<Standby> text")), "turn 0: expected <Silence>"),
        (row(("q\n<0s-1s>", "<Silence>")), "turn 0: expected one <stream>, got 0"),
        (row(("<stream>q\n<0s-1s>\n<stream>", "<Silence>")), "turn 0: expected one <stream>, got 2"),
        (row(GOOD, ("<2s-3s>\n<stream>", "<Silence>")), "expected the tag"),
        (row(GOOD, ("<stream>", "<Silence>")), "turn 1: expected a tag"),
        (row(("<0s-1s>\n<stream>", "<Response> a")), "answers, but asks nothing"),
        (row(GOOD, videos=["a", "b"]), "expected one video, got 2"),
        (row(GOOD, videos=None), "videos: expected list"),
        ({**row(GOOD), "messages": row(GOOD)["messages"][:1]}, "take turns, got user"),
        ({**row(GOOD), "messages": [{"role": "user"}]}, "message 0, content: expected str"),
        ([], "expected dict"),
    ],
)
def test_broken_records_are_named(broken, message):
    with pytest.raises(UserError, match=f"f.json, record 3.*{message}"):
        parse_instruct(broken, "f.json, record 3")


def test_broken_records_can_be_passed_over(tmp_path):
    (tmp_path / "f.json").write_text(json.dumps([row(GOOD), row(GOOD, videos=[])]))
    with pytest.raises(UserError, match=r"f\.json, record 1"):
        read_instruct(tmp_path / "f.json")
    problems = []
    assert len(read_instruct(tmp_path / "f.json", on_problem=lambda where, _: problems.append(where))) == 1
    assert len(problems) == 1


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    def rows():
        yield {"a": 1}
        raise UserError("the second is broken")

    (tmp_path / "out.json").write_text("before")
    with pytest.raises(UserError, match="second"):
        write_rows(tmp_path / "out.json", rows())
    assert (tmp_path / "out.json").read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"]
    assert write_rows(tmp_path / "none.json", []) == 0
    assert json.loads((tmp_path / "none.json").read_text()) == []
    with pytest.raises(OutputError, match="cannot be written"):
        write_rows(tmp_path / "out.json" / "below.json", [])


@pytest.mark.skipif(not EXAMPLE.is_dir(), reason="needs ../shared/data")
def test_the_published_example_is_read_and_written_unchanged(tmp_path):
    path = EXAMPLE / "dataset" / "example" / "stream_format.json"
    published = json.loads(path.read_text())
    read = read_instruct(path)
    assert [len(d.turns) for d in read] == [(len(r["messages"]) - 1) // 2 for r in published]
    assert [k for k, t in enumerate(read[0].turns) if t.asks] == [0, 4]  # the leak of the public converter
    assert [k for k, t in enumerate(read[0].turns) if t.state == "standby"] == [4, 5]
    write_instruct(tmp_path / "out.json", read, RELEASE_TOKENS)
    assert json.loads((tmp_path / "out.json").read_text()) == published


@pytest.mark.skipif(not EXAMPLE.is_dir(), reason="needs ../shared/data")
def test_the_older_published_form_without_tags_is_read():
    row = json.loads((EXAMPLE / "examples" / "streaming_video_example.json").read_text())
    made = parse_instruct(row, "example")
    assert len(made.turns) == (len(row["messages"]) - 1) // 2
    assert made.turns[0].asks == ("Find all significant events in the video and describe them.",)
