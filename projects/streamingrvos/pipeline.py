"""StreamingRVOS frame by frame: SER feeds the last [SEG] back, OMCP decides when the MLLM must look again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from refstream.models.masks import mask_iou, upsample_mask
from refstream.registry import CONTEXTS, GATES, PIPELINES
from refstream.streaming.features import FrameFeatures, StageTimer, no_timer
from refstream.streaming.gates import Gate, GateDecision, GateSignals, query_number
from refstream.structures import Frame, MaskPrediction, Query, SegPrompt, StreamEvent

from .omcp import paper_gate
from .ser import SegMemory, stack_context

FIRST = GateDecision(True, "first")
SER = dict(type="SegMemory", length=1)


@dataclass
class StreamingRVOSState:
    """All that one query remembers: K [SEG] states, one prompt, one low-resolution mask.

    Attributes:
        memory: The last [SEG] states (SER).
        prompt: The prompt in use, made from the newest [SEG]; None before the first look.
        mask: (h, w) bool, the mask emitted at the previous frame.
    """

    query: Query
    memory: SegMemory
    prompt: SegPrompt | None = None
    mask: Tensor | None = None
    pred_iou: float | None = None
    consistency: float | None = None
    num_frames: int = 0
    frames_since_call: int = 0
    text: str | None = None


@dataclass
class _Turn:
    """One query's way through one frame."""

    state: StreamingRVOSState
    prediction: MaskPrediction | None = None
    decision: GateDecision = FIRST
    consistency: float | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@PIPELINES.register_module()
