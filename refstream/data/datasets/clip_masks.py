"""Where the masks of a video's annotations come from: a mask dictionary, or pictures of object numbers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from refstream.data import rle
from refstream.data.datasets.mask_table import MaskTable
from refstream.errors import UserError


@dataclass(frozen=True)
class Video:
    """A video as its expressions file describes it.

    Attributes:
        name: Its folder, possibly a path with "/".
        frames: Names of all T frames without extension, sorted; mask dictionaries follow this order.
        size: (H, W) if the file states it.
    """

    name: str
    frames: tuple[str, ...]
    size: tuple[int, int] | None = None


class ClipMasks(Protocol):
    """A source of masks by annotation id."""

    def problem(self, video: Video, annotations: Sequence[str]) -> str | None:
        """Why these annotations cannot be used, None if they can; opens no picture."""
        ...

    def frames(self, video: Video) -> Sequence[int]:
        """Positions in ``video.frames`` that are annotated."""
        ...

    def read(
        self, video: Video, annotations: Sequence[str], positions: Sequence[int], size: tuple[int, int]
    ) -> np.ndarray:
        """The union of some annotations.

        Args:
            video: The video.
            annotations: Ids; none give empty masks.
            positions: K positions in ``video.frames``.
            size: (H, W) of the pictures.

        Returns:
            (K, H, W) bool.

        Raises:
            UserError: If a mask is not of that size.
        """
        ...


class CodedMasks:
    """Masks from a mask dictionary, in which None is an empty frame."""

    def __init__(self, table: MaskTable) -> None:
        self.table = table

    def problem(self, video: Video, annotations: Sequence[str]) -> str | None:
        sizes: set[tuple[int, ...]] = {video.size} if video.size else set()
        for annotation in annotations:
            form = self.table.forms.get(annotation)
            if form is None:
                return "expression whose annotation has no masks"
            if form.num_frames != len(video.frames):
                order = "fewer" if form.num_frames < len(video.frames) else "more"
                return f"expression with {order} masks than the video has frames"
            sizes |= form.sizes
        return "expression with masks of several sizes" if len(sizes) > 1 else None

    def frames(self, video: Video) -> Sequence[int]:
        return range(len(video.frames))

    def read(
        self, video: Video, annotations: Sequence[str], positions: Sequence[int], size: tuple[int, int]
    ) -> np.ndarray:
        union = np.zeros((len(positions), *size), dtype=bool)
        for annotation in annotations:
            codes = self.table[annotation]
            try:
                union |= rle.decode_clip([codes[position] for position in positions], size)
            except ValueError as error:
                raise UserError(
                    f"masks of annotation {annotation} do not fit video {video.name}, whose frames are "
                    f"{size}: {error}"
                ) from error
        return union


class PaletteMasks:
    """Masks from pictures ``<folder>/<video>/<frame>.png`` whose pixel values are object numbers.

    Args:
        folder: Holds a folder per video.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def problem(self, video: Video, annotations: Sequence[str]) -> str | None:
        if not all(number.isdecimal() and 0 < int(number) < 255 for number in annotations):
            return "expression whose object number is not in 1..254"
        return None

    def frames(self, video: Video) -> Sequence[int]:
        folder = self.folder / video.name
        there = set(os.listdir(folder)) if folder.is_dir() else set()
        return [position for position, frame in enumerate(video.frames) if f"{frame}.png" in there]

    def read(
        self, video: Video, annotations: Sequence[str], positions: Sequence[int], size: tuple[int, int]
    ) -> np.ndarray:
        numbers = [int(number) for number in annotations]
        paths = [self.folder / video.name / f"{video.frames[position]}.png" for position in positions]
        labels = {path: read_labels(path) for path in dict.fromkeys(paths)}
        for path, label in labels.items():
            if label.shape != size:
                raise UserError(f"mask {path} is of size {label.shape}, its frame of {size}")
        return np.stack([np.isin(labels[path], numbers) for path in paths])


def read_labels(path: Path) -> np.ndarray:
    """A palette or grey PNG as (H, W) uint8 pixel values, the palette's colours ignored.

    Raises:
        UserError: If it cannot be read, or has colours in place of numbers.
    """
    try:
        with Image.open(path) as image:
            image.load()
            # an alpha channel beside the numbers says nothing
            numbers = image.getchannel(0) if image.mode in {"LA", "PA"} else image
    except Exception as error:  # Pillow's plugins raise anything on corrupt data
        raise UserError(f"{path} is not a readable picture ({type(error).__name__}: {error})") from error
    if numbers.mode not in {"P", "L"}:
        raise UserError(
            f"{path}: expected a palette PNG of object numbers (mode P or L), got mode {numbers.mode}; "
            "was it converted to colours?"
        )
    return np.asarray(numbers, dtype=np.uint8)
