"""Offline questions: both kinds of file, which video a row means, and what is refused."""

from __future__ import annotations

import json

import pytest
from refstream_projects.streamo.annotation.checks import Limits
from refstream_projects.streamo.annotation.offline_qa import by_video, read_questions, to_records
from refstream_projects.streamo.clock import StreamClock
from refstream_projects.streamo.compiler import compile_record

from refstream.errors import UserError

ROW = {"question": "Who?", "answer": "A man.", "start": 2, "end": "00:05"}


def write(folder, rows, name="qa.json"):
    path = folder / name
    path.write_text(rows if isinstance(rows, str) else json.dumps(rows), encoding="utf-8")
    return path


def test_json_and_csv_say_the_same(tmp_path):
    text = (
        "question,answer,start,end,asked,video,task\n"
        'Who?,"A man, old.",2,00:05,,a/b.mp4,\n'
        "What now?,red,,7.5,1,,QA\n"
    )
    rows = [
        {"question": "Who?", "answer": "A man, old.", "start": 2.0, "end": "0:05", "video": "a/b.mp4"},
        {"question": "What now?", "answer": "red", "end": 7.5, "asked": 1, "task": "QA"},
    ]
    from_csv, from_json = (
        read_questions(write(tmp_path, text, "qa.csv")),
        read_questions(write(tmp_path, rows)),
    )
    plain = [
        [(q.question, q.asked_s, q.event, q.video, q.task, q.id) for q in rows]
        for rows in (from_csv, from_json)
    ]
    assert plain[0] == plain[1]
    assert [(q.asked_s, q.event.start_s, q.event.end_s) for q in from_json] == [(2, 2, 5), (1, None, 7.5)]
    assert {q.task for q in from_json} == {"time_sensitive_qa"}


def test_rows_become_records_that_compile(tmp_path):
    rows = [ROW, {**ROW, "asked": 0}, {"question": "When?", "answer": "Now.", "end": 10.5, "asked": 3}]
    records, findings = to_records(read_questions(write(tmp_path, rows)), "v.mp4", 10.0, Limits())
    assert [f.kind for f in findings] == ["clipped"]
    states = [
        "".join(turn.state[:2] for turn in compile_record(record, StreamClock()).turns) for record in records
    ]
    assert states[0] == "sisi" + "ststst" + "re" + "sisisisi"
    assert states[2] == "si" * 9 + "re"  # at the end of the video: in its last turn
    dialogues = [compile_record(record, StreamClock()) for record in records]
    assert [[k for k, turn in enumerate(d.turns) if turn.asks] for d in dialogues] == [[2], [0], [3]]
    assert [r.id for r in records] == ["v.mp4:qa:0", "v.mp4:qa:1", "v.mp4:qa:2"]


def test_what_lies_outside_is_left_out_and_what_is_known_is_told(tmp_path):
    rows = [
        {**ROW, "end": 20},
        {**ROW, "start": 11, "end": 11},
        {**ROW, "asked": 10},
        {**ROW, "asked": 8},
        {**ROW, "answer": "<Silence>"},
    ]
    records, findings = to_records(read_questions(write(tmp_path, rows)), "v", 10.0, Limits())
    assert [f.kind for f in findings] == ["late", "outside", "outside", "known", "token"]
    assert [record.asks[0].time_s for record in records] == [8]


def test_rows_find_their_video(tmp_path):
    names = ["a/x.mp4", "b/x.mp4", "b/y.mkv"]
    rows = [{**ROW, "video": video} for video in ("a/x.mp4", "b/x", "y", "z")]
    found, homeless = by_video(read_questions(write(tmp_path, rows)), names)
    assert {video: [q.id for q in rows] for video, rows in found.items()} == {
        "a/x.mp4": ["0"],
        "b/x.mp4": ["1"],
        "b/y.mkv": ["2"],
    }
    assert [q.video for q in homeless] == ["z"]
    with pytest.raises(UserError, match=r"row 0: video 'x' may be any of a/x.mp4, b/x.mp4; write its path"):
        by_video(read_questions(write(tmp_path, [{**ROW, "video": "x"}])), names)
    with pytest.raises(UserError, match=r"names no video; there are a/x\.mp4"):
        by_video(read_questions(write(tmp_path, [ROW])), names)
    assert len(by_video(read_questions(write(tmp_path, [ROW])), ["only.mp4"])[0]["only.mp4"]) == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**ROW, "question": " "}, "row 0: question has no words"),
        ({**ROW, "answer": 3}, "row 0: answer has no words, got 3"),
        ({**ROW, "end": None}, "row 0: needs an end"),
        ({**ROW, "start": 6}, "row 0: starts at 6 s, after its end at 5 s"),
        ({**ROW, "start": "soon"}, "row 0, start: 'soon' is not a time"),
        ({**ROW, "task": "poetry"}, "task_type 'poetry' is unknown"),
        ({**ROW, "begin": 1}, "row 0: unknown column begin"),
        (["who"], "row 0: expected dict"),
    ],
)
def test_bad_rows_are_named(tmp_path, row, message):
    with pytest.raises(UserError, match=message) as error:
        read_questions(write(tmp_path, [row]))
    assert "qa.json" in str(error.value)


def test_bad_files_are_named(tmp_path):
    with pytest.raises(UserError, match="no file of questions"):
        read_questions(tmp_path / "none.json")
    with pytest.raises(UserError, match=r"expected a .json or .csv file of questions, got '.txt'"):
        read_questions(write(tmp_path, "", "qa.txt"))
    with pytest.raises(UserError, match="no column end"):
        read_questions(write(tmp_path, "question,answer\na,b\n", "qa.csv"))
    with pytest.raises(UserError, match="row 0: expected 3 cells"):
        read_questions(write(tmp_path, "question,answer,end\na,b,c,d\n", "qa.csv"))
    with pytest.raises(UserError, match="the id '7' stands in"):
        read_questions(write(tmp_path, [{**ROW, "id": 7}, {**ROW, "id": "7"}]))
