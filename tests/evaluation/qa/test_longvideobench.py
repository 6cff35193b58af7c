"""LongVideoBench: official files in, lmms-eval's rule out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from refstream.errors import UserError
from refstream.evaluation.qa import QA_BENCHMARKS, load_qa_benchmark, score_answers
from refstream.evaluation.qa.longvideobench import submission
from refstream.files import write_json


def longvideobench_row(number: int, **values: Any) -> dict[str, Any]:
    return {
        "id": f"vid_{number}",
        "video_path": f"vid{number}.mp4",
        "subtitle_path": f"vid{number}.json",
        "question": "When?",
        "candidates": ["now", "then", "never", "soon", "late"],
        "correct_choice": 4,
        "duration": 10.5,
        "duration_group": 15,
        "question_category": "S2E",
        "topic_category": "KC-Cooking",
        **values,
    }


@pytest.fixture
def longvideobench_root(tmp_path: Path) -> Path:
    rows = [
        longvideobench_row(1),
        longvideobench_row(2, duration_group=3600, candidates=["x", "y"], correct_choice=0),
    ]
    write_json(tmp_path / "lvb_val.json", rows)
    return tmp_path


def test_longvideobench_is_read(longvideobench_root):
    benchmark = load_qa_benchmark("longvideobench", root=longvideobench_root)
    assert [q.answer for q in benchmark.questions] == ["E", "A"]
    assert benchmark.questions[1].groups == {"duration": "3600", "category": "S2E", "topic": "KC-Cooking"}
    assert "E. late" in benchmark.questions[0].prompt
    assert benchmark.video_path(benchmark.questions[0]) == longvideobench_root / "videos/vid1.mp4"
    with pytest.raises(UserError, match="no subtitles at"):
        load_qa_benchmark("longvideobench", root=longvideobench_root, subtitles=True)
    for number, subtitle in ((1, {"timestamp": [0, 1], "text": "hi"}), (2, {"start": "0:0:0", "line": "ho"})):
        write_json(longvideobench_root / f"subtitles/vid{number}.json", [subtitle])
    told = load_qa_benchmark("longvideobench", root=longvideobench_root, subtitles=True)
    assert ["hi" in told.questions[0].prompt, "ho" in told.questions[1].prompt] == [True, True]


def test_longvideobench_parquet_is_the_same(longvideobench_root, tmp_path, write_parquet):
    rows = []
    for row in json.loads((longvideobench_root / "lvb_val.json").read_text()):
        candidates = row.pop("candidates")
        rows.append({**row, **{f"option{i}": (candidates + ["N/A"] * 5)[i] for i in range(5)}})
    write_parquet(tmp_path / "parquet/validation-00000-of-00001.parquet", rows)
    one, other = (
        load_qa_benchmark("longvideobench", root=r) for r in (longvideobench_root, tmp_path / "parquet")
    )
    assert one.fingerprint == other.fingerprint


@pytest.mark.parametrize(
    ("answer", "official", "strict"),
    [
        ("E", 1, 1),
        ("The answer is E.", 1, 1),
        ("Best option: E", 1, 1),
        ("late", 0, 1),
        ("Even so, A", 1, 0),
        ("?", 0, 0),
    ],
)
def test_longvideobench_rules(longvideobench_root, answer, official, strict, correct):
    benchmark = load_qa_benchmark("longvideobench", root=longvideobench_root)
    assert correct("longvideobench", benchmark, "vid_1", answer) == [official, strict]


def test_longvideobench_test_split_is_for_submission(tmp_path):
    hidden = longvideobench_row(1)
    del hidden["correct_choice"]
    write_json(tmp_path / "lvb_test_wo_gt.json", [hidden, {**hidden, "id": "vid_2"}])
    benchmark = load_qa_benchmark("longvideobench", root=tmp_path, split="test")
    with pytest.raises(UserError, match="no public answer"):
        score_answers(benchmark, {"vid_1": "A"}, QA_BENCHMARKS["longvideobench"].scorer())
    assert submission(benchmark, {"vid_1": "The answer is B"}) == {"vid_1": "B", "vid_2": ""}


def test_longvideobench_errors(tmp_path):
    write_json(tmp_path / "lvb_val.json", [longvideobench_row(1, correct_choice=5)])
    with pytest.raises(UserError, match=r"entry 0: correct_choice is 5, but there are 5 options"):
        load_qa_benchmark("longvideobench", root=tmp_path)
    with pytest.raises(UserError, match="has the splits val, test"):
        load_qa_benchmark("longvideobench", root=tmp_path, split="train")
