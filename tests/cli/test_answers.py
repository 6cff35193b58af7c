from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from refstream.cli.app import main

RECORDS = [
    {"id": 7, "task": "OCR", "video": "a.mp4", "realtime": 2.0, "question": "Which letter?"}
    | {"answer": "Q", "options": ["P", "Q"], "gt": 1},
    {"id": 8, "task": "EPM", "video": "a.mp4", "realtime": 3.0, "question": "Where was it?"}
    | {"answer": "left", "options": ["left", "right", "behind"], "gt": 0},
]


@pytest.fixture
def ovo(tmp_path: Path) -> Path:
    (tmp_path / "ovo").mkdir()
    (tmp_path / "ovo" / "ovo_bench_new.json").write_text(json.dumps(RECORDS))
    return tmp_path / "ovo"


def run(*arguments: object) -> int:
    return main([*map(str, arguments), "--quiet"])


def test_answers_are_scored(ovo: Path, tmp_path: Path) -> None:
    answers = tmp_path / "answers.json"
    answers.write_text(json.dumps({"7": "B", "8": "C"}))
    words = ("score", answers, "--benchmark", "ovo", "--data", ovo, "--out", tmp_path / "out")
    assert run(*words, "--protocol", "strict") == 0
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["summary"]["task/OCR"]["accuracy"] == 100
    assert result["summary"]["task/EPM"]["accuracy"] == 0
    assert result["scorer"] == "strict"
    rows = (tmp_path / "out" / "items.csv").read_text().splitlines()
    assert rows[0].startswith("id,video,task")
    assert len(rows) == 3


def test_a_log_of_events_and_a_folder_of_an_evaluation_are_scored(ovo: Path, tmp_path: Path) -> None:
    """What was said last before the question counts: at 2 s for record 7, at 3 s for record 8."""
    said = [("7", 1.0, "A"), ("7", 2.0, "B"), ("7", 2.5, "A"), ("8", 3.0, "C")]
    rows = [{"query_id": query, "time_s": time, "text": text} for query, time, text in said]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "answers.json").write_text(json.dumps({"7": "B", "8": "C"}))
    for name in ("events.jsonl", "folder"):
        words = ("score", tmp_path / name, "--benchmark", "ovo", "--data", ovo, "--out", tmp_path / "out")
        assert run(*words, "--protocol", "strict") == 0
        summary = json.loads((tmp_path / "out" / "result.json").read_text())["summary"]
        assert (summary["task/OCR"]["accuracy"], summary["task/EPM"]["accuracy"]) == (100, 0)


def test_missing_answers_are_refused_unless_told(ovo: Path, tmp_path: Path, capsys) -> None:
    answers = tmp_path / "answers.json"
    answers.write_text(json.dumps({"7": "B"}))
    words = ("score", answers, "--benchmark", "ovo", "--data", ovo, "--out", tmp_path / "out")
    assert run(*words) == 2
    error = capsys.readouterr().err
    assert "expected 2 answers, found 1; without an answer: 8" in error
    assert not (tmp_path / "out").exists()
    assert run(*words, "--missing", "score") == 0
    assert json.loads((tmp_path / "out" / "result.json").read_text())["missing"] == ["8"]


def test_an_evaluation_that_could_ask_nothing_is_an_error(ovo, tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    monkeypatch.setattr("refstream.cli.answers.load_model", lambda *_: SimpleNamespace(mllm=None))
    words = ("eval", tmp_path / "model", "--benchmark", "ovo", "--data", ovo, "--out", tmp_path / "out")
    assert run(*words, "--device", "cpu") == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "none of the 2 questions of ovo could be asked, such as 7: " in error
    assert "a.mp4: no such file" in error
    assert not (tmp_path / "out" / "result.json").exists()


@pytest.mark.parametrize("option", ["--split", "--compat"])
def test_options_of_mask_benchmarks_are_refused(option: str, ovo: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "answers.json").write_text("{}")
    words = ("score", tmp_path / "answers.json", "--benchmark", "ovo", "--data", ovo, option, "x")
    assert run(*words) == 2
    assert f"{option} means nothing to ovo" in capsys.readouterr().err
