"""MVBench: official files in, the authors' ``check_ans`` out, with which the official rule was compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from refstream.errors import UserError
from refstream.evaluation.qa import QA_BENCHMARKS, load_qa_benchmark, score_answers
from refstream.evaluation.qa.mvbench import TASKS
from refstream.files import write_json


@pytest.fixture
def mvbench(tmp_path: Path) -> Any:
    for task in TASKS:
        row = {"video": f"{task}.mp4", "question": "What?", "candidates": ["x", "y y", "z"], "answer": "y y"}
        write_json(
            tmp_path / f"json/{task}.json",
            [{**row, "start": 1.5, "end": 4, "fps": 3}, {**row, "start": 0, "end": 1}],
        )
    return load_qa_benchmark("mvbench", root=tmp_path)


def test_mvbench_is_read(mvbench, tmp_path):
    assert len(mvbench.questions) == 40
    question = mvbench.by_id["action_sequence/0"]
    assert (question.answer, question.start_s, question.end_s) == ("B", 1.5, 4.0)
    assert "(A) x\n(B) y y\n(C) z" in question.prompt
    assert mvbench.video_path(question) == tmp_path / "video/star/Charades_v1_480/action_sequence.mp4"
    assert mvbench.video_fps(question) is None
    assert mvbench.video_fps(mvbench.by_id["episodic_reasoning/0"]) == 3
    unbounded = mvbench.by_id["object_shuffle/0"]
    assert (unbounded.start_s, unbounded.end_s) == (0.0, None), "only five tasks have bounds"


@pytest.mark.parametrize(
    ("answer", "official", "strict"),
    [
        ("(B) y y", 1, 1),
        ("B", 1, 1),
        ("b.", 1, 1),
        ("B) y y", 1, 1),
        ("(B)y", 1, 1),
        ("C", 0, 0),
        ("The answer is B", 0, 1),
        ("y y", 0, 1),
        ("", 1, 0),  # a known defect: nothing is part of "(b)"
        ("(", 1, 0),
        (None, 0, 0),
    ],
)
def test_mvbench_rules(mvbench, answer, official, strict, correct):
    assert correct("mvbench", mvbench, "object_shuffle/1", answer) == [official, strict]


def test_mvbench_by_task(mvbench):
    answers = {f"{task}/0": "B" for task in TASKS} | {"object_shuffle/1": "(B)"}
    result = score_answers(mvbench, answers, QA_BENCHMARKS["mvbench"].scorer())
    assert result.summary["overall"] == {"accuracy": 100 * 21 / 40, "questions": 40.0}
    assert result.summary["task/object_shuffle"]["accuracy"] == 100
    assert len(result.missing) == 19
    assert result.floors["always B"]["overall"]["accuracy"] == 100
    assert result.floors["most frequent"]["overall"]["accuracy"] == 100
    assert result.floors["chance"]["overall"]["accuracy"] == pytest.approx(100 / 3)


def test_mvbench_errors(mvbench, tmp_path):
    row = {"video": "v.mp4", "question": "?", "candidates": ["x", "y"], "answer": "z"}
    write_json(tmp_path / "json/state_change.json", [row])
    with pytest.raises(UserError, match=r"state_change.json, question 0: the answer 'z' is none"):
        load_qa_benchmark("mvbench", root=tmp_path)
    assert len(load_qa_benchmark("mvbench", root=tmp_path, tasks=["action_count"]).questions) == 2
    with pytest.raises(UserError, match="got nothing_else"):
        load_qa_benchmark("mvbench", root=tmp_path, tasks=["nothing_else"])
