"""Answers files, missing answers, floors and what a result says."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from refstream.errors import UserError
from refstream.evaluation.qa import QA_BENCHMARKS, load_qa_benchmark, score_answers
from refstream.evaluation.qa.answers import read_answers, write_answers
from refstream.evaluation.qa.base import QABenchmark, Question
from refstream.evaluation.qa.scoring import StrictScorer


class Toy(QABenchmark):
    """Four questions of two tasks; the truths are A, B, B and Yes."""

    name = "toy"

    def __init__(self, hidden: bool = False) -> None:
        self.settings = {"hidden": hidden}
        self.questions = [
            Question(
                f"q{i}",
                "v",
                f"which {i}?",
                None if hidden else truth,
                "choice",
                task,
                {"task": task},
                options=options,
            )
            for i, (truth, task, options) in enumerate(
                [("A", "one", ("x", "y")), ("B", "one", ("x", "y")), ("B", "one", ("x", "y", "z", "u"))]
            )
        ]
        self.questions.append(Question("q3", "v", "is it?", "Yes", "yes_no", "two", {"task": "two"}))

    def video_path(self, question: Question) -> Path:
        return Path(question.video)


def test_missing_answers_are_wrong_and_listed():
    result = score_answers(Toy(), {"q0": "A", "q1": "A", "q3": None, "q9": "A"}, StrictScorer())
    assert (result.expected, result.found) == (4, 2)
    assert result.missing == ["q2", "q3"]
    assert result.unknown == ["q9"]
    assert result.summary["overall"] == {"accuracy": 25.0, "questions": 4.0}
    assert result.summary["task/one"]["accuracy"] == pytest.approx(100 / 3)
    assert "q2, q3" in result.missing_note()


def test_floors_by_hand():
    floors = score_answers(Toy(), {}, StrictScorer()).floors
    overall = {name: summary["overall"]["accuracy"] for name, summary in floors.items()}
    assert overall == {
        "always A": 50.0,  # q0, and Yes for q3
        "always B": 50.0,
        "always C": 0.0,
        "always D": 0.0,
        "most frequent": 75.0,  # B for one, Yes for two
        "chance": pytest.approx(100 * (1 / 2 + 1 / 2 + 1 / 4 + 1 / 2) / 4),
    }


def test_what_a_result_says():
    result = score_answers(Toy(), {"q0": "A. x", "q1": "A"}, StrictScorer())
    rows = result.rows()
    assert rows[0] == {
        **{"id": "q0", "video": "v", "task": "one", "end_s": None, "truth": "A"},
        **{"answer": "A. x", "parsed": "A", "correct": 1.0, "missing": False},
    }
    assert [row["missing"] for row in rows] == [False, False, True, True]
    content = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert content["summary"]["overall"]["accuracy"] == 25.0
    assert content["missing"] == ["q2", "q3"]
    page = Console(file=StringIO(), width=150)
    page.print(result.table())
    text = page.file.getvalue()
    assert "always\nA" in [column.header for column in result.table().columns]
    assert "25.00" in text
    assert "2 of 4" in text


def test_the_fingerprint_knows_what_is_asked():
    assert Toy().fingerprint == Toy().fingerprint
    assert Toy().fingerprint != Toy(hidden=True).fingerprint
    assert [q.id for q in Toy().subset(["q2", "q0"]).questions] == ["q0", "q2"]


def test_answers_that_do_not_fit():
    with pytest.raises(UserError, match="none of the 1 answers belongs to toy: its ids look like 'q0'"):
        score_answers(Toy(), {"0": "A"}, StrictScorer())
    with pytest.raises(UserError, match="3 of 4 questions have no public answer"):
        score_answers(Toy(hidden=True), {"q0": "A"}, StrictScorer())


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_answers_come_back(tmp_path, name):
    answers = {"q1": "B", "q0": "ä\n", "q2": None}
    assert read_answers(write_answers(tmp_path / name, answers)) == answers


def test_a_list_of_answers(tmp_path):
    (tmp_path / "a.json").write_text('[{"question_id": 3, "response": "B"}, {"id": "x", "prediction": "C"}]')
    assert read_answers(tmp_path / "a.json") == {"3": "B", "x": "C"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "3", "expected an object"),
        ("a.json", '{"q": "A", "q": "B"}', "the key 'q' twice"),
        ("a.json", '[{"id": "q"}]', "entry 0: expected an object with id or question_id"),
        (
            "a.jsonl",
            '{"id": "q", "answer": "A"}\n{"id": "q", "answer": "B"}',
            "line 2: question q was answered",
        ),
        ("a.jsonl", "{", "line 1 is not valid JSON"),
    ],
)
def test_a_wrong_file_of_answers_is_named(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        read_answers(tmp_path / name)


def test_a_missing_file_of_answers(tmp_path):
    with pytest.raises(UserError, match="no file of answers"):
        read_answers(tmp_path / "none.json")


def test_the_table_of_benchmarks(tmp_path):
    assert set(QA_BENCHMARKS) == {"ovo", "mvbench", "tempcompass", "videomme", "longvideobench"}
    for name, entry in QA_BENCHMARKS.items():
        assert entry.scorer() is entry.scorers[0]
        assert {"official", "strict"} <= {scorer.name for scorer in entry.scorers}
        assert entry.default_root.startswith("data/")
        with pytest.raises(UserError, match="no scorer 'x'; available: official, strict"):
            entry.scorer("x")
        with pytest.raises(UserError):
            load_qa_benchmark(name, root=tmp_path)
    with pytest.raises(UserError, match="unknown benchmark 'none'"):
        load_qa_benchmark("none")


def test_questions_are_checked():
    with pytest.raises(ValueError, match="the answer 'C' is none of"):
        Question("q", "v", "", "C", "choice", "t", {}, options=("x", "y"))
