"""What any prompted segmentation is measured against, without training: rows for the table of every method.

``SpokenBox``        the MLLM says a box, which goes straight into the segmenter: on every frame, or, with
                     ``gate=dict(type="FirstFrameGate"), memory="on"``, on the first one, and the segmenter's
                     memory carries it on
``SegPropagation``   [SEG] of the first frames, and the segmenter's memory carries their masks through the
                     rest (an offline use of image-level models, as Sa2VA's released code and Sa2VA-i do)

They are used by name: ``model.pipeline(type="SpokenBox", gate=...)``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from refstream.errors import UserError
from refstream.models.mllm.chat import Turn
from refstream.models.mllm.spoken_boxes import THOUSANDTHS, Box, spoken_boxes
from refstream.registry import PIPELINES
from refstream.streaming.features import FrameFeatures, StageTimer, no_timer
from refstream.streaming.gates import Gate, GateDecision
from refstream.streaming.prompted import GatedPipeline, PromptedPipeline, PromptedState
from refstream.streaming.tracking import MemoryKey, memory_policy
from refstream.structures import Frame, Query, SegPrompt, StreamEvent

BOX_QUESTION = (
    "Please provide the bounding box coordinate of the region this sentence describes: {expression}"
)
UNITS = ("thousandths", "pixels")


@PIPELINES.register_module()
class SpokenBox(GatedPipeline):
    """The MLLM is asked for a box in words; the segmenter is prompted with it and nothing else.

    Args:
        model: Composite with ``mllm`` and ``segmenter``; no head is used.
        gate: Gate or its config. Default: a box on every frame.
        memory: "off", "on" (SAM2's) or the config of a memory, which carries the object between two looks.
        conditioning: See ``ObjectTrack``.
        question: ``{expression}`` is replaced; as InternVL's documentation asks by default.
        refusal: What a model says that was taught to say that there is nothing: the mask is empty then. None:
            it was not.
        units: "thousandths" of width and height (InternVL), or "pixels" of the frame (Qwen2.5-VL).
        max_objects: Boxes that are used, in the order in which they are said.
        multimask: Choose the best of three masks.
        max_new_tokens: Longest answer; it ends before where the language model does.
        stage: Stage timer.

    An answer without a box leaves the one of before in use (``extra["no_box"]``), before the first one the
    mask is empty; a refusal (``extra["refused"]``) makes it empty.

    Raises:
        UserError: For an unknown word in ``memory``, ``conditioning`` or ``units``, or a question without a
            place for the expression.
    """

    def __init__(
        self,
        model: Any,
        *,
        gate: Gate | dict[str, Any] | None = None,
        memory: MemoryKey = "off",
        conditioning: str = "first",
        question: str = BOX_QUESTION,
        refusal: str | None = None,
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
        super().__init__(
            model, gate=gate, memory=memory, conditioning=conditioning, multimask=multimask, stage=stage
        )
        self.question, self.refusal, self.units = question, refusal, units
        self.max_objects, self.max_new_tokens = max_objects, max_new_tokens

    def question_length(self, expression: str) -> int:
        """Tokens of the question and one of the answer."""
        return 1 + int(self.model.mllm.prompts.turns([[self._turn(expression)]]).input_ids.shape[1])

    def step(
        self, states: Sequence[PromptedState], frame: Frame, features: FrameFeatures
    ) -> list[StreamEvent]:
        """One frame for N queries: one event per state, in their order."""
        return [self._step_one(state, frame, features) for state in states]

    def _step_one(self, state: PromptedState, frame: Frame, features: FrameFeatures) -> StreamEvent:
        decision, followed = self.judge(state, features, frame.index)
        if not decision.invoke:
            return self.follow(state, frame, features, decision, followed, {})
        boxes = self._ask(state, frame, features)
        if not boxes and self.refusal is not None and _same_words(state.text or "", self.refusal):
            return self.drop(state, frame, decision, {"refused": True})
        if not boxes:
            return self.follow(state, frame, features, decision, followed, {"no_box": True})
        prompt = SegPrompt(
            box_xyxy=torch.tensor(boxes, dtype=torch.float32) * self.model.segmenter.image_size
        )
        extra = {"boxes": [list(box) for box in boxes]}
        return self.take(state, frame, features, decision, prompt, extra)

    def _turn(self, expression: str) -> Turn:
        return Turn(self.question.replace("{expression}", expression), None, images=1, images_first=True)

    def _ask(self, state: PromptedState, frame: Frame, features: FrameFeatures) -> list[Box]:
        mllm = self.model.mllm
        tokens = features.vision_tokens
        chat = mllm.prompts.turns([[self._turn(mllm.prompts.clean(state.query.expression))]]).to(mllm.device)
        room = int(mllm.config.text_config.max_position_embeddings) - chat.input_ids.shape[1]
        with self.stage("mllm"):
            most = max(1, min(self.max_new_tokens, room))
            said = mllm.generate(chat, tokens, max_new_tokens=most).text
        for stop in mllm.prompts.stop_ids:
            said = said.split(mllm.prompts.tokenizer.decode([stop]))[0]
        state.text = said
        height, width = frame.size
        scale = (THOUSANDTHS, THOUSANDTHS) if self.units == "thousandths" else (float(width), float(height))
        return spoken_boxes(state.text or "", scale)[: self.max_objects]


def _same_words(one: str, other: str) -> bool:
    return re.findall(r"\w+", one.lower()) == re.findall(r"\w+", other.lower())


@dataclass
class PropagationState(PromptedState):
    """What one query keeps: its objects, and, while they are answered together, its frames."""

    frames: list[Frame] = field(default_factory=list)


@PIPELINES.register_module()
class SegPropagation(PromptedPipeline):
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
        if memory_policy(memory) is None or looks < 1 or max_frames < 1:
            raise UserError(
                "propagation needs a memory, and looks and max_frames of at least 1; got "
                f"{memory!r}, {looks} and {max_frames}"
            )
        super().__init__(model, memory=memory, conditioning="always", multimask=multimask, stage=stage)
        self.looks, self.joint = looks, joint
        self.causal = not joint
        self.max_frames = max_frames if joint else None

    def start(self, query: Query) -> PropagationState:
        """A fresh state; the expression is checked now, not at the first frame."""
        self.model.chat([query.expression])
        return PropagationState(query, self.new_track())

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
        look = state.num_frames < self.looks
        decision = GateDecision(look, "first" if look else "reuse")
        if not look:
            return self.follow(state, frame, features, decision, None, {})
        if prompt is None:
            prompt = self._prompt(state.query, features.vision_tokens, 1)
        state.text = self.model.mllm.prompts.answer
        return self.take(state, frame, features, decision, prompt, {})

    def _prompt(self, query: Query, tokens: Tensor, images: int) -> SegPrompt:
        """The prompt of one [SEG], forced, that has seen ``images`` frames of one tile."""
        chat = self.model.chat([query.expression], num_images=images)
        with self.stage("mllm"):
            output = self.model.mllm.forward_chat(chat, tokens)
            prompt: SegPrompt = self.model.head(self.model.seg_states(output, chat))
        return prompt
