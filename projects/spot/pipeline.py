"""SPOT as a pipeline: two rounds with the MLLM per frame, then the box and its points go into the segmenter.

Source: SPOT (CVPR 2026): the segmenter is a frozen box M_t = SAM(I_t, b_t, P_t), and the masks of a video
are those of its frames, without a memory. What the paper does not say is marked here: what is done without a
box (assumed), the memory of SAM2, and gates that skip the MLLM (both not of the paper).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from refstream.errors import UserError
from refstream.registry import GATES, PIPELINES
from refstream.streaming.baselines import PromptedState, emit, judge
from refstream.streaming.features import FrameFeatures, StageTimer, no_timer
from refstream.streaming.gates import Gate, GateDecision
from refstream.streaming.tracking import MemoryKey, ObjectTrack, joined, memory_policy
from refstream.structures import Frame, MaskPrediction, Query, SegPrompt, StreamEvent

from .geometry import to_square
from .reader import NO_FOREGROUND, P_NO, P_YES, Found, Reading, SpotReader

UNPARSABLE = ("previous", "empty", "full")
WHOLE_FRAME = (0.0, 0.0, 1.0, 1.0)


@dataclass
class SpotState(PromptedState):
    """All that one query remembers.

    Attributes:
        boxes: (N, 4) of the last look that found any, in [0, 1]; None before.
    """

    boxes: Tensor | None = None


@dataclass
class _Step:
    """One query's way through one frame."""

    state: SpotState
    decision: GateDecision
    followed: MaskPrediction | None
    reading: Reading | None = None


