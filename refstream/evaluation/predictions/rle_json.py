"""Predictions as COCO run-length codes in JSON, in one file or in one per expression; see ``records``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from refstream.data.lazy_json import LazyJson, Span
from refstream.errors import UserError
from refstream.evaluation.benchmark import EvalExpression, EvalVideo, MaskBenchmark
from refstream.evaluation.predictions.base import Prediction
from refstream.evaluation.predictions.files import fingerprint, tree_fingerprint, walk
from refstream.evaluation.predictions.frames import brief, item_of
from refstream.evaluation.predictions.records import RECORD_KEYS, placed, prediction_of

FORMS = (
    "{video: {expression id: entry}}, {expression id: entry}, or a list of "
    "{'image_id': sample, 'segmentation': RLE, 'score': number}"
)


class _Json:
    """What all forms share: an entry is looked up, then decoded."""

    def lookup(self, video: EvalVideo, expression: EvalExpression) -> tuple[Any, str]:
        """The entry of an expression, None if there is none, and where it stands."""
        raise NotImplementedError

    def read(self, video: EvalVideo, expression: EvalExpression, size: tuple[int, int]) -> Prediction | None:
        """See ``Predictions.read``."""
        record, where = self.lookup(video, expression)
        return prediction_of(record, video, size, where)

    def frames(self, video: EvalVideo, expression: EvalExpression) -> frozenset[str] | None:
        """Names of the scored frames that have an entry; None if there is nothing at all."""
        record, where = self.lookup(video, expression)
        places = placed(record, video, where)
        if places is None:
            return None
        names = zip(video.scored_frames, places, strict=True)
        return frozenset(name for name, place in names if place is not None)


class _JsonFile(_Json):
    """One file, of which only the places of its entries are held.

    Args:
        file: The file.
    """

    def __init__(self, file: LazyJson) -> None:
        self.file = file

    @cached_property
    def fingerprint(self) -> str:
        """Of the file's name, size and time; see ``files.fingerprint``."""
        return fingerprint([self.file.path], self.file.path.parent)


FIGURES = frozenset({"rows", "summary"})
"""Keys of the result of an evaluation."""


class JsonByVideo(_JsonFile):
    """``{video: {expression id: entry}}``, as ``results.json`` of the MLLM line.

    Raises:
        UserError: If the file is not of this form.
    """

    def __init__(self, file: LazyJson) -> None:
        super().__init__(file)
        self._videos = dict(file.items(file.root))
        self._last: tuple[str, dict[str, Span]] = ("", {})

    def lookup(self, video: EvalVideo, expression: EvalExpression) -> tuple[Any, str]:
        where = f"{self.file.path}, {item_of(video, expression.id)}"
        span = self._expressions(video.id).get(expression.id)
        return (None if span is None else self.file.value(span)), where

    def items(self) -> Iterator[tuple[str, str]]:
        """(video, expression id) of every entry."""
        for video in self._videos:
            yield from ((video, expression) for expression in self._expressions(video))

    def _expressions(self, video: str) -> dict[str, Span]:
        if self._last[0] != video:
            span = self._videos.get(video)
            self._last = (video, {} if span is None else dict(self.file.items(span)))
        return self._last[1]


class JsonByExpression(_JsonFile):
    """``{expression id: entry}``, for benchmarks whose ids tell all expressions apart: RefCOCO's ``sent_id``.

    Raises:
        UserError: If the file is not of this form, or an id stands for several expressions.
    """

    def __init__(self, file: LazyJson, benchmark: MaskBenchmark) -> None:
        super().__init__(file)
        self._entries = dict(file.items(file.root))
        ids = [expression.id for video in benchmark.videos for expression in video.expressions]
        if len(set(ids)) != len(ids):
            raise UserError(
                f"{file.path} is of the form {{expression id: entry}}, but ids of {benchmark.name} occur in "
                "several videos; expected {video: {expression id: entry}}"
            )

    def lookup(self, video: EvalVideo, expression: EvalExpression) -> tuple[Any, str]:
        span = self._entries.get(expression.id)
        return (None if span is None else self.file.value(span)), f"{self.file.path}, {expression.id}"

    def items(self) -> Iterator[tuple[None, str]]:
        """(None, expression id) of every entry."""
        yield from ((None, name) for name in self._entries)


class _Scored(NamedTuple):
    score: float
    span: Span


