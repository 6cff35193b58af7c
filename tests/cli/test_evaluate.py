"""``refstream eval``: what it writes, what it refuses, and that it goes on with the same model only."""

from __future__ import annotations

import csv
import json

import pytest
import torch

from refstream.cli import evaluate, main
from refstream.evaluation.benchmarks import open_benchmark
from refstream.evaluation.identity import WHOLE, model_fingerprint, model_key
from refstream.testing.fakes import FakeModel

SMALL = ["--clips", "2", "--frames", "4", "--device", "cpu"]


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A folder whose model is a fake."""
    folder = tmp_path / "some" / "model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    monkeypatch.setattr(evaluate, "load_model", lambda *_: FakeModel({"type": "StreamingRVOS"}))
    return folder


@pytest.fixture
def refused(capsys):
    """Runs a command that must end with code 2; returns what it says on stderr."""

    def run(*words: str) -> str:
        capsys.readouterr()
        assert main([*words]) == 2
        return " ".join(capsys.readouterr().err.split())

    return run


def test_what_it_writes(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["eval", str(model), *SMALL, "--seed", "5", "--gate", "always", "--publish", "docs/one.json"]
    assert main(words) == 0
    out = tmp_path / "outputs" / "eval" / "model-minirvos-test"
    result = json.loads((out / "result.json").read_text())
    assert result["settings"]["seed"] == 5
    assert result["expected"]["videos"] == 2
    assert "speed" not in result
    assert json.loads((out / "speed.json").read_text())["mllm_calls_per_frame"] == 1.0
    rows = list(csv.DictReader((out / "items.csv").open()))
    assert len(rows) == result["expected"]["expressions"]
    assert (out / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert "minirvos test" in capsys.readouterr().out
    one = json.loads((tmp_path / "docs" / "one.json").read_text())
    assert {"command", "commit", "seeds", "machine", "rows", "speed"} <= set(one)
    assert one["summary"] == result["summary"]


def test_hidden_truth(model, tmp_path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    words = ["data", "minirvos", "--layout", "mevis", "--out", "mevis", "--split", "val", "--clips", "2"]
    assert main([*words, "--frames", "2", "--size", "32", "--layout-split", "valid", "--quiet"]) == 0
    path = tmp_path / "mevis" / "valid" / "meta_expressions.json"
    content = json.loads(path.read_text())
    first = min(content["videos"])
    content["videos"] = {"silent": {**content["videos"][first], "expressions": {}}, **content["videos"]}
    path.write_text(json.dumps(content))
    (path.parent / "JPEGImages" / "silent").symlink_to(path.parent / "JPEGImages" / first)
    words = ["eval", str(model), "--benchmark", "mevis", "--data", "mevis", "--split", "valid"]
    words += ["--out", "out", "--device", "cpu"]
    assert "--floors: the truth of mevis valid is not public" in refused(*words, "--floors")
    assert not (tmp_path / "out").exists()
    assert main([*words, "--quiet"]) == 0
    assert json.loads((tmp_path / "out" / "speed.json").read_text())["fps"] > 0
    assert not (tmp_path / "out" / "result.json").exists()


def test_another_model_or_gate_is_not_taken_over(model, tmp_path, refused):
    words = ["eval", str(model), *SMALL, "--out", str(tmp_path / "out"), "--quiet"]
    assert main(words) == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("items/*.json")}
    assert main(words) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert "another run: gate = none then, {'type': 'EveryFrameGate'} now" in refused(
        *words, "--gate", "always"
    )
    said = refused(*words, "--seed", "1")
    assert "another run: data = contents " in said
    assert "seed = 0 then, 1 now; choose another --out" in said
    (model / "config.json").write_text('{"other": 1}')
    assert "holds results of another run: model = contents" in refused(*words)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert main([*words, "--fresh"]) == 0
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
    assert all(path.stat().st_mtime_ns != then for path, then in before.items() if "costs" in path.parts)


def test_fresh_removes_all_of_a_run_and_nothing_else(model, tmp_path):
    out = tmp_path / "out"
    assert main(["eval", str(model), *SMALL, "--out", str(out), "--quiet"]) == 0
    (out / "model" / "notes.txt").write_text("mine")
    (out / "run").mkdir()
    (out / "run" / "key.json").write_text("no ledger")
    evaluate.clear(out)
    left = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert left == ["model/notes.txt", "run/key.json"]


def test_a_part_of_a_benchmark_says_so(model, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["eval", str(model), "--clips", "3", "--frames", "3", "--device", "cpu", "--out", str(out)]
    assert main([*words, "--max-videos", "1"]) == 0
    result = json.loads((out / "result.json").read_text())
    assert result["expected"]["videos"] == 1
    assert result["settings"]["max_videos"] == 1
    assert "first 1 of 3 videos, not a result" in result["settings"]["note"]


def test_hidden_truth_is_run_and_not_scored(model, tmp_path, monkeypatch, capsys):
    def hidden(*args, **options):
        benchmark, protocol = open_benchmark(*args, **options)
        benchmark.truth = lambda *_: None
        return benchmark, protocol

    monkeypatch.setattr(evaluate, "open_benchmark", hidden)
    out = tmp_path / "out"
    assert main(["eval", str(model), *SMALL, "--out", str(out)]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert f"refstream submit {out} --benchmark minirvos --split test" in said
    assert "not public, so nothing was scored" in said
    assert not (out / "result.json").exists()
    assert len(list((out / "model" / "run" / "items").iterdir())) == 8


def test_refusals(model, tmp_path, refused):
    start = ["eval", str(model), *SMALL]
    assert "unknown benchmark 'nothing'" in refused("eval", str(model), "--benchmark", "nothing")
    assert "--clips, --frames: of minirvos only" in refused(*start, "--benchmark", "mevis")
    assert "no protocol 'x'" in refused(*start, "--protocol", "x")
    assert "no split 'x'" in refused(*start, "--split", "x")
    assert "--publish" in refused(*start, "--out", str(tmp_path / "result.json"))
    (tmp_path / "file").touch()
    assert "is a file, expected a folder" in refused(*start, "--out", str(tmp_path / "file" / "out"))
    assert "SLURM_PROCID" in refused(*start, "--launcher", "slurm")
    assert "no model folder" in refused("eval", str(tmp_path / "none"), *SMALL)


def test_a_model_is_known_by_its_files(tmp_path):
    def made(name: str, **files: bytes):
        folder = tmp_path / name
        folder.mkdir()
        for suffix, data in files.items():
            (folder / f"file.{suffix}").write_bytes(data)
        return folder

    large = bytearray(WHOLE + 4096)
    same = [made(name, json=b"{}", safetensors=bytes(large), md=name.encode()) for name in "ab"]
    assert model_fingerprint(same[0]) == model_fingerprint(same[1])
    for number, place in enumerate((0, len(large) - 1)):  # the first and the last byte
        changed = bytearray(large)
        changed[place] = 1
        other = made(f"c{number}", json=b"{}", safetensors=bytes(changed))
        assert model_fingerprint(other) != model_fingerprint(same[0])
    longer = made("d", json=b"{}", safetensors=bytes(large) + b"\0")
    assert model_fingerprint(longer) != model_fingerprint(same[0])
    key = model_key(same[0], torch.device("cpu"), torch.bfloat16, {"gate": {"k": 3}})
    assert key["dtype"] == "bfloat16"
    assert key["device"] == "cpu"
    assert json.loads(json.dumps(key)) == key


def test_a_curve_over_thresholds(model, tmp_path):
    out = tmp_path / "out"
    words = ["eval", str(model), *SMALL, "--out", str(out), "--quiet", "--device", "cpu"]
    assert main([*words, "--curve", "0.9/0.4"]) == 0
    rows = json.loads((out / "curve.json").read_text())["rows"]
    assert [row["label"] for row in rows] == ["always", "0.9/0.4", "first"]
    calls = [row["calls_per_frame"] for row in rows]
    assert calls[0] == 1
    assert calls[0] >= calls[1] >= calls[2] > 0
    assert (out / "curve.svg").is_file()
    assert "frames per second" in (out / "report.html").read_text()
