"""MiniRVOS v0: seeded clips of coloured shapes with referring expressions and exact masks.

This is a DEVELOPMENT benchmark. It shows that a method runs, learns and refers at all; nobody may quote it as
a result on real data.

Every clip depends on (split, seed, index) and on the options alone, so any clip can be made at any time, in
any order, in any process. The splits draw from disjoint seed streams. Some (shape, colour) pairs never occur
in training: see ``scene.VAL_HELD_OUT`` and ``scene.TEST_HELD_OUT``. The average over families weighs them by
``expressions.FAMILY_SHARES``: appearance 0.5, relation 0.3, motion 0.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from refstream.synthetic.expressions import (
    FAMILIES,
    FAMILY_SHARES,
    Meaning,
    SceneFacts,
    meanings,
    target_of,
    to_words,
)
from refstream.synthetic.render import render
from refstream.synthetic.scene import SPLITS, Scene, Split, held_out_pairs, sample_scene

DEFAULT_NUM_FRAMES: dict[str, int] = {"train": 8, "val": 24, "test": 24}
FPS = 10.0
_CLIP, _STILL = 0, 1
_MAX_ATTEMPTS = 1000
_LOOK_AHEAD = 5  # usable meanings compared before one is taken


@dataclass(frozen=True)
class SyntheticExpression:
    """One referring expression of a clip.

    Attributes:
        text: The words.
        family: A name of ``FAMILIES``.
        object_ids: The objects it means (one, in v0): first axis of ``SyntheticClip.object_masks``.
        held_out: Whether the target's (shape, colour) never occurred in earlier splits.
        meaning: What the words say, as structure.
    """

    text: str
    family: str
    object_ids: tuple[int, ...]
    held_out: bool
    meaning: Meaning


@dataclass(frozen=True)
class SyntheticClip:
    """A rendered clip.

    Attributes:
        id: Unique among all splits, seeds and kinds.
        frames: (T, H, W, 3) uint8 RGB.
        object_masks: (N, T, H, W) bool, visible pixels; no two objects share a pixel.
        expressions: What is said about it.
        scene: What was drawn.
    """

    id: str
    frames: np.ndarray
    object_masks: np.ndarray
    expressions: tuple[SyntheticExpression, ...]
    scene: Scene

    def target_mask(self, expression: SyntheticExpression) -> np.ndarray:
        """(T, H, W) bool: the union of the objects that an expression means."""
        return np.logical_or.reduce(self.object_masks[list(expression.object_ids)], axis=0)


class MiniRVOS:
    """A seeded split of MiniRVOS.

    Args:
        split: "train", "val" or "test".
        seed: Any non-negative number; another seed is another draw of the same split.
        num_clips: Length.
        num_frames: T of a clip; by default 8 in training and 24 otherwise.
        size: Side in pixels, or (H, W).
        families: Subset of ``FAMILIES``; all by default. Motion needs clips of at least 4 frames.
        max_expressions: Most expressions of a clip; there are at least 2, with different targets.
    """

    def __init__(
        self,
        split: Split,
        seed: int = 0,
        num_clips: int = 100,
        num_frames: int | None = None,
        size: int | tuple[int, int] = 128,
        families: Sequence[str] | None = None,
        max_expressions: int = 4,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"split must be one of {SPLITS}, got {split!r}")
        if seed < 0 or num_clips < 1 or max_expressions < 2:
            raise ValueError(
                "seed must be >= 0, num_clips >= 1 and max_expressions >= 2, "
                f"got {seed}, {num_clips} and {max_expressions}"
            )
        self.split: Split = split
        self.seed = seed
        self.num_clips = num_clips
        self.num_frames = DEFAULT_NUM_FRAMES[split] if num_frames is None else num_frames
        self.size = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
        self.families = tuple(FAMILIES if families is None else families)
        self.max_expressions = max_expressions
        if self.num_frames < 1 or min(self.size) < 32:
            raise ValueError(
                "a clip needs at least 1 frame of at least 32 x 32 pixels, "
                f"got {self.num_frames} of {self.size}"
            )
        unknown = set(self.families) - set(FAMILIES)
        if unknown or not self.families:
            raise ValueError(f"families must be a non-empty subset of {FAMILIES}, got {self.families}")

    def __len__(self) -> int:
        return self.num_clips

    def __getitem__(self, index: int) -> SyntheticClip:
        if not 0 <= index < self.num_clips:
            raise IndexError(f"clip {index} of a split of {self.num_clips}")
        return self._make(_CLIP, index, self.num_frames, self.families, self.max_expressions)

    def __iter__(self) -> Iterator[SyntheticClip]:
        return (self[index] for index in range(self.num_clips))

    def still(self, index: int, max_expressions: int = 8) -> SyntheticClip:
        """A clip of one frame with many expressions of appearance and relation, for training on images.

        Any index >= 0 exists, whatever ``num_clips`` is; stills and clips are different scenes.
        """
        if index < 0:
            raise IndexError(f"a still's index must be >= 0, got {index}")
        families = [family for family in self.families if family != "motion"]
        if not families:
            raise ValueError("a still cannot show motion; families must hold appearance or relation")
        return self._make(_STILL, index, 1, families, max_expressions)

    def _make(
        self, kind: int, index: int, num_frames: int, families: Sequence[str], max_expressions: int
    ) -> SyntheticClip:
        key = [self.seed, SPLITS.index(self.split), kind, index]
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))
        height, width = self.size
        shorter = min(self.size)
        for _ in range(_MAX_ATTEMPTS):
            scene = sample_scene(rng, self.split, num_frames, width / shorter, height / shorter)
            expressions = self._choose(rng, scene, families, max_expressions)
            if len({expression.object_ids for expression in expressions}) >= 2:
                frames, masks = render(scene, self.size)
                name = f"minirvos_{self.split}_{self.seed}_{('clip', 'still')[kind]}_{index:06d}"
                return SyntheticClip(name, frames, masks, expressions, scene)
        raise ValueError(
            f"no scene with two expressions of {tuple(families)} in {num_frames} frames was found; "
            "allow more families or, for motion, more frames"
        )

    def _choose(
        self, rng: np.random.Generator, scene: Scene, families: Sequence[str], max_expressions: int
    ) -> tuple[SyntheticExpression, ...]:
        """Draw families by their shares, then meanings, preferring targets that are rarely meant so far."""
        facts = SceneFacts(scene)
        pools = {family: _Pool(meanings(facts, family), facts, rng) for family in families}
        used = [0] * len(scene.objects)
        chosen: list[SyntheticExpression] = []
        while pools and len(chosen) < max_expressions:
            names = list(pools)
            shares = np.cumsum([FAMILY_SHARES[name] for name in names])
            family = names[int(np.searchsorted(shares, rng.random() * shares[-1], side="right"))]
            picked = pools[family].pop(used)
            if picked is None:
                del pools[family]
                continue
            meaning, target = picked
            used[target] += 1
            obj = scene.objects[target]
            held_out = (obj.shape, obj.colour) in held_out_pairs(self.split)
            chosen.append(SyntheticExpression(to_words(meaning, rng), family, (target,), held_out, meaning))
        return tuple(chosen)


class _Pool:
    """Meanings in random order, given out so that rarely meant targets come first."""

    def __init__(self, items: list[Meaning], facts: SceneFacts, rng: np.random.Generator) -> None:
        order = np.argsort(rng.random(len(items)), kind="stable").tolist()
        self._usable = (
            (items[i], target) for i in order if (target := target_of(items[i], facts)) is not None
        )
        self._ready: list[tuple[Meaning, int]] = []

    def pop(self, used: list[int]) -> tuple[Meaning, int] | None:
        """Of the next few usable meanings the one whose target was meant least, with it; None at the end."""
        self._ready += islice(self._usable, _LOOK_AHEAD - len(self._ready))
        if not self._ready:
            return None
        best = min(range(len(self._ready)), key=lambda i: used[self._ready[i][1]])
        return self._ready.pop(best)
