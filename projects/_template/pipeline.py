"""The smallest streaming method: look at the first frame and every k-th, reuse the prompt in between.

Source: name the paper, and the section or equation of each formula and default below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from refstream.models.masks import upsample_mask
from refstream.registry import GATES, PIPELINES
from refstream.streaming.features import FrameFeatures, StageTimer, no_timer
from refstream.streaming.gates import Gate, GateDecision, GateSignals
from refstream.structures import Frame, Query, SegPrompt, StreamEvent

FIRST = GateDecision(True, "first")


@dataclass
class TemplateState:
    """All that one query remembers; its size must not grow with the stream.

    Attributes:
        prompt: The prompt in use, with one row; None before the first look.
        num_frames: Frames seen by this query.
        frames_since_call: Frames since the MLLM last looked.
    """

    query: Query
    prompt: SegPrompt | None = None
    num_frames: int = 0
    frames_since_call: int = 0


@PIPELINES.register_module()
class TemplatePipeline:
    """One look gives one prompt; it serves until the gate asks for the next look.

    Args:
        model: Composite with ``mllm``, ``segmenter`` and ``head``.
        gate: Gate or its config; it must judge without a mask. Default: every 5th frame (assumed).
        stage: Stage timer.

    Raises:
        ValueError: If the gate wants to see the mask first, which this method does not offer.
    """

    causal = True
    max_frames = None

    def __init__(
        self, model: Any, *, gate: Gate | dict[str, Any] | None = None, stage: StageTimer = no_timer
    ) -> None:
        self.model = model
        gate = dict(type="EveryKGate", k=5) if gate is None else gate
        self.gate: Gate = GATES.build(gate) if isinstance(gate, dict) else gate
        if self.gate.needs_mask:
            raise ValueError(
                f"{type(self.gate).__name__} judges a mask; use EveryKGate or another that needs none"
            )
        self.stage = stage

    def start(self, query: Query) -> TemplateState:
        """A fresh state; the expression is checked now, not at the first frame."""
        self.model.chat([query.expression])
        return TemplateState(query)

    def encode(self, frame: Frame) -> FrameFeatures:
        """Lazily encoded features, shared by all queries of the frame."""
        return FrameFeatures(self.model, frame, stage=self.stage)

    def step(
        self, states: Sequence[TemplateState], frame: Frame, features: FrameFeatures
    ) -> list[StreamEvent]:
        """One frame for N queries: one event per state, in their order."""
        return [self._step_one(state, frame, features) for state in states]

    def finish(self, state: TemplateState) -> list[StreamEvent]:
        """A causal pipeline keeps nothing back."""
        return []

    def _step_one(self, state: TemplateState, frame: Frame, features: FrameFeatures) -> StreamEvent:
        decision = self._decide(state)
        text = None
        if state.prompt is None or decision.invoke:
            with self.stage("mllm"):
                found, answers = self.model.force_seg([state.query.expression], features.vision_tokens)
                state.prompt, text = self.model.head(found[0][None]), answers[0]
            state.frames_since_call = 0
        with self.stage("decode"):
            prediction = self.model.segmenter.decode(features.segmenter, state.prompt)
        state.num_frames += 1
        state.frames_since_call += 1
        return StreamEvent(
            query_id=state.query.id,
            frame_index=frame.index,
            time_s=frame.time_s,
            mask=upsample_mask(prediction.mask_logits, frame.size),
            text=text,
            pred_iou=float(prediction.pred_iou),
            object_score=float(prediction.object_score),
            invoked_mllm=decision.invoke,
            reason=decision.reason,
        )

    def _decide(self, state: TemplateState) -> GateDecision:
        if state.prompt is None:
            return FIRST
        return self.gate.decide(GateSignals(state.num_frames, state.frames_since_call))
