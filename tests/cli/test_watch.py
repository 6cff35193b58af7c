"""``refstream watch``: what it prints, writes and refuses. The speaker says what a test wants."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import refstream.cli.watch as watch_module
from refstream import resources
from refstream.cli import main
from refstream.data import rle
from refstream.errors import UserError
from refstream.registry import PIPELINES
from refstream.resources import DEFAULT_TEXT_NAME, default_model_path
from refstream.structures import Frame, Query, StreamEvent
from refstream.testing.fakes import FakeModel, moving_square_video
from refstream.video import write_video

ASK = "tell me when it stops"


@dataclass
class Listening:
    query: Query


@dataclass
class ScriptedSpeaker:
    """Looks every ``1 / fps`` seconds; answers at the second look and at the end."""

    model: Any
    fps: float = 5.0
    policy: dict[str, Any] = field(default_factory=dict)
    stage: Any = None

    causal = True
    max_frames = None
    answers = "text"

    def start(self, query: Query) -> Listening:
        self.model.started.append((query, self.fps, self.policy))
        return Listening(query)

    def encode(self, frame: Frame) -> None:
        return None

    def step(self, states: Sequence[Listening], frame: Frame, features: None) -> list[StreamEvent]:
        look, rest = divmod(round(frame.time_s * 10), round(10 / self.fps))
        if rest:
            return []
        return [self.event(s, frame.index, frame.time_s, "[it] stops" if look == 1 else None) for s in states]

    def event(self, state: Listening, index: int, time_s: float, text: str | None) -> StreamEvent:
        name = "response" if text else "standby"
        extra = {"state": name, "probabilities": {name: 0.75}, "interval": f"<{time_s:g}s>"}
        return StreamEvent(state.query.id, index, time_s, text=text, invoked_mllm=True, extra=extra)

    def finish(self, state: Listening) -> list[StreamEvent]:
        return [self.event(state, 7, 0.7, "over")]


@pytest.fixture
def speaker(monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    """What ``--model`` and ``--segment-model`` load: by the name of the folder one that speaks or draws."""
    monkeypatch.setitem(PIPELINES.module_dict, "ScriptedSpeaker", ScriptedSpeaker)
    model = FakeModel({"type": "ScriptedSpeaker", "policy": {"respond": 0.5, "cool_down_s": 1.0}})
    model.started = []  # type: ignore[assignment]
    drawer = FakeModel({"type": "StreamingRVOS"})

    def load(path: Path, *_: Any) -> FakeModel:
        return drawer if "draws" in str(path) else model

    def default(answers: str = "masks") -> Path:
        return Path("some/speaks" if answers == "text" else "some/draws")

    monkeypatch.setattr(watch_module, "load_model", load)
    monkeypatch.setattr(watch_module, "default_model_path", default)
    return model


@pytest.fixture
def film(tmp_path: Path) -> Path:
    frames, _ = moving_square_video(8)
    return write_video(tmp_path / "film.mp4", [f.image for f in frames], fps=10, crf=4)


@pytest.fixture
def watch(film: Path, speaker: FakeModel) -> Callable[..., int]:
    def run(*words: str) -> int:
        return main(["watch", "--video", str(film), "--device", "cpu", *words])

    return run


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(lines) == 1, lines
    return lines[0]


def test_answers_are_printed_with_their_times(watch: Any, speaker: Any, capsys: Any) -> None:
    assert watch("--ask", ASK) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == ["    0.20 s  [it] stops", "    0.70 s  over"]
    assert "8 frames, 5 looks, 2 answers" in said.err
    ((query, fps, policy),) = speaker.started
    assert (query.expression, query.kind, query.time_s) == (ASK, "", 0.0)
    assert (fps, policy) == (5.0, {"respond": 0.5, "cool_down_s": 1.0})


def test_states_and_several_questions(watch: Any, speaker: Any, capsys: Any) -> None:
    words = ["--ask", ASK, "--ask-at", "0.3", "what now", "--states", "--fps", "2.5", "--quiet"]
    assert watch(*words, "--respond", "0.25") == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.splitlines() == [
        "    0.00 s  [1]  <0s>  standby  0.75",
        "    0.40 s  [1]  <0.4s>  response 0.75  [it] stops",
        "    0.40 s  [2]  <0.4s>  response 0.75  [it] stops",
        "    0.70 s  [1]  <0.7s>  response 0.75  over",
        "    0.70 s  [2]  <0.7s>  response 0.75  over",
    ]
    assert [(query.time_s, fps) for query, fps, _ in speaker.started] == [(0.0, 2.5), (0.3, 2.5)]
    assert speaker.started[0][2] == {"respond": 0.25, "cool_down_s": 1.0}


def test_masks_beside_words(watch: Any, tmp_path: Path, capsys: Any) -> None:
    log = tmp_path / "logs" / "events.jsonl"
    assert watch("--ask", ASK, "--segment", "the red square", "--json", str(log)) == 0
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    _, truth = moving_square_video(8)
    masks = [rle.decode(row["mask"]) for row in rows if row["query_id"] == "mask1"]
    assert len(masks) == 8
    overlap = [(a & b).sum() / (a | b).sum() for a, b in zip(masks, truth[0], strict=True)]
    assert np.mean(overlap) > 0.8
    told = [(round(row["time_s"], 3), row["text"]) for row in rows if row["query_id"] == "ask1"]
    assert told == [(0.0, None), (0.2, "[it] stops"), (0.4, None), (0.6, None), (0.7, "over")]
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 2
    assert f"events are in {log}" in " ".join(said.err.split())
    assert watch("--ask", ASK, "--segment", "the red square") == 0
    assert "--json only" in capsys.readouterr().err


def test_a_video_that_breaks_off(speaker: Any, tmp_path: Path, capsys: Any) -> None:
    folder, log = tmp_path / "frames", tmp_path / "e.jsonl"
    folder.mkdir()
    for frame in moving_square_video(8)[0]:
        Image.fromarray(frame.image).save(folder / f"{frame.index}.png")
    (folder / "4.png").write_bytes(b"not a picture")
    words = ["watch", "--video", str(folder), "--folder-fps", "10", "--ask", ASK, "--json", str(log)]
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out.splitlines() == ["    0.20 s  [it] stops", "    0.70 s  over"]
    assert "4.png" in said.err
    assert len(log.read_text().splitlines()) == 3
    assert main([*words, "--on-error", "skip", "--states"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(log.read_text().splitlines()) == 4
    assert main([*words, "--max-frames", "1"]) == 0
    assert capsys.readouterr().out.splitlines() == ["    0.70 s  over"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "say what to tell"),
        (["--ask", "  "], "empty"),
        (["--ask-at", "soon", "what now"], "takes seconds and a text"),
        (["--ask-at", "-1", "what now"], "takes seconds and a text"),
        (["--ask", ASK, "--model", "draws"], "answers in masks, expected a model that answers in text"),
        (
            ["--ask", ASK, "--segment", "x", "--segment-model", "speaks"],
            "speaks answers in text, expected",
        ),
        (["--ask", ASK, "--json", "."], "."),
    ],
)
def test_what_it_refuses(words: list[str], message: str, watch: Any, capsys: Any) -> None:
    assert watch(*words) == 2
    assert message in error_line(capsys)


def test_the_embedded_speaker(tmp_path: Path, monkeypatch: Any, film: Path, capsys: Any) -> None:
    monkeypatch.setattr(resources, "TINY_FOLDERS", (tmp_path / "none", tmp_path))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    assert main(["watch", "--video", str(film), "--ask", ASK]) == 2
    assert "answers in words is missing" in error_line(capsys)
    (tmp_path / DEFAULT_TEXT_NAME).write_text("b\n")
    assert default_model_path("text") == tmp_path / "b"
    (tmp_path / DEFAULT_TEXT_NAME).write_text("c")
    with pytest.raises(UserError, match="must name a model folder"):
        default_model_path("text")
    assert main(["watch", "--video", "no/such.mp4", "--ask", ASK]) == 2
    assert "no such file" in error_line(capsys)
