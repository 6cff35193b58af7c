"""JHMDB-Sentences: 928 short clips of one acting person, a sentence each, three scored frames each.

Sources: Gavrilyuk et al., "Actor and Action Video Segmentation from a Sentence" (CVPR 2018); the frames were
drawn once by mttr2021/MTTR and are fixed in ``jhmdb_sentences_samples_metadata.json``. Evaluation only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from refstream.data.datasets.reading import dataset_file, dataset_root, expect, read_array, relative_path
from refstream.errors import UserError
from refstream.evaluation.benchmark import EvalExpression, EvalVideo, MaskBenchmark
from refstream.evaluation.readers.sentence_clips import WINDOW, CocoTruth, check_window, clip
from refstream.images import read_image

SAMPLES = "jhmdb_sentences_samples_metadata.json"
TRUTH = "jhmdb_sentences_gt_annotations_in_coco_format.json"
FPS = 30.0  # of HMDB51, from which the clips are (Kuehne et al., ICCV 2011, section 3)


@dataclass(frozen=True)
class Sample:
    """One scored frame.

    Attributes:
        video: Name of the clip.
        action: Name of the folder that holds the clip.
        frame: Number of the scored frame, from 1.
        num_frames: Frames of the clip that have masks.
        text: The sentence.
    """

    video: str
    action: str
    frame: int
    num_frames: int
    text: str

    @property
    def id(self) -> str:
        """As the public files have it."""
        return f"v_{self.video}_f_{self.frame}"


class JHMDBBenchmark(MaskBenchmark):
    """A clip per sample, which ends with the scored frame.

    Masks come from the COCO form of the truth if that file is there, else from ``puppet_mask.mat``.

    Args:
        root: Holds ``jhmdb_sentences_samples_metadata.json``, ``Rename_Images/<action>/<video>/00001.png``
            and ``puppet_mask/<action>/<video>/puppet_mask.mat``.
        window: Most frames of a clip; None: from the clip's first frame on.

    Raises:
        UserError: If a list is missing or of another form.
    """

    name = "jhmdb"
    split = "test"

    def __init__(self, root: str | Path = "data/jhmdb_sentences", window: int | None = WINDOW) -> None:
        check_window(window)
        self.root = dataset_root(root, f"{SAMPLES}, Rename_Images/ and puppet_mask/")
        self.settings = {"window": window}
        self._list = dataset_file(self.root, SAMPLES)
        coded = self.root / TRUTH
        self._coded = CocoTruth(coded) if coded.is_file() else None
        self._samples = {sample.id: sample for sample in read_samples(self._list)}
        self.videos = [self._video(sample, window) for sample in self._samples.values()]
        self._puppet: tuple[Path, np.ndarray] | None = None

    def images(self, video: EvalVideo) -> Iterator[np.ndarray]:
        sample = self._samples[video.id]
        for name in video.frames:
            path = self.root / "Rename_Images" / sample.action / sample.video / f"{name}.png"
            image = read_image(path)
            if video.size is not None and image.shape[:2] != video.size:
                raise UserError(f"{path} is of size {image.shape[:2]}, its mask of {video.size}")
            yield image

    def truth(self, video: EvalVideo, expression: EvalExpression) -> np.ndarray:
        """(1, H, W) bool."""
        if self._coded is not None:
            return self._coded.mask(video.id)[None]
        sample = self._samples[video.id]
        path = self._puppet_path(sample)
        if self._puppet is None or self._puppet[0] != path:
            self._puppet = path, read_puppet(path)
        masks = self._puppet[1]
        if sample.frame > len(masks):
            raise UserError(f"{path} has {len(masks)} masks; sample {sample.id} needs number {sample.frame}")
        return masks[sample.frame - 1][None]

    def files(self) -> Iterable[Path]:
        if self._coded is not None:
            return [self._list, self._coded.path]
        masks = dict.fromkeys(self._puppet_path(sample) for sample in self._samples.values())
        return [self._list, *(path for path in masks if path.is_file())]

    def _puppet_path(self, sample: Sample) -> Path:
        return self.root / "puppet_mask" / sample.action / sample.video / "puppet_mask.mat"

    def _video(self, sample: Sample, window: int | None) -> EvalVideo:
        if self._coded is not None and sample.id not in self._coded.sizes:
            raise UserError(f"{self._coded.path} has no sample {sample.id}, which {self._list} lists")
        size = None if self._coded is None else self._coded.sizes[sample.id]
        expression = EvalExpression(sample.id, sample.text, details={"action": sample.action})
        return clip(sample.id, sample.frame, window, (expression,), size, FPS)


def read_samples(path: Path) -> list[Sample]:
    """The list of samples: [[video, frame file, mask file, number of frames, sentence], ...].

    The files bear the paths of another machine, of which the last three parts count.

    Raises:
        UserError: If the file is of another form.
    """
    samples = [_sample(row, f"{path}, entry {number}") for number, row in enumerate(read_array(path))]
    counts = Counter(sample.id for sample in samples)
    twice = [name for name, count in counts.items() if count > 1]
    if twice or not samples:
        raise UserError(f"{path}: expected samples that differ, got {', '.join(twice[:5]) or 'none'}")
    return samples


def read_puppet(path: Path) -> np.ndarray:
    """``part_mask`` of a MATLAB file, (H, W, T), as (T, H, W) bool.

    Raises:
        UserError: If the file is missing, or holds something else.
    """
    from scipy.io import loadmat  # slow to import

    if not path.is_file():
        raise UserError(f"no masks at {path}; see data/README.md")
    try:
        masks = np.asarray(loadmat(path, variable_names=["part_mask"])["part_mask"])
    except Exception as error:  # a damaged file raises anything
        raise UserError(
            f"{path}: expected a MATLAB file with the variable part_mask ({type(error).__name__}: {error})"
        ) from error
    if masks.ndim != 3 or masks.dtype.kind not in "biuf":
        raise UserError(f"{path}: expected part_mask of (H, W, T) numbers, got {masks.shape} {masks.dtype}")
    return np.ascontiguousarray(masks.transpose(2, 0, 1) != 0)


def _sample(row: Any, where: str) -> Sample:
    row = expect(row, list, where)
    if len(row) != 5:
        raise UserError(f"{where}: expected [video, frame, mask, number of frames, sentence], got {row}")
    video = relative_path(row[0], f"{where}, video")
    frame_path = PurePosixPath(expect(row[1], str, f"{where}, frame"))
    num_frames, text = expect(row[3], int, f"{where}, frames"), expect(row[4], str, f"{where}, sentence")
    parts, number = frame_path.parts[-3:], frame_path.stem
    if len(parts) != 3 or parts[1] != video or ".." in parts or not number.isdecimal():
        raise UserError(f"{where}: expected a frame .../<action>/{video}/00001.png, got {row[1]!r}")
    if not 1 <= int(number) <= num_frames:
        raise UserError(f"{where}: frame {number} is not one of 1 to {num_frames}")
    return Sample(video, parts[0], int(number), num_frames, text)
