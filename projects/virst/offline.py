"""A whole clip at once: fusion over sampled frames, anchors among them, tracking over all frames.

    slots = T_seg evenly spread frames of the T ....... all of them if T <= max_seg_frames
    encode the slots, one pass each ................... features kept until the frame is tracked
    initial fusion, MLLM, second fusion ............... prompts (Q, T_seg, N, C), one pass for Q queries
    anchors: the policy's choice among the slots
    track frame by frame .............................. other frames are encoded when they are reached

So every frame goes through the segmenter's encoder once, whatever T and Q. Kept are: the images of the clip
(main memory, as they came), the features of at most ``max_seg_frames`` frames (on the device; about 17 MB
each at 1024 px in float32), and the bounded memory of TDAU; masks go to main memory as they are made.

An anchor on which the object is absent (object score <= 0) stays an anchor: its mask is blank, and it is
remembered as blank, with SAM2's embedding and pointer of an absent object (as in the released code). The
event says so (``extra["absent"]``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from refstream.models.masks import mask_iou
from refstream.structures import Frame, ImageFeatures, Query, StreamEvent

from .anchors import AnchorClip, frame_slots
from .fusion import FusionTokens
from .parts import Decoded, Parts
from .tracker import Tracker, processing_order

ANCHOR, TRACKED = "anchor", "tracked"  # reasons


@dataclass
class ClipState:
    """One query and the frames that it has seen; queries of one stream share the images.

    Attributes:
        frames: All frames since the query began, at most the pipeline's ``max_frames``.
    """

    query: Query
    frames: list[Frame] = field(default_factory=list)


@dataclass(frozen=True)
class OfflineKeys:
    """How a clip is run.

    Attributes:
        max_seg_frames: T_seg, most frames in the fusion.
        order: See ``processing_order``.
        known_length: Divide distances of object pointers by the length of the clip (release).
        seed: Of policies that draw.
    """

    max_seg_frames: int = 32
    order: str = "time"
    known_length: bool = False
    seed: int = 0


@dataclass
class _Group:
    """Queries with the same anchors: they are tracked together.

    Attributes:
        rows: Their places among the queries.
        slot_of: Frame of each anchor -> its slot.
        leading: Frames that are decoded before all others.
        tracker: Of these queries.
    """

    rows: list[int]
    slot_of: dict[int, int]
    leading: list[int]
    tracker: Tracker


class _Images:
    """Features of a clip's frames, each encoded once: the slots at once, the others when asked for."""

    def __init__(self, parts: Parts, frames: Sequence[Frame], slots: Sequence[int]) -> None:
        self._parts, self._frames = parts, frames
        self._kept: dict[int, ImageFeatures] = {t: parts.encode(frames[t].image) for t in slots}
        self.tokens = FusionTokens.concatenate([parts.condense(one) for one in self._kept.values()])

    def look(self, frame: int) -> ImageFeatures:
        """Of a slot that has not been taken."""
        return self._kept[frame]

    def take(self, frame: int) -> ImageFeatures:
        """Of any frame, for the last time."""
        kept = self._kept.pop(frame, None)
        return self._parts.encode(self._frames[frame].image) if kept is None else kept


def segment_clip(
    parts: Parts, frames: Sequence[Frame], queries: Sequence[Query], keys: OfflineKeys
) -> list[StreamEvent]:
    """Run Q queries on one clip.

    Args:
        parts: Of the model.
        frames: T >= 1 frames; sizes may differ.
        queries: Q >= 1.
        keys: See there.

    Returns:
        Q x T events: all of the first query in order of time, then those of the second.

    Raises:
        UserError: If policy, order and memory do not fit together.
    """
    slots = frame_slots(len(frames), keys.max_seg_frames)
    seen = parts.reader.frames(len(frames))
    vision = parts.look([frames[t].image for t in seen])
    images = _Images(parts, frames, slots)
    prompts, scores = parts.prompts(images.tokens, vision, [query.expression for query in queries])
    groups = _group(parts, frames, slots, queries, keys)
    found: list[dict[int, Decoded]] = [{} for _ in queries]

    def decode(group: _Group, frame: int, features: ImageFeatures) -> None:
        slot = group.slot_of.get(frame)
        prompt = None if slot is None else prompts[group.rows, slot]
        with parts.stage("decode"):
            prediction = group.tracker.step(features, prompt, frame_index=frame)
        decoded = parts.deliver(prediction, frames[frame], is_anchor=slot is not None)
        for row, one in zip(group.rows, decoded, strict=True):
            found[row][frame] = one

    for group in groups:
        for frame in group.leading:
            decode(group, frame, images.look(frame))
    for frame in range(len(frames)):
        features = images.take(frame)
        for group in groups:
            if frame not in group.leading:
                decode(group, frame, features)
    shares = {frame: scores[:, slot] for slot, frame in enumerate(slots)}
    return [
        event
        for row, query in enumerate(queries)
        for event in _events(query, frames, found[row], set(seen), {t: s[row] for t, s in shares.items()})
    ]


def _group(
    parts: Parts, frames: Sequence[Frame], slots: Sequence[int], queries: Sequence[Query], keys: OfflineKeys
) -> list[_Group]:
    """Queries by their anchors."""
    rows_of: dict[tuple[int, ...], list[int]] = defaultdict(list)
    images = [frames[t].image for t in slots]
    for row, query in enumerate(queries):
        rng = np.random.default_rng(keys.seed)
        clip = AnchorClip(len(slots), images, query.expression, rng)
        rows_of[parts.policy.choose(clip)].append(row)
    groups = []
    for chosen, rows in rows_of.items():
        slot_of = {slots[slot]: slot for slot in chosen}
        anchors = sorted(slot_of)
        order = processing_order(len(frames), anchors, keys.order)
        leading = [] if keys.order == "time" else [t for t in order[: len(anchors)] if t in slot_of]
        if keys.order == "first_anchor":
            leading = leading[:1]
        length: dict[str, Any] = {"known_num_frames": len(frames)} if keys.known_length else {}
        tracker = Tracker(parts.model.segmenter, parts.new_memory(**length), multimask=parts.multimask)
        groups.append(_Group(rows, slot_of, leading, tracker))
    return groups


def _events(
    query: Query,
    frames: Sequence[Frame],
    found: dict[int, Decoded],
    seen: set[int],
    shares: dict[int, Tensor],
) -> list[StreamEvent]:
    """All events of one query, in order of time."""
    events: list[StreamEvent] = []
    before: np.ndarray | None = None
    for t, frame in enumerate(frames):
        one = found[t]
        extra: dict[str, Any] = {"frame_score": float(shares[t])} if t in shares else {}
        if one.is_anchor and one.object_score <= 0:
            extra["absent"] = True
        same = before is not None and before.shape == one.mask.shape
        events.append(
            StreamEvent(
                query_id=query.id,
                frame_index=frame.index,
                time_s=frame.time_s,
                mask=one.mask,
                pred_iou=one.pred_iou,
                consistency=_iou(one.mask, before) if before is not None and same else None,
                object_score=one.object_score,
                invoked_mllm=t in seen,
                reason=ANCHOR if one.is_anchor else TRACKED,
                extra=extra,
            )
        )
        before = one.mask
    return events


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    return mask_iou(torch.from_numpy(a), torch.from_numpy(b))
