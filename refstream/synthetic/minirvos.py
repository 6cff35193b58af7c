"""MiniRVOS: seeded clips of coloured shapes with referring expressions and exact masks.

This is a DEVELOPMENT benchmark. It shows that a method runs, learns and refers at all; nobody may quote it as
a result on real data.

There are two worlds. The plain one has solid shapes that move, and expressions of appearance, relation and
motion (weighted 0.5, 0.3 and 0.2: ``FAMILY_SHARES``). The rich one adds textures, busier backgrounds, a
moving camera, occluders, entry and exit, changing colours, contacts and stops, and expressions that speak of
several objects, of the past, of the future, of nothing that is there, and of objects hidden for a while
(``RICH_FAMILIES``, all of one weight).

Every clip depends on (split, seed, index) and on the options alone, so any clip can be made at any time, in
any order, in any process. The splits draw from disjoint seed streams. Some (shape, colour) pairs never occur
in training: see ``scene.VAL_HELD_OUT`` and ``scene.TEST_HELD_OUT``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from refstream.synthetic.choosing import SyntheticExpression as SyntheticExpression
from refstream.synthetic.choosing import choose_plain, choose_rich, draw_demands
from refstream.synthetic.expressions import FAMILIES, FAMILY_SHARES, MIN_MOTION_FRAMES
from refstream.synthetic.render import render
from refstream.synthetic.rich import draw_scripts, sample_rich_scene
from refstream.synthetic.rich_expressions import (
    MIN_FRAMES,
    RICH_FAMILIES,
    RICH_FAMILY_SHARES,
    STILL_FAMILIES,
)
from refstream.synthetic.scene import SPLITS, Scene, Split, sample_scene

World = Literal["plain", "rich"]

WORLDS: tuple[World, ...] = get_args(World)
SHARES: dict[World, dict[str, float]] = {"plain": FAMILY_SHARES, "rich": RICH_FAMILY_SHARES}
"""By world: the weight of each family of expressions in averages."""
DEFAULT_NUM_FRAMES: dict[str, int] = {"train": 8, "val": 24, "test": 24}
MAX_RICH_FRAMES = 150
FPS = 10.0
_KINDS = ("clip", "still")
_CLIP, _STILL = 0, 1
_MAX_ATTEMPTS = 1000
_SCRIPT_ATTEMPTS = 50  # at a scene for what is to happen, before something else is drawn


@dataclass(frozen=True)
class SyntheticClip:
    """A rendered clip.

    Attributes:
        id: Unique among all worlds, splits, seeds and kinds.
        frames: (T, H, W, 3) uint8 RGB.
        object_masks: (N, T, H, W) bool, visible pixels; no two objects share a pixel.
        expressions: What is said about it.
        scene: What was drawn.
        frame_indices: T frames of the scene, those that were rendered.
    """

    id: str
    frames: np.ndarray
    object_masks: np.ndarray
    expressions: tuple[SyntheticExpression, ...]
    scene: Scene
    frame_indices: tuple[int, ...]

    def target_mask(self, expression: SyntheticExpression) -> np.ndarray:
        """(T, H, W) bool: the union of the objects that an expression means; all False if it means none."""
        return np.logical_or.reduce(self.object_masks[list(expression.object_ids)], axis=0)


class MiniRVOS:
    """A seeded split of MiniRVOS.

    Args:
        split: "train", "val" or "test".
        seed: Any non-negative number; another seed is another draw of the same split.
        num_clips: Length.
        num_frames: T of a clip; by default 8 in training and 24 otherwise.
        size: Side in pixels, or (H, W).
        families: Subset of the world's families; by default all that clips of this length can show. Motion
            needs 4 frames; history, future and occlusion need 8.
        max_expressions: Most expressions of a clip; there are at least 2, with different targets.
        world: "rich" or "plain".
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
        world: World = "rich",
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"split must be one of {SPLITS}, got {split!r}")
        if world not in WORLDS:
            raise ValueError(f"world must be one of {WORLDS}, got {world!r}")
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
        self.max_expressions = max_expressions
        self.world: World = world
        if self.num_frames < 1 or min(self.size) < 32:
            raise ValueError(
                "a clip needs at least 1 frame of at least 32 x 32 pixels, "
                f"got {self.num_frames} of {self.size}"
            )
        if self.world == "rich" and self.num_frames > MAX_RICH_FRAMES:
            raise ValueError(
                f"rich clips have at most {MAX_RICH_FRAMES} frames, got {self.num_frames}; what crosses the "
                'picture in longer ones would hardly move: use world="plain" or several clips'
            )
        self.families = self._check_families(families)

    def _check_families(self, families: Sequence[str] | None) -> tuple[str, ...]:
        known = FAMILIES if self.world == "plain" else RICH_FAMILIES
        if families is None:
            if self.world == "plain":
                return known
            return tuple(f for f in known if self.num_frames >= MIN_FRAMES.get(f, 1))
        if not families or set(families) - set(known):
            raise ValueError(f"families must be a non-empty subset of {known}, got {tuple(families)}")
        if set(families) == {"absent"}:
            raise ValueError("families must hold another one beside absent: something has to be there")
        least = {"motion": MIN_MOTION_FRAMES} if self.world == "plain" else MIN_FRAMES
        short = [f for f in families if self.num_frames < least.get(f, 1)]
        if short and self.world == "rich":
            needed = ", ".join(f"{family} needs {least[family]}" for family in short)
            raise ValueError(f"clips of {self.num_frames} frames are too short: {needed}; allow more frames")
        return tuple(families)

    def __len__(self) -> int:
        return self.num_clips

    def __getitem__(self, index: int) -> SyntheticClip:
        return self.clip(index)

    def __iter__(self) -> Iterator[SyntheticClip]:
        return (self[index] for index in range(self.num_clips))

    def clip(self, index: int, frames: Sequence[int] | None = None) -> SyntheticClip:
        """Clip ``index``, of which only some frames are rendered.

        What is true of the objects is decided from the whole clip all the same.

        Args:
            index: In [0, len).
            frames: Indices of the frames to render, in this order; all by default.
        """
        if not 0 <= index < self.num_clips:
            raise IndexError(f"clip {index} of a split of {self.num_clips}")
        return self._make(_CLIP, index, self.num_frames, self.families, self.max_expressions, frames)

    def still(self, index: int, max_expressions: int = 8) -> SyntheticClip:
        """A clip of one frame with many expressions that a picture can show, for training on images.

        These are of appearance and relation and, in the rich world, of several objects and of absent ones.
        Any index >= 0 exists, whatever ``num_clips`` is; stills and clips are different scenes.
        """
        if index < 0:
            raise IndexError(f"a still's index must be >= 0, got {index}")
        families = [family for family in self.families if family in STILL_FAMILIES]
        if not set(families) - {"absent"}:
            raise ValueError(
                f"a still cannot show {', '.join(self.families)}; families must hold one of {STILL_FAMILIES} "
                "that means something"
            )
        return self._make(_STILL, index, 1, families, max_expressions)

    def _make(
        self,
        kind: int,
        index: int,
        num_frames: int,
        families: Sequence[str],
        max_expressions: int,
        frames: Sequence[int] | None = None,
    ) -> SyntheticClip:
        world = WORLDS.index(self.world)
        key = [self.seed, SPLITS.index(self.split), len(_KINDS) * world + kind, index]
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))
        draw = self._draw_plain if self.world == "plain" else self._draw_rich
        scene, expressions = draw(rng, num_frames, families, max_expressions)
        chosen = tuple(range(num_frames) if frames is None else (int(t) for t in frames))
        if not chosen or not all(0 <= t < num_frames for t in chosen):
            raise IndexError(f"frames of a clip of {num_frames} must lie in [0, {num_frames}), got {chosen}")
        images, masks = render(scene, self.size, None if frames is None else chosen)
        prefix = "minirvos_rich" if self.world == "rich" else "minirvos"
        name = f"{prefix}_{self.split}_{self.seed}_{_KINDS[kind]}_{index:06d}"
        return SyntheticClip(name, images, masks, expressions, scene, chosen)

    def _draw_plain(
        self, rng: np.random.Generator, num_frames: int, families: Sequence[str], max_expressions: int
    ) -> tuple[Scene, tuple[SyntheticExpression, ...]]:
        for _ in range(_MAX_ATTEMPTS):
            scene = sample_scene(rng, self.split, num_frames, *self._extent)
            expressions = choose_plain(rng, scene, self.split, families, max_expressions)
            if len({expression.object_ids for expression in expressions}) >= 2:
                return scene, expressions
        raise self._nothing_found(num_frames, families)

    def _draw_rich(
        self, rng: np.random.Generator, num_frames: int, families: Sequence[str], max_expressions: int
    ) -> tuple[Scene, tuple[SyntheticExpression, ...]]:
        demands = draw_demands(rng, families, max_expressions)
        wanted = list(dict.fromkeys(demands))
        if len(wanted) == 1:
            wanted *= 2  # two targets of one family
        for attempt in range(_MAX_ATTEMPTS):
            if attempt % _SCRIPT_ATTEMPTS == 0:
                scripts = draw_scripts(rng, wanted)
            scene = sample_rich_scene(rng, self.split, num_frames, scripts, *self._extent)
            expressions = () if scene is None else choose_rich(rng, scene, self.split, demands)
            if scene is not None and expressions:
                return scene, expressions
        raise self._nothing_found(num_frames, families)

    @property
    def _extent(self) -> tuple[float, float]:
        """Width and height in shorter sides."""
        height, width = self.size
        return width / min(self.size), height / min(self.size)

    def _nothing_found(self, num_frames: int, families: Sequence[str]) -> ValueError:
        return ValueError(
            f"no scene with two expressions of {tuple(families)} in {num_frames} frames was found; "
            "allow more families or, for motion, more frames"
        )
