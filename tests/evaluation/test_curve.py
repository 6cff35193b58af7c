from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from types import SimpleNamespace

import numpy as np
import pytest

from refstream.errors import UserError
from refstream.evaluation.curve import curve_gates, gate_curve, gate_label
from refstream.evaluation.ledger import MemoryLedger
from refstream.evaluation.protocols.families import Families
from refstream.evaluation.protocols.per_expression import PerExpression
from refstream.evaluation.readers.minirvos import MiniRVOSBenchmark
from refstream.evaluation.replay import replay_video
from refstream.evaluation.run import run_model
from refstream.models.loading import load
from refstream.registry import GATES
from refstream.resources import default_model_path
from refstream.streaming.features import FrameFeatures
from refstream.streaming.gates import GateSignals
from refstream.structures import StreamEvent

ALWAYS, FIRST, EVERY_2 = (
    {"type": "EveryFrameGate"},
    {"type": "FirstFrameGate"},
    {"type": "EveryKGate", "k": 2},
)
SEGMENTER_S, VISION_S, CALL_S, EVENT_S = 2.0, 5.0, 1.0, 0.25


class CountedModel:
    """Encoders and a pipeline that take known times on a clock of their own."""

    def __init__(self, share: bool = True) -> None:
        self.now = 0.0
        self.encoded: list[str] = []
        self.share = share
        self.segmenter = SimpleNamespace(
            preprocess=lambda images: images[0],
            encode=lambda image: self.encode("segmenter", SEGMENTER_S, image),
        )
        self.mllm = SimpleNamespace(
            preprocess=lambda images, max_tiles: images[0],
            encode_images=lambda image: self.encode("vision", VISION_S, image),
        )

    def encode(self, name, seconds, image):
        self.encoded.append(name)
        self.now += seconds
        return image

    def require_segmenter(self):
        """It has one."""

    def pipeline(self, gate):
        return CountedPipeline(self, GATES.build(dict(gate)), self.share)


class CountedPipeline:
    causal, max_frames = True, None

    def __init__(self, model, gate, share) -> None:
        self.model, self.gate, self.share = model, gate, share

    def start(self, query):
        return {"query": query, "frames": 0, "since": 0}

    def encode(self, frame):
        return FrameFeatures(self.model, frame) if self.share else {"frame": frame}

    def step(self, states, frame, features):
        return [self.answer(state, frame, features) for state in states]

    def answer(self, state, frame, features):
        signals = GateSignals(state["frames"], state["since"])
        look = state["frames"] == 0 or self.gate.decide(signals).invoke
        image = features.segmenter
        self.model.now += EVENT_S
        if look:
            assert np.array_equal(features.vision_tokens, image)
            self.model.now += CALL_S
        state["frames"] += 1
        state["since"] = 1 if look else state["since"] + 1
        red = image[..., 0] > image[..., 2].astype(int) + 50
        return StreamEvent(
            state["query"].id, frame.index, frame.time_s, mask=red & look, invoked_mllm=look, pred_iou=0.5
        )

    def finish(self, state):
        return []


@pytest.fixture
def clocked(monkeypatch) -> CountedModel:
    model = CountedModel()
    clock = lambda: model.now  # noqa: E731
    monkeypatch.setattr("refstream.evaluation.replay.now", clock)
    monkeypatch.setattr("refstream.evaluation.run.time", SimpleNamespace(perf_counter=clock))
    return model


def test_each_encoder_runs_once_per_frame_and_each_gate_pays_for_what_it_asked_for(clocked, two_squares):
    curve = gate_curve(clocked, two_squares, [FIRST, ALWAYS, EVERY_2], PerExpression())
    warm_up = ["segmenter", "vision", "segmenter", "segmenter"]
    assert sorted(clocked.encoded) == sorted([*warm_up, *["segmenter"] * 3, *["vision"] * 3])
    first, always, second = curve.points
    assert [point.calls_per_frame for point in curve.points] == pytest.approx([1 / 3, 1, 2 / 3])
    for point, num_looks in ((first, 1), (always, 3), (second, 2)):  # of 3 frames, 3 expressions each
        assert point.encode_ms == pytest.approx(1000 * (3 * SEGMENTER_S + num_looks * VISION_S) / 3)
        assert point.replay_ms == pytest.approx(1000 * (9 * EVENT_S + 3 * num_looks * CALL_S) / 3)
        assert point.fps == pytest.approx(1000 / (point.encode_ms + point.replay_ms))
    assert curve.num_frames == 3


def test_the_order_of_the_gates_changes_nothing(clocked, two_squares):
    one = gate_curve(clocked, two_squares, [FIRST, ALWAYS], PerExpression())
    other = gate_curve(clocked, two_squares, [ALWAYS, FIRST], PerExpression())
    assert [point.encode_ms for point in one.points] == [point.encode_ms for point in other.points[::-1]]
    assert [point.replay_ms for point in one.points] == pytest.approx(
        [point.replay_ms for point in other.points[::-1]]
    )


