"""What the writers of official layouts share: frames, label maps, mask codes and the report.

Frames are JPEG, as in every official tree, so pixels are lossy (quality 95, full colour resolution); masks
are exact. Every index file is written last: a tree that has its index is complete.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from refstream.data import rle
from refstream.errors import UserError
from refstream.files import write_jpeg, write_png
from refstream.synthetic.minirvos import SyntheticClip

Clips = Iterable[SyntheticClip]
Codes = list[rle.RLE | None]
CATEGORY = "object"
"""The one category of layouts that want one."""
NO_TARGET, SEVERAL_TARGETS = "no target", "several targets"


@dataclass(frozen=True)
class LayoutReport:
    """What was written.

    Attributes:
        layout: Name of the layout.
        split: Official split it was written as.
        root: Folder of the dataset.
        clips: Videos or pictures written.
        expressions: Sentences written; Ref-DAVIS17 repeats some, see there.
        left_out: Reason -> number of sentences that the layout cannot say. A video none of whose sentences
            remains is not written.
    """

    layout: str
    split: str
    root: Path
    clips: int
    expressions: int
    left_out: Mapping[str, int]


@dataclass
class Tally:
    """Counts kept while writing: clips and expressions written, and expressions left out by reason."""

    clips: int = 0
    expressions: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    def single_target(self, object_ids: tuple[int, ...]) -> int | None:
        """The one object that an expression means, or None, counted, where it means none or several."""
        if len(object_ids) == 1:
            return int(object_ids[0])
        self.left_out[SEVERAL_TARGETS if object_ids else NO_TARGET] += 1
        return None


def refuse_existing(path: Path) -> None:
    """Raise UserError if an index file is there: a finished split is never overwritten."""
    if path.exists():
        raise UserError(f"{path} exists: this split is written already; choose another folder or split")


def frame_names(count: int, step: int = 1) -> list[str]:
    """Names without extension: 00000, 00001, ... or every ``step``-th number."""
    return [f"{number * step:05d}" for number in range(count)]


def write_frames(folder: Path, frames: np.ndarray, names: Iterable[str]) -> None:
    """Write (T, H, W, 3) uint8 RGB as ``<folder>/<name>.jpg``."""
    for name, frame in zip(names, frames, strict=True):
        write_jpeg(folder / f"{name}.jpg", frame, durable=False)


def write_labels(folder: Path, masks: np.ndarray, names: Iterable[str]) -> None:
    """Write (N, T, H, W) bool as palette PNG ``<folder>/<name>.png``: 0, or 1 + the index of the object."""
    labels = np.zeros(masks.shape[1:], dtype=np.uint8)
    for number, mask in enumerate(masks, start=1):
        labels[mask] = number
    palette = label_palette()
    for name, picture in zip(names, labels, strict=True):
        write_png(folder / f"{name}.png", picture, palette=palette, durable=False)


def label_palette() -> bytes:
    """The 256 colours of PASCAL VOC and DAVIS: the bits of an index, three at a time, from high to low."""
    colours = np.zeros((256, 3), dtype=np.uint8)
    index = np.arange(256)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((index >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return colours.tobytes()


def encode_visible(masks: np.ndarray) -> Codes:
    """(T, H, W) bool -> T codes, None for a frame without the object, as MeViS has it."""
    return [rle.encode(mask) if mask.any() else None for mask in masks]


def running_mask_dict(videos: Mapping[str, Mapping[str, Codes]]) -> dict[str, Codes]:
    """The ``mask_dict.pkl`` of Ref-DAVIS17 and Ref-YouTube-VOS from video -> expression id -> codes.

    Its keys are a running number over the sorted videos and their expression ids sorted *as text* ("10" comes
    before "2"), since those layouts have no annotation ids.
    """
    ordered = (videos[video][key] for video in sorted(videos) for key in sorted(videos[video]))
    return {str(number): codes for number, codes in enumerate(ordered)}


def read_json(path: Path, missing: Any) -> Any:
    """What a JSON file of the tree holds so far, ``missing`` if it is not there yet."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else missing
