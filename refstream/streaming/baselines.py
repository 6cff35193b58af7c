"""What any prompted segmentation is measured against, without training: rows for the table of every method.

``SpokenBox``        the MLLM says a box, which goes straight into the segmenter: on every frame, or, with
                     ``gate=dict(type="FirstFrameGate"), memory="on"``, on the first one, and the segmenter's
                     memory carries it on
``SegPropagation``   [SEG] of the first frames, and the segmenter's memory carries their masks through the
                     rest (an offline use of image-level models, as Sa2VA's released code and Sa2VA-i do)

They are used by name: ``model.pipeline(type="SpokenBox", gate=...)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from refstream.errors import UserError
from refstream.models.masks import mask_iou, upsample_mask
from refstream.models.mllm.chat import Turn
from refstream.models.mllm.spoken_boxes import THOUSANDTHS, Box, spoken_boxes
from refstream.registry import GATES, PIPELINES
from refstream.streaming.features import FrameFeatures, StageTimer, no_timer
from refstream.streaming.gates import Gate, GateDecision, GateSignals, query_number
from refstream.streaming.tracking import MemoryKey, ObjectTrack, memory_policy, union
from refstream.structures import Frame, MaskPrediction, Query, SegPrompt, StreamEvent

FIRST = GateDecision(True, "first")
ABSENT = GateDecision(True, "absent", doubt=True)
BOX_QUESTION = (
    "Please provide the bounding box coordinate of the region this sentence describes: {expression}"
)
UNITS = ("thousandths", "pixels")


@dataclass
class PromptedState:
    """All that one query remembers between frames, for pipelines whose prompts are points and boxes.

    Attributes:
        track: Its objects.
        mask: (h, w) bool, the mask of the frame before; None where it was empty because nothing was found.
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


@PIPELINES.register_module()
class SpokenBox:
    """The MLLM is asked for a box in words; the segmenter is prompted with it and nothing else.

    Args:
        model: Composite with ``mllm`` and ``segmenter``; no head is used.
        gate: Gate or its config. Default: a box on every frame.
        memory: "off", "on" (SAM2's) or the config of a memory, which carries the object between two looks.
        conditioning: See ``ObjectTrack``.
        question: ``{expression}`` is replaced; as InternVL's documentation asks by default.
        units: "thousandths" of width and height (InternVL), or "pixels" of the frame (Qwen2.5-VL).
        max_objects: Boxes that are used, in the order in which they are said.
        multimask: Choose the best of three masks.
        max_new_tokens: Longest answer.
        stage: Stage timer.

    An answer without a box leaves the one of before in use (``extra["no_box"]``); before the first one the
    mask is empty.

    Raises:
        UserError: For an unknown word in ``memory``, ``conditioning`` or ``units``, or a question without a
            place for the expression.
    """

    causal = True
    max_frames = None

    def __init__(
        self,
        model: Any,
        *,
        gate: Gate | dict[str, Any] | None = None,
        memory: MemoryKey = "off",
        conditioning: str = "first",
        question: str = BOX_QUESTION,
        units: str = "thousandths",
        max_objects: int = 1,
        multimask: bool = True,
        max_new_tokens: int = 64,
        stage: StageTimer = no_timer,
    ) -> None:
        if units not in UNITS:
            raise UserError(f"units must be one of {UNITS}, got {units!r}")
        if "{expression}" not in question or max_objects < 1:
            raise UserError(
                "a question needs a place {expression}, and max_objects must be at least 1; got "
                f"{question!r} and {max_objects}"
            )
        model.require_segmenter()
        self.model, self.stage = model, stage
        gate = dict(type="EveryFrameGate") if gate is None else gate
        self.gate: Gate = GATES.build(gate) if isinstance(gate, dict) else gate
        self.memory, self.conditioning, self.multimask = memory_policy(memory), conditioning, multimask
        self.question, self.units = question, units
        self.max_objects, self.max_new_tokens = max_objects, max_new_tokens
        self._track()

    def _track(self) -> ObjectTrack:
        keys: dict[str, Any] = dict(conditioning=self.conditioning, multimask=self.multimask)
        return ObjectTrack(self.model.segmenter, self.memory, **keys)

    def start(self, query: Query) -> PromptedState:
        """A fresh state; the expression is checked now, not at the first frame."""
        self.model.mllm.prompts.clean(query.expression)
        return PromptedState(query, self._track())

    def encode(self, frame: Frame) -> FrameFeatures:
        """Lazily encoded features, shared by all queries of the frame."""
        return FrameFeatures(self.model, frame, stage=self.stage)

    def step(
        self, states: Sequence[PromptedState], frame: Frame, features: FrameFeatures
    ) -> list[StreamEvent]:
        """One frame for N queries: one event per state, in their order."""
        return [self._step_one(state, frame, features) for state in states]

    def finish(self, state: PromptedState) -> list[StreamEvent]:
        """A causal pipeline keeps nothing back."""
        return []

    def _step_one(self, state: PromptedState, frame: Frame, features: FrameFeatures) -> StreamEvent:
        decision, found = judge(state, self.gate, features, frame.index)
        extra: dict[str, Any] = {}
        boxes: list[Box] = []
        if decision.invoke:
            boxes = self._ask(state, frame, features)
            extra = {"boxes": [list(box) for box in boxes]} if boxes else {"no_box": True}
        with self.stage("decode"):
            if boxes:
                size = self.model.segmenter.image_size
                prompt = SegPrompt(box_xyxy=torch.tensor(boxes, dtype=torch.float32) * size)
                found = state.track.take(features.segmenter, prompt, frame.index)
            else:
                found = found or state.track.follow(features.segmenter, frame.index)
                if found is not None:
                    state.track.keep(features.segmenter, found, frame.index)
        return emit(state, frame, found, decision, extra)

    def _ask(self, state: PromptedState, frame: Frame, features: FrameFeatures) -> list[Box]:
        mllm = self.model.mllm
        words = self.question.replace("{expression}", mllm.prompts.clean(state.query.expression))
        tokens = features.vision_tokens
        chat = mllm.prompts.turns([[Turn(words, None, images=1)]]).to(mllm.device)
        with self.stage("mllm"):
            state.text = mllm.generate(chat, tokens, max_new_tokens=self.max_new_tokens).text
        height, width = frame.size
        scale = (THOUSANDTHS, THOUSANDTHS) if self.units == "thousandths" else (float(width), float(height))
        return spoken_boxes(state.text or "", scale)[: self.max_objects]


