"""A stream: anchors are set on the fly, masks come out with their frames, the past stays as it is.

    encode the frame once, for all queries
    the policy asks for an anchor .. STF over a bounded window (past anchors, recent frames, this one), the
                                     MLLM looks at it, the frame is decoded from its own N prompts
    otherwise ...................... the frame is tracked from TDAU's memory; the MLLM does not run
    remember it

Neither paper nor release run online; this is ours. The window holds the down-sampled cells of
``keep_anchors`` anchors and ``keep_recent`` frames; positions in time count its frames, as they count the
sampled frames of a clip. A query costs no more on frame 10,000 than on frame 50.

An anchor on which the object is absent (object score <= 0) stays an anchor, remembered as blank; a policy
that judges masks will soon ask for another. The event says so (``extra["absent"]``).
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from refstream.models.masks import mask_iou
from refstream.models.segmenter.memory import Memory
from refstream.streaming.gates import GateDecision, GateSignals, query_number
from refstream.structures import Frame, ImageFeatures, MaskPrediction, Query, StreamEvent

from .anchors import FIRST
from .fusion import FusionTokens
from .memory_group import MemoryGroup, shape_of
from .parts import Parts
from .tracker import Tracker

VIEWS = ("window", "anchors")


@dataclass
class Glimpse:
    """What stays of a frame, shared by all queries that saw it.

    Attributes:
        index: Of the frame.
        tokens: Its cells, for the fusions.
        image: (H, W, 3) uint8, until the MLLM has seen it or never will.
        vision: (1, n, H) what the MLLM saw of it; None before.
    """

    index: int
    tokens: FusionTokens
    image: np.ndarray | None
    vision: Tensor | None = None


@dataclass
class OnlineState:
    """All that one query remembers; its size does not grow with the stream.

    Attributes:
        memory: TDAU's, of one object.
        anchors: The newest anchors.
        recent: The newest frames.
        mask: (h, w) bool, the mask of the frame before.
    """

    query: Query
    memory: Memory
    anchors: deque[Glimpse]
    recent: deque[Glimpse]
    mask: Tensor | None = None
    pred_iou: float | None = None
    consistency: float | None = None
    num_frames: int = 0
    frames_since_call: int = 0

    def window(self, now: Glimpse) -> list[Glimpse]:
        """What the fusions see at this frame, in order of time."""
        known = {glimpse.index: glimpse for glimpse in (*self.anchors, *self.recent, now)}
        return [known[index] for index in sorted(known)]


class OnlineFeatures:
    """What all queries of one frame share, made when it is first asked for."""

    def __init__(self, parts: Parts, frame: Frame) -> None:
        self._parts, self._frame = parts, frame

    @cached_property
    def segmenter(self) -> ImageFeatures:
        """Segmenter features, batch size 1; gone when the frame is done."""
        return self._parts.encode(self._frame.image)

    @cached_property
    def glimpse(self) -> Glimpse:
        """What may stay."""
        return Glimpse(self._frame.index, self._parts.condense(self.segmenter), self._frame.image)


@dataclass
class _Turn:
    """One query's way through one frame."""

    state: OnlineState
    decision: GateDecision = FIRST
    prompt: Tensor | None = None
    prediction: MaskPrediction | None = None
    extra: dict[str, Any] = field(default_factory=dict)


