"""``refstream eval`` on streams: what it writes, what it refuses, and that it goes on."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from refstream.cli import streams
from refstream.cli.app import main
from refstream.registry import PIPELINES
from refstream.video import write_video
from tests.evaluation.scripted import Scripted

RECORDS = [
    {"id": 7, "task": "OCR", "video": "a.mp4", "realtime": 2.4, "question": "Which letter?"}
    | {"answer": "Q", "options": ["P", "Q"], "gt": 1},
    {"id": 8, "task": "REC", "video": "a.mp4", "activity": "blink", "start_times": [1], "end_times": [2]}
    | {"test_info": [{"realtime": 1, "count": 0}, {"realtime": 3, "count": 1}]},
    {"id": 9, "task": "SSR", "video": "a.mp4", "tutorial": "x", "all_steps": ["pour"], "start_time": [1]}
    | {"end_time": [2], "test_info": [{"realtime": 1.5, "step": "pour", "type": 1}]},
]


class ScriptedSpeaker(Scripted):
    """Chooses B, blinks and has poured at 2 s; forced, chooses A."""

    def __init__(self, model: Any = None, fps: float = 1.0, speak_at_end: bool = False) -> None:
        super().__init__(self.said, fps)
        self.forced = speak_at_end

    def said(self, query, time_s):
        if query.expression.startswith("Question"):
            return ("A", "response") if self.forced else ("B", "response")
        if time_s == 2:
            return "now", "response"
        return None, "standby" if time_s == 1 else "silence"


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose model speaks by the script."""
    monkeypatch.setitem(PIPELINES.module_dict, "ScriptedSpeaker", ScriptedSpeaker)
    made = SimpleNamespace(pipeline=lambda **keys: ScriptedSpeaker(**keys))
    monkeypatch.setattr(streams, "load_model", lambda *_: made)
    return folder(tmp_path / "speaker", {"pipeline": {"type": "ScriptedSpeaker"}})


def folder(path: Path, config: dict[str, Any]) -> Path:
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    return path


@pytest.fixture
def ovo(tmp_path: Path) -> Path:
    root = tmp_path / "ovo"
    images = [np.full((32, 32, 3), 5 * i, dtype=np.uint8) for i in range(20)]
    (root / "src_videos").mkdir(parents=True)
    write_video(root / "src_videos" / "a.mp4", images, fps=4.0)
    (root / "ovo_bench_new.json").write_text(json.dumps(RECORDS))
    return root


def run(*words: object) -> int:
    return main([*map(str, words), "--quiet", "--device", "cpu"])


def test_ovo_by_streaming(model, ovo, tmp_path, monkeypatch):
    out = tmp_path / "out"
    words = ("eval", model, "--benchmark", "ovo", "--data", ovo, "--out", out, "--protocol", "strict")
    assert run(*words) == 0
    result = json.loads((out / "result.json").read_text())
    assert {g: f["accuracy"] for g, f in result["summary"].items() if g.startswith("task/")} == {
        "task/OCR": 100,
        "task/REC": 100,
        "task/SSR": 100,
    }
    assert result["way"]["way"] == "stream"
    assert result["rules"]["state"] == "state"
    assert result["timing"]["REC"]["f1"] == 100
    assert json.loads((out / "speed.json").read_text())["turns"] == 4
    assert json.loads((out / "answers.json").read_text())["8_1"] == "1"
    # what was written can be scored by itself
    log = ("score", out / "events.jsonl", "--benchmark", "ovo", "--data", ovo, "--out", tmp_path / "s")
    assert main([*map(str, log), "--protocol", "strict", "--quiet", "--missing", "score"]) == 0
    scored = json.loads((tmp_path / "s" / "result.json").read_text())
    assert scored["summary"]["task/OCR"]["accuracy"] == 100
    # nothing is run again
    monkeypatch.setattr("refstream.evaluation.qa.stream_run.open_video", None)
    assert run(*words) == 0


