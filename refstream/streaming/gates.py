"""When must the MLLM look again? One gate object serves training and inference alike.

A gate is stateless: everything it judges comes in a ``GateSignals``. It is never asked on the first frame of
a query (there is nothing to reuse): a pipeline calls the MLLM there with reason ``first``.

Source of the consistency gate: StreamingRVOS (CVPR 2026), Online Mask Consistency Perception: reuse the last
[SEG] while P_i >= tau_1 and P_c >= tau_2.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from refstream.registry import GATES


@dataclass(frozen=True)
class GateSignals:
    """What is known of one query at one frame.

    Attributes:
        frame_index: Index of the frame within the query's life, from 0.
        frames_since_call: Frames since the MLLM last looked (1 on the frame after a call).
        pred_iou: P_i of this frame's mask decoded with the reused prompt; None if not decoded yet.
        consistency: P_c, IoU of that mask with the previous frame's mask; None if not decoded yet.
        prev_pred_iou: P_i of the mask emitted at the previous frame.
        prev_consistency: P_c of the mask emitted at the previous frame; None at the second frame.
        query: A number that tells the query from others, for gates that toss coins.
    """

    frame_index: int
    frames_since_call: int
    pred_iou: float | None = None
    consistency: float | None = None
    prev_pred_iou: float | None = None
    prev_consistency: float | None = None
    query: int = 0


@dataclass(frozen=True)
class GateDecision:
    """Whether the MLLM must look, and why.

    Attributes:
        invoke: True if it must.
        reason: One word: first, always, period, random, reuse, reliable, unsure, jumped, nan.
        doubt: True if it must look because the mask is unreliable; then the question says so (re-prompt).
    """

    invoke: bool
    reason: str
    doubt: bool = False


class Gate(Protocol):
    """Decides whether the MLLM must look at a frame.

    Attributes:
        needs_mask: True if the reused prompt must be decoded on this frame before the gate can judge. A gate
            that does not need it saves that decoding when it invokes.
    """

    needs_mask: bool

    def decide(self, signals: GateSignals) -> GateDecision:
        """Judge one query at one frame."""
        ...


def query_number(text: str) -> int:
    """A number for ``GateSignals.query``, the same in every process: 32 bits of a checksum."""
    return zlib.crc32(text.encode("utf-8", "replace"))


def _check_unit(**values: float) -> None:
    for name, value in values.items():
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name} must lie in [0, 1], got {value}")


def _judge(pred_iou: float, consistency: float | None, tau1: float, tau2: float) -> GateDecision:
    # A NaN makes every comparison false; it must never look like a reliable mask.
    if math.isnan(pred_iou) or (consistency is not None and math.isnan(consistency)):
        return GateDecision(True, "nan", doubt=True)
    if pred_iou < tau1:
        return GateDecision(True, "unsure", doubt=True)
    if consistency is not None and consistency < tau2:
        return GateDecision(True, "jumped", doubt=True)
    return GateDecision(False, "reliable")


@GATES.register_module()
class ConsistencyGate:
    """OMCP: trust a reused [SEG] while the current mask is confident and steady.

    Args:
        tau1: Lowest accepted P_i, SAM2's predicted IoU of the current mask. Paper: 0.7 (1B), 0.8 (4B).
        tau2: Lowest accepted P_c, IoU with the previous mask. Paper: 0.1 (1B), 0.2 (4B).

    The paper leaves equality open; here a value on the threshold counts as reliable (assumed).
    """

    needs_mask = True

    def __init__(self, tau1: float = 0.7, tau2: float = 0.1) -> None:
        _check_unit(tau1=tau1, tau2=tau2)
        self.tau1, self.tau2 = tau1, tau2

    def decide(self, signals: GateSignals) -> GateDecision:
        """Judge by this frame's own mask."""
        if signals.pred_iou is None or signals.consistency is None:
            raise ValueError("ConsistencyGate judges the current mask: decode the reused prompt first")
        return _judge(signals.pred_iou, signals.consistency, self.tau1, self.tau2)


@GATES.register_module()
class LaggedConsistencyGate:
    """The same rule on the previous frame's mask, as the released stage-2 training code tests it.

    Args:
        tau1: As in ``ConsistencyGate``; the release has 0.7 for both sizes.
        tau2: As in ``ConsistencyGate``; the release has no such test, which is 0.
    """

    needs_mask = False

    def __init__(self, tau1: float = 0.7, tau2: float = 0.0) -> None:
        _check_unit(tau1=tau1, tau2=tau2)
        self.tau1, self.tau2 = tau1, tau2

    def decide(self, signals: GateSignals) -> GateDecision:
        """Judge by what was emitted at the previous frame."""
        if signals.prev_pred_iou is None:
            raise ValueError("LaggedConsistencyGate needs the previous frame's predicted IoU")
        return _judge(signals.prev_pred_iou, signals.prev_consistency, self.tau1, self.tau2)


@GATES.register_module()
class EveryFrameGate:
    """The MLLM looks at every frame."""

    needs_mask = False

    def decide(self, signals: GateSignals) -> GateDecision:
        """Always invoke."""
        return GateDecision(True, "always")


@GATES.register_module()
class FirstFrameGate:
    """The MLLM looks at the first frame only."""

    needs_mask = False

    def decide(self, signals: GateSignals) -> GateDecision:
        """Never invoke again."""
        return GateDecision(False, "reuse")


@GATES.register_module()
class EveryKGate:
    """The MLLM looks at every k-th frame after its last look.

    Args:
        k: Period in frames, at least 1.
    """

    needs_mask = False

    def __init__(self, k: int = 5) -> None:
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        self.k = k

    def decide(self, signals: GateSignals) -> GateDecision:
        """Invoke when the last look is k frames old."""
        due = signals.frames_since_call >= self.k
        return GateDecision(due, "period" if due else "reuse")


@GATES.register_module()
class EvenGate:
    """The MLLM looks at evenly spread frames, at any rate: the control for a clever gate at equal call rate.

    Args:
        rate: Calls per frame after the first, in [0, 1].
    """

    needs_mask = False

    def __init__(self, rate: float = 0.3) -> None:
        _check_unit(rate=rate)
        self.rate = rate

    def decide(self, signals: GateSignals) -> GateDecision:
        """Invoke whenever the number of calls that are due by now grows."""
        t = signals.frame_index
        due = math.floor(t * self.rate + 1e-9) > math.floor((t - 1) * self.rate + 1e-9)
        return GateDecision(due, "period" if due else "reuse")


@GATES.register_module()
class RandomGate:
    """The MLLM looks at random frames: the control for every clever gate at equal call rate.

    Args:
        probability: Chance of a call per frame, in [0, 1].
        seed: The decision depends on (seed, query, frame index) alone, so that runs repeat.
    """

    needs_mask = False

    def __init__(self, probability: float = 0.3, seed: int = 0) -> None:
        _check_unit(probability=probability)
        self.probability, self.seed = probability, seed

    def decide(self, signals: GateSignals) -> GateDecision:
        """Toss the coin of this query and frame."""
        rng = np.random.default_rng([self.seed, signals.query, signals.frame_index])
        invoke = bool(rng.random() < self.probability)
        return GateDecision(invoke, "random" if invoke else "reuse")
