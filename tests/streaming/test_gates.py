"""Gates against hand-worked decisions."""

from __future__ import annotations

import itertools
import math

import pytest

from refstream.registry import GATES
from refstream.streaming.gates import GateSignals


def signals(**keys: float | None) -> GateSignals:
    return GateSignals(**{"frame_index": 3, "frames_since_call": 1, **keys})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pred_iou", "consistency", "invoke", "reason"),
    [
        (0.9, 0.9, False, "reliable"),  # sure and steady: reuse
        (0.6, 0.9, True, "unsure"),
        (0.9, 0.05, True, "jumped"),
        (0.7, 0.1, False, "reliable"),  # both on the threshold: counts as reliable
        (math.nan, 0.9, True, "nan"),  # every comparison with NaN is false; it must not look reliable
        (0.9, math.nan, True, "nan"),
        (0.9, 1.0, False, "reliable"),  # both masks empty: P_c is 1
    ],
)
def test_consistency_gate(pred_iou: float, consistency: float, invoke: bool, reason: str) -> None:
    gate = GATES.build(dict(type="ConsistencyGate", tau1=0.7, tau2=0.1))
    decision = gate.decide(signals(pred_iou=pred_iou, consistency=consistency))
    assert (decision.invoke, decision.reason) == (invoke, reason)
    assert decision.doubt is invoke  # only an unreliable mask is told to the MLLM


def test_consistency_gate_needs_the_current_mask() -> None:
    gate = GATES.build(dict(type="ConsistencyGate"))
    assert gate.needs_mask
    with pytest.raises(ValueError, match="decode the reused prompt first"):
        gate.decide(signals())


def test_lagged_gate_judges_the_previous_frame() -> None:
    gate = GATES.build(dict(type="LaggedConsistencyGate", tau1=0.7))
    assert not gate.needs_mask
    assert gate.decide(signals(prev_pred_iou=0.6)).invoke
    assert not gate.decide(signals(prev_pred_iou=0.8)).invoke
    assert gate.decide(signals(prev_pred_iou=math.nan)).reason == "nan"
    with pytest.raises(ValueError, match="previous frame"):
        gate.decide(signals())


def test_simple_gates() -> None:
    assert GATES.build(dict(type="EveryFrameGate")).decide(signals()).invoke
    assert not GATES.build(dict(type="FirstFrameGate")).decide(signals()).invoke
    every3 = GATES.build(dict(type="EveryKGate", k=3))
    assert [every3.decide(signals(frames_since_call=n)).invoke for n in (1, 2, 3)] == [False, False, True]


def test_random_gate_repeats_and_has_its_rate() -> None:
    gate = GATES.build(dict(type="RandomGate", probability=0.3, seed=5))
    draws = [gate.decide(signals(frame_index=i)).invoke for i in range(4000)]
    assert draws == [gate.decide(signals(frame_index=i)).invoke for i in range(4000)]
    assert abs(sum(draws) / 4000 - 0.3) < 4 * math.sqrt(0.3 * 0.7 / 4000)
    assert draws != [gate.decide(signals(frame_index=i, query=1)).invoke for i in range(4000)]


@pytest.mark.parametrize("rate", [0.0, 0.25, 1 / 3, 0.62, 1.0])
def test_even_calls_come_at_their_rate(rate: float) -> None:
    gate = GATES.build(dict(type="EvenGate", rate=rate))
    calls = [gate.decide(signals(frame_index=i)).invoke for i in range(1, 301)]
    assert sum(calls) == math.floor(300 * rate + 1e-9)
    at = [i for i, call in enumerate(calls) if call]
    gaps = {b - a for a, b in itertools.pairwise(at)}
    assert len(gaps) <= 2
    assert not gaps or max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize(
    "config",
    [
        dict(type="ConsistencyGate", tau1=1.5),
        dict(type="ConsistencyGate", tau2=-0.1),
        dict(type="EveryKGate", k=0),
        dict(type="RandomGate", probability=2.0),
    ],
)
def test_wrong_settings(config: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"must"):
        GATES.build(config)
