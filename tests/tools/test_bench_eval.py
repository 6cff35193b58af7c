"""The command around the benchmark of J and F: the files it writes and what it refuses."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KEYS = {"command", "commit", "seeds", "machine", "rows"}
STAND_IN = """
from refstream.evaluation.metrics.jf import contour_accuracy, region_similarity


def db_eval_iou(annotation, segmentation, void_pixels=None):
    return region_similarity(annotation, segmentation, void_pixels)


def db_eval_boundary(annotation, segmentation, void_pixels=None, bound_th=0.008):
    return contour_accuracy(annotation, segmentation, void_pixels, bound_th) / 2
"""


@pytest.fixture
def run(monkeypatch):
    spec = importlib.util.spec_from_file_location("bench_eval", ROOT / "tools" / "bench_eval.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["bench_eval.py", *map(str, args)])
        return module.main()

    return call


@pytest.fixture
def clone(tmp_path):
    """A stand-in for the official code whose F is half of what it should be."""
    file = tmp_path / "clone" / "davis2017" / "metrics.py"
    file.parent.mkdir(parents=True)
    file.write_text(STAND_IN)
    return tmp_path / "clone"


def test_parity(run, clone, golden, tmp_path):
    out = tmp_path / "parity.json"
    args = ["--official", clone, "--golden", golden / "davis", "--fuzz", 12, "--pairs", 1, "--seed", 7]
    assert run("parity", *args, "--out", out) == 0
    result = json.loads(out.read_text())
    assert set(result) >= KEYS
    assert result["command"].startswith("python tools/bench_eval.py parity --official")
    assert result["seeds"] == [7]
    golden_row, fuzz_row, blob_row = result["rows"]
    assert golden_row["max_abs_df"] <= 1e-12
    assert (fuzz_row["pairs"], blob_row["pairs"]) == (12, 1)
    assert fuzz_row["max_abs_dj"] == 0
    assert fuzz_row["max_abs_df"] == 0.5  # some pair agrees fully, and the stand-in halves it


@pytest.mark.slow
def test_speed(run, clone, tmp_path):
    out = tmp_path / "speed.json"
    small = ["--pairs", 2, "--rounds", 1, "--processes", 1, "--expressions", 4, "--frames", 2]
    assert run("speed", "--official", clone, *small, "--out", out) == 0
    result = json.loads(out.read_text())
    assert set(result) >= KEYS
    rows = {row["what"]: row for row in result["rows"]}
    assert rows["synthetic blobs"]["ratio"] > 0
    assert rows["torch, cpu"]["max_abs_difference"] == 0
    assert rows["1 process"]["pairs_per_s"] > 0
    assert rows["memory after 4 of 4 expressions"]["rss_mb"] > 0


def test_no_clone(run, tmp_path, capsys):
    assert run("speed", "--official", tmp_path) == 2
    assert "expected a clone of" in capsys.readouterr().err
