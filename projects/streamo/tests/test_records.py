"""Raw annotations in and out: forms of times and tasks, order, links, and bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from refstream_projects.streamo.records import (
    ALIASES,
    TASKS,
    parse_record,
    parse_time,
    raw_row,
    read_raw,
    write_raw,
)

from refstream.errors import UserError
from refstream.stream_records import StreamAnswer, StreamAsk, StreamRecord

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT.parent / "shared" / "data" / "streaming_text" / "streamo" / "dataset" / "example"


def row(**changes):
    made = {
        "video_name": "v.mp4",
        "video_path": "a/v.mp4",
        "task_type": "QA",
        "source": "mine",
        "question": [{"content": "q?", "time": "5"}],
        "response": [{"content": "a.", "st_time": 5.0, "end_time": 6.0, "time": ""}],
    }
    return {key: value for key, value in {**made, **changes}.items() if value is not None}


def save(path, rows):
    path.write_text(json.dumps(rows))
    return path


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (5, 5),
        (5.25, 5.25),
        ("5", 5),
        (" 5.5 ", 5.5),
        (".5", 0.5),
        ("00:03", 3),
        ("75:30", 4530),
        ("00:00:07.6", 7.6),
        ("1:01:01", 3661),
        ("", None),
        (None, None),
    ],
)
def test_times(value, seconds):
    assert parse_time(value, "here") == seconds


@pytest.mark.parametrize(
    "value",
    ["soon", "-1", -1, True, "1:60", "1:61:00", "1:2:3:4", "nan", "inf", float("nan"), "1e3", [5], "5s"],
)
def test_what_is_no_time_is_an_error(value):
    with pytest.raises(UserError, match=r"here: .* is not a time; expected seconds"):
        parse_time(value, "here")


def test_every_alias_leads_to_one_of_the_five():
    assert set(ALIASES) == set(TASKS)
    names = [name for task in TASKS for name in (task, *ALIASES[task])]
    assert len(names) == len(set(names))
    for task in TASKS:
        for name in (task, task.upper(), task.replace("_", " "), *ALIASES[task]):
            assert parse_record(row(task_type=name), "r").task == task


def test_a_record(tmp_path):
    (record,) = read_raw(save(tmp_path / "raw.json", [row(id="x1", duration=9)]))
    assert record == StreamRecord(
        video="a/v.mp4",
        task="time_sensitive_qa",
        asks=(StreamAsk("q?", 5),),
        answers=(StreamAnswer("a.", 6, 5, 0),),
        duration_s=9,
        id="x1",
        source="mine",
    )


def test_order_does_not_matter_and_links_follow():
    record = parse_record(
        row(
            question=[{"content": "late", "time": 8}, {"content": "early", "time": 0}],
            response=[
                {"content": "B", "time": "9"},
                {"content": "A", "time": "3"},
                {"content": "C", "time": "9.5", "question": 1},
            ],
        ),
        "r",
    )
    assert [ask.text for ask in record.asks] == ["early", "late"]
    assert [(a.text, record.asks[a.ask].text) for a in record.answers] == [
        ("A", "early"),
        ("B", "late"),
        ("C", "early"),  # question 1 of the file
    ]


def test_an_answer_before_every_question_belongs_to_the_first():
    record = parse_record(row(response=[{"content": "a", "time": 1}]), "r")
    assert record.answers[0].ask == 0


def test_writing_and_reading_give_the_same_records(tmp_path):
    records = [
        StreamRecord("a/b.mp4", "narration", (StreamAsk("x", 0),), (StreamAnswer("é", 1.25),), id="1"),
        StreamRecord(
            "c.mp4",
            "event_caption",
            (StreamAsk("x", 0.1), StreamAsk("y", 7)),
            (
                StreamAnswer("a", 1 / 3, 0.2, 1),
                StreamAnswer("b", 8, 8, 0),
                StreamAnswer("c", 1e-5 + 8, None, 1),
            ),
            duration_s=12.5,
            source="s",
        ),
    ]
    write_raw(tmp_path / "raw.json", records)
    read = read_raw(tmp_path / "raw.json")
    assert read[0] == records[0]
    assert read[1].asks == records[1].asks
    assert read[1].answers == records[1].answers
    assert read[1] == records[1]


def test_the_written_form_is_the_published_one():
    """Keys of the published example, with text for times and empty text where there is none."""
    made = raw_row(StreamRecord("a/b.mp4", "narration", (StreamAsk("x", 5),), (StreamAnswer("a", 6, 5),)))
    assert made == {
        "video_name": "b.mp4",
        "video_path": "a/b.mp4",
        "task_type": "narration",
        "source": "",
        "question": [{"content": "x", "time": "5"}],
        "response": [{"content": "a", "st_time": "5", "end_time": "6", "time": ""}],
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(task_type="cooking"), "task_type 'cooking' is unknown; expected one of narration"),
        (dict(task_type=None), "task_type: expected str"),
        (dict(question=[]), "asks nothing"),
        (dict(question="q"), "question: expected list"),
        (dict(question=[{"content": " ", "time": 0}]), "question 0, content: expected words"),
        (dict(question=[{"content": "q"}]), "question 0, time: no time is given"),
        (
            dict(response=[{"content": "a", "st_time": 5}]),
            "response 0: expected st_time and end_time, or time",
        ),
        (dict(response=[{"content": "a"}]), "response 0: expected st_time and end_time, or time"),
        (dict(response=[{"content": "a", "st_time": 1, "end_time": 2, "time": 3}]), "or time alone"),
        (dict(response=[{"content": "a", "st_time": 7, "end_time": 6}]), "st_time 7 s is after end_time 6 s"),
        (dict(response=[{"content": "", "time": 6}]), "response 0, content: expected words"),
        (dict(response=[{"content": "it is <Silence> now", "time": 6}]), "content: holds a state token"),
        (dict(response=[{"content": "a", "time": 6, "question": 1}]), "question 1 is none of the 1"),
        (dict(video_path=None, video_name=None), "video_path: expected str"),
    ],
)
def test_bad_records_name_file_record_and_field(tmp_path, changes, message):
    path = save(tmp_path / "raw.json", [row(), row(**changes)])
    with pytest.raises(UserError, match=rf"raw\.json, record 1.*{message}"):
        read_raw(path)
    problems = []
    assert len(read_raw(path, on_problem=lambda where, error: problems.append((where, str(error))))) == 1
    assert len(problems) == 1
    assert "record 1" in problems[0][0]


def test_unknown_tasks_and_missing_questions_can_be_allowed(tmp_path):
    path = save(tmp_path / "raw.json", [row(task_type="cooking", question=[])])
    (record,) = read_raw(path, allow_unknown_tasks=True, default_question="What happens?")
    assert (record.task, record.asks) == ("cooking", (StreamAsk("What happens?", 0),))


def test_files_of_another_kind(tmp_path):
    for name, content, message in [("a.json", "{}", "expected list"), ("b.json", "[", "not valid JSON")]:
        (tmp_path / name).write_text(content)
        with pytest.raises(UserError, match=message):
            read_raw(tmp_path / name)
    with pytest.raises(UserError, match="no file of raw annotations"):
        read_raw(tmp_path / "none.json")


@pytest.mark.skipif(not EXAMPLE.is_dir(), reason="needs ../shared/data")
def test_the_published_example():
    first, second = read_raw(EXAMPLE / "raw_data.json")
    assert first.task == second.task == "time_sensitive_qa"
    assert [(a.start_s, a.end_s) for r in (first, second) for a in r.answers] == [(5, 6), (5, 6)]
    assert [r.asks[0].time_s for r in (first, second)] == [5, 3]
