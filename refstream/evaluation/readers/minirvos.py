"""MiniRVOS as a benchmark: its test split, drawn afresh from any seed. Never to be quoted as real data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from refstream.errors import UserError
from refstream.evaluation.benchmark import EvalExpression, EvalVideo, MaskBenchmark
from refstream.synthetic.minirvos import FPS, SHARES, MiniRVOS, SyntheticClip, World
from refstream.synthetic.scene import Split


class MiniRVOSBenchmark(MaskBenchmark):
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

    Raises:
        UserError: If an option has an impossible value.
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
        try:
            self.data = MiniRVOS(split, seed, num_clips, num_frames, size, families, max_expressions, world)
        except ValueError as error:
            raise UserError(f"benchmark 'minirvos': {error}") from error
        self.seed, self.split = seed, split
        self.weights: Mapping[str, float] = {family: SHARES[world][family] for family in self.data.families}
        self.settings: Mapping[str, Any] = {
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
        self._last: tuple[int, SyntheticClip] | None = None
        self.videos = [self._video(index) for index in range(num_clips)]
        self._index = {video.id: index for index, video in enumerate(self.videos)}

    def images(self, video: EvalVideo) -> Iterator[np.ndarray]:
        return iter(self._clip(self._index[video.id]).frames)

    def truth(self, video: EvalVideo, expression: EvalExpression) -> np.ndarray:
        clip = self._clip(self._index[video.id])
        return clip.target_mask(clip.expressions[expression.details["number"]])

    def objects(self, video: EvalVideo) -> np.ndarray:
        return self._clip(self._index[video.id]).object_masks

    def _video(self, index: int) -> EvalVideo:
        clip = self.data.clip(index, frames=[0])  # the words need no pictures
        expressions = tuple(
            EvalExpression(
                str(number),
                e.text,
                e.family,
                {"number": number, "target": list(e.object_ids), "held_out": e.held_out},
            )
            for number, e in enumerate(clip.expressions)
        )
        frames = tuple(f"{t:05d}" for t in range(self.settings["num_frames"]))
        return EvalVideo(clip.id, frames, expressions, self.data.size, FPS)

    def _clip(self, index: int) -> SyntheticClip:
        """The clip, rendered when it is not the one asked for last."""
        if self._last is None or self._last[0] != index:
            self._last = index, self.data[index]
        return self._last[1]
