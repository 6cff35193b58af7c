"""What prompted pipelines share: events, gates and tracks, on prompts of the tests' own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from refstream.errors import UserError
from refstream.streaming.gates import GateDecision
from refstream.streaming.prompted import GatedPipeline, PromptedPipeline, PromptedState
from refstream.streaming.session import StreamSession
from refstream.structures import Frame, Query, SegPrompt, StreamEvent
from refstream.testing import moving_square_video, small_model

FRAMES, _ = moving_square_video(5)
BOX = SegPrompt(box_xyxy=torch.tensor([[16.0, 32.0, 48.0, 64.0]]))
TWO = SegPrompt(box_xyxy=torch.tensor([[16.0, 32.0, 48.0, 64.0], [0.0, 0.0, 20.0, 20.0]]))


class Told(GatedPipeline):
    """Each look gets the next prompt of a list; None drops the objects, "same" keeps them."""

    def __init__(self, model: Any, prompts: Sequence[Any], **keys: Any) -> None:
        super().__init__(model, **keys)
        self.prompts = list(prompts)

    def step(self, states: Sequence[PromptedState], frame: Frame, features: Any) -> list[StreamEvent]:
        return [self.answer(state, frame, features) for state in states]

    def answer(self, state: PromptedState, frame: Frame, features: Any) -> StreamEvent:
        decision, followed = self.judge(state, features, frame.index)
        told = self.prompts.pop(0) if decision.invoke else "same"
        if isinstance(told, SegPrompt):
            return self.take(state, frame, features, decision, told, {"n": told.num_prompts})
        if told is None:
            return self.drop(state, frame, decision, {})
        return self.follow(state, frame, features, decision, followed, {})


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    return small_model()


def run(pipeline: Any) -> list[StreamEvent]:
    session = StreamSession(pipeline)
    session.open(["it"])
    return [event for frame in FRAMES for event in session.step(frame)] + session.close()


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum()) if (a | b).any() else 1.0


def test_a_look_counts_anew_and_skipped_frames_count_on(model) -> None:
    pipeline = Told(model, [BOX, TWO], gate=dict(type="EveryKGate", k=3))
    state = pipeline.start(Query("0", "it"))
    counted = []
    with torch.inference_mode():
        for frame in FRAMES:
            (event,) = pipeline.step([state], frame, pipeline.encode(frame))
            counted.append((state.num_frames, state.frames_since_call, event.invoked_mllm, event.extra))
    assert counted == [
        (1, 1, True, {"n": 1}),
        (2, 2, False, {}),
        (3, 3, False, {}),
        (4, 1, True, {"n": 2}),
        (5, 2, False, {}),
    ]
    assert pipeline.finish(state) == []


def test_what_is_dropped_is_gone_until_the_next_prompt(model) -> None:
    events = run(Told(model, [BOX, None, "same", BOX, "same"], memory="on"))
    assert [event.mask.any() for event in events[1:3]] == [False, False]
    assert [event.pred_iou for event in events[1:3]] == [0.0, 0.0]
    assert [event.object_score is None for event in events] == [False, True, True, False, False]
    assert [event.consistency is None for event in events] == [True, True, True, True, False]


def test_consistency_is_that_of_two_masks_in_a_row(model) -> None:
    pipeline = Told(model, [BOX, TWO, "same", BOX, "same"])
    state = pipeline.start(Query("0", "it"))
    before = None
    for frame in FRAMES:
        with torch.inference_mode():
            (event,) = pipeline.step([state], frame, pipeline.encode(frame))
        now = state.mask.numpy()
        expected = None if before is None else pytest.approx(iou(now, before), abs=1e-6)
        assert event.consistency == expected
        before = now


def test_a_gate_judges_what_the_old_prompt_gives(model) -> None:
    """Nothing is decoded twice: the mask that the gate saw is the mask of the event."""
    counts = []
    decode = model.segmenter.decode

    def counted(*args: Any, **keys: Any) -> Any:
        counts.append(1)
        return decode(*args, **keys)

    model.segmenter.decode = counted
    gate = dict(type="ConsistencyGate", tau1=0.0, tau2=0.0)
    events = run(Told(model, [None, BOX], gate=gate))
    assert [event.reason for event in events] == ["first", "absent", "reliable", "reliable", "reliable"]
    assert len(counts) == 4
    plain = run(Told(model, [None, BOX, "same", "same", "same"]))
    for a, b in zip(events, plain, strict=True):
        np.testing.assert_array_equal(a.mask, b.mask)


def test_gates_are_built_or_taken(model) -> None:
    assert type(Told(model, []).gate).__name__ == "EveryFrameGate"
    gate = Told(model, [], gate=dict(type="EveryKGate", k=2)).gate
    assert Told(model, [], gate=gate).gate is gate


@pytest.mark.parametrize("keys", [dict(memory="maybe"), dict(conditioning="never")])
def test_bad_keys_are_told_before_the_first_frame(model, keys) -> None:
    with pytest.raises(UserError, match="must be one of"):
        PromptedPipeline(model, **keys)


def test_a_segmenter_without_such_a_memory_is_told_before_the_first_frame(model, monkeypatch) -> None:
    def none(policy: Any) -> Any:
        raise UserError("this segmenter has no memory")

    monkeypatch.setattr(model.segmenter, "new_memory", none)
    PromptedPipeline(model)
    with pytest.raises(UserError, match="has no memory"):
        PromptedPipeline(model, memory="on")


def test_bad_expressions_are_told_before_the_first_frame(model) -> None:
    with pytest.raises(ValueError, match="empty"):
        PromptedPipeline(model).start(Query("0", "..."))


def test_without_a_segmenter(model) -> None:
    model.segmenter = None
    with pytest.raises(UserError, match="no segmenter"):
        PromptedPipeline(model)


def test_texts_are_told_when_the_mllm_looked(model) -> None:
    pipeline = PromptedPipeline(model)
    state = pipeline.start(Query("0", "it"))
    state.text = "there"
    features = pipeline.encode(FRAMES[0])
    with torch.inference_mode():
        looked = pipeline.take(state, FRAMES[0], features, GateDecision(True, "first"), BOX, {})
        reused = pipeline.follow(state, FRAMES[0], features, GateDecision(False, "reuse"), None, {})
    assert (looked.text, reused.text) == ("there", None)
