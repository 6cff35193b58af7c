"""RefCOCO, RefCOCO+ and RefCOCOg: pictures in which sentences name single objects.

Source: Yu et al., "Modeling context in referring expressions", ECCV 2016; ``refer_files`` reads the files.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from refstream.data.collate import ClipSample
from refstream.data.datasets.reading import LeftOut, dataset_file, dataset_root
from refstream.data.datasets.refer_files import (
    SPLIT_BY,
    folder_of,
    image_folder,
    read_instances,
    refs_of_split,
    words,
)
from refstream.data.rle import RLE, decode, from_polygons
from refstream.errors import UserError
from refstream.images import read_image
from refstream.registry import DATASETS

SMALL_AREA = 16.0  # pixels; only polygons below this may rasterise to nothing


Outline = list[np.ndarray] | RLE


@dataclass(frozen=True)
class NamedObject:
    """One annotated object: its outline (polygons as arrays, or an RLE) and the sentences that name it."""

    ann_id: int
    outline: Outline
    sentences: tuple[str, ...]


@DATASETS.register_module()
class RefCOCODataset:
    """One sample is one picture with sentences about its objects.

    All refs of a picture are kept together. The sentences of a sample go round its objects: each object is
    named once, by one of its sentences, before any is named again, and each sentence is used once before any
    is used again. As released, a sample has exactly five expressions, repeated where the picture has fewer.

    What cannot be used (a ref without its picture or annotation, a mask without a pixel, empty words) is left
    out, counted, logged once, and listed by ``report``.

    Args:
        root: Folder that holds the folders ``refcoco``, ``refcoco+`` and ``refcocog``.
        name: "refcoco", "refcoco_plus" (or "refcoco+"), or "refcocog".
        split: "train", "val", "testA", "testB"; for RefCOCOg "train", "val", "test".
        expressions: E; most expressions of a sample.
        repeat: Repeat sentences until there are E of them, as the released code does; else fewer will do.
        split_by: Whose split: "unc", "umd", "google"; default "umd" for RefCOCOg (Google's has pictures of
            its own training part in its validation part) and "unc" for the others.
        images: Folder of the pictures, looked for in the dataset's folder, then in ``root``.

    Raises:
        UserError: If a file or folder is missing or of another form, or nothing can be used.
    """

    def __init__(
        self,
        root: str | Path = "data/ref_seg",
        name: str = "refcoco",
        split: str = "train",
        expressions: int = 5,
        repeat: bool = True,
        split_by: str | None = None,
        images: str = "coco2014/train2014",
    ) -> None:
        self.name, self.split = folder_of(name), split
        if expressions < 1:
            raise UserError(f"expressions must be at least 1, got {expressions}")
        self.expressions, self.repeat = expressions, repeat
        refs_name = f"refs({split_by or SPLIT_BY[self.name]}).p"
        folder = dataset_root(Path(root) / self.name, f"instances.json, {refs_name} and {images}/")
        self.image_folder = image_folder(Path(root), folder, images)
        refs = refs_of_split(dataset_file(folder, refs_name), split)
        instances = _Instances(dataset_file(folder, "instances.json"), refs)
        self._left_out = LeftOut()
        files = {path.name for path in self.image_folder.iterdir()}
        objects: dict[int, list[NamedObject]] = defaultdict(list)
        for ref in refs:
            named = instances.usable(ref, files, self._left_out)
            if named is not None:
                objects[ref["image_id"]].append(named)
        self.pictures = [(instances.images[image_id], tuple(named)) for image_id, named in objects.items()]
        if not self.pictures:
            raise UserError(f"{name} {split} at {folder}: no picture can be used: {self._left_out}")
        self._left_out.close(f"{name} {split}", folder, len(self.pictures))

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.pictures)

    def report(self) -> dict[str, Any]:
        """``pictures``, ``objects``, ``expressions``, and ``left_out``: reason -> count and first names."""
        groups = [group for _, group in self.pictures]
        return {
            "pictures": len(groups),
            "objects": sum(map(len, groups)),
            "expressions": sum(len(named.sentences) for group in groups for named in group),
            "left_out": self._left_out.report(),
        }

    def sample(self, index: int, rng: np.random.Generator) -> ClipSample:
        """Picture ``index`` in [0, len) as a clip of one frame, with sentences drawn from ``rng``.

        Raises:
            UserError: If the picture cannot be read, or is not of the size that ``instances.json`` says.
        """
        image, group = self.pictures[index]
        path = self.image_folder / image["file_name"]
        picture = read_image(path)
        size = image["height"], image["width"]
        if picture.shape[:2] != size:
            raise UserError(f"{path} is of size {picture.shape[:2]}, instances.json says {size}")
        chosen = _round_of(group, self.expressions, self.repeat, rng)
        masks = {i: _mask(group[i].outline, *size) for i, _ in chosen}
        annotations = ",".join(str(group[i].ann_id) for i, _ in chosen)
        return ClipSample(
            frames=picture[None],
            expressions=[text for _, text in chosen],
            masks=np.stack([masks[i] for i, _ in chosen])[:, None],
            id=f"{self.name}/{self.split} image {image['id']}: annotations {annotations}",
        )


class _Instances:
    """``instances.json``, less what no ref speaks of.

    Attributes:
        images: Id -> entry.
        annotations: Id -> entry.
    """

    def __init__(self, path: Path, refs: Sequence[Mapping[str, Any]]) -> None:
        image_ids, ann_ids = {ref["image_id"] for ref in refs}, {ref["ann_id"] for ref in refs}
        self.images, self.annotations = read_instances(path, image_ids, ann_ids)

    def usable(self, ref: Mapping[str, Any], files: set[str], left_out: LeftOut) -> NamedObject | None:
        """The object of a ref, or None and a reason in ``left_out``."""
        name = f"ref {ref['ref_id']}"
        image, annotation = self.images.get(ref["image_id"]), self.annotations.get(ref["ann_id"])
        sentences = [words(sentence) for sentence in ref["sentences"]]
        kept = tuple(text for text in sentences if text)
        for _ in range(len(sentences) - len(kept)):
            left_out.add("sentence without words", name)
        if image is None:
            left_out.add("picture not in instances.json", f"{name}, image {ref['image_id']}")
        elif image["file_name"] not in files:
            left_out.add("no such picture file", image["file_name"])
        elif annotation is None:
            left_out.add("annotation not in instances.json", f"{name}, annotation {ref['ann_id']}")
        elif annotation["image_id"] != ref["image_id"]:
            left_out.add("annotation of another picture", name)
        elif not kept:
            left_out.add("ref without sentences", name)
        else:
            outline = _outline(annotation, (image["height"], image["width"]), left_out)
            return None if outline is None else NamedObject(ref["ann_id"], outline, kept)
        return None


def _outline(annotation: Mapping[str, Any], size: tuple[int, int], left_out: LeftOut) -> Outline | None:
    """The outline of a mask with a pixel in it; None, with a reason in ``left_out``, if there is none."""
    name = f"annotation {annotation['id']}"
    outline = annotation["segmentation"]
    if isinstance(outline, list):
        polygons = [_polygon(values, size) for values in outline]
        outline = [points for points in polygons if points is not None]
        for _ in range(len(polygons) - len(outline)):
            left_out.add("polygon that encloses nothing or is none", name)
        if any(_area(points) >= SMALL_AREA for points in outline):
            return outline
    try:
        if _mask(outline, *size).any():
            return outline
        left_out.add("mask without a pixel", name)
    except ValueError:
        left_out.add("mask that cannot be read or is of another size than its picture", name)
    return None


def _polygon(values: Any, size: tuple[int, int]) -> np.ndarray | None:
    """COCO's [x0, y0, ...] as an array; None if it has fewer than three points or is none."""
    try:
        points = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    if points.ndim != 1 or len(points) < 6 or len(points) % 2 or not (np.abs(points) < 10 * max(size)).all():
        return None
    return points


def _area(points: np.ndarray) -> float:
    """Area of a polygon that crosses itself nowhere."""
    x, y = (points.reshape(-1, 2) - points[:2]).T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(np.roll(x, -1), y))) / 2


def _mask(outline: Outline, height: int, width: int) -> np.ndarray:
    """Outline -> (H, W) bool. Raises ValueError if an RLE is broken or of another size."""
    if isinstance(outline, list):
        return from_polygons(outline, height, width)
    mask = decode(outline)
    if mask.shape != (height, width):
        raise ValueError(f"the mask is of size {mask.shape}, its picture of {(height, width)}")
    return mask


def _round_of(
    group: Sequence[NamedObject], number: int, repeat: bool, rng: np.random.Generator
) -> list[tuple[int, str]]:
    """(index of an object, sentence) pairs that go round the objects, in an order of chance."""
    order = [int(i) for i in rng.permutation(len(group))]
    texts = {i: [str(text) for text in rng.permutation(group[i].sentences)] for i in order}
    rounds = range(max(map(len, texts.values())))
    pairs = [(i, texts[i][k]) for k in rounds for i in order if k < len(texts[i])]
    if repeat:
        pairs *= -(-number // len(pairs))
    return pairs[:number]
