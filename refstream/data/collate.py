"""One sample type and one collate for all training data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class ClipSample:
    """One clip with E expressions; an image is a clip of one frame.

    Attributes:
        frames: (T, H, W, 3) uint8 RGB.
        expressions: E referring expressions.
        masks: (E, T, H, W) bool, the truth of each expression.
        id: Names the sample in logs.
    """

    frames: np.ndarray
    expressions: list[str]
    masks: np.ndarray
    id: str = ""

    def __post_init__(self) -> None:
        expected = (len(self.expressions), *self.frames.shape[:3])
        if self.masks.shape != expected:
            raise ValueError(
                f"sample {self.id!r}: masks must be (E, T, H, W) = {expected}, got {self.masks.shape}"
            )


@dataclass(frozen=True)
class ClipBatch:
    """B clips of equal length and N expressions over them.

    Attributes:
        frames: B clips, each (T, H, W, 3) uint8; sizes may differ between clips.
        expressions: N strings.
        clip_index: (N,) int64, which clip each expression speaks of.
        masks: N tensors (T, H, W) bool.
        ids: N sample ids.
    """

    frames: list[np.ndarray]
    expressions: list[str]
    clip_index: Tensor
    masks: list[Tensor]
    ids: list[str]

    @property
    def num_frames(self) -> int:
        """T."""
        return int(self.frames[0].shape[0])


def collate_clips(samples: Sequence[ClipSample]) -> ClipBatch:
    """Join samples of one clip length.

    Raises:
        ValueError: If the clips differ in length.
    """
    lengths = {len(s.frames) for s in samples}
    if len(lengths) != 1:
        raise ValueError(f"all clips of a batch must have one length, got {sorted(lengths)}")
    index = [i for i, s in enumerate(samples) for _ in s.expressions]
    return ClipBatch(
        frames=[s.frames for s in samples],
        expressions=[e for s in samples for e in s.expressions],
        clip_index=torch.tensor(index, dtype=torch.int64),
        masks=[torch.from_numpy(np.ascontiguousarray(m)) for s in samples for m in s.masks],
        ids=[s.id for s in samples for _ in s.expressions],
    )
