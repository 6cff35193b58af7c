"""RefCOCO, RefCOCO+, RefCOCOg and gRefCOCO for evaluation: a sample is a sentence, none is left out.

Sources: Yu et al., "Modeling context in referring expressions" (ECCV 2016), files as lichengunc/refer has
them; for gRefCOCO Liu et al., "GRES: Generalized Referring Expression Segmentation" (CVPR 2023).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refstream.data.datasets.reading import dataset_file, dataset_root, expect
from refstream.data.datasets.refer_files import (
    SPLIT_BY,
    folder_of,
    image_folder,
    read_instances,
    refs_of_split,
    words,
)
from refstream.errors import UserError
from refstream.evaluation.benchmark import EvalExpression, EvalVideo, MaskBenchmark
from refstream.evaluation.readers.outlines import OVERLAPS, Overlap, merge, outlines
from refstream.images import read_image

IMAGES = "coco2014/train2014"
NO_TARGET = "no_target"  # key of EvalExpression.details: the data say that nothing is meant
FAMILY = frozenset({*SPLIT_BY, "grefcoco"})


def places(root: str | Path, name: str) -> tuple[Path, Path]:
    """The folder of the family, and in it that of one data set; whether they are there or not.

    ``root`` may also be the data set's own folder: if it has ``instances.json`` and no folder ``name``, and
    is not called as another one of the family.
    """
    root = Path(root)
    own = (root / "instances.json").is_file() and not (root / name).is_dir()
    if own and root.resolve().name not in FAMILY - {name}:
        return root.resolve().parent, root
    return root, root / name


class _Refs(MaskBenchmark):
    """What the family has in common; a video is a picture, called as its file without extension."""

    def __init__(
        self, name: str, split: str, root: Path, folder: Path, refs: Path, images: str, overlap: Overlap
    ) -> None:
        if overlap not in OVERLAPS:
            raise UserError(f"overlap must be one of {', '.join(OVERLAPS)}, got {overlap!r}")
        self.name, self.split, self.overlap = name, split, overlap
        self._root, self._folder, self._images = root, folder, images
        self._refs_path, self._instances_path = refs, dataset_file(folder, "instances.json")
        rows = refs_of_split(refs, split, self._ann_kind)
        wanted = {ref["image_id"] for ref in rows}, {i for ref in rows for i in self._annotations_of(ref)}
        self._entries, self._annotations = read_instances(self._instances_path, *wanted)
        self._check(rows)
        self.videos = self._videos_of(rows)

    _ann_kind: type = int

    def images(self, video: EvalVideo) -> Iterator[np.ndarray]:
        path = image_folder(self._root, self._folder, self._images) / self._files[video.id]
        picture = read_image(path)
        if picture.shape[:2] != video.size:
            size = picture.shape[:2]
            raise UserError(f"{path} is of size {size}, {self._instances_path} says {video.size}")
        yield picture

    def truth(self, video: EvalVideo, expression: EvalExpression) -> np.ndarray:
        """(1, H, W) bool: what the annotations of the ref cover together."""
        if video.size is None:
            raise UserError(f"picture {video.id} is not one of {self._instances_path}")
        parts: list[list[np.ndarray]] = []
        for number in expression.details["annotations"]:
            annotation = self._annotations[number]
            if self._is_left_out(annotation):
                continue
            try:
                parts.append(outlines(annotation["segmentation"], video.size))
            except (TypeError, ValueError) as error:
                raise UserError(f"{self._instances_path}, annotation {number}: {error}") from error
        return merge(parts, video.size, self.overlap)[None]

    def files(self) -> Iterable[Path]:
        return self._refs_path, self._instances_path

    def _annotations_of(self, ref: Mapping[str, Any]) -> list[int]:
        return [ref["ann_id"]]

    def _is_left_out(self, annotation: Mapping[str, Any]) -> bool:
        return False

    def _check(self, refs: Sequence[Mapping[str, Any]]) -> None:
        """Raise UserError if a ref names what ``instances.json`` does not have."""
        problems = []
        for ref in refs:
            if ref["image_id"] not in self._entries:
                problems.append(f"ref {ref['ref_id']}: image {ref['image_id']}")
            for number in self._annotations_of(ref):
                annotation = self._annotations.get(number)
                if annotation is None or annotation["image_id"] != ref["image_id"]:
                    problems.append(f"ref {ref['ref_id']}: annotation {number} of image {ref['image_id']}")
        if problems:
            raise UserError(
                f"{self._instances_path} lacks {len(problems)} things that {self._refs_path.name} names "
                f"({'; '.join(problems[:5])}); do the two files belong together?"
            )

    def _videos_of(self, refs: Sequence[Mapping[str, Any]]) -> list[EvalVideo]:
        expressions: dict[int, dict[str, EvalExpression]] = {}
        for ref in refs:
            here = expressions.setdefault(ref["image_id"], {})
            for sentence in ref["sentences"]:
                expression = self._expression(ref, sentence)
                if expression.id in here:
                    raise UserError(f"{self._refs_path}: sentence {expression.id} occurs twice")
                here[expression.id] = expression
        self._files: dict[str, str] = {}
        videos = []
        for image_id, asked in expressions.items():
            entry = self._entries[image_id]
            stem = Path(entry["file_name"]).stem
            if stem in self._files:
                raise UserError(f"{self._instances_path}: two images are called {stem}")
            self._files[stem] = entry["file_name"]
            size = (entry["height"], entry["width"])
            videos.append(EvalVideo(stem, (stem,), tuple(asked.values()), size))
        return [video for video in videos if video.expressions]

    def _expression(self, ref: Mapping[str, Any], sentence: Any) -> EvalExpression:
        where = f"{self._refs_path}, ref {ref['ref_id']}"
        number = expect(expect(sentence, dict, where).get("sent_id"), int, f"{where}, sent_id")
        annotations = self._annotations_of(ref)
        details: dict[str, Any] = {"ref_id": ref["ref_id"], "annotations": annotations}
        if not annotations:
            details[NO_TARGET] = True
        return EvalExpression(str(number), words(sentence), details=details)


class RefCOCOBenchmark(_Refs):
    """One object per sentence. ``truth`` is the union of an annotation's polygons; it may have no pixel.

    Args:
        root: Holds the folders ``refcoco``, ``refcoco+`` and ``refcocog``; or one of these itself.
        name: "refcoco", "refcoco+" (or "refcoco_plus"), or "refcocog".
        split: "val", "testA", "testB" (or "train"); for RefCOCOg "val", "test".
        images: Folder of the pictures, looked for in the dataset's folder, then in ``root``; needed to run a
            model, not to score masks.
        split_by: "unc", "umd", "google"; default "umd" for RefCOCOg, as Google's leaks pictures, and "unc"
            for the others.
        overlap: See ``outlines.OVERLAPS``; anything but "union" is a defect of public code.

    Raises:
        UserError: If a file is missing or of another form, or names what the other does not have.
    """

    def __init__(
        self,
        root: str | Path = "data/ref_seg",
        name: str = "refcoco",
        split: str = "val",
        images: str = IMAGES,
        split_by: str | None = None,
        overlap: Overlap = "union",
    ) -> None:
        name = folder_of(name)
        split_by = split_by or SPLIT_BY[name]
        self.settings = {"split_by": split_by, "overlap": overlap}
        root, folder = places(root, name)
        dataset_root(folder, f"instances.json, refs({split_by}).p and {images}/")
        refs = dataset_file(folder, f"refs({split_by}).p")
        super().__init__(name, split, root, folder, refs, images, overlap)


class GRefCOCOBenchmark(_Refs):
    """Any number of objects per sentence, also none: then ``details["no_target"]`` is true.

    A target is the union of the ref's instances, crowds left out, as the data set's own reader has it.

    Args:
        root: Holds the folder ``grefcoco`` with ``instances.json`` and ``grefs(unc).json`` (or ``.p``); or
            that folder itself.
        split: "val", "testA", "testB" (or "train").
        images: As for ``RefCOCOBenchmark``.
        overlap: As for ``RefCOCOBenchmark``.

    Raises:
        UserError: As for ``RefCOCOBenchmark``.
    """

    _ann_kind = list

    def __init__(
        self,
        root: str | Path = "data/ref_seg",
        split: str = "val",
        images: str = IMAGES,
        overlap: Overlap = "union",
    ) -> None:
        self.settings = {"split_by": "unc", "overlap": overlap}
        root, folder = places(root, "grefcoco")
        dataset_root(folder, f"instances.json, grefs(unc).json and {images}/")
        pickled = folder / "grefs(unc).p"
        refs = pickled if pickled.is_file() else dataset_file(folder, "grefs(unc).json")
        super().__init__("grefcoco", split, root, folder, refs, images, overlap)

    def _annotations_of(self, ref: Mapping[str, Any]) -> list[int]:
        """Without the -1 that stands for nothing."""
        numbers = [expect(i, int, f"{self._refs_path}, ref {ref['ref_id']}, ann_id") for i in ref["ann_id"]]
        return [] if numbers == [-1] else numbers

    def _is_left_out(self, annotation: Mapping[str, Any]) -> bool:
        return bool(annotation.get("iscrowd"))
