"""The command line: what it writes, and how it refuses. Models are fakes; the real way is ``make demo``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import refstream.cli.segment as segment_module
from refstream import resources
from refstream.cli import main
from refstream.cli.app import COMMANDS, build_parser
from refstream.cli.options import gate_of
from refstream.cli.results import remove_results
from refstream.data import rle
from refstream.errors import UserError
from refstream.resources import default_model_path, is_embedded, model_folder
from refstream.testing.fakes import FakeModel, moving_square_video
from refstream.video import open_video, write_video

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def fake_model(monkeypatch) -> FakeModel:
    """What every ``--model`` loads."""
    model = FakeModel({"type": "StreamingRVOS"})
    monkeypatch.setattr(segment_module, "load_model", lambda *_: model)
    monkeypatch.setattr(segment_module, "default_model_path", lambda: Path("pretrained/tiny/fake"))
    return model


@pytest.fixture
def film(tmp_path) -> Path:
    frames, _ = moving_square_video(8)
    return write_video(tmp_path / "film.mp4", [f.image for f in frames], fps=10, crf=4)


def segment(film: Path, out: Path, *more: str) -> int:
    return main(
        [
            "segment",
            "--video",
            str(film),
            "--expression",
            "the red square",
            "--out",
            str(out),
            "--device",
            "cpu",
            *more,
        ]
    )


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr."""
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(lines) == 1, lines
    assert "Traceback" not in lines[0]
    return lines[0]


# ---------------------------------------------------------------- segment


def test_segment_writes_everything(fake_model, film, tmp_path, capsys):
    out = tmp_path / "out"
    assert segment(film, out, "--expression", "the blue square", "--max-frames", "6") == 0
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["state"], summary["frames"], summary["j_and_f"]) == ("complete", 6, None)
    assert summary["fps"] > 0
    assert 0 < summary["latency_ms_p50"] <= summary["latency_ms_p95"]
    assert summary["mllm_calls_per_frame"] == pytest.approx(summary["mllm_calls"] / 12)
    assert [q["expression"] for q in summary["queries"]] == ["the red square", "the blue square"]
    lines = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    assert [(e["frame_index"], e["query_id"]) for e in lines[:3]] == [(0, "0"), (0, "1"), (1, "0")]
    assert len(lines) == 12
    for record in lines:
        png = np.asarray(Image.open(out / "masks" / record["query_id"] / f"{record['frame_index']:05d}.png"))
        assert np.array_equal(png == 255, rle.decode(record["mask"]))
    assert sum(1 for _ in open_video(out / "overlay.mp4")) == 6
    assert Image.open(out / "contact_sheet.png").size[0] > 100
    said = capsys.readouterr()
    assert "frames" in said.out
    assert "coloured shapes" in said.err  # the embedded model's honest note


def test_masks_are_right(fake_model, film, tmp_path):
    _, truth = moving_square_video(8)
    assert segment(film, tmp_path / "out", "--quiet") == 0
    for t in range(8):
        found = np.asarray(Image.open(tmp_path / "out" / "masks" / "0" / f"{t:05d}.png")) == 255
        assert (found & truth[0, t]).sum() / (found | truth[0, t]).sum() > 0.8


def test_quiet_says_nothing(fake_model, film, tmp_path, capsys):
    assert segment(film, tmp_path / "out", "--quiet") == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")


def test_gate_reaches_the_pipeline(fake_model, film, tmp_path):
    assert segment(film, tmp_path / "out", "--gate", "every_k:4") == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["gate"] == {"type": "EveryKGate", "k": 4}
    assert summary["mllm_calls"] == 2


def test_second_run_replaces_the_first_and_spares_other_files(fake_model, film, tmp_path):
    out = tmp_path / "out"
    assert segment(film, out, "--expression", "the blue square") == 0
    (out / "notes.txt").write_text("mine")
    (out / "masks" / "0" / "mine.png").write_text("mine")
    assert segment(film, out, "--max-frames", "3") == 0
    assert not (out / "masks" / "1").exists()
    assert sorted(p.name for p in (out / "masks" / "0").iterdir()) == [
        "00000.png", "00001.png", "00002.png", "mine.png",
    ]  # fmt: skip
    assert (out / "notes.txt").read_text() == "mine"
    remove_results(tmp_path / "nothing")


