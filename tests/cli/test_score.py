"""``refstream score`` and ``refstream submit``: what they write, refuse and say."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from refstream.cli import main
from refstream.cli.score import name_of
from refstream.evaluation.benchmarks import BENCHMARKS
from tests.evaluation.golden_trees import GOLDEN, davis17_official_tree, load, mevis_tree


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """The golden case where the papers have MeViS; the working folder is otherwise empty."""
    monkeypatch.chdir(tmp_path)
    return mevis_tree(tmp_path / "data" / "video_datas" / "mevis", frames=True)


def score(*words: str) -> int:
    predictions = str(GOLDEN / "mevis" / "predictions.json")
    return main(["score", predictions, "--benchmark", "mevis", "--jobs", "0", *words])


def lines(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    return " ".join((captured.out + captured.err).split())


def test_an_incomplete_set_is_refused_unless_told(tree, tmp_path, capsys):
    assert score() == 2
    said = lines(capsys)
    assert "expected 7 videos, 28 expressions" in said
    assert "found 6 videos, 25 expressions" in said
    assert "1 videos without any prediction: absent" in said
    assert "--missing score" in said
    assert not (tmp_path / "outputs").exists()


def test_scores_are_the_golden_ones_and_resume(tree, tmp_path, capsys):
    official = load("mevis", "case.json")["runs"][0]["official"]
    assert score("--missing", "score", "--out", "out") == 0
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["headline"]["J&F"] == pytest.approx(100 * official["JF"], abs=1e-10)
    assert "1 videos without any prediction: absent" in lines(capsys)
    assert (tmp_path / "out" / "items.csv").read_text().count("\n") == 29
    assert (tmp_path / "out" / "report.html").is_file()
    before = (tmp_path / "out" / "result.json").read_bytes()
    items = tmp_path / "out" / "predictions" / "scores_per-expression" / "items"
    times = {path: path.stat().st_mtime_ns for path in items.iterdir()}
    lost = items / "c0ffee.json"
    lost.unlink()
    assert score("--missing", "score", "--out", "out", "--quiet") == 0
    assert (tmp_path / "out" / "result.json").read_bytes() == before
    assert [path for path in items.iterdir() if path.stat().st_mtime_ns != times[path]] == [lost]
    assert lines(capsys) == ""


def test_processes_give_the_same_scores(tree, tmp_path):
    assert score("--missing", "score", "--out", "one", "--quiet") == 0
    assert score("--missing", "score", "--out", "two", "--quiet", "--jobs", "2") == 0
    names = [tmp_path / name / "items.csv" for name in ("one", "two")]
    assert names[0].read_bytes() == names[1].read_bytes()


def test_other_predictions_do_not_mix_with_earlier_scores(tree, tmp_path, capsys):
    content = load("mevis", "predictions.json")
    path = tmp_path / "p.json"
    words = ["--benchmark", "mevis", "--missing", "score", "--out", "out", "--quiet", "--jobs", "0"]
    path.write_text(json.dumps(content))
    assert main(["score", str(path), *words]) == 0
    del content["beef01"]
    path.write_text(json.dumps(content))
    assert main(["score", str(path), *words]) == 2
    assert "holds results of another run" in lines(capsys)
    assert main(["score", str(path), *words, "--fresh"]) == 0


def test_submit_writes_checks_and_refuses(tree, tmp_path, monkeypatch, capsys):
    predictions = str(GOLDEN / "mevis" / "predictions.json")
    words = ["submit", predictions, "--benchmark", "mevis", "--out", "s.zip"]
    assert main(words) == 2
    assert "--missing empty" in lines(capsys)
    assert not (tmp_path / "s.zip").exists()
    assert main([*words, "--missing", "empty"]) == 0
    said = lines(capsys)
    assert "1 videos without any prediction: absent" in said
    assert "checked" in said
    assert main(["submit", "--check", "s.zip", "--benchmark", "mevis"]) == 0
    assert "is as mevis valid_u wants it" in lines(capsys)
    monkeypatch.setitem(BENCHMARKS, "mevis", replace(BENCHMARKS["mevis"], submission="annotations"))
    assert main(["submit", "--check", "s.zip", "--benchmark", "mevis"]) == 1
    assert "must be in the single folder 'Annotations/'" in lines(capsys)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["submit", "--benchmark", "minirvos"], "either PREDICTIONS"),
        (["submit", "a", "--check", "b", "--benchmark", "minirvos"], "either PREDICTIONS"),
        (["submit", "a", "--benchmark", "minirvos", "--out", "x.tar"], "ends in .zip"),
        (["score", "none", "--benchmark", "minirvos"], "no predictions at none"),
        (["score", "none", "--benchmark", "x"], "unknown benchmark"),
        (["score", "none", "--benchmark", "MeViS"], "did you mean mevis?"),
        (["submit", "none", "--benchmark", "ovo"], "ovo is answered in words"),
        (["score", "none", "--benchmark", "minirvos", "--out", "x.json"], "is to be a folder"),
    ],
)
def test_what_makes_no_sense_is_refused(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert message in lines(capsys)


def test_a_split_without_public_truth_is_refused_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["data", "minirvos", "--layout", "mevis", "--out", "mevis", "--clips", "2", "--frames", "2"]
    assert main([*words, "--size", "32", "--layout-split", "valid", "--quiet"]) == 0
    (tmp_path / "results.json").write_text("{}")
    words = ["score", "results.json", "--benchmark", "mevis", "--split", "valid", "--data", "mevis"]
    assert main(words) == 2
    said = lines(capsys)
    assert said.count("the truth of mevis valid is not public, so nothing can be scored") == 1
    assert "refstream submit" in said


def test_names_of_predictions(tmp_path):
    (tmp_path / "model" / "MEVIS_U").mkdir(parents=True)
    file = tmp_path / "model" / "MEVIS_U" / "results.json"
    file.touch()
    assert name_of(file) == "MEVIS_U"
    assert name_of(tmp_path / "model") == "model"
    assert name_of(tmp_path / "model" / "Annotations") == "model"


def test_both_protocols_of_ref_davis17(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    root = davis17_official_tree(tmp_path / "davis17")
    results = GOLDEN / "davis17_official" / "results"
    words = [
        "score",
        str(results),
        "--benchmark",
        "ref_davis17",
        "--data",
        str(root),
        "--jobs",
        "0",
        "--quiet",
    ]
    assert main([*words, "--protocol", "davis-official", "--out", "official"]) == 0
    assert main([*words, "--protocol", "per-expression", "--out", "single"]) == 0
    headlines = [
        json.loads((tmp_path / name / "result.json").read_text())["headline"]
        for name in ("official", "single")
    ]
    assert list(headlines[0]) == ["J&F-Mean"]
    assert list(headlines[1]) == ["J&F"]
    mean = load("davis17_official", "case.json")
    assert headlines[0]["J&F-Mean"] == pytest.approx(100 * mean["mean_of_annotators"]["J&F-Mean"], abs=1e-9)
