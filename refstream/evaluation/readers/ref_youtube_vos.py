"""Ref-YouTube-VOS (Seo et al., URVOS, ECCV 2020). Its masks of valid and test are with the server, mostly."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refstream.data.datasets.clip_masks import ClipMasks, CodedMasks, Video, read_labels
from refstream.data.datasets.mask_table import open_mask_table
from refstream.data.datasets.reading import dataset_root, expect, read_object
from refstream.errors import UserError
from refstream.evaluation.benchmark import EvalExpression, EvalVideo
from refstream.evaluation.readers.counted import checked_count
from refstream.evaluation.readers.video_files import (
    LabelPictures,
    VideoFiles,
    first_file,
    has_file,
    picture_size,
)

TREE = "<split>/JPEGImages/<video>/<frame>.jpg and meta_expressions/<split>/meta_expressions.json"
FPS = 6.0
"""Every fifth frame of 30 per second."""
MASKS = ("auto", "pickle", "pictures", "none")


class RefYouTubeVOSBenchmark(VideoFiles):
    """A split of Ref-YouTube-VOS; truth where masks lie on disk, for local scoring, and None elsewhere.

    The official list of valid names the videos of test as well. Newer releases have
    ``meta_expressions_challenge.json`` with valid alone, which is taken where it is; otherwise the videos of
    the list of test are subtracted, and ``settings["list"]`` says which it was.

    Masks are found as ``mask_dict.pkl`` (a running number over the expressions), as palette pictures
    ``<split>/Annotations/<video>/<frame>.png`` of ``obj_id``, or as pictures of each expression
    ``<split>/Annotations/<video>/<expression id>/<frame>.png``, where any value but 0 is the target. Only
    frames with a picture of masks are scored.

    Args:
        root: Folder of Ref-YouTube-VOS.
        split: "valid", "test" or "train".
        masks: "auto" takes what is there; "pickle", "pictures" and "none" insist.
        expression_file: Name inside ``root``, taken as it is: nothing is subtracted.
        mask_file: Name inside ``root``; by default ``<split>/mask_dict.pkl``, or ``mask_dict.pkl`` for train.
        image_folder: Name inside ``root``.
        annotation_folder: Name inside ``root``.

    Raises:
        UserError: If a file is missing or of another form, or valid cannot be told from test.
    """

    name = "ref_youtube_vos"

    def __init__(
        self,
        root: str | Path = "data/video_datas/rvos",
        split: str = "valid",
        masks: str = "auto",
        *,
        expression_file: str | None = None,
        mask_file: str | None = None,
        image_folder: str | None = None,
        annotation_folder: str | None = None,
    ) -> None:
        if split not in ("valid", "test", "train") or masks not in MASKS:
            raise UserError(
                f"Ref-YouTube-VOS has the splits valid, test and train, and its masks are {', '.join(MASKS)}"
                f"; got split {split!r}, masks {masks!r}"
            )
        folder = dataset_root(root, TREE)
        self._test_list = folder / "meta_expressions" / "test" / "meta_expressions.json"
        self._subtract = split == "valid" and expression_file is None
        self._annotations = folder / (annotation_folder or f"{split}/Annotations")
        names: tuple[str, ...] = (f"{split}/mask_dict.pkl",)
        names = (*names, "mask_dict.pkl") if split == "train" else names
        names = names if mask_file is None else (mask_file,)
        path = (
            self._list(folder, split) if expression_file is None else first_file(folder, (expression_file,))
        )
        super().__init__(
            folder,
            split,
            expressions=path,
            images=folder / (image_folder or f"{split}/JPEGImages"),
            masks=self._find_masks(folder, masks, names),
            settings={"list": path.name},
            fps=FPS,
        )
        self.settings = {"list": path.name + self._subtracted, "masks": self._kind()}

    def choose(self, records: dict[str, Any]) -> dict[str, Any]:
        self._subtracted = ""
        if not self._subtract or self.path.name == "meta_expressions_challenge.json":
            return records
        if self._test_list.is_file():
            test = expect(
                read_object(self._test_list).get("videos"), dict, f"{self._test_list}, key 'videos'"
            )
            self._subtracted = " without the videos of test"
            return {video: record for video, record in records.items() if video not in test}
        there = set(os.listdir(self.image_folder)) if self.image_folder.is_dir() else set()
        absent = [video for video in records if video not in there]
        if absent:
            raise UserError(
                f"{self.path} lists {len(absent)} videos, such as {absent[0]}, that are not in "
                f"{self.image_folder}. The official list of valid names the videos of test too, and they "
                f"are told apart by {self._test_list}, or by meta_expressions_challenge.json: add one of "
                "them, or name a list of valid alone as expression_file"
            )
        return records

    def prepare(self, records: Mapping[str, Any]) -> None:
        self._counted: dict[tuple[str, str], str] = {}
        if isinstance(self.masks, CodedMasks):
            self._counted = checked_count(self.masks.table, records)

    def expression(self, key: str, text: str, record: Mapping[str, Any], where: str) -> EvalExpression:
        number = record.get("obj_id")
        return EvalExpression(key, text, details={} if number is None else {"object": str(number)})

    def masks_of(
        self, video: str, key: str, record: Mapping[str, Any], where: str
    ) -> Sequence[object] | None:
        if self._counted:
            return [self._counted[video, key]]
        if isinstance(self.masks, ExpressionPictures):
            return [key]
        number = record.get("obj_id")
        return number if number is None or isinstance(number, list) else [number]

    def scored(self, video: Video, expressions: Sequence[EvalExpression]) -> Sequence[int] | None:
        if self.masks is None or isinstance(self.masks, CodedMasks):
            return None
        found = self.masks.frames(video)
        return None if not found or len(found) == len(video.frames) else found

    def size(self, video: EvalVideo) -> tuple[int, int]:
        if video.size is None and isinstance(self.masks, ExpressionPictures | LabelPictures):
            inside = video.expressions[0].id if isinstance(self.masks, ExpressionPictures) else ""
            path = self._annotations / video.id / inside / f"{video.scored_frames[0]}.png"
            if path.is_file():
                return picture_size(path)
        return super().size(video)

    def files(self) -> Iterable[Path]:
        yield from super().files()
        if isinstance(self.masks, ExpressionPictures | LabelPictures):
            folders = [self._annotations / video.id for video in self.videos]
            yield from (
                path for folder in folders if folder.is_dir() for path in sorted(folder.rglob("*.png"))
            )

    def _find_masks(self, folder: Path, masks: str, names: tuple[str, ...]) -> ClipMasks | None:
        if masks == "pickle" or (masks == "auto" and has_file(folder, names)):
            return CodedMasks(open_mask_table(first_file(folder, names, "set masks='pictures' or 'none'")))
        if masks == "pictures" or (masks == "auto" and self._annotations.is_dir()):
            place = dataset_root(self._annotations, "a folder of PNG per video")
            return ExpressionPictures(place) if _by_expression(place) else LabelPictures(place)
        return None

    def _kind(self) -> str | None:
        kinds = {
            CodedMasks: "pickle",
            ExpressionPictures: "pictures by expression",
            LabelPictures: "pictures",
        }
        return None if self.masks is None else kinds[type(self.masks)]

    @staticmethod
    def _list(folder: Path, split: str) -> Path:
        names = [f"meta_expressions/{split}/meta_expressions.json", f"{split}/meta_expressions.json"]
        if split == "valid":
            alone = "meta_expressions_challenge.json"
            names = [f"meta_expressions/valid/{alone}", f"valid/{alone}", f"meta_expressions/{alone}", *names]
            if not has_file(folder, names):
                return first_file(folder, [names[3], *names[:3], names[4]])
        return first_file(folder, names)


class ExpressionPictures:
    """Pictures ``<folder>/<video>/<expression id>/<frame>.png`` whose pixels other than 0 are the target.

    Their ids of annotations are the ids of the expressions.

    Args:
        folder: Holds a folder per video.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def problem(self, video: Video, annotations: Sequence[str]) -> str | None:
        absent = [name for name in annotations if not (self.folder / video.name / name).is_dir()]
        return f"no folder of masks {self.folder / video.name / absent[0]}" if absent else None

    def frames(self, video: Video) -> Sequence[int]:
        """Positions of the frames of which any expression has a picture."""
        folder = self.folder / video.name
        inside = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
        there = {name for path in inside for name in os.listdir(path)}
        return [position for position, frame in enumerate(video.frames) if f"{frame}.png" in there]

    def read(
        self, video: Video, annotations: Sequence[str], positions: Sequence[int], size: tuple[int, int]
    ) -> np.ndarray:
        union = np.zeros((len(positions), *size), dtype=bool)
        for name in annotations:
            for mask, position in zip(union, positions, strict=True):
                path = self.folder / video.name / name / f"{video.frames[position]}.png"
                labels = read_labels(path)
                if labels.shape != size:
                    raise UserError(f"mask {path} is of size {labels.shape}, its frame of {size}")
                mask |= labels > 0
        return union


def _by_expression(folder: Path) -> bool:
    """Whether the folders of videos hold folders; the first of them tells."""
    first = min((path for path in folder.iterdir() if path.is_dir()), default=None)
    return first is not None and any(path.is_dir() for path in first.iterdir())
