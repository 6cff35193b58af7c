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
    """Single frames in which every object is named, for pre-training the parts.

    Without ``recolour`` an object is named in full ("small red circle"). With it, its share of the frames
    loses its colours (to a random grey with a faint tint, or to channels mixed at random) and says sizes and
    shapes ("small circle"), and the other frames say sizes and colours ("small red"). So shapes are learned
    apart from colours: as some pairs never occur in training, a model that sees both together learns that
    what is red is no circle, and fails on the held-out pairs.

    Args:
        split: "train", "val" or "test".
        seed: Of the split.
        length: Number of scenes of an epoch.
        recolour: Share of frames without their colours; 0 names all objects in full.
        how: "grey", or "mixed" for other colours in place of none.
        options: Of ``MiniRVOS`` (``size``).
    """

    def __init__(
        self,
        split: Split = "train",
        seed: int = 0,
        length: int = 100_000,
        recolour: float = 0.0,
        how: str = "grey",
        **options: Any,
    ) -> None:
        if not 0 <= recolour <= 1:
            raise ValueError(f"recolour must be in [0, 1], got {recolour}")
        if how not in RECOLOURINGS:
            raise ValueError(f"how must be one of {sorted(RECOLOURINGS)}, got {how!r}")
        self.source = MiniRVOS(split, seed, num_clips=length, **options)
        self.recolour, self.how = recolour, how

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> ClipSample:
        clip = self.source.still(index, 2)
        frames, things = clip.frames, clip.scene.objects
        rng = np.random.default_rng([self.source.seed, index])
        if rng.random() < self.recolour:
            frames = RECOLOURINGS[self.how](frames, rng)
            names = [f"{thing.size} {thing.shape}" for thing in things]
        elif self.recolour:
            names = [f"{thing.size} {thing.colour}" for thing in things]
        else:
            names = [f"{thing.size} {thing.colour} {thing.shape}" for thing in things]
        return ClipSample(frames, names, clip.object_masks, clip.id)


def without_colours(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mix the channels of (T, H, W, 3) uint8 frames to one random grey, faintly tinted."""
    weights = rng.dirichlet(np.ones(3))
    tint = rng.normal(0.0, 0.2, (3, 3))
    mixing = weights[None] + tint - tint.mean(axis=1, keepdims=True)
    return np.clip(frames.astype(np.float32) @ mixing.T.astype(np.float32), 0, 255).astype(np.uint8)


def mixed_colours(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Exchange and mix the channels of (T, H, W, 3) uint8 frames: greys stay greys, colours become others."""
    blend = rng.uniform(0.0, 0.6)
    mixing = (1 - blend) * np.eye(3)[rng.permutation(3)] + blend * rng.dirichlet(np.ones(3), 3)
    mixing *= rng.uniform(0.75, 1.15, (3, 1))
    return np.clip(frames.astype(np.float32) @ mixing.T.astype(np.float32), 0, 255).astype(np.uint8)


RECOLOURINGS = {"grey": without_colours, "mixed": mixed_colours}