class OnlineRunner:
    """Runs the queries of a stream, frame by frame; keeps no state itself.

    Args:
        parts: Of the model.
        keep_anchors: Anchors in the window of the fusions.
        keep_recent: Frames before the present one in that window.
        mllm_view: "window": the MLLM looks at the frames of the window (images of recent frames are kept
            until it has); "anchors": at the anchors in it alone, the present one included.
    """

    def __init__(self, parts: Parts, *, keep_anchors: int, keep_recent: int, mllm_view: str) -> None:
        self.parts = parts
        self.keep_anchors, self.keep_recent, self.mllm_view = keep_anchors, keep_recent, mllm_view

    def start(self, query: Query) -> OnlineState:
        """A query that has seen nothing.

        Raises:
            UserError: If memory and segmenter do not fit.
        """
        memory = self.parts.new_memory()
        Tracker(self.parts.model.segmenter, memory, multimask=self.parts.multimask)  # checks
        return OnlineState(query, memory, deque(maxlen=self.keep_anchors), deque(maxlen=self.keep_recent))

    def step(
        self, states: Sequence[OnlineState], frame: Frame, features: OnlineFeatures
    ) -> list[StreamEvent]:
        """One frame for Q queries: judge, look where an anchor is due, track the others, remember."""
        turns = [_Turn(state) for state in states]
        if self.parts.policy.needs_mask:
            self._track([turn for turn in turns if turn.state.num_frames], frame, features)
        for turn in turns:
            turn.decision = self.parts.policy.decide(_signals(turn))
        anchors = [turn for turn in turns if turn.decision.invoke]
        others = [turn for turn in turns if not turn.decision.invoke]
        self._prompt(anchors, features)
        self._track([turn for turn in others if turn.prediction is None], frame, features)
        for is_anchor, some in ((True, anchors), (False, others)):
            self._commit(some, frame, features, is_anchor=is_anchor)
        events = [self._emit(turn, frame, features) for turn in turns]
        if self.mllm_view == "anchors" and turns:
            features.glimpse.image = None
        return events

    def _tracker(self, turns: Sequence[_Turn]) -> Tracker:
        """Of several queries at once."""
        group = MemoryGroup(turns[0].state.memory)
        tracker = Tracker(self.parts.model.segmenter, group, multimask=self.parts.multimask)
        group.members = [turn.state.memory for turn in turns]
        return tracker

    def _track(self, turns: Sequence[_Turn], frame: Frame, features: OnlineFeatures) -> None:
        """Decode from the memories; those of one shape as one batch."""
        alike: dict[Any, list[_Turn]] = defaultdict(list)
        for turn in turns:
            alike[shape_of(turn.state.memory, frame.index)].append(turn)
        for some in alike.values():
            with self.parts.stage("decode"):
                batch = self._tracker(some).decode(features.segmenter, frame_index=frame.index)
            for i, turn in enumerate(some):
                turn.prediction = batch[i]

    def _prompt(self, turns: Sequence[_Turn], features: OnlineFeatures) -> None:
        """Fusion, MLLM, fusion, and masks from the prompts; queries with one window as one batch."""
        alike: dict[tuple[int, ...], list[_Turn]] = defaultdict(list)
        windows: dict[tuple[int, ...], list[Glimpse]] = {}
        for turn in turns:
            window = turn.state.window(features.glimpse)
            key = tuple(glimpse.index for glimpse in window)
            # the same frames may be anchors of one query and recent frames of another
            key += tuple(glimpse.index for glimpse in self._seen(turn.state, window))
            windows[key] = window
            alike[key].append(turn)
        for key, some in alike.items():
            seen = self._seen(some[0].state, windows[key])
            tokens = FusionTokens.concatenate([glimpse.tokens for glimpse in windows[key]])
            said = [turn.state.query.expression for turn in some]
            prompts, scores = self.parts.prompts(tokens, self._vision(seen), said)
            for turn, prompt, score in zip(some, prompts[:, -1], scores[:, -1], strict=True):
                turn.prompt, turn.extra["frame_score"] = prompt, float(score)
        if turns:
            asked = torch.stack([turn.prompt for turn in turns if turn.prompt is not None])
            with self.parts.stage("decode"):
                batch = self._tracker(turns).decode(features.segmenter, asked)
            for i, turn in enumerate(turns):
                turn.prediction = batch[i]

    def _seen(self, state: OnlineState, window: Sequence[Glimpse]) -> list[Glimpse]:
        """Frames of the window that the MLLM sees, the present one (the last) always among them."""
        if self.mllm_view == "anchors":
            held = {glimpse.index for glimpse in (*state.anchors, window[-1])}
            window = [glimpse for glimpse in window if glimpse.index in held]
        return [*(window[i] for i in self.parts.reader.frames(len(window))[:-1]), window[-1]]

    def _vision(self, seen: Sequence[Glimpse]) -> Tensor:
        """(T', n, H); a frame is encoded when the MLLM first sees it, and its image dropped."""
        fresh = [glimpse for glimpse in seen if glimpse.vision is None]
        images = [glimpse.image for glimpse in fresh if glimpse.image is not None]
        if images:
            for glimpse, tokens in zip(fresh, self.parts.look(images), strict=True):
                glimpse.vision, glimpse.image = tokens[None].clone(), None
        return torch.cat([glimpse.vision for glimpse in seen if glimpse.vision is not None])

    def _commit(
        self, turns: Sequence[_Turn], frame: Frame, features: OnlineFeatures, *, is_anchor: bool
    ) -> None:
        """Remember the frame in every query's memory and window."""
        if not turns:
            return
        parts = [turn.prediction for turn in turns if turn.prediction is not None]
        names = MaskPrediction.__dataclass_fields__
        batch = MaskPrediction(*(torch.cat([getattr(p, name) for p in parts]) for name in names))
        with self.parts.stage("remember"):
            self._tracker(turns).commit(
                features.segmenter, batch, is_anchor=is_anchor, frame_index=frame.index
            )
        for turn in turns:
            turn.state.recent.append(features.glimpse)
            if is_anchor:
                turn.state.anchors.append(features.glimpse)
                turn.state.frames_since_call = 0

    def _emit(self, turn: _Turn, frame: Frame, features: OnlineFeatures) -> StreamEvent:
        state, prediction = turn.state, turn.prediction
        assert prediction is not None
        one = self.parts.deliver(prediction, frame, is_anchor=turn.decision.invoke)[0]
        state.consistency = _consistency(turn)
        state.mask, state.pred_iou = prediction.mask_logits[0] > 0, one.pred_iou
        state.num_frames += 1
        state.frames_since_call += 1
        if one.is_anchor and one.object_score <= 0:
            turn.extra["absent"] = True
        return StreamEvent(
            query_id=state.query.id,
            frame_index=frame.index,
            time_s=frame.time_s,
            mask=one.mask,
            pred_iou=one.pred_iou,
            consistency=state.consistency,
            object_score=one.object_score,
            invoked_mllm=turn.decision.invoke,
            reason=turn.decision.reason,
            extra=turn.extra,
        )


def _consistency(turn: _Turn) -> float | None:
    """P_c: IoU of this frame's mask with the one before."""
    if turn.prediction is None or turn.state.mask is None:
        return None
    return mask_iou(turn.prediction.mask_logits[0] > 0, turn.state.mask)


def _signals(turn: _Turn) -> GateSignals:
    state, prediction = turn.state, turn.prediction
    return GateSignals(
        frame_index=state.num_frames,
        frames_since_call=state.frames_since_call,
        pred_iou=None if prediction is None else float(prediction.pred_iou),
        consistency=_consistency(turn),
        prev_pred_iou=state.pred_iou,
        prev_consistency=state.consistency,
        query=query_number(f"{state.query.id} {state.query.expression}"),
    )
