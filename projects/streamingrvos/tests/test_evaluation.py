"""The papers' evaluation commands, on official layouts written from MiniRVOS and with the tiny model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from refstream_projects.streamingrvos.evaluation import ref_vos_eval, refcoco_eval

from refstream.cli import main as refstream
from refstream.evaluation.benchmarks import load_benchmark
from refstream.evaluation.predictions.open import open_predictions
from refstream.evaluation.run import RunPredictions
from refstream.evaluation.submit import check_submission

ROOT = Path(__file__).resolve().parents[3]
TINY = ROOT / "pretrained" / "tiny" / "streamingrvos"
SCRIPTS = ROOT / "projects" / "streamingrvos" / "evaluation"
TREES = {
    "mevis": ("data/video_datas/mevis", "valid_u"),
    "ref_davis17": ("data/video_datas/davis17", "valid"),
    "ref_youtube_vos": ("data/video_datas/rvos", "valid"),
    "revos": ("data/video_datas/revos", "valid"),
    "refcoco": ("data/ref_seg/refcoco", "val"),
}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Makes the working folder one in which a benchmark lies where the papers' trees have it."""
    monkeypatch.chdir(tmp_path)

    def write(layout: str, clips: int = 2) -> Path:
        root, split = TREES[layout]
        words = ["--clips", str(clips), "--frames", "3", "--size", "64", "--split", "val", "--quiet"]
        command = ["data", "minirvos", "--layout", layout, "--out", root, "--layout-split", split]
        assert refstream([*command, *words]) == 0
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("layout", "dataset", "benchmark"),
    [("ref_davis17", "DAVIS", "ref_davis17"), ("mevis", "MEVIS_U", "mevis"), ("revos", "REVOS", "revos")],
)
def test_one_process(tree, layout, dataset, benchmark):
    place = tree(layout)
    words = ["--model_path", str(TINY), "--dataset", dataset, "--device", "cpu", "--quiet"]
    assert ref_vos_eval.main(words) == 0
    out = place / "work_dirs" / "streamingrvos" / dataset
    result = json.loads((out / "result.json").read_text())
    assert result["benchmark"] == benchmark
    assert result["expected"]["videos"] == 2

    released = json.loads((out / "results.json").read_text())
    asked = load_benchmark(benchmark)
    assert list(released) == [video.id for video in asked.videos]
    entry = released[asked.videos[0].id][asked.videos[0].expressions[0].id]
    assert set(entry) == {
        *("index", "video_id", "exp_id", "text_prediction", "frames", "exp", "prediction_masks")
    }
    assert entry["exp"] == asked.videos[0].expressions[0].text
    assert [code["size"] for code in entry["prediction_masks"]] == [[64, 64]] * 3
    run, saved = RunPredictions(out / "model" / "run"), open_predictions(out / "results.json", asked)
    for video in asked.videos:
        for expression in video.expressions:
            ours, theirs = (one.read(video, expression, (64, 64)) for one in (run, saved))
            np.testing.assert_array_equal(ours.masks, theirs.masks)


def test_submit_writes_a_checked_zip(tree):
    place = tree("ref_youtube_vos")
    words = ["--model_path", str(TINY), "--dataset", "REFYTVOS", "--submit", "--work_dir", "out"]
    assert ref_vos_eval.main([*words, "--device", "cpu", "--quiet"]) == 0
    asked = load_benchmark("ref_youtube_vos")
    assert check_submission(place / "out" / "REFYTVOS.zip", asked, form="annotations") == []
    assert not (place / "out" / "results.json").exists()


def test_refcoco(tree):
    place = tree("refcoco")
    words = ["--model_path", str(TINY), "--dataset", "refcoco", "--device", "cpu", "--quiet"]
    assert refcoco_eval.main(words) == 0
    result = json.loads((place / "work_dirs" / "streamingrvos" / "refcoco_val" / "result.json").read_text())
    assert (result["benchmark"], result["split"]) == ("refcoco", "val")
    assert "cIoU" in result["summary"]["overall"]


def test_refusals(tree, capsys, tmp_path):
    tree("refcoco")
    words = ["--model_path", str(TINY), "--device", "cpu"]
    assert refcoco_eval.main([*words, "--dataset", "refcocog", "--split", "testA"]) == 2
    assert "no split 'testA'" in capsys.readouterr().err
    assert ref_vos_eval.main(["--model_path", str(tmp_path), "--dataset", "DAVIS"]) == 2
    assert "not a model folder" in capsys.readouterr().err
    assert ref_vos_eval.main([*words, "--dataset", "DAVIS"]) == 2
    assert "data/video_datas/davis17" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        ref_vos_eval.main([*words, "--dataset", "COCO"])


def launched(place: Path, *command: str) -> None:
    """Run a command to its end in a folder of its own, on one thread per process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHON": sys.executable}
    done = subprocess.run(
        command, cwd=place, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
LAUNCH = (sys.executable, "-m", "torch.distributed.launch", "--nproc_per_node=2", "--master_port=29613")


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [TORCHRUN, LAUNCH], ids=["torchrun", "launch"])
def test_two_processes_write_what_one_writes(tree, launcher):
    """``torch.distributed.launch`` passes ``--local-rank`` to the script."""
    place = tree("mevis", clips=4)
    torch.set_num_threads(1)
    words = ["--model_path", str(TINY), "--dataset", "MEVIS_U", "--device", "cpu", "--quiet", "--work_dir"]
    assert ref_vos_eval.main([*words, "one"]) == 0
    launched(place, *launcher, str(SCRIPTS / "ref_vos_eval.py"), "--launcher", "pytorch", *words, "two")
    for name in ("results.json", "items.csv"):
        assert (place / "two" / name).read_bytes() == (place / "one" / name).read_bytes()
    one, two = (json.loads((place / name / "result.json").read_text()) for name in ("one", "two"))
    assert one["summary"] == two["summary"]
    ranks = [json.loads((place / "two" / "ranks" / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert [rank["state"] for rank in ranks] == ["finished", "finished"]
    # Both had work: report() counts items begun and ended.
    assert all(rank["number"] > 4 for rank in ranks)


@pytest.mark.slow
def test_refcoco_in_two_processes(tree):
    place = tree("refcoco", clips=6)
    words = ["--model_path", str(TINY), "--dataset", "refcoco", "--split", "val", "--device", "cpu"]
    launched(place, *TORCHRUN, str(SCRIPTS / "refcoco_eval.py"), "--launcher", "pytorch", *words)
    result = json.loads((place / "work_dirs" / "streamingrvos" / "refcoco_val" / "result.json").read_text())
    assert result["missing"] == []


@pytest.mark.slow
def test_dist_sh_test(tmp_path):
    out = tmp_path / "out"
    words = ["--benchmark", "minirvos", "--clips", "4", "--frames", "2", "--device", "cpu", "--out", str(out)]
    launched(ROOT, "bash", "tools/dist.sh", "test", "pretrained/tiny", "2", *words)
    assert json.loads((out / "result.json").read_text())["expected"]["videos"] == 4
    assert {path.name for path in (out / "ranks").iterdir()} == {"0.json", "1.json"}
