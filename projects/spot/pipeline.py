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
from refstream.registry import PIPELINES
from refstream.streaming.features import FrameFeatures, StageTimer, no_timer
from refstream.streaming.gates import Gate, GateDecision
from refstream.streaming.prompted import GatedPipeline, PromptedState
from refstream.streaming.tracking import MemoryKey, joined
from refstream.structures import Frame, MaskPrediction, SegPrompt, StreamEvent

from .dialogue import box_turn
from .geometry import to_square
from .head_reader import READERS, spot_reader
from .point_filter import NO_FOREGROUND, P_NO, P_YES
from .reader import DECODING, Found, Reading, spot_format, tokens_per_frame

UNPARSABLE = ("previous", "empty", "full")
WHOLE_FRAME = (0.0, 0.0, 1.0, 1.0)


@dataclass
class SpotState(PromptedState):
    """All that one query remembers.

    Attributes:
        boxes: (N, 4) of the last look that found any, in [0, 1]; None before.
        reading: Of the last look, from which the next one guesses its answers; None before.
    """

    boxes: Tensor | None = None
    reading: Reading | None = None


@dataclass
class _Step:
    """One query's way through one frame."""

    state: SpotState
    decision: GateDecision
    followed: MaskPrediction | None
    reading: Reading | None = None


@PIPELINES.register_module()
class SPOT(GatedPipeline):
    """Prompts that the MLLM says, frame by frame.

    Args:
        model: Composite with ``mllm`` and ``segmenter``; its head is used by ``reader="head"`` alone.
        gate: Gate or its config. Default: the MLLM looks at every frame (paper).
        memory: "off" (paper), "on" (SAM2's) or the config of a memory. Without it, prompts of an earlier look
            serve again as they are; with it the segmenter follows the objects by itself.
        conditioning: Of the memory, see ``ObjectTrack``.
        reader: "dialogue": both rounds in words (paper); "head": the model's ``BoxPointHead`` takes the place
            of numbers and judgements.
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
        decoding: "guess" or "one_by_one", see ``SpotReader``; they say the same.
        multimask: The best of three masks by predicted IoU (SAM4MLLM); False: the single mask.
        stage: Stage timer.

    Events carry in ``extra``: ``boxes``, per object ``points`` (foreground, background) and ``fallback``,
    ``problem`` with an answer, ``unspoken`` where the boxes are not what the MLLM said now, and ``refused``.

    Attributes:
        answer_words: Words that must be tokens of their own, with and without a space before them.

    Raises:
        UserError: For keys out of range, or a tokenizer or model that cannot hold the dialogue.
    """

    state_type = SpotState
    answer_words = ("Yes", "No")

    def __init__(
        self,
        model: Any,
        *,
        gate: Gate | dict[str, Any] | None = None,
        memory: MemoryKey = "off",
        conditioning: str = "first",
        reader: str = READERS[0],
        points: bool = True,
        text: dict[str, Any] | None = None,
        frame_tokens: int | None = None,
        p_no: float = P_NO,
        p_yes: float = P_YES,
        no_foreground: str = NO_FOREGROUND[0],
        unparsable: str = UNPARSABLE[0],
        max_objects: int = 4,
        max_new_tokens: int = 96,
        decoding: str = DECODING[0],
        multimask: bool = True,
        stage: StageTimer = no_timer,
    ) -> None:
        if unparsable not in UNPARSABLE:
            raise UserError(f"unparsable must be one of {UNPARSABLE}, got {unparsable!r}")
        if not isinstance(points, bool):
            raise UserError(f"points must be True or False, got {points!r}")
        super().__init__(
            model, gate=gate, memory=memory, conditioning=conditioning, multimask=multimask, stage=stage
        )
        self.unparsable = unparsable
        self._text, self._frame_tokens = spot_format(text), tokens_per_frame(self.model.mllm, frame_tokens)
        self.reader = spot_reader(
            reader,
            model,
            text=text,
            frame_tokens=frame_tokens,
            points=points,
            p_no=p_no,
            p_yes=p_yes,
            no_foreground=no_foreground,
            max_objects=max_objects,
            max_new_tokens=max_new_tokens,
            decoding=decoding,
        )

    @classmethod
    def head_for(cls, *, image_size: int, hidden_size: int, prompt_dim: int) -> dict[str, Any]:
        """Config of a head; none is used, so any that can be built will do."""
        return dict(type="SegTokenHead")

    def question_length(self, expression: str) -> int:
        """Tokens of round 1 where it is refused."""
        turn = box_turn(self._text, expression, self._text.refusal)
        prompts = self.model.mllm.prompts
        return int(prompts.turns([[turn]], tile_tokens=self._frame_tokens).input_ids.shape[1])

    def step(self, states: Sequence[SpotState], frame: Frame, features: FrameFeatures) -> list[StreamEvent]:
        """One frame for N queries: those that must look speak side by side; one event per state."""
        steps = [_Step(state, *self.judge(state, features, frame.index)) for state in states]
        looking = [one for one in steps if one.decision.invoke]
        if looking:
            with self.stage("mllm"):
                said = [one.state.query.expression for one in looking]
                before = [one.state.reading for one in looking]
                readings = self.reader.read(features.vision_tokens, said, before)
            for one, reading in zip(looking, readings, strict=True):
                one.reading = one.state.reading = reading
        return [self._finish_step(one, frame, features) for one in steps]

    def _finish_step(self, step: _Step, frame: Frame, features: FrameFeatures) -> StreamEvent:
        state, decision = step.state, step.decision
        if step.reading is None:
            return self.follow(state, frame, features, decision, step.followed, {})
        state.text = step.reading.text
        objects, extra = self._prompts(state, step.reading)
        if not objects:
            state.boxes = None
            return self.drop(state, frame, decision, extra)
        state.boxes = torch.stack([one.box for one in objects])
        prompt = seg_prompt(objects, self.model.segmenter.image_size)
        return self.take(state, frame, features, decision, prompt, extra)

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
            extra["unspoken"] = True
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
