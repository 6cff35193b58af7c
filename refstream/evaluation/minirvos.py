"""MiniRVOS as a benchmark: its test split, drawn afresh from any seed. Never to be quoted as real data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from refstream.evaluation.runner import BenchmarkClip, BenchmarkItem
from refstream.synthetic.minirvos import FPS, SHARES, MiniRVOS, World
from refstream.synthetic.scene import Split


class MiniRVOSBenchmark:
    """Clips of MiniRVOS; the groups are the families of expressions, weighted by the world's ``SHARES``.

    Args:
        seed: Of the draw.
        num_clips: How many clips.
        num_frames: T of each.
        size: Side in pixels, or (H, W).
        families: Subset of the families; all by default.
        split: "test", or "val" while developing.
        max_expressions: Most expressions of a clip.
        world: "rich", whose families all weigh the same, or "plain".
    """

    name = "minirvos"

    def __init__(
        self,
        seed: int = 0,
        num_clips: int = 50,
        num_frames: int = 24,
        size: int | tuple[int, int] = 128,
        families: Sequence[str] | None = None,
        split: Split = "test",
        max_expressions: int = 4,
        world: World = "rich",
    ) -> None:
        self.data = MiniRVOS(split, seed, num_clips, num_frames, size, families, max_expressions, world)
        self.seed = seed
        self.weights = {family: SHARES[world][family] for family in self.data.families}
        self.settings: dict[str, Any] = {
            "world": world,
            "split": split,
            "seed": seed,
            "num_clips": num_clips,
            "num_frames": num_frames,
            "size": list(self.data.size),
            "families": list(self.data.families),
            "max_expressions": max_expressions,
            "weights": self.weights,
            "note": "synthetic development benchmark, not a result on real data",
        }

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[BenchmarkClip]:
        for clip in self.data:
            items = tuple(
                BenchmarkItem(e.text, e.family, clip.target_mask(e), e.object_ids, e.held_out)
                for e in clip.expressions
            )
            yield BenchmarkClip(clip.id, clip.frames, FPS, items, clip.object_masks)