def test_options_of_ovo(model, ovo, tmp_path, capsys):
    start = ("eval", model, "--benchmark", "ovo", "--data", ovo, "--out", tmp_path / "out")
    assert run(*start, "--force-choices", "--fps", "2", "--wording", "plain") == 0
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["way"]["turns_per_second"] == 2
    assert result["way"]["wording"] == "plain"
    assert result["way"]["pipeline"] == {"fps": 2.0, "speak_at_end": True}
    assert result["summary"]["task/OCR"]["accuracy"] == 0, "A was forced"
    assert run(*start) == 2
    assert "holds results of another run" in " ".join(capsys.readouterr().err.split())
    assert run(*start, "--max-videos", "1") == 2
    assert "OVO-Bench is run as a whole" in " ".join(capsys.readouterr().err.split())
    (ovo / "src_videos" / "a.mp4").unlink()
    assert run(*start, "--fresh") == 2
    assert "none of the 3 questions of ovo could be asked" in " ".join(capsys.readouterr().err.split())


def test_offline_asks_the_mllm(model, ovo, tmp_path, monkeypatch):
    class Says:
        def __init__(self, model: Any) -> None: ...

        def answer(self, frames, times, prompt):
            return "B"

    monkeypatch.setattr("refstream.cli.answers.MLLMAnswerer", Says)
    monkeypatch.setattr("refstream.cli.answers.load_model", lambda *_: None)
    out = tmp_path / "out"
    assert run("eval", model, "--benchmark", "ovo", "--data", ovo, "--out", out, "--offline") == 0
    result = json.loads((out / "result.json").read_text())
    assert result["summary"]["task/OCR"]["accuracy"] == 100
    assert "way" not in result
    assert not (out / "events.jsonl").exists()


def test_minirvos_streams(model, tmp_path, capsys):
    out = tmp_path / "out"
    words = ("eval", model, "--benchmark", "minirvos_streams", "--clips", "2", "--out", out)
    assert main([*map(str, words), "--device", "cpu", "--floors", "--publish", str(tmp_path / "p.json")]) == 0
    shown = capsys.readouterr().out
    assert "minirvos_streams test" in shown
    result = json.loads((tmp_path / "p.json").read_text())
    assert {"command", "commit", "seeds", "machine", "rows", "speed"} <= set(result)
    assert [row["run"] for row in result["rows"]] == [
        *("model", "silent", "periodic", "constant", "true times", "black frames"),
    ]
    assert result["settings"]["streams"] == 2
    assert result["settings"]["turns_per_second"] == 1
    assert result["summary"]["overall"]["questions"] == result["expected"]["questions"]
    assert (out / "items.csv").read_text().count("\n") == result["expected"]["questions"] + 1
    assert run(*words) == 0
    assert run(*words, "--fps", "2") == 2
    assert "turns_per_second = 1.0 then, 2.0 now" in " ".join(capsys.readouterr().err.split())
    assert run(*words, "--fps", "2", "--fresh", "--max-videos", "1") == 0
    assert "not the whole" in json.loads((out / "result.json").read_text())["settings"]["note"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--benchmark", "minirvos_streams", "--protocol", "x"),
            "--protocol: of no meaning to minirvos_streams",
        ),
        (("--benchmark", "minirvos_streams", "--data", "x"), "--data: of no meaning"),
        (("--benchmark", "minirvos_streams", "--split", "x"), "no split 'x'; it has test, val, train"),
        (("--benchmark", "minirvos_streams", "--offline"), "of ovo only"),
        (("--benchmark", "minirvos", "--fps", "2"), "--fps: of minirvos_streams, and of ovo"),
        (("--benchmark", "mevis", "--offline"), "--offline: of minirvos_streams, and of ovo"),
        (("--benchmark", "ovo", "--offline", "--fps", "2"), "--fps: of minirvos_streams, and of ovo"),
    ],
)
def test_what_is_refused(model, ovo, capsys, words, message):
    assert run("eval", model, *words) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_model_of_masks(tmp_path, ovo, capsys, monkeypatch):
    path = folder(tmp_path / "masks", {"pipeline": {"type": "StreamingRVOS"}})
    assert run("eval", path, "--benchmark", "minirvos_streams") == 2
    assert "masks answers in masks" in " ".join(capsys.readouterr().err.split())
    assert not streams.speaks(path)
    assert not streams.speaks(folder(tmp_path / "older", {}))
    assert main(["score", str(path), "--benchmark", "minirvos_streams"]) == 2
    assert "answered in words over streams" in " ".join(capsys.readouterr().err.split())
