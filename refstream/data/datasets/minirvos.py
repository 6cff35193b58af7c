"""MiniRVOS as training data, rendered on the fly: nothing is stored, every index is a fresh scene."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from refstream.data.collate import ClipSample
from refstream.registry import DATASETS
from refstream.synthetic.minirvos import MiniRVOS, SyntheticClip, SyntheticExpression
from refstream.synthetic.scene import Split


def to_sample(clip: SyntheticClip, expressions: Sequence[SyntheticExpression]) -> ClipSample:
    """A rendered clip with some of its expressions."""
    return ClipSample(
        frames=clip.frames,
        expressions=[expression.text for expression in expressions],
        masks=np.stack([clip.target_mask(expression) for expression in expressions]),
        id=clip.id,
    )


@DATASETS.register_module()
class MiniRVOSStills(Dataset[ClipSample]):
    """Single frames with many expressions: the cheapest supervision, as both encoders run once per frame.

    Args:
        split: "train", "val" or "test".
        seed: Of the split.
        length: Number of scenes of an epoch.
        expressions: Most expressions of a frame.
        options: Of ``MiniRVOS`` (``size``, ``families``).
    """

    def __init__(
        self,
        split: Split = "train",
        seed: int = 0,
        length: int = 100_000,
        expressions: int = 8,
        **options: Any,
    ) -> None:
        self.source = MiniRVOS(split, seed, num_clips=length, **options)
        self.expressions = expressions

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> ClipSample:
        clip = self.source.still(index, self.expressions)
        return to_sample(clip, clip.expressions)


@DATASETS.register_module()
class MiniRVOSClips(Dataset[ClipSample]):
    """Clips with a few expressions of all families.

    Args:
        split: "train", "val" or "test".
        seed: Of the split.
        length: Number of clips of an epoch.
        num_frames: T.
        expressions: Most expressions of a clip, at least 2.
        options: Of ``MiniRVOS`` (``size``, ``families``).
    """

    def __init__(
        self,
        split: Split = "train",
        seed: int = 0,
        length: int = 100_000,
        num_frames: int = 4,
        expressions: int = 4,
        **options: Any,
    ) -> None:
        self.source = MiniRVOS(
            split, seed, num_clips=length, num_frames=num_frames, max_expressions=expressions, **options
        )

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> ClipSample:
        clip = self.source[index]
        return to_sample(clip, clip.expressions)


@DATASETS.register_module()
class MiniRVOSObjects(Dataset[ClipSample]):
    """Single frames in which every object is named in full ("small red circle"), for pre-training the parts.

    Args:
        split: "train", "val" or "test".
        seed: Of the split.
        length: Number of scenes of an epoch.
        options: Of ``MiniRVOS`` (``size``).
    """

    def __init__(self, split: Split = "train", seed: int = 0, length: int = 100_000, **options: Any) -> None:
        self.source = MiniRVOS(split, seed, num_clips=length, **options)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> ClipSample:
        clip = self.source.still(index, 2)
        names = [f"{thing.size} {thing.colour} {thing.shape}" for thing in clip.scene.objects]
        return ClipSample(clip.frames, names, clip.object_masks, clip.id)
