"""What the pipeline says, in what bounds, beside whom, and what it refuses; on random weights."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from refstream_projects.streamo.pipeline import Streamo
from refstream_projects.streamo.policy import DecisionPolicy
from refstream_projects.streamo.states import STATES
from refstream_projects.streamo.tests.speaker import (
    ASK,
    MUTE,
    OTHER,
    QUIET,
    SOME,
    noise_stream,
    one_shot,
    probabilities,
    said,
    speaking_model,
    stream,
)

from refstream.errors import UserError
from refstream.models.loading import load
from refstream.models.mllm.tokenizer import build_tiny_tokenizer
from refstream.streaming.joined import JoinedPipelines
from refstream.streaming.session import StreamSession
from refstream.structures import Frame
from refstream.testing import FakeModel, small_model


@pytest.fixture(scope="module")
def model() -> Any:
    return speaking_model(QUIET)


# ---------------------------------------------------------------- what it says


def test_silence_has_no_words_and_a_response_has_some(model: Any) -> None:
    for respond in (0.0, 0.42, 1.0):
        events = stream(model.pipeline(policy={"respond": respond}), noise_stream(24))
        spoken = {bool(event.text) for event in events}
        assert spoken == {0.0: {True}, 0.42: {True, False}, 1.0: {False}}[respond]
        for event in events:
            assert event.extra["state"] in STATES
            assert (event.text is not None) == (event.extra["state"] == "response")
            assert event.extra["probabilities"]["response"] >= respond or event.text is None
            assert sum(event.extra["probabilities"].values()) == pytest.approx(1.0)
            assert event.text is None or not any(f"<{s.capitalize()}>" in event.text for s in STATES)


def test_a_higher_threshold_speaks_no_more_often(model: Any) -> None:
    """On one and the same dialogue, whose history no decision changes: each second is the first one."""
    odds = [
        stream(model.pipeline(history=0), noise_stream(1, seed=seed))[0].extra["probabilities"]
        for seed in range(8)
    ]
    middle = sorted(p["response"] for p in odds)[4]
    spoken = []
    for respond in (0.0, 0.2, middle, 1.0):
        pipeline = model.pipeline(history=0, policy={"respond": respond})
        events = [stream(pipeline, noise_stream(1, seed=seed))[0] for seed in range(8)]
        assert [e.extra["probabilities"]["response"] for e in events] == [p["response"] for p in odds]
        spoken.append({i for i, e in enumerate(events) if e.text})
    assert all(high <= low for low, high in itertools.pairwise(spoken))
    assert [len(spoken[0]), len(spoken[2]), len(spoken[3])] == [8, 4, 0]


def test_after_an_answer_it_rests(model: Any) -> None:
    pipeline = model.pipeline(policy={"respond": 0.0, "cool_down_s": 3.0})
    events = stream(pipeline, noise_stream(40))
    assert [e.extra["interval"] for e in events if e.text] == ["<0s-1s>", "<3s-4s>", "<6s-7s>", "<9s-10s>"]
    assert {e.extra["rule"] for e in events if not e.text} == {"cool_down"}


def test_a_response_without_words_counts_as_silence(model: Any, monkeypatch: Any) -> None:
    logits = model.mllm.logits
    end = model.mllm.prompts.ids.turn_end

    def mute(hidden: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = logits(hidden).clone()
        found[..., end] = 1e6
        return found

    silent = stream(model.pipeline(policy=MUTE), noise_stream(12))
    assert {e.extra["state"] for e in silent} == {"silence"}
    monkeypatch.setattr(model.mllm, "logits", mute)
    events = stream(model.pipeline(policy={"respond": 0.0}), noise_stream(12))
    assert [(e.text, e.extra["state"], e.reason) for e in events] == [(None, "silence", "malformed")] * 3
    assert events[0].extra["said"] == "<Response>"
    assert torch.allclose(probabilities(events), probabilities(silent), atol=1e-6)  # nothing of it stayed
    *_, last = stream(model.pipeline(speak_at_end=True, policy=MUTE), noise_stream(12))
    assert (last.reason, last.text, last.extra["said"]) == ("final", None, "<Response>")


def test_what_it_says_freely_is_read(model: Any, monkeypatch: Any) -> None:
    """A random model speaks nonsense, which is silence; one that begins with a state is understood."""
    pipeline = model.pipeline(constrained=False, policy=None)
    events = stream(pipeline, noise_stream(12))
    silent = stream(model.pipeline(policy=MUTE), noise_stream(12))
    assert {(e.text, e.extra["state"], e.reason) for e in events} == {(None, "silence", "malformed")}
    assert all(e.extra["said"] for e in events)
    assert torch.allclose(probabilities(events), probabilities(silent), atol=1e-6)

    script = [*(model.mllm.tokenizer.encode(w) for w in ("<Response>", " green", " now")), None]
    tokens = [model.mllm.prompts.ids.turn_end if ids is None else ids[0] for ids in script]
    logits, calls = model.mllm.logits, iter([0, *tokens] * 3)  # the first call reads the odds

    def scripted(hidden: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = logits(hidden).clone()
        found[..., next(calls)] = 1e6
        return found

    monkeypatch.setattr(model.mllm, "logits", scripted)
    events = stream(pipeline, noise_stream(12))
    assert [(e.text, e.extra["state"], e.reason) for e in events] == [("green now", "response", "second")] * 3


def test_it_can_be_made_to_answer_at_the_end(model: Any) -> None:
    frames = noise_stream(12)
    events = stream(model.pipeline(speak_at_end=True), frames, [(ASK, None), (OTHER, 2.9)])
    *before, first, _, second = events
    assert all(event.text is None for event in before)
    assert (first.reason, first.frame_index, first.extra["interval"]) == ("final", 11, "<2s-3s>")
    assert (second.reason, second.query_id, second.time_s) == ("final", "1", 2.9)
    assert first.text
    assert second.text
    odds = [e.extra["probabilities"] for e in before if e.query_id == "0"][-1]
    assert first.extra["probabilities"] == pytest.approx(odds)
    spoken = stream(model.pipeline(speak_at_end=True, policy={"respond": 0.0}), frames)
    assert all(event.reason == "second" for event in spoken)


# ---------------------------------------------------------------- bounds


def test_everything_is_bounded(model: Any) -> None:
    pipeline = model.pipeline(rounds=6, history=4, **SOME)
    session = StreamSession(pipeline)
    session.add(ASK)
    session.add(OTHER, time_s=30.5)
    frames = noise_stream(20, 1.0)
    sizes = []
    for t in range(90):
        session.step(Frame(t, float(t), frames[t % 20].image))
        rounds = session.pipeline.rounds  # type: ignore[attr-defined]
        assert len(rounds) <= 6
        for state in session._states.values():
            dialogue = state.dialogue
            kinds = [segment.kind for segment in dialogue.segments]
            assert dialogue.num_tokens <= pipeline.window.max_tokens
            assert dialogue.num_cached <= pipeline.window.max_tokens
            assert kinds.count("question") == (1 if kinds else 0)
            sizes.append(len(kinds))
    assert 5 <= max(sizes) <= 12
    assert session._states["0"].dialogue.evicted > 70


def test_after_the_window_moved_the_dialogue_is_a_fresh_one_of_what_is_kept(model: Any) -> None:
    pipeline = model.pipeline(rounds=6, policy=MUTE)
    session = StreamSession(pipeline)
    session.add(ASK)
    frames = noise_stream(64)
    events = [event for frame in frames for event in session.step(frame)]
    dialogue = session._states["0"].dialogue
    assert dialogue.evicted > 0
    kept = [0, *range(16 - (len(dialogue.segments) - 2), 16)]  # the question's turn and the newest ones
    turns = [(f"{ASK}\n<0s-1s>" if k == 0 else f"<{k}s-{k + 1}s>", "<Silence>") for k in kept]
    expected = one_shot(model, turns, [frames[4 * k].image for k in kept])
    assert torch.allclose(probabilities(events[-1:]), expected[-1:], atol=1e-6)


def test_a_long_history_is_cut_to_the_window(model: Any) -> None:
    pipeline = model.pipeline(rounds=6, history=100)
    events = stream(pipeline, noise_stream(120), [(ASK, 25.0)])
    assert [e.extra["interval"] for e in events] == [f"<{k}s-{k + 1}s>" for k in range(25, 30)]


# ---------------------------------------------------------------- side by side, and on disk


def test_words_and_masks_of_one_stream(model: Any) -> None:
    frames = noise_stream(12)
    speaker = model.pipeline(**SOME)
    drawer = small_model({"type": "StreamingRVOS"}).double()
    alone = said(stream(speaker, frames, [(ASK, 0.6), (OTHER, 1.0)]))
    marked = stream(drawer.pipeline(), frames, [("the red circle", None)])
    session = StreamSession(JoinedPipelines({"watch": speaker, "segment": drawer.pipeline()}), live=True)
    session.add(ASK, "0", "watch", time_s=0.6)
    session.add("the red circle", "mask", "segment")
    session.add(OTHER, "1", "watch", time_s=1.0)
    events = [event for frame in frames for event in session.step(frame)] + session.close()
    assert said([e for e in events if e.query_id != "mask"]) == alone
    masks = [e for e in events if e.query_id == "mask"]
    assert len(masks) == len(marked) == 12
    for one, other in zip(masks, marked, strict=True):
        assert one.mask is not None
        assert other.mask is not None
        assert np.array_equal(one.mask, other.mask)
        assert (one.pred_iou, one.reason) == (other.pred_iou, other.reason)


def test_a_saved_model_says_the_same(tmp_path: Path) -> None:
    model = speaking_model({**QUIET, **SOME}).float()
    model.save(tmp_path)
    frames = noise_stream(12)
    assert said(stream(load(tmp_path).pipeline(), frames)) == said(stream(model.pipeline(), frames))


# ---------------------------------------------------------------- wrong use


def test_wrong_keys(model: Any) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"fps": 0}, "0 < fps"),
        ({"frame_tokens": 3}, "frame_tokens must be one of"),
        ({"policy": {"threshold": 1}}, "its keys are"),
        ({"constrained": False, "policy": {"respond": 0.5}}, "constrained=True"),
        ({"history": -1}, "history must be"),
        ({"max_tokens": 100, "max_new_tokens": 100}, "window has 100 tokens"),
        ({"max_tokens": 10**6}, "language model takes"),
        ({"no_such_key": 1}, "takes no"),
    ]
    for keys, message in cases:
        with pytest.raises(UserError, match=message):
            model.pipeline(**keys)
    with pytest.raises(UserError, match="too long"):
        StreamSession(model.pipeline(rounds=2)).add("why " * 3000)
    with pytest.raises(UserError, match="too long"):  # an answer in its turn would leave no room for others
        StreamSession(model.pipeline(rounds=3, max_new_tokens=128)).add(ASK)
    with pytest.raises(UserError, match="no special tokens"):
        Streamo(FakeModel())
    words = build_tiny_tokenizer(["a"])
    assert words.encode("<Silence>", add_special_tokens=False) != [len(words)]
    assert Streamo(model).policy.respond is DecisionPolicy().respond is None


@pytest.mark.parametrize("preset", sorted(Streamo.presets))
def test_presets_build(model: Any, preset: str) -> None:
    assert model.pipeline(**{"policy": None, **Streamo.presets[preset]}).clock.fps == 1.0