class StreamingRVOS:
    """The streaming pipeline of the paper; the release's variants are keys.

    Args:
        model: Composite with ``mllm``, ``segmenter`` and ``head``.
        gate: Gate or its config. Default: the paper's OMCP with its 1B thresholds.
        context: Config of what a query remembers for the MLLM. Default: SER's ``SegMemory`` of length 1
            (paper, release); ``NoMemory`` switches SER off (placeholder on every frame).
        reprompt: Tell the MLLM on a re-look that the target may have changed (paper; not in the release).
        max_tiles: Tiles of the MLLM's view of a frame. 1 as trained; the release infers with up to
            12 and a thumbnail.
        answer: "forced" reads the [SEG] of the forced answer in one prefill; "generate" lets the MLLM speak
            (release). An answer without [SEG] then resets SER and keeps the previous prompt, and is flagged
            in the event's ``extra["no_seg"]``.
        generate: Options of free generation, e.g. ``keep_all_hidden`` and ``stop_words`` (release).
        share_encoders: Encode a frame once for all queries. False repeats everything per query (release).
        stage: Stage timer.

    Attributes:
        presets: Named sets of keys, see ``docs/methods/streamingrvos.md``.
    """

    causal = True
    max_frames = None
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": dict(gate=paper_gate("1b"), context=SER, reprompt=True, max_tiles=1, answer="forced"),
        "release": dict(
            gate=dict(type="EveryFrameGate"),
            context=SER,
            reprompt=False,
            max_tiles=12,
            answer="generate",
            generate=dict(keep_all_hidden=True),
            share_encoders=False,
        ),
    }

    def __init__(
        self,
        model: Any,
        *,
        gate: Gate | dict[str, Any] | None = None,
        context: dict[str, Any] | None = None,
        reprompt: bool = True,
        max_tiles: int = 1,
        answer: str = "forced",
        generate: dict[str, Any] | None = None,
        share_encoders: bool = True,
        stage: StageTimer = no_timer,
    ) -> None:
        if answer not in ("forced", "generate"):
            raise ValueError(f"answer must be 'forced' or 'generate', got {answer!r}")
        self.model = model
        gate = dict(type="ConsistencyGate") if gate is None else gate
        self.gate: Gate = GATES.build(gate) if isinstance(gate, dict) else gate
        self.context = context or SER
        CONTEXTS.build(dict(self.context))  # a wrong config fails here, not at the first query
        self.reprompt = reprompt
        self.max_tiles = max_tiles
        self.answer = answer
        self.generate = generate or {}
        self.share_encoders = share_encoders
        self.stage = stage

    def start(self, query: Query) -> StreamingRVOSState:
        """A fresh state; the expression is checked now, not at the first frame."""
        self.model.chat([query.expression])
        return StreamingRVOSState(query, CONTEXTS.build(dict(self.context)))

    def encode(self, frame: Frame) -> FrameFeatures:
        """Lazily encoded features, shared by all queries of the frame."""
        return FrameFeatures(self.model, frame, max_tiles=self.max_tiles, stage=self.stage)

    def step(
        self, states: Sequence[StreamingRVOSState], frame: Frame, features: FrameFeatures
    ) -> list[StreamEvent]:
        """One frame for N queries: reuse, judge, look again where needed, emit."""
        if not self.share_encoders and len(states) > 1:
            return [event for s in states for event in self.step([s], frame, self.encode(frame))]
        turns = [_Turn(state) for state in states]
        if self.gate.needs_mask:
            self._decode([t for t in turns if t.state.prompt is not None], features)
        for turn in turns:
            if turn.state.prompt is not None:
                turn.decision = self.gate.decide(self._signals(turn))
        self._look([t for t in turns if t.decision.invoke], features)
        self._decode([t for t in turns if t.prediction is None and t.state.prompt is not None], features)
        return [self._emit(turn, frame) for turn in turns]

    def finish(self, state: StreamingRVOSState) -> list[StreamEvent]:
        """A causal pipeline keeps nothing back."""
        return []

    def _signals(self, turn: _Turn) -> GateSignals:
        state, prediction = turn.state, turn.prediction
        return GateSignals(
            frame_index=state.num_frames,
            frames_since_call=state.frames_since_call,
            pred_iou=None if prediction is None else float(prediction.pred_iou),
            consistency=turn.consistency,
            prev_pred_iou=state.pred_iou,
            prev_consistency=state.consistency,
            query=query_number(f"{state.query.id} {state.query.expression}"),
        )

    def _decode(self, turns: list[_Turn], features: FrameFeatures) -> None:
        """Decode every turn's prompt on this frame, as one batch; P_c against the previous mask."""
        if not turns:
            return
        image = features.segmenter
        prompts = [t.state.prompt.embedding for t in turns if t.state.prompt is not None]
        with self.stage("decode"):
            batch = self.model.segmenter.decode(image, SegPrompt(embedding=torch.cat(prompts)))
        for i, turn in enumerate(turns):
            turn.prediction = batch[i]
            if turn.state.mask is not None:
                turn.consistency = mask_iou(batch.mask_logits[i] > 0, turn.state.mask)

    def _look(self, turns: list[_Turn], features: FrameFeatures) -> None:
        """The MLLM looks at the frame for every turn at once; new [SEG] states and prompts."""
        if not turns:
            return
        states = [t.state for t in turns]
        tokens = features.vision_tokens
        context, mask = self._context(states, tokens)
        expressions = [s.query.expression for s in states]
        doubts = [self.reprompt and t.decision.doubt for t in turns]
        with self.stage("mllm"):
            if self.answer == "generate":
                look = partial(self.model.generate_seg, **self.generate)
            else:
                look = self.model.force_seg
            found, texts = look(expressions, tokens, context, mask, reprompt=doubts)
        for turn, seg, text in zip(turns, found, texts, strict=True):
            turn.state.text = text
            turn.prediction = None
            self._renew(turn, seg)
            turn.state.frames_since_call = 0

    def _context(self, states: Sequence[StreamingRVOSState], tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(N, K, D) context states of N queries and (N, K) which of them count."""
        memories = [state.memory for state in states]
        return stack_context(memories, self.model.mllm.hidden_size, device=tokens.device, dtype=tokens.dtype)

    def _renew(self, turn: _Turn, seg: Tensor | None) -> None:
        """Take a new (D,) [SEG] state; without one, SER is reset and the old prompt stays."""
        if seg is None:
            turn.state.memory.clear()
            turn.extra["no_seg"] = True
            return
        turn.state.memory.push(seg)
        turn.state.prompt = self.model.head(seg[None])

    def _emit(self, turn: _Turn, frame: Frame) -> StreamEvent:
        state, prediction = turn.state, turn.prediction
        state.num_frames += 1
        state.frames_since_call += 1
        if prediction is None:
            mask = np.zeros(frame.size, dtype=bool)
            return self._event(turn, frame, mask, pred_iou=0.0, object_score=None)
        with self.stage("upsample"):
            mask = upsample_mask(prediction.mask_logits, frame.size)
        state.mask = prediction.mask_logits[0] > 0
        state.pred_iou = float(prediction.pred_iou)
        state.consistency = turn.consistency
        return self._event(turn, frame, mask, state.pred_iou, float(prediction.object_score))

    def _event(
        self, turn: _Turn, frame: Frame, mask: np.ndarray, pred_iou: float, object_score: float | None
    ) -> StreamEvent:
        return StreamEvent(
            query_id=turn.state.query.id,
            frame_index=frame.index,
            time_s=frame.time_s,
            mask=mask,
            text=turn.state.text if turn.decision.invoke else None,
            pred_iou=pred_iou,
            consistency=turn.consistency,
            object_score=object_score,
            invoked_mllm=turn.decision.invoke,
            reason=turn.decision.reason,
            extra=turn.extra,
        )
