"""Predictions as a tree of pictures, ``<root>[/Annotations]/<video>/<expression id>/<frame>.png``.

The form that the servers of MeViS and Ref-YouTube-VOS take, and that most public code writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from refstream.errors import UserError
from refstream.evaluation.benchmark import EvalExpression, EvalVideo
from refstream.evaluation.predictions.base import Prediction
from refstream.evaluation.predictions.files import is_junk, tree_fingerprint, walk
from refstream.evaluation.predictions.frames import check_names

NUMBER_MODES = frozenset({"1", "L", "P", "I", "I;16", "I;16B", "I;16L"})
COLOUR_MODES = frozenset({"LA", "RGB", "RGBA"})


class PngFolder:
    """A picture per frame; any value but 0 is the target: 0/255, 0/1, palette indices, grey.

    Colours are taken only where all channels agree and nothing is transparent.

    Args:
        root: Holds a folder per video.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def read(self, video: EvalVideo, expression: EvalExpression, size: tuple[int, int]) -> Prediction | None:
        """See ``Predictions.read``."""
        there = self.frames(video, expression)
        if there is None:
            return None
        names = video.scored_frames
        masks = np.zeros((len(names), *size), dtype=bool)
        for mask, name in zip(masks, names, strict=True):
            if name in there:
                mask[:] = _of_size(self.folder(video, expression) / f"{name}.png", size)
        return Prediction(masks, tuple(k for k, name in enumerate(names) if name not in there))

    def frames(self, video: EvalVideo, expression: EvalExpression) -> frozenset[str] | None:
        """Names of the frames that have a picture; None if there is none at all.

        Raises:
            UserError: If there is a file that is no picture of a frame of the video.
        """
        folder = self.folder(video, expression)
        try:
            files = [name for name in os.listdir(folder) if not is_junk(name)]
        except (FileNotFoundError, NotADirectoryError):
            return None
        strange = sorted(name for name in files if not name.endswith(".png"))
        if strange:
            raise UserError(
                f"{folder}: expected nothing but <frame>.png, found {strange[0]} ({len(strange)} such)"
            )
        names = frozenset(name.removesuffix(".png") for name in files)
        check_names(video, names, str(folder))
        return names or None

    def items(self) -> Iterator[tuple[str, str]]:
        """(video, expression id) of every folder that has files."""
        for folder, _, files in walk(self.root):
            if files and folder:
                video, _, expression = folder.rpartition("/")
                yield video, expression

    def folder(self, video: EvalVideo, expression: EvalExpression) -> Path:
        """Where the pictures of an expression lie."""
        return self.root / video.id / expression.id

    @cached_property
    def fingerprint(self) -> str:
        """Of the names, sizes and times of all files; see ``files.fingerprint``."""
        return tree_fingerprint(self.root)


def read_mask(path: Path) -> np.ndarray:
    """A picture as (H, W) bool, True where it is not 0.

    Raises:
        UserError: If it cannot be read, or has colours.
    """
    try:
        with Image.open(path) as image:
            image.load()
    except Exception as error:  # Pillow's plugins raise anything on corrupt data
        raise UserError(f"{path} is not a readable picture ({type(error).__name__}: {error})") from error
    return mask_of(image, str(path))


def mask_of(image: Image.Image, where: str) -> np.ndarray:
    """(H, W) bool from a loaded picture; ``where`` names it in errors. Raises UserError for colours."""
    if image.mode in NUMBER_MODES:
        return np.asarray(image) != 0
    if image.mode in COLOUR_MODES:
        values = np.asarray(image)
        channels = values[..., : 1 if image.mode == "LA" else 3]
        opaque = image.mode == "RGB" or bool((values[..., -1] == 255).all())
        if opaque and bool((channels == channels[..., :1]).all()):
            return np.asarray(channels[..., 0] != 0)
    raise UserError(
        f"{where}: expected a mask of one channel, 0 being background, got colours (mode {image.mode}); save "
        "it as 8-bit grey 0/255"
    )


def _of_size(path: Path, size: tuple[int, int]) -> np.ndarray:
    mask = read_mask(path)
    if mask.shape != size:
        raise UserError(
            f"{path} is of size {mask.shape}, expected {size} as the truth has (height, width); resize "
            "logits before thresholding, never masks"
        )
    return mask