class CocoResults(_JsonFile):
    """``[{"image_id", "segmentation", "score"}, ...]``, COCO's form of results; A2D- and JHMDB-Sentences.

    ``image_id`` is the name of the sample, that is, the expression's id, or its video's if that has a single
    expression. Of several masks the one of the highest score is the best, of equal scores the later one. A
    score must lie in [0, 1].

    Raises:
        UserError: If the file is not of this form.
    """

    def __init__(self, file: LazyJson) -> None:
        super().__init__(file)
        self._samples: dict[str, list[_Scored]] = {}
        for number, span in enumerate(file.elements(file.root)):
            row = file.value(span)
            if not isinstance(row, dict) or not {"image_id", "segmentation", "score"} <= row.keys():
                raise UserError(
                    f"{file.path}, entry {number}: expected image_id, segmentation and score, got "
                    f"{str(row)[:80]!r}"
                )
            if not isinstance(row["score"], int | float):
                raise UserError(f"{file.path}, entry {number}: expected a number as score")
            scored = _Scored(float(row["score"]), span)
            self._samples.setdefault(str(row["image_id"]), []).append(scored)

    def lookup(self, video: EvalVideo, expression: EvalExpression) -> tuple[Any, str]:
        found, where = self._of(video, expression)
        best = max(enumerate(found), key=lambda one: (one[1].score, one[0]), default=None)
        return (None if best is None else self.file.value(best[1].span)), where

    def read_all(
        self, video: EvalVideo, expression: EvalExpression, size: tuple[int, int]
    ) -> list[Prediction]:
        """See ``SeveralMasks``."""
        found, where = self._of(video, expression)
        read = (prediction_of(self.file.value(one.span), video, size, where) for one in found)
        return [prediction for prediction in read if prediction is not None]

    def _of(self, video: EvalVideo, expression: EvalExpression) -> tuple[list[_Scored], str]:
        """The masks of a sample in the order of the file, and where they stand."""
        only = [video.id] if len(video.expressions) == 1 else []
        for name in (expression.id, *only):
            if name in self._samples:
                return self._samples[name], f"{self.file.path}, image_id {name}"
        return [], str(self.file.path)

    def items(self) -> Iterator[tuple[None, str]]:
        """(None, image_id) of every sample."""
        yield from ((None, name) for name in self._samples)


class JsonFolder(_Json):
    """An entry per file: ``<root>/<video>/<expression id>.json``.

    Args:
        root: Holds a folder per video.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def lookup(self, video: EvalVideo, expression: EvalExpression) -> tuple[Any, str]:
        path = self.root / video.id / f"{expression.id}.json"
        if not path.is_file():
            return None, str(path)
        try:
            return json.loads(path.read_bytes()), str(path)
        except ValueError as error:
            raise UserError(f"{path} is not valid JSON ({error}); is the file complete?") from error

    def items(self) -> Iterator[tuple[str, str]]:
        """(video, expression id) of every file."""
        for folder, _, files in walk(self.root):
            yield from ((folder, name[: -len(".json")]) for name in files if name.endswith(".json"))

    @cached_property
    def fingerprint(self) -> str:
        """Of the names, sizes and times of all files; see ``files.fingerprint``."""
        return tree_fingerprint(self.root)


def open_json(path: Path, benchmark: MaskBenchmark) -> JsonByVideo | JsonByExpression | CocoResults:
    """Open a file of predictions; its form is told by its first entry.

    Raises:
        UserError: If it is none of ``FORMS``.
    """
    file = LazyJson(path)
    kind = file.kind(file.root)
    if kind == "array":
        return CocoResults(file)
    if kind == "object":
        first = next(file.items(file.root), None)
        if first is None:
            raise UserError(f"{path} holds no predictions, only {{}}; expected {FORMS}")
        if file.kind(first[1]) != "object":
            if {key for key, _ in file.items(file.root)} >= FIGURES:
                raise UserError(f"{path} holds figures, not masks; name the folder of the run: {path.parent}")
            return JsonByExpression(file, benchmark)
        keys = [key for key, _ in file.items(first[1])]
        if RECORD_KEYS.intersection(keys):
            return JsonByExpression(file, benchmark)
        if all(file.kind(span) != "scalar" or file.value(span) is None for _, span in file.items(first[1])):
            return JsonByVideo(file)
        found = f"an object whose {first[0]!r} has the keys {brief(keys)}"
    else:
        found = "a single value"
    raise UserError(f"{path}: expected predictions as {FORMS}; found {found}")
