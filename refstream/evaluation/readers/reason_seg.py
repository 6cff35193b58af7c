"""ReasonSeg: pictures with one implicit question each, and regions that do not count.

Source: Lai et al., "LISA: Reasoning Segmentation via Large Language Model" (CVPR 2024), section 4; outlines
are painted as ``utils/data_processing.py`` of dvlab-research/LISA does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from refstream.data.datasets.reading import expect
from refstream.errors import UserError
from refstream.evaluation.benchmark import EvalExpression, EvalVideo, MaskBenchmark
from refstream.images import read_image

TARGET, IGNORED = 1, 255
Texts = Literal["first", "all"]


class ReasonSegBenchmark(MaskBenchmark):
    """Groups are "sentence" (a whole question) and "phrase"; a video is a picture.

    Outlines are painted with their edges, the largest first, so that small ones stay visible; those labelled
    "ignore..." become void, those labelled "flag" are skipped.

    Args:
        root: Holds ``<split>/<id>.jpg`` and ``<split>/<id>.json``, or a folder ``ReasonSeg`` that does.
        split: "val" or "test" (or "train").
        texts: "first": only the first text of a picture counts, as in the published figures; "all": each is
            a sample.

    Raises:
        UserError: If the folder or a description is missing or of another form.
    """

    name = "reason_seg"

    def __init__(
        self, root: str | Path = "data/reason_seg", split: str = "val", texts: Texts = "first"
    ) -> None:
        if texts not in ("first", "all"):
            raise UserError(f"texts must be 'first' or 'all', got {texts!r}")
        self.split = split
        self.settings = {"texts": texts}
        places = [Path(root) / split, Path(root) / "ReasonSeg" / split]
        self.folder = next((place for place in places if place.is_dir()), places[0])
        stems = {path.stem for kind in ("jpg", "json") for path in self.folder.glob(f"*.{kind}")}
        if not stems:
            raise UserError(
                f"no samples <id>.jpg and <id>.json in {places[0]} nor in {places[1]}; see data/README.md"
            )
        self.videos = [self._video(stem, texts) for stem in sorted(stems)]
        self._painted: tuple[str, np.ndarray] | None = None

    def images(self, video: EvalVideo) -> Iterator[np.ndarray]:
        yield read_image(self.folder / f"{video.id}.jpg")

    def truth(self, video: EvalVideo, expression: EvalExpression) -> np.ndarray:
        """(1, H, W) bool; the picture is opened for its size."""
        return self._values(video)[None] == TARGET

    def void(self, video: EvalVideo) -> np.ndarray | None:
        """(1, H, W) bool: regions labelled "ignore"; None if there is none."""
        void = self._values(video)[None] == IGNORED
        return void if void.any() else None

    def files(self) -> Iterable[Path]:
        return [self.folder / f"{video.id}.json" for video in self.videos]

    def _video(self, stem: str, texts: Texts) -> EvalVideo:
        path = self.folder / f"{stem}.json"
        content = _description(path)
        group = "sentence" if content["is_sentence"] else "phrase"
        chosen = content["text"][:1] if texts == "first" else content["text"]
        expressions = tuple(EvalExpression(str(i), text, group) for i, text in enumerate(chosen))
        return EvalVideo(stem, (stem,), expressions)

    def _values(self, video: EvalVideo) -> np.ndarray:
        """(H, W) uint8 of 0, ``TARGET`` and ``IGNORED``, kept until another picture is asked for."""
        if self._painted is None or self._painted[0] != video.id:
            height, width = read_image(self.folder / f"{video.id}.jpg").shape[:2]
            path = self.folder / f"{video.id}.json"
            self._painted = video.id, paint(_description(path)["shapes"], (height, width), f"{path}")
        return self._painted[1]


def paint(shapes: Iterable[Mapping[str, Any]], size: tuple[int, int], where: str) -> np.ndarray:
    """Labelled outlines -> (H, W) uint8 of 0, ``TARGET`` and ``IGNORED``.

    Args:
        shapes: Each with "label" and "points", [[x, y], ...] in pixels, whose fractions are cut off.
        size: (H, W) of the picture.
        where: For errors.

    Raises:
        UserError: If an outline is none.
    """
    outlines: list[tuple[int, np.ndarray]] = []
    for shape in shapes:
        label = expect(shape.get("label"), str, f"{where}, label").lower()
        if label == "flag":
            continue
        outlines.append((IGNORED if "ignore" in label else TARGET, _points(shape.get("points"), where)))
    areas = [int(_painted(np.zeros(size, np.uint8), points, 1).sum()) for _, points in outlines]
    values = np.zeros(size, dtype=np.uint8)
    for index in np.argsort(np.array(areas, dtype=np.int64), kind="stable")[::-1]:
        value, points = outlines[index]
        _painted(values, points, value)
    return values


def _painted(canvas: np.ndarray, points: np.ndarray, value: int) -> np.ndarray:
    """The (H, W) uint8 canvas itself, with the outline and its inside set to ``value``."""
    cv2.polylines(canvas, [points], True, value, 1)
    cv2.fillPoly(canvas, [points], value)
    return canvas


def _points(values: Any, where: str) -> np.ndarray:
    try:
        points = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        points = np.zeros(0)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points) or not (np.abs(points) < 2**20).all():
        raise UserError(f"{where}: expected an outline [[x, y], ...] in pixels, got {str(values)[:60]!r}")
    return points.astype(np.int32)


def _description(path: Path) -> dict[str, Any]:
    """The JSON of a picture: UTF-8, or cp1252 as some of the released files are."""
    if not path.is_file():
        raise UserError(f"picture {path.with_suffix('.jpg')} has no description {path.name} beside it")
    raw = path.read_bytes()
    try:
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            text = raw.decode("cp1252")
        content = expect(json.loads(text), dict, f"{path}")
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path} is not valid JSON ({error}); is the download complete?") from error
    for key, kind in (("shapes", list), ("text", list), ("is_sentence", bool)):
        expect(content.get(key), kind, f"{path}, {key}")
    for shape in content["shapes"]:
        expect(shape, dict, f"{path}, shapes")
    for words in content["text"]:
        expect(words, str, f"{path}, text")
    if not content["text"]:
        raise UserError(f"{path}: expected at least one text, got none")
    return content