def test_streams_of_one_video_pay_for_themselves(clocked, two_squares):
    curve = gate_curve(clocked, two_squares, [ALWAYS], PerExpression(), per_stream=1)
    assert clocked.encoded.count("segmenter") == 3 + 3  # the warm-up's, and once per frame
    assert curve.points[0].encode_ms == pytest.approx(1000 * (SEGMENTER_S + VISION_S))  # of each of 9 frames
    assert curve.num_frames == 9


def test_scores_are_those_of_the_masks(clocked, two_squares):
    point = gate_curve(clocked, two_squares, [ALWAYS], PerExpression()).points[0]
    assert point.overall["J"] == pytest.approx(100 / 3)  # the red square is right for one expression of three
    assert point.score == point.overall["J&F"]


def test_masks_are_those_of_a_run_of_its_own():
    model = load(default_model_path())
    benchmark = MiniRVOSBenchmark(num_clips=2, num_frames=6, max_expressions=3)
    gates = curve_gates(model.config.pipeline.get("gate"), "0.95/0.9,0.7/0.1")
    pipelines = [model.pipeline(gate=gate) for gate in gates]
    calls = set()
    for video in benchmark.videos:
        outcomes = replay_video(pipelines, benchmark, video.id, 2)
        for gate, (masks, bill) in zip(gates, outcomes, strict=True):
            alone, costs = MemoryLedger(), MemoryLedger()
            run_model(model.pipeline(gate=gate), benchmark.subset([video.id]), alone, costs, per_stream=2)
            assert alone.done() == masks.done() != set()
            for name in alone.done():
                assert masks.read(name) == alone.read(name)  # masks, confidences and calls, to the bit
            assert bill.num_calls == sum(costs.read(name)["num_calls"] for name in costs.done())
            assert bill.encode_s > 0
            assert bill.replay_s > 0
            calls.add(bill.num_calls)
    assert len(calls) > 2, "the gates must differ for this to say anything"


def test_saved_with_its_picture(tmp_path, clocked, two_squares):
    curve = gate_curve(clocked, two_squares, [ALWAYS, FIRST], Families(), model_name="counted")
    curve.save(tmp_path / "new" / "curve.json")
    content = json.loads((tmp_path / "new" / "curve.json").read_text(encoding="utf-8"))
    assert [row["label"] for row in content["rows"]] == ["always", "first"]
    assert {"command", "commit", "seeds", "machine", "rows"} <= content.keys()
    assert content["seeds"] == [3]
    root = ET.parse(tmp_path / "new" / "curve.svg").getroot()
    assert len([e for e in root.iter() if (e.get("class") or "") == "dot"]) == 2


def test_features_of_another_kind_are_refused(two_squares):
    with pytest.raises(UserError, match="features of a kind of its own, dict"):
        replay_video([CountedModel(share=False).pipeline(ALWAYS)], two_squares, "only", 8)


def test_a_method_without_a_gate_is_refused(two_squares):
    model = SimpleNamespace(pipeline=lambda: None)
    with pytest.raises(UserError, match="cannot be run with gate"):
        gate_curve(model, two_squares, [ALWAYS], PerExpression())


def test_no_gates(two_squares):
    with pytest.raises(UserError, match="needs gates"):
        gate_curve(CountedModel(), two_squares, [], PerExpression())


def test_gates_of_pairs():
    gates = curve_gates({"type": "LaggedConsistencyGate", "tau1": 0.7, "tau2": 0.0}, "0.9/0.4, 0.5/0,0.9/0.4")
    assert gates == [
        ALWAYS,
        {"type": "LaggedConsistencyGate", "tau1": 0.9, "tau2": 0.4},
        {"type": "LaggedConsistencyGate", "tau1": 0.5, "tau2": 0.0},
        FIRST,
    ]
    assert [gate_label(gate) for gate in gates] == ["always", "0.9/0.4", "0.5/0", "first"]


def test_gates_of_a_number():
    gates = curve_gates({"type": "ConsistencyGate", "tau2": 0.2}, "3")[1:-1]
    assert gates == [{"type": "ConsistencyGate", "tau1": tau, "tau2": 0.2} for tau in (0.75, 0.5, 0.25)]
    assert curve_gates({"type": "EveryKGate", "k": 3}, "1")[1] == {"type": "ConsistencyGate", "tau1": 0.5}
    for gate in curve_gates(None, "5"):
        GATES.build(gate)
    assert gate_label(EVERY_2) == "EveryK 2"


@pytest.mark.parametrize("text", ["", "0", "0.9", "0.9/x", "1.2/0.1", "0.9/0.1/0.2", "nan/0.1", "101", "-1"])
def test_bad_gates(text):
    with pytest.raises(UserError, match=r"curve|threshold"):
        curve_gates(None, text)