@dataclass
class PropagationState:
    """What one query keeps: its objects, and, while its first frames are awaited together, these frames."""

    query: Query
    track: ObjectTrack
    frames: list[Frame] = field(default_factory=list)
    shown: PromptedState | None = None


@PIPELINES.register_module()
class SegPropagation:
    """[SEG] prompts of the first frames, propagated by the segmenter's memory.

    Args:
        model: Composite with ``mllm``, a SAM2 ``segmenter`` and a head from a [SEG] state to a prompt.
        looks: First frames that the MLLM sees (Sa2VA: 5).
        joint: The MLLM sees them in one prompt, and its one [SEG] prompts them all (Sa2VA; the answer then
            comes at the end of the clip). False: each has a prompt of its own, as in image-level training.
        memory: Config of the memory, or "on" for SAM2's.
        multimask: Choose the best of three masks.
        max_frames: With ``joint``: longest clip that is taken; its frames are kept until it ends.
        stage: Stage timer.

    Attributes:
        causal: False with ``joint``.

    Raises:
        UserError: For ``memory="off"``, or numbers below 1.
    """

    def __init__(
        self,
        model: Any,
        *,
        looks: int = 5,
        joint: bool = False,
        memory: MemoryKey = "on",
        multimask: bool = True,
        max_frames: int = 1024,
        stage: StageTimer = no_timer,
    ) -> None:
        policy = memory_policy(memory)
        if policy is None or looks < 1 or max_frames < 1:
            raise UserError(
                "propagation needs a memory, and looks and max_frames of at least 1; got "
                f"{memory!r}, {looks} and {max_frames}"
            )
        model.require_segmenter()
        self.model, self.looks, self.joint, self.stage = model, looks, joint, stage
        self.memory, self.multimask = policy, multimask
        self.causal = not joint
        self.max_frames = max_frames if joint else None

    def start(self, query: Query) -> PropagationState:
        """A fresh state; the expression is checked now, not at the first frame."""
        self.model.chat([query.expression])
        track = ObjectTrack(
            self.model.segmenter, self.memory, conditioning="always", multimask=self.multimask
        )
        return PropagationState(query, track, shown=PromptedState(query, track))

    def encode(self, frame: Frame) -> FrameFeatures:
        """Lazily encoded features, shared by all queries of the frame."""
        return FrameFeatures(self.model, frame, stage=self.stage)

    def step(
        self, states: Sequence[PropagationState], frame: Frame, features: FrameFeatures
    ) -> list[StreamEvent]:
        """One frame for N queries: their events, or none yet with ``joint``."""
        if self.joint:
            for state in states:
                state.frames.append(frame)
            return []
        return [self._step_one(state, frame, features, None) for state in states]

    def finish(self, state: PropagationState) -> list[StreamEvent]:
        """With ``joint`` the whole clip's events, else none."""
        if not state.frames:
            return []
        features = [self.encode(frame) for frame in state.frames[: self.looks]]
        prompt = self._prompt(state.query, torch.cat([one.vision_tokens for one in features]), len(features))
        events = []
        for t, frame in enumerate(state.frames):
            seen = features[t] if t < len(features) else self.encode(frame)
            events.append(self._step_one(state, frame, seen, prompt))
        return events

    def _step_one(
        self, state: PropagationState, frame: Frame, features: FrameFeatures, prompt: SegPrompt | None
    ) -> StreamEvent:
        shown = state.shown
        assert shown is not None
        look = shown.num_frames < self.looks
        if look:
            if prompt is None:
                prompt = self._prompt(state.query, features.vision_tokens, 1)
            shown.text = self.model.mllm.prompts.answer
            with self.stage("decode"):
                found: MaskPrediction | None = state.track.take(features.segmenter, prompt, frame.index)
        else:
            with self.stage("decode"):
                found = state.track.follow(features.segmenter, frame.index)
            assert found is not None  # there was a look before
            state.track.keep(features.segmenter, found, frame.index)
        return emit(shown, frame, found, GateDecision(look, "first" if look else "reuse"), {})

    def _prompt(self, query: Query, tokens: Tensor, images: int) -> SegPrompt:
        """The prompt of one [SEG], forced, that has seen ``images`` frames of one tile."""
        chat = self.model.chat([query.expression], num_images=images)
        with self.stage("mllm"):
            output = self.model.mllm.forward_chat(chat, tokens)
            prompt: SegPrompt = self.model.head(self.model.seg_states(output, chat))
        return prompt
