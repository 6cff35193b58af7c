"""Videos of label maps: those of the golden case, and squares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import numpy as np

from refstream.data.datasets.clip_masks import read_labels
from refstream.evaluation.benchmark import EvalExpression, EvalVideo, MaskBenchmark
from tests.evaluation.protocols.golden import GOLDEN, load

CASE = GOLDEN / "davis17_official"


def clip(folder: Path, frames: tuple[str, ...]) -> np.ndarray:
    """(T, H, W) uint8: label maps as they lie in a folder."""
    return np.stack([read_labels(folder / f"{frame}.png") for frame in frames])


class LabelledVideos(MaskBenchmark):
    """Videos whose truth is label maps; expression 4 * (object - 1) + annotator."""

    name, split = "labelled", "golden"

    def __init__(self, maps: Mapping[str, np.ndarray], described: Mapping[str, int]) -> None:
        self.maps, self.settings = maps, {}
        self.videos = [
            EvalVideo(
                name,
                tuple(f"{i:05d}" for i in range(len(truth))),
                tuple(
                    EvalExpression(str(i), f"words {i}", "", {"object": i // 4 + 1, "annotator": i % 4})
                    for i in range(4 * described[name])
                ),
            )
            for name, truth in maps.items()
        ]

    def images(self, video: EvalVideo) -> Iterator[np.ndarray]:
        raise NotImplementedError

    def label_map(self, video: EvalVideo) -> np.ndarray:
        return self.maps[video.id]

    def truth(self, video: EvalVideo, expression: EvalExpression) -> np.ndarray | None:
        return self.maps[video.id] == expression.details["object"]


@cache
def golden_benchmark() -> LabelledVideos:
    meta = load("davis17_official", "meta_expressions.json")["videos"]
    folder = CASE / "DAVIS" / "Annotations_unsupervised" / "480p"
    maps = {name: clip(folder / name, tuple(video["frames"])) for name, video in meta.items()}
    return LabelledVideos(maps, {name: len(video["expressions"]) // 4 for name, video in meta.items()})


def squares(*labels: int, frames: int = 4) -> np.ndarray:
    """(frames, 20, 30) uint8: squares of 6 pixels side by side."""
    maps = np.zeros((frames, 20, 30), dtype=np.uint8)
    for position, label in enumerate(labels):
        maps[:, 7:13, 2 + 9 * position : 8 + 9 * position] = label
    return maps
