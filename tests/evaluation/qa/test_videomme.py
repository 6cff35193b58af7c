"""Video-MME: the official rule was compared with the authors' ``extract_characters_regex``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from refstream.errors import UserError
from refstream.evaluation.qa import QA_BENCHMARKS, load_qa_benchmark, score_answers
from refstream.evaluation.qa.videomme import read_srt
from refstream.files import write_json


def videomme_row(number: int, **values: Any) -> dict[str, Any]:
    return {
        "video_id": "001",
        "duration": "short",
        "domain": "Knowledge",
        "sub_category": "Law",
        "videoID": f"tube{number}",
        "question_id": f"001-{number}",
        "task_type": "OCR Problems",
        "question": "Which?",
        "options": ["A. One.", "B. Two.", "C. Three.", "D. Four."],
        "answer": "C",
        **values,
    }


@pytest.fixture
def videomme_root(tmp_path: Path, write_parquet) -> Path:
    rows = [videomme_row(1), videomme_row(2, duration="long", answer="A"), videomme_row(3, domain="Film")]
    write_parquet(tmp_path / "videomme/test-00000-of-00001.parquet", rows)
    (tmp_path / "subtitle").mkdir()
    first = '1\n00:00:01,000 --> 00:00:02,000\n<font color="white">Hello\nthere</font>'
    srt = f"{first}\n\n2\n00:00:03,500 --> 00:00:04,000\nbye\n"
    (tmp_path / "subtitle/tube1.srt").write_text(srt)
    return tmp_path


def test_videomme_is_read(videomme_root):
    benchmark = load_qa_benchmark("videomme", root=videomme_root)
    question = benchmark.by_id["001-1"]
    assert (question.answer, question.options[0]) == ("C", "One.")
    assert "A. One.\nB. Two." in question.prompt
    assert "subtitles" not in question.prompt
    assert question.groups["duration"] == "short"
    assert benchmark.video_path(question) == videomme_root / "data/tube1.mp4"
    long = load_qa_benchmark("videomme", root=videomme_root, durations=["long"])
    assert [q.id for q in long.questions] == ["001-2"]


def test_videomme_with_subtitles(videomme_root):
    assert read_srt(videomme_root / "subtitle/tube1.srt") == "Hello there\nbye"
    benchmark = load_qa_benchmark("videomme", root=videomme_root, subtitles=True)
    assert "Hello there\nbye" in benchmark.by_id["001-1"].prompt
    assert "subtitles" not in benchmark.by_id["001-2"].prompt
    assert benchmark.settings["videos_without_subtitles"] == 2


def test_videomme_reads_the_nested_form(tmp_path):
    asked = {"question_id": "001-1", "task_type": "OCR Problems", "question": "Which?"}
    video = {
        "video_id": "001",
        "duration_category": "short",
        "video_category": "Life",
        "video_subcategory": "Food",
    }
    nested = [
        {**video, "questions": [{**asked, "choices": ["A. x", "B. y"], "answer": "B", "response": "D"}]}
    ]
    write_json(tmp_path / "mine.json", nested)
    benchmark = load_qa_benchmark("videomme", questions=tmp_path / "mine.json")
    assert (benchmark.questions[0].answer, benchmark.questions[0].groups["domain"]) == ("B", "Life")


@pytest.mark.parametrize(
    ("answer", "official", "strict"),
    [
        ("C", 1, 1),
        ("The best answer is: C. Three.", 1, 1),
        ("A man holds three, so C", 0, 0),
        (
            "The Best answer is C",
            0,
            1,
        ),  # the B of "Best" comes first, and the lead-in is cut as it is spelt only
        ("The answer is C", 1, 1),
        ("Cats", 1, 0),
        ("three.", 0, 1),
        ("c", 0, 1),
        ("", 0, 0),
    ],
)
def test_videomme_rules(videomme_root, answer, official, strict, correct):
    benchmark = load_qa_benchmark("videomme", root=videomme_root)
    assert correct("videomme", benchmark, "001-1", answer) == [official, strict]


def test_videomme_divides_by_all(videomme_root):
    benchmark = load_qa_benchmark("videomme", root=videomme_root)
    result = score_answers(benchmark, {"001-1": "C", "001-2": "?"}, QA_BENCHMARKS["videomme"].scorer())
    assert result.summary["overall"]["accuracy"] == pytest.approx(100 / 3)
    assert result.summary["overall"]["accuracy_answered"] == 100, "the authors' script"
    assert "accuracy_answered" not in result.summary["duration/long"]
    assert result.missing == ["001-3"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"answer": "E"}, "answer is 'E'"),
        ({"duration": "brief"}, "duration is 'brief'"),
        ({"options": ["A. x"]}, "options"),
    ],
)
def test_videomme_errors(tmp_path, values, message):
    path = tmp_path / "rows.json"
    write_json(path, [videomme_row(1, **values)])
    with pytest.raises(UserError, match=f"rows.json, entry 0.*{message}"):
        load_qa_benchmark("videomme", questions=path)


def test_a_broken_parquet_file_is_named(tmp_path):
    (tmp_path / "test-0.parquet").write_bytes(b"PAR1 not")
    with pytest.raises(UserError, match=r"test-0\.parquet is no readable Parquet"):
        load_qa_benchmark("videomme", root=tmp_path)
