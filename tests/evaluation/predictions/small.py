"""A benchmark of two small videos whose masks are known, and writers of its predictions in every form."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco

from refstream.evaluation.benchmark import EvalExpression, EvalVideo, MaskBenchmark
from refstream.evaluation.predictions.base import Predictions

SIZES = {"set/a": (12, 17), "b": (9, 8)}
FRAMES = {"set/a": ("00000", "00005", "00010"), "b": ("00000", "00001")}
IDS = {"set/a": ("0", "1"), "b": ("0",)}
ITEMS = [(video, key) for video, keys in IDS.items() for key in keys]
NUM_FRAMES = 8  # over all expressions


class Small(MaskBenchmark):
    """Truth: noise, drawn for each expression.

    Args:
        ids: Expression ids by video.
        stated: Whether videos say their size.
        scored: Positions of the frames that are scored, in all videos.
    """

    name, split = "small", "valid"

    def __init__(
        self,
        ids: dict[str, tuple[str, ...]] | None = None,
        *,
        stated: bool = True,
        scored: tuple[int, ...] | None = None,
    ) -> None:
        self.settings: dict[str, Any] = {}
        self.videos = [
            EvalVideo(
                video,
                FRAMES[video],
                tuple(EvalExpression(key, f"thing {key}") for key in keys),
                SIZES[video] if stated else None,
                scored=scored,
            )
            for video, keys in (ids or IDS).items()
        ]

    def images(self, video: EvalVideo) -> Iterator[np.ndarray]:
        for _ in video.frames:
            yield np.zeros((*SIZES[video.id], 3), dtype=np.uint8)

    def truth(self, video: EvalVideo, expression: EvalExpression) -> np.ndarray:
        masks = masks_of(video.id, expression.id)
        return masks if video.scored is None else masks[list(video.scored)]


def masks_of(video: str, key: str) -> np.ndarray:
    """(T, H, W) bool, neither empty nor full."""
    rng = np.random.default_rng([*video.encode(), *key.encode()])
    return rng.random((len(FRAMES[video]), *SIZES[video])) < 0.4


def code(mask: np.ndarray) -> dict[str, Any]:
    """COCO RLE by pycocotools."""
    rle = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": list(rle["size"]), "counts": rle["counts"].decode()}


def write_png(root: Path, *, value: int = 255, mode: str = "L") -> Path:
    """``<root>/<video>/<id>/<frame>.png``."""
    for video, key in ITEMS:
        folder = root / video / key
        folder.mkdir(parents=True)
        for frame, mask in zip(FRAMES[video], masks_of(video, key), strict=True):
            picture(mask, value, mode).save(folder / f"{frame}.png")
    return root


def picture(mask: np.ndarray, value: int = 255, mode: str = "L") -> Image.Image:
    """(H, W) bool as a picture of one of Pillow's modes."""
    if mode == "1":
        return Image.fromarray(mask)
    if mode == "I;16":
        return Image.fromarray(mask.astype(np.uint16) * value)
    image = Image.fromarray(mask.astype(np.uint8) * value)
    if mode == "P":
        image = Image.fromarray(mask.astype(np.uint8) * value, mode="P")
        image.putpalette([9, 9, 9, *([0, 0, 0] * 255)])  # the colours say the opposite of the indices
        return image
    return image.convert(mode)


def entries() -> dict[str, dict[str, Any]]:
    """The released form of RLE."""
    videos: dict[str, dict[str, Any]] = {}
    for video, key in ITEMS:
        masks = [code(mask) for mask in masks_of(video, key)]
        entry = {"prediction_masks": masks, "frames": list(FRAMES[video]), "exp": 'a "thing" {[ \\'}
        videos.setdefault(video, {})[key] = entry
    return videos


def write_json(path: Path, content: Any) -> Path:
    """JSON, its folder made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def write_npz(root: Path, **more: Any) -> Path:
    """``<root>/<video>/<id>.npz`` with masks."""
    for video, key in ITEMS:
        (root / video).mkdir(parents=True, exist_ok=True)
        np.savez_compressed(root / video / f"{key}.npz", masks=masks_of(video, key), **more)
    return root


def check_all(predictions: Predictions, benchmark: MaskBenchmark) -> None:
    """Each mask is the one that was written, and nothing is missing."""
    for video in benchmark.videos:
        for expression in video.expressions:
            found = predictions.read(video, expression, SIZES[video.id])
            assert found is not None
            assert found.masks.dtype == bool
            assert np.array_equal(found.masks, benchmark.truth(video, expression))
            assert found.missing == ()


def first(benchmark: MaskBenchmark) -> tuple[EvalVideo, EvalExpression, tuple[int, int]]:
    """The arguments of ``read`` for the first expression."""
    return benchmark.videos[0], benchmark.videos[0].expressions[0], SIZES[benchmark.videos[0].id]
