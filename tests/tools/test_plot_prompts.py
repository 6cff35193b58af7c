"""The command that draws trajectories: from models to a picture and its points."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from refstream.testing import small_model

ROOT = Path(__file__).resolve().parents[2]
CLIP = ["--video", "minirvos_rich_test_0_clip_000000", "--expression", "1"]
OPTIONS = ["num_clips=1", "num_frames=5", "size=64"]


@pytest.fixture
def run(monkeypatch):
    spec = importlib.util.spec_from_file_location("plot_prompts", ROOT / "tools" / "plot_prompts.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["plot_prompts.py", *map(str, args)])
        return module.main()

    return call


@pytest.fixture
def model(tmp_path):
    small_model(dict(type="StreamingRVOS", gate=dict(type="EveryFrameGate"))).save(tmp_path / "model")
    return tmp_path / "model"


def test_masks_of_two_runs(run, model, tmp_path):
    out = tmp_path / "out.svg"
    runs = ["--run", f"every_frame {model}", "--run", f"every_2nd {model} gate.type=EveryKGate gate.k=2"]
    assert run(*runs, *CLIP, "--options", *OPTIONS, "--of", "masks", "--out", out) == 0
    assert "every 2nd" in out.read_text()
    found = json.loads((tmp_path / "out.json").read_text())
    assert [one["run"] for one in found["runs"]] == ["every frame", "every 2nd"]
    assert len(found["truth"]["boxes"]) == 5
    assert found["benchmark"]["num_frames"] == 5


def test_rows_of_a_plan(run, model, tmp_path):
    plan = tmp_path / "plan.py"
    plan.write_text(f"""
name, work_dir = "small", {str(tmp_path / "work")!r}
benchmark = dict(name="minirvos", num_clips=1, num_frames=5, size=64)
arms = dict(given=dict(folder={str(model)!r}))
rows = [dict(name="one", arm="given")]
rows += [dict(name="even", arm="given", pipeline=dict(gate=dict(type="EvenGate")))]
""")
    out = tmp_path / "out.svg"
    assert run("--plan", plan, "--rows", "even", *CLIP, "--of", "masks", "--out", out) == 0
    assert [one["run"] for one in json.loads((tmp_path / "out.json").read_text())["runs"]] == ["even"]


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        ([], "nothing to draw"),
        (["--run", "alone"], "expected NAME FOLDER"),
        (["--rows", "one"], "--rows are rows of a --plan"),
        (["--plan", "no.py"], "no ablation at no.py"),
        (["--run", "a b points"], "expected KEY=VALUE, got 'points'"),
    ],
)
def test_what_is_amiss_is_said(run, capsys, tmp_path, args, complaint):
    assert run(*args, *CLIP, "--out", tmp_path / "out.svg") == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "out.svg").exists()


def test_prompts_of_a_run_that_says_no_boxes_are_refused(run, model, capsys, tmp_path):
    args = ["--run", f"seg {model}", *CLIP, "--options", *OPTIONS]
    assert run(*args, "--out", tmp_path / "out.svg") == 2
    assert "run 'seg' prompted with no boxes" in capsys.readouterr().err