def test_truncated_video_writes_what_it_has(fake_model, tmp_path, capsys):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (64, 64, 3), dtype=np.uint8) for _ in range(60)]
    data = write_video(tmp_path / "whole.mp4", images, fps=10).read_bytes()
    rest = data.rindex(b"moov") - 4
    moved = data[:36] + data[rest:]  # the index alone, then no pictures: still an mp4 by name
    film = tmp_path / "cut.mp4"
    film.write_bytes(moved)
    assert segment(film, tmp_path / "none") == 2
    assert "cut.mp4" in error_line(capsys)
    folder = tmp_path / "frames"
    folder.mkdir()
    for i in range(4):
        Image.fromarray(images[i]).save(folder / f"{i}.jpg")
    (folder / "2.jpg").write_bytes((folder / "2.jpg").read_bytes()[:500])
    out = tmp_path / "out"
    assert segment(folder, out) == 2
    assert "2.jpg" in error_line(capsys)
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["state"], summary["frames"]) == ("broken off", 2)
    assert len((out / "events.jsonl").read_text().splitlines()) == 2
    assert sum(1 for _ in open_video(out / "overlay.mp4")) == 2
    assert segment(folder, out, "--on-error", "skip") == 0
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["state"], summary["frames"], len(summary["problems"])) == ("complete", 3, 1)


def test_ctrl_c_leaves_valid_files(fake_model, film, tmp_path, monkeypatch, capsys):
    step, count = segment_module.StreamSession.step, [0]

    def interrupted(self, frame):
        count[0] += 1
        if count[0] == 4:
            raise KeyboardInterrupt
        return step(self, frame)

    monkeypatch.setattr(segment_module.StreamSession, "step", interrupted)
    assert segment(film, tmp_path / "out") == 130
    assert "interrupted" in capsys.readouterr().err
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["state"], summary["frames"]) == ("interrupted", 3)
    assert sum(1 for _ in open_video(tmp_path / "out" / "overlay.mp4")) == 3
    assert len((tmp_path / "out" / "events.jsonl").read_text().splitlines()) == 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this platform")
def test_disk_full(fake_model, film, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "masks").write_text("a file where a folder should be")
    assert segment(film, out) == 2
    assert "masks" in error_line(capsys)
    assert json.loads((out / "summary.json").read_text())["state"] == "interrupted"


# ---------------------------------------------------------------- demo


def test_demo_renders_reads_back_and_scores(fake_model, tmp_path, capsys):
    assert main(["demo", "--out", str(tmp_path), "--device", "cpu"]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    for key in ("j_and_f", "fps", "mllm_calls_per_frame", "latency_ms_p50", "latency_ms_p95"):
        assert isinstance(summary[key], float), key
    assert summary["frames"] == sum(1 for _ in open_video(tmp_path / "input.mp4")) == 24
    scores = [q["j_and_f"] for q in summary["queries"]]
    assert summary["j_and_f"] == pytest.approx(np.mean(scores))
    assert summary["notes"] == []
    assert "J&F" in capsys.readouterr().out


def test_demo_on_ones_own_video(fake_model, film, tmp_path, capsys):
    assert main(["demo", "--video", str(film), "--out", str(tmp_path / "o")]) == 2
    assert "--expression" in error_line(capsys)
    assert main(["demo", "--video", str(film), "--expression", "red", "--out", str(tmp_path / "o")]) == 0
    assert json.loads((tmp_path / "o" / "summary.json").read_text())["j_and_f"] is None


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--video", "no/such.mp4"], "no such file"),
        (["--expression", "  "], "expression is empty"),
        (["--expression", "word " * 20000], "expression"),
        (["--gate", "sometimes"], "unknown gate"),
        (["--gate", "every_k:often"], "every_k:5"),
        (["--gate", "every_k:0"], "k must be at least 1"),
        (["--gate", "random:2"], "probability"),
        (["--gate", "first", "--tau1", "0.5"], "belong to --gate omcp"),
        (["--tau1", "1.5"], "tau1 must lie in [0, 1]"),
        (["--fps", "5"], "folder of frames only"),
    ],
)
def test_bad_options_end_in_one_line(fake_model, film, tmp_path, capsys, options, expected):
    base = {"--video": str(film), "--expression": "red"}
    base.update(zip(options[::2], options[1::2], strict=True))
    words = [word for pair in base.items() for word in pair]
    assert main(["segment", *words, "--out", str(tmp_path / "out")]) == 2
    assert expected in error_line(capsys)
    assert not (tmp_path / "out").exists()  # nothing begun


