"""TDAU's tracking: anchors are decoded from their N prompt vectors, all other frames from the memory.

The interface, on which the pipeline and training build. A whole clip (offline, or training with gradients):

    track(
        segmenter: Sam2Segmenter,
        features: Sequence[ImageFeatures],   # one per frame, batch size 1; each is taken exactly once, so it
                                             # may be lazy: anything with len() and [int]
        prompts: Tensor,                     # (T, N, C), or (Q, T, N, C) for Q expressions that share anchors
        anchors: Sequence[int],              # rows of prompts ("slots") to be used
        memory: Memory,                      # empty: segmenter.new_memory(dict(type="tdau", alpha=3, ...))
        *,
        slots: Sequence[int] | None = None,  # frame of every slot; None: slot s is frame s
        times: Sequence[int] | None = None,  # index of every frame for the memory; None: 0, 1, 2, ...
        order: str = "time",                 # or "first_anchor", "anchors_first", see ``processing_order``
        multimask: bool = True,              # best of three masks; False: the single mask
        repeats: str = "error",              # two anchors on one frame; "refine" as in the release
    ) -> list[MaskPrediction]                # one per frame, in frame order, of 1 or Q objects

Frame by frame (online):

    tracker = Tracker(segmenter, memory, multimask=True)
    prediction = tracker.step(features, prompt)      # an anchor: prompt (N, C) or (Q, N, C)
    prediction = tracker.step(features)              # any other frame

``step`` is ``decode``, which changes nothing, and ``commit``, which remembers: a policy that judges the
tracked mask decodes twice and commits once.

What differs between paper and release, as keys (memory: ``type="tdau"``):

=============  ==============================  ===========================================================
               ``virst_paper``                 ``virst_release``
=============  ==============================  ===========================================================
inference      order "time", anchors "recent"  order "anchors_first", anchors "nearest", multimask True
training       the same (*)                    order "first_anchor", future_pointers True, map_dtype None,
                                               multimask False
=============  ==============================  ===========================================================

(*) A training clip that begins before its first anchor takes order "first_anchor": its first frames see it.

Source: VIRST (CVPR 2026, arXiv 2603.27060), Temporal Dynamic Anchor Updater; AIDASLab/VIRST 954276f,
``model/sam2/sam2_virst.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from torch import Tensor

from refstream.errors import UserError
from refstream.models.segmenter.memory import Memory, Sam2Memory
from refstream.models.segmenter.sam2 import ABSENT_LOGIT, Sam2Segmenter
from refstream.structures import ImageFeatures, MaskPrediction, SegPrompt

from .memory import AnchorMemory

ORDERS = ("time", "first_anchor", "anchors_first")
REPEATS = ("error", "refine")
REFINE_LIMIT = 32.0  # sam2_virst.py, add_new_prompt: logits of the first mask are clamped to +-32


class Tracker:
    """The state of Q tracked objects: their memory and the time. Bounded if the memory is.

    Args:
        segmenter: SAM2; shared by any number of trackers.
        memory: Empty memory of these objects.
        multimask: Decode three masks and take the one with the best predicted IoU (the release at
            inference); False: the single mask (the release in training). In training mode SAM2 takes it as it
            is; in evaluation mode it falls back to the best of three where it is not stable.

    Raises:
        UserError: If memory and segmenter do not fit.
    """

    def __init__(self, segmenter: Sam2Segmenter, memory: Memory, *, multimask: bool = True) -> None:
        if len(memory):
            raise UserError(
                f"a tracker needs an empty memory, this one holds {len(memory)} frames: clear() it"
            )
        if not memory.stores:
            raise UserError("a tracker needs a memory that stores frames, such as dict(type='tdau')")
        rows = int(segmenter.model.config.num_maskmem)
        if isinstance(memory, Sam2Memory) and memory.num_maps > rows:
            raise UserError(
                f"the memory reads {memory.num_maps - 1} recent frames, the segmenter's temporal table has "
                f"rows for {rows - 1}: lower num_recent"
            )
        if segmenter.blank_absent and not memory.blank_absent:
            raise UserError("memory.blank_absent=False has no effect: the segmenter has blank_absent=True")
        self.segmenter = segmenter
        self.memory = memory
        self.multimask = multimask

    def step(
        self, features: ImageFeatures, prompt: Tensor | None = None, *, frame_index: int | None = None
    ) -> MaskPrediction:
        """Decode a frame and remember it.

        Args:
            features: Of one image.
            prompt: (N, C) or (Q, N, C) vectors that make this frame an anchor; None: it is tracked.
            frame_index: Its index in the memory; None: one more than the newest.

        Raises:
            UserError: For a first frame without a prompt.
        """
        index = self.memory.last_index + 1 if frame_index is None else frame_index
        prediction = self.decode(features, prompt, frame_index=index)
        self.commit(features, prediction, is_anchor=prompt is not None, frame_index=index)
        return prediction

    def decode(
        self,
        features: ImageFeatures,
        prompt: Tensor | None = None,
        *,
        frame_index: int | None = None,
        refine: MaskPrediction | None = None,
    ) -> MaskPrediction:
        """The mask of a frame; nothing changes.

        An anchor sees no memory: its map gets the no-memory embedding, and the N vectors are its only sparse
        tokens. Any other frame sees the memory and SAM2's two null points.

        Args:
            features: Of one image.
            prompt: As in ``step``.
            frame_index: As in ``step``.
            refine: An earlier mask of this anchor, which becomes a dense prompt.

        Raises:
            UserError: If the prompt has another shape, or there is neither a prompt nor a memory.
        """
        if prompt is None:
            return self._follow(features, frame_index)
        if prompt.ndim == 2:
            prompt = prompt[None]
        width = self.segmenter.prompt_dim
        if prompt.ndim != 3 or prompt.shape[1] < 1 or prompt.shape[2] != width:
            raise UserError(
                f"an anchor's prompt must be (N, {width}) or (Q, N, {width}), got {tuple(prompt.shape)}"
            )
        dense = None
        if refine is not None:
            dense = refine.mask_logits[:, None].clamp(-REFINE_LIMIT, REFINE_LIMIT)
        return self.segmenter.decode(
            features,
            SegPrompt(embedding=prompt, mask_logits=dense),
            memory=self.memory,
            multimask=self.multimask,
            is_conditioning=True,
            padded=False,
        )

    def _follow(self, features: ImageFeatures, frame_index: int | None) -> MaskPrediction:
        if not len(self.memory):
            raise UserError("nothing to track yet: the first frame must be an anchor, give a prompt")
        return self.segmenter.decode(
            features, None, memory=self.memory, multimask=self.multimask, frame_index=frame_index
        )

    def commit(
        self,
        features: ImageFeatures,
        prediction: MaskPrediction,
        *,
        is_anchor: bool,
        frame_index: int | None = None,
    ) -> None:
        """Remember a frame by its mask, which is blank if the object is absent, whatever was shown.

        Args:
            features: Of that frame.
            prediction: Of the same Q objects as before.
            is_anchor: Whether it was decoded from a prompt.
            frame_index: As in ``step``.
        """
        absent = prediction.object_score <= 0
        blank = prediction.mask_logits.masked_fill(absent[:, None, None], ABSENT_LOGIT)
        self.segmenter.remember(
            features,
            replace(prediction, mask_logits=blank),
            self.memory,
            frame_index=self.memory.last_index + 1 if frame_index is None else frame_index,
            is_conditioning=is_anchor,
        )


def processing_order(num_frames: int, anchors: Sequence[int], order: str) -> list[int]:
    """In which order the frames of a clip are decoded.

    Args:
        num_frames: T.
        anchors: Frames that are anchors, ascending.
        order: "time": 0, 1, 2, ...; a frame sees anchors of its past only.
            "first_anchor": the first anchor, then the rest in time order (the release in training); frames
            before the first anchor see it. "anchors_first": all anchors, then the rest in time order (the
            release at inference); every frame sees all anchors.

    Raises:
        UserError: For another order, or if the first frame has nothing to be tracked from.
    """
    if order not in ORDERS:
        raise UserError(f"order must be one of {ORDERS}, got {order!r}")
    if order == "time":
        if anchors[0] != 0:
            raise UserError(
                f"in order of time frame 0 must be an anchor, the first one is frame {anchors[0]}: nothing "
                "is known before it. Add frame 0 to the anchors, begin the clip there, or use "
                "order='first_anchor'"
            )
        return list(range(num_frames))
    first = list(anchors if order == "anchors_first" else anchors[:1])
    return first + [t for t in range(num_frames) if t not in set(first)]


def track(
    segmenter: Sam2Segmenter,
    features: Sequence[ImageFeatures],
    prompts: Tensor,
    anchors: Sequence[int],
    memory: Memory,
    *,
    slots: Sequence[int] | None = None,
    times: Sequence[int] | None = None,
    order: str = "time",
    multimask: bool = True,
    repeats: str = "error",
) -> list[MaskPrediction]:
    """Masks of all frames of a clip from the prompts of its anchors; differentiable.

    A clip may be of any length from one frame on; the memory bounds what is kept besides the predictions.

    Args:
        segmenter: SAM2.
        features: T frames, each of batch size 1. Each is taken exactly once, in processing order.
        prompts: (S, N, C) or (Q, S, N, C): N vectors for each of S slots, and of Q expressions.
        anchors: Slots whose prompts are used, at least one.
        memory: Empty, of Q objects; it is filled.
        slots: Frame of each of the S slots, never decreasing; None: S = T and slot s is frame s.
        times: Index of each frame for the memory, increasing; None: its place. Pass the indices in the video
            if the clip is a part with gaps and distances are to be counted in the video (the release counts
            in the clip while training, in the video at inference).
        order: See ``processing_order``.
        multimask: See ``Tracker``.
        repeats: What to do if several anchors lie on one frame. "error", or "refine": decode them one after
            the other, each with the mask before it as a dense prompt (the release).

    Returns:
        T predictions of 1 or Q objects, in frame order.

    Raises:
        UserError: If anything does not fit.
    """
    if repeats not in REPEATS:
        raise UserError(f"repeats must be one of {REPEATS}, got {repeats!r}")
    if order == "anchors_first" and isinstance(memory, AnchorMemory) and memory.anchors == "recent":
        raise UserError(
            "order='anchors_first' shows frames anchors of their future, a memory with anchors='recent' "
            "takes frames in order of time: use order='time', or anchors='nearest'"
        )
    by_frame = _anchor_slots(len(features), prompts, anchors, slots)
    doubles = {frame: at for frame, at in by_frame.items() if len(at) > 1}
    if doubles and repeats == "error":
        raise UserError(
            f"several anchors lie on one frame ({{frame: slots}} = {doubles}): choose distinct frames, or "
            "set repeats='refine'"
        )
    indices = list(range(len(features))) if times is None else [int(t) for t in times]
    if len(indices) != len(features) or any(a >= b for a, b in pairwise(indices)):
        raise UserError(f"times must be {len(features)} increasing numbers, got {indices}")
    tracker = Tracker(segmenter, memory, multimask=multimask)
    found: dict[int, MaskPrediction] = {}
    for frame in processing_order(len(features), sorted(by_frame), order):
        image, index = features[frame], indices[frame]
        if frame not in by_frame:
            found[frame] = tracker.step(image, frame_index=index)
            continue
        prediction = None
        for slot in by_frame[frame]:
            prediction = tracker.decode(image, prompts[..., slot, :, :], refine=prediction)
        assert prediction is not None
        tracker.commit(image, prediction, is_anchor=True, frame_index=index)
        found[frame] = prediction
    return [found[t] for t in range(len(features))]


def _anchor_slots(
    num_frames: int, prompts: Tensor, anchors: Sequence[int], slots: Sequence[int] | None
) -> dict[int, list[int]]:
    """Frame -> its slots, both ascending, of the anchors alone; everything is checked."""
    if num_frames < 1:
        raise UserError("a clip needs at least one frame, got none")
    if prompts.ndim not in (3, 4):
        raise UserError(f"prompts must be (T, N, C) or (Q, T, N, C), got {tuple(prompts.shape)}")
    num_slots = prompts.shape[-3]
    frames = list(range(num_frames)) if slots is None else [int(s) for s in slots]
    if len(frames) != num_slots:
        raise UserError(
            f"{num_slots} prompts for {len(frames)} {'frames' if slots is None else 'slots'}: there must be "
            "one each; name the frames of the prompts in slots if they are not all frames"
        )
    if frames != sorted(frames) or frames[0] < 0 or frames[-1] >= num_frames:
        raise UserError(f"slots must be frames from 0 to {num_frames - 1}, never decreasing, got {frames}")
    chosen = sorted({int(a) for a in anchors})
    if not chosen or len(chosen) != len(anchors) or chosen[0] < 0 or chosen[-1] >= num_slots:
        raise UserError(
            f"anchors must be distinct numbers from 0 to {num_slots - 1}, at least one, got {list(anchors)}"
        )
    by_frame: dict[int, list[int]] = {}
    for slot in chosen:
        by_frame.setdefault(frames[slot], []).append(slot)
    return by_frame
