"""What pipelines share that prompt the segmenter with points, boxes or embeddings and let a track carry them.

``PromptedPipeline``  the parts, the track, and nothing kept back at the end
``GatedPipeline``     with a gate in front of the MLLM

A method brings ``step``: with a gate it calls ``judge``, then ``follow`` where the MLLM says nothing new,
``take`` where it does, and ``drop`` where nothing is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from refstream.errors import UserError
from refstream.models.masks import mask_iou, upsample_mask
from refstream.registry import GATES
from refstream.streaming.features import FrameFeatures, StageTimer, no_timer
from refstream.streaming.gates import Gate, GateDecision, GateSignals, query_number
from refstream.streaming.tracking import MemoryKey, ObjectTrack, memory_policy, union
from refstream.structures import Frame, MaskPrediction, Query, SegPrompt, StreamEvent

FIRST = GateDecision(True, "first")
ABSENT = GateDecision(True, "absent", doubt=True)


@dataclass
class PromptedState:
    """All that one query remembers between frames.

    Attributes:
        track: Its objects.
        mask: (h, w) bool, the mask of the frame before; None where it was empty because nothing was found.
        pred_iou: In [0, 1], of that mask; None likewise.
        consistency: In [0, 1], IoU of the last two masks; None where one of them is missing.
        num_frames: How many it has answered.
        frames_since_call: How many since the MLLM looked, that one included.
        text: What the MLLM said at its last look.
    """

    query: Query
    track: ObjectTrack
    mask: Tensor | None = None
    pred_iou: float | None = None
    consistency: float | None = None
    num_frames: int = 0
    frames_since_call: int = 0
    text: str | None = None


class PromptedPipeline:
    """A model's MLLM and segmenter, and tracks of what is prompted.

    Args:
        model: Composite with ``mllm`` and ``segmenter``.
        memory: "off", "on" (SAM2's) or the config of a memory, see ``memory_policy``.
        conditioning: See ``ObjectTrack``.
        multimask: Choose the best of three masks.
        stage: Stage timer.

    Attributes:
        causal: Whether a frame's event comes with the frame.
        max_frames: Longest clip that is taken; None: any.
        state_type: What ``start`` makes, a ``PromptedState``.

    Raises:
        UserError: If the model has no segmenter, it cannot have such a memory, or a switch is no bool.
    """

    causal: bool = True
    max_frames: int | None = None
    state_type: type[PromptedState] = PromptedState

    def __init__(
        self,
        model: Any,
        *,
        memory: MemoryKey = "off",
        conditioning: str = "first",
        multimask: bool = True,
        stage: StageTimer = no_timer,
    ) -> None:
        if not isinstance(multimask, bool):
            raise UserError(f"multimask must be True or False, got {multimask!r}")
        model.require_segmenter()
        self.model, self.stage = model, stage
        self.memory, self.conditioning, self.multimask = memory_policy(memory), conditioning, multimask
        self.new_track()  # what no track takes is told now, not at the first frame

    def new_track(self) -> ObjectTrack:
        """A track without objects."""
        keys: dict[str, Any] = dict(conditioning=self.conditioning, multimask=self.multimask)
        return ObjectTrack(self.model.segmenter, self.memory, **keys)

    def start(self, query: Query) -> Any:
        """A fresh ``state_type``; the expression is checked now, not at the first frame.

        Raises:
            UserError: If the language model cannot hold the question.
        """
        mllm = self.model.mllm
        needed = self.question_length(mllm.prompts.clean(query.expression))
        if needed and needed > (limit := int(mllm.config.text_config.max_position_embeddings)):
            raise UserError(
                f"the question about {query.expression[:40]!r}... and a short answer have {needed} tokens, "
                f"the language model takes {limit}: use fewer words or frame_tokens"
            )
        return self.state_type(query, self.new_track())

    def question_length(self, expression: str) -> int:
        """Tokens of what the MLLM is asked of a frame in words and of a short answer; 0 without words."""
        return 0

    def encode(self, frame: Frame) -> FrameFeatures:
        """Lazily encoded features, shared by all queries of the frame."""
        return FrameFeatures(self.model, frame, stage=self.stage)

    def finish(self, state: Any) -> list[StreamEvent]:
        """A causal pipeline keeps nothing back."""
        return []

    def follow(
        self,
        state: PromptedState,
        frame: Frame,
        features: FrameFeatures,
        decision: GateDecision,
        followed: MaskPrediction | None,
        extra: dict[str, Any],
    ) -> StreamEvent:
        """The event of a frame without a new prompt: the objects of before, or an empty mask.

        Args:
            state: Of the query; brought up to date.
            frame: The frame.
            features: Of the frame.
            decision: Of the gate.
            followed: What ``judge`` has decoded already.
            extra: Of the event.
        """
        with self.stage("decode"):
            found = state.track.follow(features.segmenter, frame.index) if followed is None else followed
            if found is not None:
                state.track.keep(features.segmenter, found, frame.index)
        return emit(state, frame, found, decision, extra)

    def take(
        self,
        state: PromptedState,
        frame: Frame,
        features: FrameFeatures,
        decision: GateDecision,
        prompt: SegPrompt,
        extra: dict[str, Any],
    ) -> StreamEvent:
        """The event of a frame with a new prompt of N objects, as one mask; see ``follow``."""
        with self.stage("decode"):
            found = state.track.take(features.segmenter, prompt, frame.index)
        return emit(state, frame, found, decision, extra)

    def drop(
        self, state: PromptedState, frame: Frame, decision: GateDecision, extra: dict[str, Any]
    ) -> StreamEvent:
        """The event of a frame where nothing is: an empty mask; the objects of before are forgotten."""
        state.track.clear()
        return emit(state, frame, None, decision, extra)


class GatedPipeline(PromptedPipeline):
    """Prompts that are made anew where a gate asks for it.

    Args:
        model: As of ``PromptedPipeline``.
        gate: Gate or its config; None: ``EveryFrameGate``.
        keys: As of ``PromptedPipeline``.

    Raises:
        UserError: As of ``PromptedPipeline``, or from the gate.
    """

    def __init__(self, model: Any, *, gate: Gate | dict[str, Any] | None = None, **keys: Any) -> None:
        super().__init__(model, **keys)
        gate = dict(type="EveryFrameGate") if gate is None else gate
        if isinstance(gate, str):
            raise UserError(f'gate must be a config such as dict(type="EveryKGate", k=4), got {gate!r}')
        self.gate: Gate = GATES.build(gate) if isinstance(gate, dict) else gate

    def judge(
        self, state: PromptedState, features: FrameFeatures, index: int
    ) -> tuple[GateDecision, MaskPrediction | None]:
        """Whether the MLLM must look, and what the old prompt gives, see ``judge`` of this module."""
        return judge(state, self.gate, features, index)


def judge(
    state: PromptedState, gate: Gate, image: FrameFeatures, index: int
) -> tuple[GateDecision, MaskPrediction | None]:
    """Whether the MLLM must look, and what the old prompt gives on this frame, where it was decoded for
    that.
    """
    if state.num_frames == 0:
        return FIRST, None
    followed, pred_iou, consistency = None, None, None
    if gate.needs_mask:
        followed = state.track.follow(image.segmenter, index)
        if followed is None:
            return ABSENT, None  # nothing is there that could be judged
        logits, pred_iou, _ = union(followed)
        consistency = 0.0 if state.mask is None else mask_iou(logits[0] > 0, state.mask)
    signals = GateSignals(
        frame_index=state.num_frames,
        frames_since_call=state.frames_since_call,
        pred_iou=pred_iou,
        consistency=consistency,
        prev_pred_iou=0.0 if state.pred_iou is None else state.pred_iou,
        prev_consistency=state.consistency,
        query=query_number(f"{state.query.id} {state.query.expression}"),
    )
    return gate.decide(signals), followed


def emit(
    state: PromptedState,
    frame: Frame,
    found: MaskPrediction | None,
    decision: GateDecision,
    extra: dict[str, Any],
) -> StreamEvent:
    """The event of a frame; the state is brought up to date. ``found`` None: an empty mask."""
    logits, pred_iou, score = (None, None, None) if found is None else union(found)
    mask = np.zeros(frame.size, dtype=bool) if logits is None else upsample_mask(logits, frame.size)
    small = None if logits is None else logits[0] > 0
    known = small is not None and state.mask is not None
    state.consistency = mask_iou(small, state.mask) if known else None  # type: ignore[arg-type]
    state.mask, state.pred_iou = small, pred_iou
    state.num_frames += 1
    state.frames_since_call = 1 if decision.invoke else state.frames_since_call + 1
    return StreamEvent(
        query_id=state.query.id,
        frame_index=frame.index,
        time_s=frame.time_s,
        mask=mask,
        text=state.text if decision.invoke else None,
        pred_iou=0.0 if pred_iou is None else pred_iou,
        consistency=state.consistency,
        object_score=score,
        invoked_mllm=decision.invoke,
        reason=decision.reason,
        extra=extra,
    )
