"""Predictions in memory, a benchmark of single masks, and trees made of the golden cases of pictures."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from refstream.evaluation.benchmark import EvalExpression, EvalVideo, MaskBenchmark
from refstream.evaluation.predictions.base import Prediction

GOLDEN = Path(__file__).resolve().parents[2] / "golden"


class Given:
    """Predictions by the id of the expression; what is not there is missing."""

    fingerprint = "given"

    def __init__(self, predictions: Mapping[str, Prediction | np.ndarray]) -> None:
        self._predictions = {
            name: one if isinstance(one, Prediction) else Prediction(one[None])
            for name, one in predictions.items()
        }

    def read(self, video: EvalVideo, expression: EvalExpression, size: tuple[int, int]) -> Prediction | None:
        return self._predictions.get(expression.id)


class Singles(MaskBenchmark):
    """A picture per mask, with one expression of the same name.

    Args:
        masks: Name -> (H, W) bool; "group/name" puts the expression into a group.
        void: Name -> (H, W) bool.
    """

    name, split = "singles", "test"

    def __init__(
        self, masks: Mapping[str, np.ndarray | None], void: Mapping[str, np.ndarray] | None = None
    ) -> None:
        self.settings: Mapping[str, Any] = {}
        self._masks, self._void = dict(masks), dict(void or {})
        self.videos = [
            EvalVideo(name, (name,), (EvalExpression(name, f"the {name}", name.rpartition("/")[0]),))
            for name in masks
        ]

    def images(self, video: EvalVideo) -> Iterator[np.ndarray]:
        raise AssertionError("scoring needs no pictures")

    def truth(self, video: EvalVideo, expression: EvalExpression) -> np.ndarray | None:
        mask = self._masks[video.id]
        return None if mask is None else mask[None]

    def void(self, video: EvalVideo) -> np.ndarray | None:
        return self._void[video.id][None] if video.id in self._void else None


def block(pixels: int, offset: int = 0, size: tuple[int, int] = (20, 50)) -> np.ndarray:
    """(H, W) bool with a run of so many pixels."""
    mask = np.zeros(size[0] * size[1], dtype=bool)
    mask[offset : offset + pixels] = True
    return mask.reshape(size)


def load(case: str, name: str) -> Any:
    return json.loads((GOLDEN / case / name).read_text(encoding="utf-8"))


def refcoco_tree(root: Path) -> Path:
    """The golden case as a data set, its refs pickled as they are released; without pictures."""
    folder = root / "refcoco"
    folder.mkdir(parents=True)
    shutil.copy(GOLDEN / "refcoco" / "instances.json", folder)
    (folder / "refs(unc).p").write_bytes(pickle.dumps(load("refcoco", "refs(unc).json"), protocol=0))
    return root


def grefcoco_tree(root: Path) -> Path:
    """The golden case as a data set; without pictures."""
    folder = root / "grefcoco"
    folder.mkdir(parents=True)
    for name in ("instances.json", "grefs(unc).json"):
        shutil.copy(GOLDEN / "grefcoco" / name, folder)
    return root
