"""``refstream data prepare`` from the command line; its parts are tested in tests/data/test_prepare.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refstream.cli import main
from refstream.evaluation.qa.ovo import OVOBench


def test_data_prepare_makes_what_evaluation_reads(
    tmp_path: Path, golden: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    listed = json.loads((golden / "davis17_official" / "meta_expressions.json").read_text())["videos"]
    names = [f"Davis17_annot{n}{kind}.txt" for n in (1, 2) for kind in ("", "_full_video")]
    for a, name in enumerate(names):
        asked = [(video, key, e) for video, r in listed.items() for key, e in r["expressions"].items()]
        lines = [f'{video} {e["obj_id"]} "{e["exp"]}"\n' for video, key, e in asked if int(key) % 4 == a]
        (texts / name).write_text("".join(lines))
    out = tmp_path / "davis17"
    words = ["--davis", str(golden / "davis17_official" / "DAVIS"), "--texts", str(texts), "--out", str(out)]
    assert main(["data", "prepare", "ref_davis17", *words]) == 0
    assert "3 videos" in capsys.readouterr().err
    assert main(["data", "check", "ref_davis17", str(out), "--subset", "--quiet"]) == 0
    words = ["data", "prepare", "revos_foreground", str(golden / "revos"), "--out", str(out / "f.json")]
    assert main(words) == 0
    assert (out / "f.json").is_file()
    assert main(["data", "prepare", "mask_dict", "davis17", str(out)]) == 2
    assert "exists; choose another file" in capsys.readouterr().err


def test_data_streams_are_read_as_ovo_bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "ovo"
    words = ["data", "streams", "--out", str(root), "--streams", "2", "--seconds", "12", "--size", "64"]
    assert main(words) == 0
    assert "2 videos" in capsys.readouterr().err
    benchmark = OVOBench(root)
    assert {question.video for question in benchmark.questions}
    assert all(benchmark.video_path(question).is_file() for question in benchmark.questions)
    assert main(words) == 2
    assert "choose another folder" in capsys.readouterr().err
