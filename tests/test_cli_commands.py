"""The commands beside segment and demo: thin, so what counts is what they pass on and what they refuse."""

from __future__ import annotations

import json

import pytest
import torch

from refstream.cli import bench, convert, main, train
from refstream.video import open_video


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr."""
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(lines) == 1, lines
    return lines[0]


def test_convert_saves_in_a_new_folder(tmp_path, monkeypatch, capsys):
    saved = {}

    class Model:
        def save(self, folder, dtype) -> None:
            saved[folder] = dtype

    monkeypatch.setattr(convert, "load_model", lambda *_: Model())
    assert main(["convert", "a", str(tmp_path / "b"), "--dtype", "float16"]) == 0
    assert saved == {tmp_path / "b": torch.float16}
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    assert main(["convert", "a", str(tmp_path / "full")]) == 2
    assert "not an empty folder" in error_line(capsys)


def test_train_passes_its_options_on(monkeypatch, capsys):
    seen = {}
    monkeypatch.setattr(train, "train", lambda *a, **k: seen.update(args=a, **k) or "work_dirs/x")
    words = ["--work-dir", "w", "--resume", "--cfg-options", "train_cfg.max_iters=3", "lr=1e-3"]
    assert main(["train", "c.py", *words]) == 0
    assert seen["args"] == ("c.py", {"train_cfg.max_iters": 3, "lr": 1e-3})
    assert (seen["work_dir"], seen["resume"], seen["launcher"]) == ("w", True, "none")
    monkeypatch.undo()
    assert main(["train", "no/such.py"]) == 2
    assert "no config at" in error_line(capsys)


def test_bench_prints_and_writes(tmp_path, monkeypatch, capsys):
    row = {"arm": "ours", "expressions": 1, "ms_per_frame": 2.0, "fps": 500.0, "mllm_calls_per_frame": 0.3}
    calls = []

    def measured(*args, **keys):
        calls.append((args, keys))
        return {"rows": [row], "ratios": {"full": 3.0}}

    monkeypatch.setattr(bench, "bench_stream", measured)
    out = tmp_path / "bench.json"
    words = ["bench", "stream", "--device", "cpu", "--size", "60x80", "--rounds", "2", "--out", str(out)]
    assert main(words) == 0
    (args, keys), said = calls.pop(), capsys.readouterr().out
    assert args == ("hundredth",)
    assert (keys["size"], keys["rounds"], keys["dtype"]) == ((60, 80), 2, torch.float32)
    assert json.loads(out.read_text())["rows"] == [row]
    assert "full 3.00" in said
    monkeypatch.setattr(bench, "bench_real", measured)
    assert main(["bench", "real", "--device", "cpu", "--random-init", "a+b", "--quiet"]) == 0
    assert calls.pop()[0] == ("a+b",)
    assert main(["bench", "stream", "--random-init", "a+b"]) == 2
    assert "bench real" in error_line(capsys)
    assert main(["bench", "real", "--model", "m"]) == 2
    assert "bench stream" in error_line(capsys)


def test_data_in_an_official_layout(tmp_path, capsys):
    out = tmp_path / "out"
    words = ["data", "minirvos", "--out", str(out), "--clips", "2", "--frames", "4", "--size", "64"]
    words += ["--world", "plain"]
    assert main(words) == 0
    assert "mevis valid_u: 2 clips" in capsys.readouterr().err
    meta = json.loads((out / "valid_u" / "meta_expressions.json").read_text())["videos"]
    assert len(meta) == 2
    for name, video in meta.items():
        assert video["frames"] == ["00000", "00001", "00002", "00003"]
        assert sum(1 for _ in open_video(out / "valid_u" / "JPEGImages" / name)) == 4
    assert main(words) == 2
    assert "choose another folder or split" in error_line(capsys)
    assert main([*words, "--layout-split", "train"]) == 0
    assert (out / "train" / "mask_dict.json").exists()
    assert main([*words, "--layout", "refcoco", "--layout-split", "valid"]) == 2
    assert "train, val, testA, testB" in error_line(capsys)
