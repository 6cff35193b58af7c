"""MiniRVOS as training data, rendered on the fly: nothing is stored, every index is a fresh scene."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from torch.utils.data import Dataset

from refstream.data.collate import ClipSample
from refstream.data.sampling import Sampling, check_sampling, choose_frames
from refstream.registry import DATASETS
from refstream.synthetic.minirvos import MiniRVOS, SyntheticClip, SyntheticExpression, World
from refstream.synthetic.scene import Split


def to_sample(clip: SyntheticClip, expressions: Sequence[SyntheticExpression]) -> ClipSample:
    """A rendered clip with some of its expressions."""
    return ClipSample(
        frames=clip.frames,
        expressions=[expression.text for expression in expressions],
        masks=np.stack([clip.target_mask(expression) for expression in expressions]),
        id=clip.id,
    )


class _MiniRVOSDataset(Dataset[ClipSample], ABC):
    """What the datasets of MiniRVOS share.

    Args:
        source: A split of MiniRVOS.
    """

    def __init__(self, source: MiniRVOS) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    @abstractmethod
    def sample(self, index: int, rng: np.random.Generator) -> ClipSample:
        """Sample ``index`` in [0, len); whatever is random in it is drawn from ``rng``."""

    def __getitem__(self, index: int) -> ClipSample:
        return self.sample(index, np.random.default_rng([self.source.seed, index]))


@DATASETS.register_module()
class MiniRVOSStills(_MiniRVOSDataset):
    """Single frames with many expressions: the cheapest supervision, as both encoders run once per frame.

    Args:
        split: "train", "val" or "test".
        seed: Of the split.
        length: Number of scenes of an epoch.
        expressions: Most expressions of a frame.
        world: "rich" or "plain".
        size: Side in pixels, or (H, W).
        families: Subset of the world's families of expressions; None: all that fit.
    """

    def __init__(
        self,
        split: Split = "train",
        seed: int = 0,
        length: int = 100_000,
        expressions: int = 8,
        world: World = "rich",
        size: int | tuple[int, int] = 128,
        families: Sequence[str] | None = None,
    ) -> None:
        super().__init__(MiniRVOS(split, seed, num_clips=length, size=size, families=families, world=world))
        self.expressions = expressions

    def sample(self, index: int, rng: np.random.Generator) -> ClipSample:
        """Still ``index``; nothing of it is left to chance."""
        clip = self.source.still(index, self.expressions)
        return to_sample(clip, clip.expressions)


@DATASETS.register_module()
class MiniRVOSClips(_MiniRVOSDataset):
    """Clips with a few expressions of all families.

    What is true of the objects is decided from the whole clip, also where only some of its frames are taken:
    so a sample may speak of what happens before or after the frames that it shows.

    Args:
        split: "train", "val" or "test".
        seed: Of the split.
        length: Number of clips of an epoch.
        num_frames: T of a sample.
        expressions: Most expressions of a clip, at least 2.
        world: "rich" or "plain".
        clip_length: Frames of the clip that those of the sample are taken from; None takes clips of
            ``num_frames`` whole.
        sampling: How they are taken: a rule of ``choose_frames``.
        from_start: Always take the first frame too, as a stream begins there: without it, what was "at first"
            cannot be told from the frames of the sample.
        size: Side in pixels, or (H, W).
        families: Subset of the world's families of expressions; None: all that fit.
    """

    def __init__(
        self,
        split: Split = "train",
        seed: int = 0,
        length: int = 100_000,
        num_frames: int = 4,
        expressions: int = 4,
        world: World = "rich",
        clip_length: int | None = None,
        sampling: Sampling = "contiguous",
        from_start: bool = False,
        size: int | tuple[int, int] = 128,
        families: Sequence[str] | None = None,
    ) -> None:
        if clip_length is not None and clip_length < num_frames:
            raise ValueError(
                f"clip_length must be at least num_frames = {num_frames}, got {clip_length}; "
                "None takes clips of num_frames whole"
            )
        check_sampling(sampling, num_frames)
        source = MiniRVOS(
            split,
            seed,
            num_clips=length,
            num_frames=clip_length or num_frames,
            max_expressions=expressions,
            size=size,
            families=families,
            world=world,
        )
        super().__init__(source)
        self.num_frames, self.clip_length, self.sampling = num_frames, clip_length, sampling
        self.from_start = from_start

    def sample(self, index: int, rng: np.random.Generator) -> ClipSample:
        """Clip ``index``, with frames drawn from it."""
        frames = None
        if self.clip_length is not None:
            skipped = int(self.from_start)
            chosen = choose_frames(self.clip_length - skipped, self.num_frames - skipped, self.sampling, rng)
            frames = [0] * skipped + (chosen + skipped).tolist()
        clip = self.source.clip(index, frames)
        return to_sample(clip, clip.expressions)


@DATASETS.register_module()
class MiniRVOSObjects(_MiniRVOSDataset):
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
        world: "plain" or "rich".
        size: Side in pixels, or (H, W).
    """

    def __init__(
        self,
        split: Split = "train",
        seed: int = 0,
        length: int = 100_000,
        recolour: float = 0.0,
        how: str = "grey",
        world: World = "plain",
        size: int | tuple[int, int] = 128,
    ) -> None:
        if not 0 <= recolour <= 1:
            raise ValueError(f"recolour must be in [0, 1], got {recolour}")
        if how not in RECOLOURINGS:
            raise ValueError(f"how must be one of {sorted(RECOLOURINGS)}, got {how!r}")
        super().__init__(MiniRVOS(split, seed, num_clips=length, size=size, world=world))
        self.recolour, self.how = recolour, how

    def sample(self, index: int, rng: np.random.Generator) -> ClipSample:
        """Still ``index``; chance decides whether it keeps its colours."""
        clip = self.source.still(index, 2)
        frames, things = clip.frames, clip.scene.objects
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
