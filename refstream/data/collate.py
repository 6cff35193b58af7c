"""One sample type and one collate for all training data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from refstream.errors import UserError

Dialogue = tuple[tuple[str, str], ...]
"""Turns of a conversation: (question, answer) pairs."""


@dataclass(frozen=True)
class ClipSample:
    """One clip with E expressions and their masks, or with a dialogue about it; an image is one frame.

    Attributes:
        frames: (T, H, W, 3) uint8 RGB; T = 0 for a dialogue about nothing to see.
        expressions: E referring expressions.
        masks: (E, T, H, W) bool, the truth of each expression; all False where the target is not there.
        id: Names the sample in logs: source, video or image, and what was drawn from it.
        dialogue: Turns to learn as text; the picture (the first frame) stands before the first question.
        turn_images: How many of the frames come with each turn of the dialogue, after the words of its
            question, in order of time; empty: one picture, as above.

    Raises:
        ValueError: If shapes disagree, or there is nothing to learn from the sample.
    """

    frames: np.ndarray
    expressions: list[str]
    masks: np.ndarray
    id: str = ""
    dialogue: Dialogue = ()
    turn_images: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.frames.ndim != 4 or self.frames.shape[3] != 3 or self.frames.dtype != np.uint8:
            raise ValueError(
                f"sample {self.id!r}: frames must be (T, H, W, 3) uint8, got {self.frames.shape} "
                f"{self.frames.dtype}"
            )
        expected = (len(self.expressions), *self.frames.shape[:3])
        if self.masks.shape != expected or self.masks.dtype != bool:
            raise ValueError(
                f"sample {self.id!r}: masks must be (E, T, H, W) = {expected} bool, got {self.masks.shape} "
                f"{self.masks.dtype}"
            )
        if not self.dialogue and not (self.expressions and len(self.frames)):
            raise ValueError(f"sample {self.id!r} has neither an expression on a frame nor a dialogue")
        images = self.turn_images
        if images and (
            len(images) != len(self.dialogue) or min(images) < 0 or sum(images) != len(self.frames)
        ):
            raise ValueError(
                f"sample {self.id!r}: turn_images must share the {len(self.frames)} frames out among "
                f"{len(self.dialogue)} turns, got {len(images)} numbers with the sum {sum(images)}"
            )


@dataclass(frozen=True)
class ClipBatch:
    """B clips and N expressions over them.

    All clips with expressions have one length T; the others (dialogues about an image or about nothing) may
    have other lengths.

    Attributes:
        frames: B clips, each (T, H, W, 3) uint8; sizes may differ between clips.
        expressions: N strings.
        clip_index: (N,) int64, which clip each expression speaks of.
        masks: N tensors (T, H, W) bool.
        ids: N sample ids.
        sample_ids: B sample ids.
        dialogues: B dialogues, empty for clips that have none.
        turn_images: B tuples, see ``ClipSample``; empty where a dialogue has one picture or none.
        totals: What each kind of loss is divided by (``masks``, ``tokens``), the mean count per micro-batch
            over all that makes up one optimizer step on all ranks; empty: the batch's own counts.
    """

    frames: list[np.ndarray]
    expressions: list[str]
    clip_index: Tensor
    masks: list[Tensor]
    ids: list[str]
    sample_ids: list[str] = field(default_factory=list)
    dialogues: list[Dialogue] = field(default_factory=list)
    turn_images: list[tuple[int, ...]] = field(default_factory=list)
    totals: Mapping[str, float] = field(default_factory=dict)

    @property
    def num_frames(self) -> int:
        """T of the clips with expressions; 0 if there are none."""
        return int(self.masks[0].shape[0]) if self.masks else 0

    def require_single_pictures(self, learner: object) -> None:
        """For a learner that shows a dialogue's picture before its first question, and no other.

        Raises:
            UserError: If a dialogue has images in its turns, naming learner and sample.
        """
        spread = [name for name, images in zip(self.sample_ids, self.turn_images, strict=False) if images]
        if spread:
            raise UserError(
                f"{type(learner).__name__} learns dialogues about one picture, but {spread[0]!r} has "
                "images in its turns: leave its dataset out of train_dataloader, or choose a learner for "
                "streams"
            )


def collate_clips(samples: Sequence[ClipSample]) -> ClipBatch:
    """Join samples; those with expressions must have one clip length.

    Raises:
        ValueError: If the clips differ in length.
    """
    lengths = {len(s.frames) for s in samples if s.expressions}
    if len(lengths) > 1:
        raise ValueError(f"all clips of a batch must have one length, got {sorted(lengths)}")
    index = [i for i, s in enumerate(samples) for _ in s.expressions]
    return ClipBatch(
        frames=[s.frames for s in samples],
        expressions=[e for s in samples for e in s.expressions],
        clip_index=torch.tensor(index, dtype=torch.int64),
        masks=[torch.from_numpy(np.ascontiguousarray(m)) for s in samples for m in s.masks],
        ids=[s.id for s in samples for _ in s.expressions],
        sample_ids=[s.id for s in samples],
        dialogues=[s.dialogue for s in samples],
        turn_images=[s.turn_images for s in samples],
    )
