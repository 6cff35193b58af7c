"""Predictions as arrays, ``<root>/<video>/<expression id>.npz``.

A file has either ``masks``, (T, H, W) bool or integers, 0 being background, of the truth's size; or
``mask_logits``, (T, h, w) float of any size, which are resized bilinearly to the truth's, then thresholded.
It may have ``confidence``, (T,) in [0, 1], and ``frames``, the names of the T frames.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from refstream.errors import UserError
from refstream.evaluation.benchmark import EvalExpression, EvalVideo
from refstream.evaluation.predictions.base import Prediction
from refstream.evaluation.predictions.files import tree_fingerprint, walk
from refstream.evaluation.predictions.frames import align
from refstream.evaluation.predictions.records import check_confidence
from refstream.models.masks import upsample_mask

SUFFIX = ".npz"
MASKS, LOGITS, CONFIDENCE, FRAMES = "masks", "mask_logits", "confidence", "frames"


class NpzFolder:
    """A file of arrays per expression. Nothing is unpickled.

    Args:
        root: Holds a folder per video.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def read(self, video: EvalVideo, expression: EvalExpression, size: tuple[int, int]) -> Prediction | None:
        """See ``Predictions.read``."""
        path = self.path(video, expression)
        if not path.is_file():
            return None
        arrays = _load(path, (MASKS, LOGITS, CONFIDENCE, FRAMES))
        if (MASKS in arrays) == (LOGITS in arrays):
            raise UserError(
                f"{path}: expected either 'masks' or 'mask_logits', got {', '.join(arrays) or 'neither'}"
            )
        values = arrays[MASKS if MASKS in arrays else LOGITS]
        if values.ndim != 3:
            raise UserError(f"{path}: expected (frames, height, width), got {values.shape}")
        places = align(video, _names(arrays, path), len(values), str(path))
        masks = np.zeros((len(places), *size), dtype=bool)
        for k, place in enumerate(places):
            if place is not None:
                where = f"{path}, frame {video.scored_frames[k]}"
                masks[k] = _mask(values[place], size, where, soft=LOGITS in arrays)
        confidence = None
        if CONFIDENCE in arrays:
            sure = check_confidence(arrays[CONFIDENCE], len(values), str(path))
            confidence = np.array([0.0 if place is None else sure[place] for place in places])
        return Prediction(masks, tuple(k for k, place in enumerate(places) if place is None), confidence)

    def frames(self, video: EvalVideo, expression: EvalExpression) -> frozenset[str] | None:
        """Names of the scored frames that have a mask, going by ``frames``: masks are not read."""
        path = self.path(video, expression)
        if not path.is_file():
            return None
        names = _names(_load(path, (FRAMES,)), path)
        if names is None:
            return frozenset(video.scored_frames)
        places = align(video, names, len(names), str(path))
        return frozenset(n for n, place in zip(video.scored_frames, places, strict=True) if place is not None)

    def items(self) -> Iterator[tuple[str, str]]:
        """(video, expression id) of every file."""
        for folder, _, files in walk(self.root):
            yield from ((folder, name[: -len(SUFFIX)]) for name in files if name.endswith(SUFFIX))

    def path(self, video: EvalVideo, expression: EvalExpression) -> Path:
        """The file of an expression."""
        return self.root / video.id / f"{expression.id}{SUFFIX}"

    @cached_property
    def fingerprint(self) -> str:
        """Of the names, sizes and times of all files; see ``files.fingerprint``."""
        return tree_fingerprint(self.root)


def _load(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names if name in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} is not a readable .npz of plain arrays ({error})") from error


def _names(arrays: dict[str, np.ndarray], path: Path) -> list[str] | None:
    names = arrays.get(FRAMES)
    if names is None:
        return None
    if names.ndim != 1 or names.dtype.kind != "U":
        raise UserError(f"{path}: expected 'frames' to be (T,) names as str, got {names.shape} {names.dtype}")
    return [str(name) for name in names]


def _mask(values: np.ndarray, size: tuple[int, int], where: str, *, soft: bool) -> np.ndarray:
    """(h, w) -> (H, W) bool."""
    if soft:
        if not np.issubdtype(values.dtype, np.floating) or not np.isfinite(values).all():
            raise UserError(f"{where}: expected finite floats as mask_logits, got {values.dtype} or NaN")
        return upsample_mask(torch.from_numpy(values.astype(np.float32))[None], size)
    if values.dtype.kind not in "biu":
        raise UserError(
            f"{where}: expected masks of bool or integers, got {values.dtype}; are they logits? Save them as "
            "'mask_logits'"
        )
    if values.shape != size:
        raise UserError(
            f"{where}: the mask is of size {values.shape}, expected {size} as the truth has (height, width); "
            "save 'mask_logits' to have them resized before thresholding"
        )
    return np.asarray(values != 0)
