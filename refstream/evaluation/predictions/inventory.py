"""What a set of predictions lacks, and what it has that nobody asked for; reads no mask where it can."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from refstream.errors import UserError
from refstream.evaluation.benchmark import EvalExpression, EvalVideo, MaskBenchmark
from refstream.evaluation.predictions.base import Predictions
from refstream.evaluation.predictions.frames import brief
from refstream.evaluation.protocols.label_maps import LabelMapFolder, annotator_and_object
from refstream.evaluation.run import RunPredictions, item_name

MAX_COMPARED = 2000
"""Most names among which a similar one is looked for: the time grows with the product."""


@runtime_checkable
class Listed(Protocol):
    """Predictions that can say what they hold without decoding it."""

    def frames(self, video: EvalVideo, expression: EvalExpression) -> AbstractSet[str] | None:
        """Names of the frames that have a mask, others may be among them; None if there is nothing at all.

        Raises:
            UserError: If frames are misaligned.
        """
        ...

    def items(self) -> Iterable[tuple[str | None, str]]:
        """(video, expression id) of all that is there; None where the form does not say the video."""
        ...


@dataclass(frozen=True)
class Count:
    """How much there is."""

    videos: int
    expressions: int
    frames: int

    def __str__(self) -> str:
        return f"{self.videos} videos, {self.expressions} expressions, {self.frames} frames"


@dataclass(frozen=True)
class Inventory:
    """Predictions against a benchmark's list.

    Attributes:
        expected: What the benchmark lists; frames are counted once per expression.
        found: What of it is there.
        missing_videos: Those without any prediction.
        missing_expressions: (video, expression id) of other videos without any.
        missing_frames: (video, expression id, frame) of other expressions without a mask.
        extra: Names of videos and of video/expression that the benchmark does not have. Harmless where
            nothing is missing.
        similar: Name of something missing -> name of something extra that looks like it.
    """

    expected: Count
    found: Count
    missing_videos: tuple[str, ...] = ()
    missing_expressions: tuple[tuple[str, str], ...] = ()
    missing_frames: tuple[tuple[str, str, str], ...] = ()
    extra: tuple[str, ...] = ()
    similar: dict[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return self.expected == self.found

    def lines(self) -> list[str]:
        """What is wrong, a line for each kind of it; none if all is there and nothing else."""
        kinds = (
            ("videos without any prediction", self.missing_videos),
            ("expressions without any prediction", ["/".join(name) for name in self.missing_expressions]),
            ("frames without a mask", ["/".join(name) for name in self.missing_frames]),
            ("names that the benchmark does not have", self.extra),
        )
        lines = [f"{len(names)} {what}: {brief(names)}" for what, names in kinds if names]
        return lines + [f"missing {name}: is it called {other} here?" for name, other in self.similar.items()]

    def __str__(self) -> str:
        return "; ".join([f"expected {self.expected}", f"found {self.found}", *self.lines()])

    def require_complete(self, what: str, advice: str) -> None:
        """Raise UserError if anything is missing; ``what`` names the set, ``advice`` says what to do."""
        if not self.complete:
            raise UserError(f"{what} is incomplete: {self}. {advice}")


def inventory(predictions: Predictions, benchmark: MaskBenchmark) -> Inventory:
    """Compare what is there with what the benchmark lists.

    Raises:
        UserError: If frames are misaligned, or the predictions cannot say what they hold.
    """
    listed = _listed(predictions)
    videos: list[str] = []
    expressions: list[tuple[str, str]] = []
    frames: list[tuple[str, str, str]] = []
    num_expressions = num_frames = num_found = 0
    for video in benchmark.videos:
        names = video.scored_frames
        num_frames += len(names) * len(video.expressions)
        there = {expression.id: listed.frames(video, expression) for expression in video.expressions}
        if there and all(found is None for found in there.values()):
            videos.append(video.id)
            continue
        for key, found in there.items():
            if found is None:
                expressions.append((video.id, key))
                continue
            absent = [name for name in names if name not in found]
            frames += [(video.id, key, name) for name in absent]
            num_expressions += 1
            num_found += len(names) - len(absent)
    extra = _extra(listed, benchmark)
    return Inventory(
        expected=Count(len(benchmark.videos), benchmark.num_expressions, num_frames),
        found=Count(len(benchmark.videos) - len(videos), num_expressions, num_found),
        missing_videos=tuple(videos),
        missing_expressions=tuple(expressions),
        missing_frames=tuple(frames),
        extra=extra,
        similar=_similar([*videos, *("/".join(name) for name in expressions)], extra),
    )


def _extra(listed: Listed, benchmark: MaskBenchmark) -> tuple[str, ...]:
    """A strange video is named once, whatever it holds."""
    known = {video.id: {expression.id for expression in video.expressions} for video in benchmark.videos}
    loose = {name for names in known.values() for name in names}.union(known)
    strange: dict[str, None] = {}
    for video, name in listed.items():
        if video is None:
            if name not in loose:
                strange[name] = None
        elif video not in known:
            strange[video] = None
        elif name not in known[video]:
            strange[f"{video}/{name}"] = None
    return tuple(strange)


def _similar(missing: Sequence[str], extra: Sequence[str]) -> dict[str, str]:
    """The closest name among those nobody asked for."""
    pairs = {}
    for name in missing[: MAX_COMPARED // max(1, min(len(extra), MAX_COMPARED)) + 5]:
        close = difflib.get_close_matches(name, extra[:MAX_COMPARED], n=1, cutoff=0.75)
        if close:
            pairs[name] = close[0]
    return pairs


def _listed(predictions: Predictions) -> Listed:
    if isinstance(predictions, Listed):
        return predictions
    if isinstance(predictions, RunPredictions):
        return _Run(predictions)
    if isinstance(predictions, LabelMapFolder):
        return _Labels(predictions)
    raise UserError(f"{type(predictions).__name__} cannot say what it holds; score it without an inventory")


class _Run:
    """A run of a model: whole expressions are there or not."""

    def __init__(self, predictions: RunPredictions) -> None:
        self._done: set[str] = predictions.ledger.done()

    def frames(self, video: EvalVideo, expression: EvalExpression) -> AbstractSet[str] | None:
        return frozenset(video.scored_frames) if item_name(video, expression) in self._done else None

    def items(self) -> Iterable[tuple[str | None, str]]:
        pairs = (name.rpartition("/") for name in self._done)
        return [(video, expression) for video, _, expression in pairs]


class _Labels:
    """Label maps: a frame's map answers for all expressions of its annotator."""

    def __init__(self, predictions: LabelMapFolder) -> None:
        self._root = predictions.root

    def frames(self, video: EvalVideo, expression: EvalExpression) -> AbstractSet[str] | None:
        annotator, _ = annotator_and_object(video, expression)
        folder = self._root / f"anno_{annotator}" / video.id
        there = frozenset(n for n in video.scored_frames if (folder / f"{n}.png").is_file())
        return there or None

    def items(self) -> Iterable[tuple[str | None, str]]:
        return []
