"""The papers' scoring scripts on the golden cases: their arguments, their figures, their files."""

from __future__ import annotations

import csv
import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from tests.evaluation.golden_trees import GOLDEN, davis17_tree, load, mevis_tree, revos_tree

TOOLS = Path(__file__).resolve().parents[2] / "tools" / "eval"
QUIET = ["--jobs", "0", "--quiet"]


def script(name: str):
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def given(case: str, folder: Path) -> Path:
    """The golden predictions as ``results.json`` in a folder."""
    folder.mkdir(parents=True)
    return Path(shutil.copy(GOLDEN / case / "predictions.json", folder / "results.json"))


def test_mevis_without_any_argument(tmp_path, capsys):
    mevis_tree(tmp_path / "data" / "video_datas" / "mevis")
    given("mevis", tmp_path / "work_dirs" / "m" / "MEVIS_U")
    assert script("eval_mevis").main(["--jobs", "0"]) == 0
    official = load("mevis", "case.json")["runs"][0]["official"]
    captured = capsys.readouterr()
    figures = json.loads(captured.out)
    assert figures == {
        "J": round(100 * official["J"], 2),
        "F": round(100 * official["F"], 2),
        "J&F": round(100 * official["JF"], 2),
    }
    assert json.loads((tmp_path / "mevis_valu.json").read_text()) == figures
    assert "1 videos without any prediction: absent" in captured.err


@pytest.mark.parametrize("flag", ["--pred_path", "--mevis_pred_path", None])
def test_mevis_with_the_arguments_of_public_scripts(flag, tmp_path, capsys):
    root = mevis_tree(tmp_path / "elsewhere")
    path = given("mevis", tmp_path / "p")
    words = [str(path)] if flag is None else [flag, str(path)]
    words += ["--mevis_exp_path", str(root / "valid_u" / "meta_expressions.json")]
    words += ["--mevis_mask_path", "elsewhere/valid_u/mask_dict.json", "--save_name", "out.json"]
    assert script("eval_mevis").main([*words, *QUIET]) == 0
    assert json.loads((tmp_path / "p" / "out.json").read_text())["J&F"] == 55.38
    assert capsys.readouterr().err == ""


def test_davis(tmp_path, capsys):
    davis17_tree(tmp_path / "data" / "video_datas" / "davis17")
    path = given("davis17_expressions", tmp_path / "p")
    assert script("eval_davis").main(["--pred_path", str(path), *QUIET]) == 0
    figures = json.loads((tmp_path / "p" / "davis17_val.json").read_text())
    assert figures == load("davis17_expressions", "case.json")["results"]


@pytest.mark.parametrize(
    ("compat", "column"), [("visa", "png_0_255"), ("visa-0-1", "png_0_1"), ("sa2va", "rle_0_1")]
)
def test_revos(compat, column, tmp_path, capsys):
    root = revos_tree(tmp_path / "data" / "video_datas" / "revos")
    base = load("revos", "case.json")["runs"][0]
    assert base["edits"] == [["drop_video", "set_c/gone"]]
    content = load("revos", "predictions.json")
    content.pop("set_c/gone", None)
    path = tmp_path / "p.json"
    path.write_text(json.dumps(content))
    words = ["--pred_path", str(path), "--visa_exp_path", str(root / "meta_expressions_valid_.json")]
    assert script("eval_revos").main([*words, "--save_csv_name", "t.csv", "--compat", compat, *QUIET]) == 0
    figures = json.loads((tmp_path / "revos_valid.json").read_text())
    official = base[column]["results"]
    assert set(figures) == set(official)
    for name, values in official.items():
        assert figures[name] == pytest.approx(values, abs=1e-9)
    with open(tmp_path / "t.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == base[column]["scored"]
    assert list(rows[0]) == ["video_name", "exp_id", "exp", "videxp", "J", "F", "JF", "A", "R", "type_id"]


def test_refytvos_scores_what_has_masks_and_says_so_of_what_has_none(tmp_path, capsys):
    from refstream.data.layouts import write_layout
    from refstream.evaluation.readers.ref_youtube_vos import RefYouTubeVOSBenchmark
    from refstream.synthetic.minirvos import MiniRVOS
    from tests.evaluation.predictions.small import code

    root = tmp_path / "data" / "video_datas" / "rvos"
    source = MiniRVOS("test", 0, num_clips=1, num_frames=3, size=64)
    for split in ("train", "valid"):
        write_layout("ref_youtube_vos", source, root, split=split)
    benchmark = RefYouTubeVOSBenchmark(root, "train")
    content = {
        video.id: {e.id: [code(mask) for mask in benchmark.truth(video, e)] for e in video.expressions}
        for video in benchmark.videos
    }
    (tmp_path / "p.json").write_text(json.dumps(content))
    assert script("eval_refytvos").main(["p.json", "--split", "train", *QUIET]) == 0
    assert json.loads((tmp_path / "refytvos_local.json").read_text())["J&F"] == 100.0
    assert script("eval_refytvos").main(["p.json", *QUIET]) == 2
    assert "not public" in capsys.readouterr().err


def test_predictions_must_be_told_apart(tmp_path, capsys):
    mevis_tree(tmp_path / "data" / "video_datas" / "mevis")
    assert script("eval_mevis").main(QUIET) == 2
    assert "found none" in capsys.readouterr().err
    for name in ("a", "b"):
        given("mevis", tmp_path / "work_dirs" / name / "MEVIS_U")
    assert script("eval_mevis").main(QUIET) == 2
    assert "work_dirs/a/MEVIS_U, work_dirs/b/MEVIS_U" in " ".join(capsys.readouterr().err.split())
    assert script("eval_mevis").main(["x", "--pred_path", "y", *QUIET]) == 2
    assert "named twice" in capsys.readouterr().err
