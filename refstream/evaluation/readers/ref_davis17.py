"""Ref-DAVIS17 (Khoreva et al., ACCV 2018), in the layout that wjn922/ReferFormer converts it to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refstream.data.datasets.clip_masks import CodedMasks
from refstream.data.datasets.mask_table import open_mask_table
from refstream.data.datasets.reading import dataset_root
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

TREE = "<split>/JPEGImages, meta_expressions/<split>/meta_expressions.json, and <split>/Annotations"
NUM_ANNOTATORS = 4
"""Sentences of an object: two people, each from the first frame and from the whole video."""
VOID = 255


class RefDAVIS17Benchmark(VideoFiles):
    """A split of Ref-DAVIS17. Groups are "annotator 0" to "annotator 3": the expression id modulo 4.

    ``details`` of an expression: ``annotator`` and ``object``, the label of its target in the pictures.

    The truth of an expression comes from ``mask_dict.pkl``, as the MLLM papers score it, or from the palette
    pictures of ``<split>/Annotations``. DAVIS's own protocol needs the pictures: see ``label_map``.

    Args:
        root: Folder of the converted dataset.
        split: "valid" or "train".
        masks: "pickle", "pictures", or "auto": the pickle if there is one; ``settings["masks"]`` says which.
        expression_file: Name inside ``root``; by default ``meta_expressions/<split>/meta_expressions.json``.
        mask_file: Name inside ``root``; by default ``<split>/mask_dict.pkl`` or ``mask_dict.pkl``.
        image_folder: Name inside ``root``.
        annotation_folder: Name inside ``root``.

    Raises:
        UserError: If a file is missing or of another form, or the dictionary was counted in another order.
    """

    name = "ref_davis17"

    def __init__(
        self,
        root: str | Path = "data/video_datas/davis17",
        split: str = "valid",
        masks: str = "auto",
        *,
        expression_file: str | None = None,
        mask_file: str | None = None,
        image_folder: str | None = None,
        annotation_folder: str | None = None,
    ) -> None:
        if split not in ("valid", "train") or masks not in ("auto", "pickle", "pictures"):
            raise UserError(
                "Ref-DAVIS17 has the splits valid and train, and its masks are auto, pickle or pictures; got "
                f"split {split!r}, masks {masks!r}"
            )
        folder = dataset_root(root, TREE)
        pictures = folder / (annotation_folder or f"{split}/Annotations")
        self.pictures = LabelPictures(pictures) if pictures.is_dir() else None
        names = (f"{split}/mask_dict.pkl", "mask_dict.pkl") if mask_file is None else (mask_file,)
        coded = masks == "pickle" or (masks == "auto" and has_file(folder, names))
        if not coded and self.pictures is None:
            raise UserError(
                f"no masks of Ref-DAVIS17 in {folder}: expected {names[0]} or the folder {pictures}; "
                "`refstream data prepare ref_davis17` makes both from the original DAVIS"
            )
        texts = (f"meta_expressions/{split}/meta_expressions.json", f"{split}/meta_expressions.json")
        hint = "set masks='pictures' to read the pictures in its place"
        super().__init__(
            folder,
            split,
            expressions=first_file(folder, texts if expression_file is None else (expression_file,)),
            images=folder / (image_folder or f"{split}/JPEGImages"),
            masks=CodedMasks(open_mask_table(first_file(folder, names, hint))) if coded else self.pictures,
            settings={"masks": "pickle" if coded else "pictures"},
        )

    def prepare(self, records: Mapping[str, Any]) -> None:
        self._counted: dict[tuple[str, str], str] = {}
        if isinstance(self.masks, CodedMasks):
            self._counted = checked_count(self.masks.table, records)

    def expression(self, key: str, text: str, record: Mapping[str, Any], where: str) -> EvalExpression:
        if not key.isdecimal():
            raise UserError(f"{where}: expected a number, 4 * object + annotator, as the expression's id")
        annotator = int(key) % NUM_ANNOTATORS
        details = {"annotator": annotator, "object": self._object(record, where)}
        return EvalExpression(key, text, f"annotator {annotator}", details)

    def masks_of(
        self, video: str, key: str, record: Mapping[str, Any], where: str
    ) -> Sequence[object] | None:
        return [self._counted[video, key]] if self._counted else [self._object(record, where)]

    def size(self, video: EvalVideo) -> tuple[int, int]:
        if video.size is None and self.pictures is not None:
            return picture_size(self.pictures.folder / video.id / f"{video.scored_frames[0]}.png")
        return super().size(video)

    def objects(self, video: EvalVideo) -> Iterator[np.ndarray]:
        """Each described object, once."""
        first = {e.details["object"]: e for e in reversed(video.expressions)}
        for number in sorted(first):
            mask = self.truth(video, first[number])
            if mask is not None:
                yield mask

    def label_map(self, video: EvalVideo) -> np.ndarray:
        """(K, H, W) uint8: the annotation of DAVIS's unsupervised task, all its objects, 255 is void.

        Raises:
            UserError: If there are no pictures; the dictionary of masks holds neither void nor the objects
                that nobody described, so it cannot stand in.
        """
        if self.pictures is None:
            raise UserError(
                f"the label maps of DAVIS are the pictures in {self.root / self.split / 'Annotations'}, "
                "which are not there; `refstream data prepare ref_davis17` puts them in place"
            )
        return self.pictures.labels(self.listed[video.id], self.positions(video))

    def void(self, video: EvalVideo) -> np.ndarray | None:
        """(K, H, W) bool where DAVIS leaves pixels out: for its own protocol; scoring each expression alone
        has no void. None without pictures."""
        return None if self.pictures is None else self.label_map(video) == VOID

    def files(self) -> Iterable[Path]:
        yield from super().files()
        if self.pictures is not None:
            folders = [self.pictures.folder / video.id for video in self.videos]
            yield from (path for folder in folders if folder.is_dir() for path in sorted(folder.iterdir()))

    @staticmethod
    def _object(record: Mapping[str, Any], where: str) -> int:
        number = record.get("obj_id")
        if not str(number).isdecimal() or not 0 < int(str(number)) < VOID:
            raise UserError(f"{where}: expected an obj_id in 1..{VOID - 1}, got {number!r}")
        return int(str(number))