def test_unknown_model_folder(film, tmp_path, capsys):
    assert segment(film, tmp_path / "out", "--model", str(tmp_path / "nothing")) == 2
    assert "no model folder" in error_line(capsys)
    (tmp_path / "empty").mkdir()
    assert segment(film, tmp_path / "out", "--model", str(tmp_path / "empty")) == 2
    assert "no config.json" in error_line(capsys)
    assert segment(film, tmp_path / "out", "--random-init", "internvl9+sam2.1-large") == 2
    assert "internvl2_5-1b" in error_line(capsys)


def test_no_cuda(film, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    arguments = ["segment", "--video", str(film), "--expression", "red", "--device", "cuda"]
    assert main([*arguments, "--out", str(tmp_path)]) == 2
    assert "no CUDA device" in error_line(capsys)


def test_debug_keeps_the_traceback(monkeypatch, tmp_path):
    monkeypatch.setenv("REFSTREAM_DEBUG", "1")
    with pytest.raises(UserError, match="no such file"):
        main(["segment", "--video", "no/such.mp4", "--expression", "red", "--out", str(tmp_path)])


def test_our_own_bugs_are_not_hidden(fake_model, film, tmp_path, monkeypatch):
    monkeypatch.setattr(segment_module.StreamSession, "step", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        segment(film, tmp_path / "out")


def test_as_a_process(tmp_path):
    """One line on stderr, code 2, nothing on stdout; the help is there without loading PyTorch."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("REFSTREAM_DEBUG", None)
    command = [sys.executable, "-m", "refstream"]
    options = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "check": False}
    done = subprocess.run([*command, "segment", "--video", "x.mp4", "--expression", "red"], **options)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.strip().splitlines() == [
        "refstream: error: x.mp4: no such file or folder; expected a video, a folder of frames, or an address"
    ]
    probe = (
        "import sys, refstream.cli as c\ntry: c.main(['--help'])\nfinally: assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", probe], **options)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [command[0] for command in COMMANDS])
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert caught.value.code == 0
    assert "usage: refstream" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [["segment"], ["fly"], ["segment", "--max-frames", "0"], ["bench", "stream", "--size", "big"]]
)
def test_usage_errors_have_code_2_and_one_line(words, capsys):
    with pytest.raises(SystemExit) as caught:
        build_parser().parse_args(words)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("refstream")
    assert line.endswith("--help")


# ---------------------------------------------------------------- parts


def gate(name: str | None, own: dict | None = None, **taus: float) -> dict | None:
    values = {"tau1": None, "tau2": None, "seed": 3, **taus}
    return gate_of(Namespace(gate=name, **values), own)


def test_gate_configs():
    own = {"type": "ConsistencyGate", "tau1": 0.8, "tau2": 0.2}
    assert gate(None, own) is None
    assert gate("omcp", own) == own
    assert gate(None, own, tau2=0.5) == {**own, "tau2": 0.5}
    assert gate("omcp", {"type": "EveryFrameGate"}, tau1=0.6) == {"type": "ConsistencyGate", "tau1": 0.6}
    assert gate("lagged", own) == {"type": "LaggedConsistencyGate"}
    assert gate("always") == {"type": "EveryFrameGate"}
    assert gate("first") == {"type": "FirstFrameGate"}
    assert gate("random:0.25") == {"type": "RandomGate", "probability": 0.25, "seed": 3}
    with pytest.raises(UserError, match="takes no value"):
        gate("first:3")


def test_model_folders(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.json").write_text("{}")
    assert model_folder(tmp_path / "a") == model_folder(tmp_path) == tmp_path / "a"
    monkeypatch.setattr(resources, "TINY_FOLDERS", (tmp_path / "none", tmp_path))
    assert default_model_path() == tmp_path / "a"
    assert is_embedded(tmp_path / "a")
    assert not is_embedded(tmp_path.parent)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "config.json").write_text("{}")
    with pytest.raises(UserError, match="several models"):
        model_folder(tmp_path)
    monkeypatch.setattr(resources, "TINY_FOLDERS", (tmp_path / "none",))
    with pytest.raises(UserError, match="make tiny"):
        default_model_path()