@PIPELINES.register_module()
class SPOT:
    """Prompts that the MLLM says, frame by frame.

    Args:
        model: Composite with ``mllm`` and ``segmenter``; no head is used.
        gate: Gate or its config. Default: the MLLM looks at every frame (paper).
        memory: "off" (paper), "on" (SAM2's) or the config of a memory. Without it, prompts of an earlier look
            serve again as they are; with it the segmenter follows the objects by itself.
        conditioning: Of the memory, see ``ObjectTrack``.
        points: Hold round 2 and give its points to the segmenter; False: boxes alone.
        text: Keys of ``SpotFormat``: words, formats and the grid.
        frame_tokens: Vision tokens per frame for the MLLM; None: all.
        p_no: Filter of points, see ``SpotReader``.
        p_yes: Likewise.
        no_foreground: Likewise.
        unparsable: Where an answer holds no box and is no refusal: "previous" takes the boxes of before,
            without points, and an empty mask where there are none; "empty"; "full" the whole frame.
        max_objects: Boxes that are used; their masks are joined.
        max_new_tokens: Longest answer of round 1.
        multimask: The best of three masks by predicted IoU (SAM4MLLM); False: the single mask.
        stage: Stage timer.

    Events carry in ``extra``: ``boxes``, per object ``points`` (foreground, background) and ``fallback``,
    ``problem`` with an answer, and ``refused``.

    Attributes:
        answer_words: Words that must be tokens of their own, with and without a space before them.

    Raises:
        UserError: For keys out of range, or a tokenizer or model that cannot hold the dialogue.
    """

    causal = True
    max_frames = None
    answer_words = ("Yes", "No")

    def __init__(
        self,
        model: Any,
        *,
        gate: Gate | dict[str, Any] | None = None,
        memory: MemoryKey = "off",
        conditioning: str = "first",
        points: bool = True,
        text: dict[str, Any] | None = None,
        frame_tokens: int | None = None,
        p_no: float = P_NO,
        p_yes: float = P_YES,
        no_foreground: str = NO_FOREGROUND[0],
        unparsable: str = UNPARSABLE[0],
        max_objects: int = 4,
        max_new_tokens: int = 96,
        multimask: bool = True,
        stage: StageTimer = no_timer,
    ) -> None:
        if unparsable not in UNPARSABLE:
            raise UserError(f"unparsable must be one of {UNPARSABLE}, got {unparsable!r}")
        model.require_segmenter()
        self.model, self.stage, self.unparsable = model, stage, unparsable
        gate = dict(type="EveryFrameGate") if gate is None else gate
        self.gate: Gate = GATES.build(gate) if isinstance(gate, dict) else gate
        self.memory, self.conditioning, self.multimask = memory_policy(memory), conditioning, multimask
        self.reader = SpotReader(
            model,
            text=text,
            frame_tokens=frame_tokens,
            points=points,
            p_no=p_no,
            p_yes=p_yes,
            no_foreground=no_foreground,
            max_objects=max_objects,
            max_new_tokens=max_new_tokens,
        )
        self._track()

    @classmethod
    def head_for(cls, *, image_size: int, hidden_size: int, prompt_dim: int) -> dict[str, Any]:
        """Config of a head; none is used, so any that can be built will do."""
        return dict(type="SegTokenHead")

    def _track(self) -> ObjectTrack:
        keys: dict[str, Any] = dict(conditioning=self.conditioning, multimask=self.multimask)
        return ObjectTrack(self.model.segmenter, self.memory, **keys)

    def start(self, query: Query) -> SpotState:
        """A fresh state; the expression is checked now, not at the first frame."""
        self.model.mllm.prompts.clean(query.expression)
        return SpotState(query, self._track())

    def encode(self, frame: Frame) -> FrameFeatures:
        """Lazily encoded features, shared by all queries of the frame."""
        return FrameFeatures(self.model, frame, stage=self.stage)

    def step(self, states: Sequence[SpotState], frame: Frame, features: FrameFeatures) -> list[StreamEvent]:
        """One frame for N queries: those that must look speak side by side; one event per state."""
        steps = [_Step(state, *judge(state, self.gate, features, frame.index)) for state in states]
        looking = [one for one in steps if one.decision.invoke]
        if looking:
            with self.stage("mllm"):
                said = [one.state.query.expression for one in looking]
                readings = self.reader.read(features.vision_tokens, said)
            for one, reading in zip(looking, readings, strict=True):
                one.reading = reading
        return [self._finish_step(one, frame, features) for one in steps]

    def finish(self, state: SpotState) -> list[StreamEvent]:
        """A causal pipeline keeps nothing back."""
        return []

    def _finish_step(self, step: _Step, frame: Frame, features: FrameFeatures) -> StreamEvent:
        state, found = step.state, step.followed
        extra: dict[str, Any] = {}
        if step.reading is None:
            found = found or self._follow(state, frame, features)
            if found is not None:
                state.track.keep(features.segmenter, found, frame.index)
            return emit(state, frame, found, step.decision, extra)
        state.text = step.reading.text
        objects, extra = self._prompts(state, step.reading)
        if not objects:
            state.track.clear()
            return emit(state, frame, None, step.decision, extra)
        state.boxes = torch.stack([one.box for one in objects])
        with self.stage("decode"):
            prompt = seg_prompt(objects, self.model.segmenter.image_size)
            found = state.track.take(features.segmenter, prompt, frame.index)
        return emit(state, frame, found, step.decision, extra)

    def _follow(self, state: SpotState, frame: Frame, features: FrameFeatures) -> MaskPrediction | None:
        with self.stage("decode"):
            return state.track.follow(features.segmenter, frame.index)

    def _prompts(self, state: SpotState, reading: Reading) -> tuple[list[Found], dict[str, Any]]:
        """The objects to segment, fall-backs applied, and what is told of them."""
        objects, reply = reading.objects, reading.reply
        extra: dict[str, Any] = {}
        if reply.problem:
            extra["problem"] = reply.problem
        if reply.refused:
            return [], extra | {"refused": True}
        if not objects and self.unparsable != "empty":
            if self.unparsable == "full":
                boxes = torch.tensor([WHOLE_FRAME])
            else:
                boxes = torch.zeros(0, 4) if state.boxes is None else state.boxes
            none = torch.zeros(0)
            objects = [
                Found(box, torch.zeros(0, 2), none.long(), none, none, self.unparsable) for box in boxes
            ]
        extra["boxes"] = [[round(float(x), 4) for x in one.box] for one in objects]
        extra["points"] = [[int((one.labels == n).sum()) for n in (1, 0)] for one in objects]
        fallbacks = [one.fallback for one in objects]
        if any(fallbacks):
            extra["fallback"] = fallbacks
        return objects, extra


def seg_prompt(objects: Sequence[Found], image_size: int) -> SegPrompt:
    """N objects in [0, 1] as prompts in pixels of the segmenter's square input."""
    prompts = []
    for one in objects:
        some = len(one.points) > 0
        prompts.append(
            SegPrompt(
                box_xyxy=to_square(one.box, image_size)[None],
                points_xy=to_square(one.points, image_size)[None] if some else None,
                point_labels=one.labels[None] if some else None,
            )
        )
    return joined(prompts)
