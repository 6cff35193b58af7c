"""SER and OMCP on fakes: what is called, when, and what comes out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from refstream_projects.streamingrvos.omcp import THRESHOLDS, paper_gate

from refstream.registry import PIPELINES, import_methods
from refstream.streaming.gates import GateDecision, GateSignals
from refstream.streaming.session import StreamSession
from refstream.structures import StreamEvent
from refstream.testing import FakeModel, moving_square_video

import_methods()


def run(
    model: FakeModel, expressions: list[str], num_frames: int = 6, **keys: Any
) -> list[list[StreamEvent]]:
    session = StreamSession(PIPELINES.build({"type": "StreamingRVOS", "model": model, **keys}))
    session.open(expressions)
    frames, _ = moving_square_video(num_frames)
    return [session.step(f) for f in frames]


def test_paper_thresholds() -> None:
    assert THRESHOLDS == {"1b": (0.7, 0.1), "4b": (0.8, 0.2)}
    assert paper_gate("4b") == dict(type="ConsistencyGate", tau1=0.8, tau2=0.2)
    with pytest.raises(ValueError, match="7b"):
        paper_gate("7b")


def test_a_reused_prompt_decodes_the_current_frame() -> None:
    model = FakeModel()
    events = run(model, ["the red square"])
    _, masks = moving_square_video(6)
    for t, (event,) in enumerate(events):
        assert (event.mask == masks[0, t]).all()
        assert event.invoked_mllm is (t == 0)
        assert event.reason == ("first" if t == 0 else "reliable")
    overlap = (masks[0, 1] & masks[0, 0]).sum() / (masks[0, 1] | masks[0, 0]).sum()
    assert events[1][0].consistency == pytest.approx(overlap)
    # one look, one vision encoding; every frame encoded and decoded once
    counts = (
        model.mllm.num_encodes,
        model.mllm.num_looks,
        model.segmenter.num_encodes,
        model.segmenter.num_decodes,
    )
    assert counts == (1, 1, 6, 6)


def test_several_queries_share_the_encoders() -> None:
    model = FakeModel()
    run(model, ["the red square", "the blue square", "the red square"], gate=dict(type="EveryFrameGate"))
    assert (model.mllm.num_encodes, model.segmenter.num_encodes) == (6, 6)
    assert (model.mllm.num_looks, model.segmenter.num_decodes) == (18, 18)


def test_an_unreliable_mask_is_looked_at_and_decoded_again() -> None:
    model = FakeModel()
    events = run(model, ["the yellow square"])  # there is none: predicted IoU 0.1 on every frame
    assert [e[0].reason for e in events] == ["first"] + ["unsure"] * 5
    assert model.mllm.num_looks == 6
    assert model.segmenter.num_decodes == 1 + 2 * 5  # reuse first, then again


@pytest.mark.parametrize(
    ("gate", "looks", "decodes"),
    [
        (dict(type="EveryFrameGate"), 6, 6),
        (dict(type="FirstFrameGate"), 1, 6),
        (dict(type="EveryKGate", k=2), 3, 6),
        (dict(type="LaggedConsistencyGate"), 1, 6),
    ],
)
def test_call_counts_of_the_other_gates(gate: dict[str, Any], looks: int, decodes: int) -> None:
    model = FakeModel()
    run(model, ["the red square"], gate=gate)
    assert (model.mllm.num_looks, model.segmenter.num_decodes) == (looks, decodes)


class Recorder(FakeModel):
    """Remembers what every look was given."""

    def __init__(self) -> None:
        super().__init__()
        self.looks: list[tuple[torch.Tensor, torch.Tensor, list[bool]]] = []

    def force_seg(
        self, expressions: Any, tokens: Any, context: Any = None, mask: Any = None, **keys: Any
    ) -> Any:
        self.looks.append((context.clone(), mask.clone(), list(keys["reprompt"])))
        states, texts = super().force_seg(expressions, tokens, context, mask, **keys)
        return [s + len(self.looks) for s in states], texts  # tell the looks apart


def test_ser_feeds_the_last_states_back_newest_last() -> None:
    model = Recorder()
    run(
        model,
        ["the red square"],
        num_frames=4,
        gate=dict(type="EveryFrameGate"),
        context=dict(type="SegMemory", length=2),
    )
    masks = [m[0].tolist() for _, m, _ in model.looks]
    assert masks == [[False, False], [False, True], [True, True], [True, True]]
    # state n was raised by n: the third look sees states 1 and 2 in that order, the fourth 2 and 3
    third, fourth = model.looks[2][0][0, :, 7], model.looks[3][0][0, :, 7]
    assert third.tolist() == [1.0, 2.0]
    assert fourth.tolist() == [2.0, 3.0]


def test_without_ser_the_placeholder_stays() -> None:
    model = Recorder()
    run(
        model,
        ["the red square"],
        num_frames=3,
        gate=dict(type="EveryFrameGate"),
        context=dict(type="NoMemory"),
    )
    assert not torch.cat([m for _, m, _ in model.looks]).any()


def test_controls_of_ser_feed_back_zeros_or_anothers_state() -> None:
    model = Recorder()
    gate = dict(type="EveryFrameGate")
    run(model, ["the red square"], num_frames=3, gate=gate, context=dict(type="ZeroedMemory"))
    assert [m.any().item() for _, m, _ in model.looks] == [False, True, True]
    assert not any(context.any() for context, _, _ in model.looks)
    said = ["the red square", "the blue square"]
    own, other = Recorder(), Recorder()
    run(own, said, num_frames=2, gate=gate)
    run(other, said, num_frames=2, gate=gate, type="SwappedContext")
    assert torch.equal(own.looks[1][0].flip(0), other.looks[1][0])
    assert not torch.equal(own.looks[1][0], other.looks[1][0])


class Doubtful:
    """Invokes at every frame, in doubt."""

    needs_mask = False

    def decide(self, signals: GateSignals) -> GateDecision:
        return GateDecision(True, "unsure", doubt=True)


@pytest.mark.parametrize("reprompt", [True, False])
def test_reprompt_only_when_in_doubt(reprompt: bool) -> None:
    model = Recorder()
    run(model, ["the red square"], num_frames=3, gate=Doubtful(), reprompt=reprompt)
    assert [r for _, _, r in model.looks] == [[False], [reprompt], [reprompt]]


class Speechless(FakeModel):
    """Finds [SEG] in its first answer only."""

    def __init__(self, silent_from: int) -> None:
        super().__init__()
        self.silent_from, self.turn = silent_from, 0

    def generate_seg(self, *args: Any, **keys: Any) -> Any:
        states, texts = self.force_seg(*args, **keys)
        self.turn += 1
        return ([None] * len(states), ["?"]) if self.turn > self.silent_from else (states, texts)


def test_an_answer_without_seg_keeps_the_prompt_and_is_flagged() -> None:
    events = run(Speechless(1), ["the red square"], 3, answer="generate", gate=dict(type="EveryFrameGate"))
    _, masks = moving_square_video(3)
    assert [e[0].extra.get("no_seg", False) for e in events] == [False, True, True]
    assert all((e[0].mask == masks[0, t]).all() for t, e in enumerate(events))
    first = run(Speechless(0), ["the red square"], 1, answer="generate")[0][0]
    assert first.mask is not None
    assert not first.mask.any()
    assert first.pred_iou == 0.0


def test_wrong_settings() -> None:
    with pytest.raises(ValueError, match="forced"):
        PIPELINES.build(dict(type="StreamingRVOS", model=FakeModel(), answer="sing"))
    with pytest.raises(ValueError, match="at least one"):
        PIPELINES.build(
            dict(type="StreamingRVOS", model=FakeModel(), context=dict(type="SegMemory", length=0))
        )
