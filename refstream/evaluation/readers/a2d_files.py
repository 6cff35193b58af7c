"""The files of A2D-Sentences: sentences, parts, annotated frames."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from refstream.data.datasets.reading import LeftOut, dataset_file, expect, read_array, relative_path
from refstream.errors import UserError

SENTENCES = "text_annotations/a2d_annotation.txt"
MISSED = "text_annotations/a2d_missed_videos.txt"
ANNOTATIONS = "text_annotations/a2d_annotation_with_instances"
VIDEOS = "Release/videoset.csv"
FRAMES = "a2d_sentences_single_frame_test_annotations.json"
SPLITS = {"train": "0", "test": "1"}
COPIED = re.compile(r"\d+ \(copy\)")
COLUMNS = ["video_id", "instance_id", "query"]


@dataclass(frozen=True)
class Sample:
    """A sentence about an instance in an annotated frame, which counts from 1."""

    text: str
    video: str
    frame: int
    instance: int

    @property
    def id(self) -> str:
        """As the public files have it."""
        return f"v_{self.video}_f_{self.frame}_i_{self.instance}"


def read_sentences(path: Path, left_out: LeftOut) -> dict[tuple[str, int], str]:
    """(video, instance) -> sentence, in the order of the file.

    Args:
        path: ``a2d_annotation.txt``: comma-separated, first row video_id, instance_id, query, possibly more.
        left_out: Gets the rows whose instance is "1 (copy)" or the like; the official file has one.

    Raises:
        UserError: If the file is missing or of another form.
    """
    path = dataset_file(path.parent, path.name)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not a text file of comma-separated rows ({error})") from error
    if not rows or rows[0][:3] != COLUMNS:
        found = ",".join(rows[0]) if rows else "nothing"
        raise UserError(f"{path}: expected a first row {','.join(COLUMNS)}, got {found}")
    texts: dict[tuple[str, int], str] = {}
    for number, row in enumerate(rows[1:], start=2):
        where = f"{path}, line {number}"
        if len(row) < 3:
            raise UserError(f"{where}: expected {','.join(COLUMNS)}, got {','.join(row)!r}")
        video, instance, text = relative_path(row[0], where), row[1], row[2]
        if COPIED.fullmatch(instance):
            left_out.add("row whose instance is a copy", f"video {video}, instance {instance!r}: {text}")
            continue
        if not instance.isdecimal():
            raise UserError(f"{where}: expected the number of an instance, got {instance!r}")
        if (video, int(instance)) in texts:
            raise UserError(f"{where}: video {video} has two sentences about instance {instance}")
        texts[video, int(instance)] = text
    return texts


def read_list(path: Path) -> list[Sample]:
    """A prepared list of samples: [[sentence, video, frame, instance], ...].

    Raises:
        UserError: If the file is of another form.
    """
    return [_listed(row, f"{path}, entry {number}") for number, row in enumerate(read_array(path))]


def split_videos(root: Path, split: Literal["train", "test"]) -> set[str]:
    """The videos of a split that have annotations.

    Raises:
        UserError: If ``videoset.csv`` or the list of missed videos is missing or of another form.
    """
    path = dataset_file(root, VIDEOS)
    missed = set(dataset_file(root, MISSED).read_text(encoding="utf-8").splitlines())
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.reader(file) if row]
    for number, row in enumerate(rows, start=1):
        if len(row) < 2 or row[-1].strip() not in SPLITS.values():
            found = ",".join(row)
            raise UserError(f"{path}, line {number}: expected a video and, last, 0 or 1; got {found!r}")
    return {row[0] for row in rows if row[-1].strip() == SPLITS[split]} - missed


class StoredInstances:
    """The official annotations, ``<folder>/<video>/<frame>.h5``.

    ``instance`` has the N numbers of the instances, ``reMask`` their masks as (N, W, H), or (W, H) if there
    is only one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: tuple[str, dict[int, list[int]]] | None = None

    def frames_of(self, video: str, instance: int) -> list[int]:
        """Numbers of the annotated frames that show an instance. Raises UserError if there is no folder."""
        if self._known is None or self._known[0] != video:
            folder = self.folder / video
            if not folder.is_dir():
                raise UserError(f"no annotations at {folder}; see data/README.md")
            frames = {int(path.stem): path for path in sorted(folder.glob("*.h5")) if path.stem.isdecimal()}
            self._known = video, {frame: _instances(path) for frame, path in frames.items()}
        return [frame for frame, instances in self._known[1].items() if instance in instances]

    def path(self, video: str, frame: int) -> Path:
        """The file of an annotated frame."""
        return self.folder / video / f"{frame:05d}.h5"

    def mask(self, video: str, frame: int, instance: int) -> np.ndarray:
        """(H, W) bool. Raises UserError if the file or the instance is not there."""
        path = self.path(video, frame)
        instances = _instances(path)
        if instance not in instances:
            raise UserError(f"{path} has no instance {instance}; it has {instances}")
        with _opened(path) as file:
            masks = np.asarray(file["reMask"])
        if masks.ndim == 2 and len(instances) == 1:
            masks = masks[None]
        if masks.ndim != 3 or len(masks) != len(instances):
            raise UserError(f"{path}: expected reMask of {len(instances)} masks, got shape {masks.shape}")
        return np.ascontiguousarray(masks[instances.index(instance)].T != 0)


def _instances(path: Path) -> list[int]:
    with _opened(path) as file:
        return [int(number) for number in np.asarray(file["instance"]).ravel()]


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """An HDF5 file; whatever is wrong with it becomes a UserError."""
    import h5py  # slow to import

    if not path.is_file():
        raise UserError(f"no annotations at {path}; see data/README.md")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{path}: expected an HDF5 file with instance and reMask ({type(error).__name__}: {error})"
        ) from error


def _listed(row: Any, where: str) -> Sample:
    row = expect(row, list, where)
    if len(row) != 4:
        raise UserError(f"{where}: expected [sentence, video, frame, instance], got {str(row)[:60]}")
    text, video = expect(row[0], str, f"{where}, sentence"), relative_path(row[1], f"{where}, video")
    frame, instance = expect(row[2], int, f"{where}, frame"), expect(row[3], int, f"{where}, instance")
    if frame < 1:
        raise UserError(f"{where}: frames count from 1, got {frame}")
    return Sample(text, video, frame, instance)
