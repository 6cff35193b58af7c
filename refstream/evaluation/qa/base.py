"""What a benchmark answered in words is: questions on videos, and their answers."""

from __future__ import annotations

import hashlib
import string
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

Kind = Literal["choice", "count", "yes_no"]
LETTERS = string.ascii_uppercase


@dataclass(frozen=True)
class Question:
    """One thing asked about a video, at one time.

    Attributes:
        id: Unique in the benchmark.
        video: Name of the video in the benchmark.
        prompt: All that a model is told, besides the frames.
        answer: The truth, in the form of its kind: a label of ``labels``, a number, or Yes / No; None where
            it is not public.
        kind: Choice of an option, a count, or yes / no.
        task: The benchmark's name of the task.
        groups: Kind of group -> name of the group, for averages apart; its first entry is the coarsest.
        text: The question as the file has it, without options.
        options: Texts of the options, in order.
        labels: Names of the options, as many; letters by default.
        start_s: A model may see the video from here,
        end_s: to here, both in seconds and included; None: to its end.
        details: What only this benchmark has; JSON-serialisable.
    """

    id: str
    video: str
    prompt: str
    answer: str | None
    kind: Kind
    task: str
    groups: Mapping[str, str]
    text: str = ""
    options: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    start_s: float = 0.0
    end_s: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.labels and self.options:
            object.__setattr__(self, "labels", tuple(LETTERS[: len(self.options)]))
        if len(self.labels) != len(self.options):
            raise ValueError(
                f"question {self.id}: {len(self.labels)} labels for {len(self.options)} options (A to Z at "
                "most)"
            )
        if self.kind == "choice" and self.answer is not None and self.answer not in self.labels:
            raise ValueError(f"question {self.id}: the answer {self.answer!r} is none of {self.labels}")


class QABenchmark(ABC):
    """Questions, and where their videos lie.

    Attributes:
        name: As in the table of benchmarks.
        questions: All of them, in the order of the file.
        settings: What was asked for and how prompts are worded; JSON-serialisable, goes into results.
    """

    name: str
    questions: Sequence[Question]
    settings: Mapping[str, Any]

    @abstractmethod
    def video_path(self, question: Question) -> Path:
        """The file or folder of frames to look at; it need not exist."""

    def video_fps(self, question: Question) -> float | None:
        """Rate of a video that is a folder of frames; None for files, which have their own times."""
        return None

    @cached_property
    def fingerprint(self) -> str:
        """Tells two sets of questions apart: SHA-256 over all that is asked, and the answers."""
        digest = hashlib.sha256(repr((self.name, sorted(self.settings.items()))).encode())
        for q in self.questions:
            asked = (q.id, q.video, q.prompt, q.answer, q.kind, q.start_s, q.end_s, sorted(q.groups.items()))
            digest.update(repr(asked).encode("utf-8", "backslashreplace"))
        return digest.hexdigest()

    @cached_property
    def by_id(self) -> dict[str, Question]:
        """Question id -> question. Raises ValueError if two questions share an id."""
        found = {question.id: question for question in self.questions}
        if len(found) != len(self.questions):
            raise ValueError(f"{self.name}: {len(self.questions)} questions have {len(found)} ids")
        return found

    def subset(self, ids: Iterable[str]) -> QABenchmark:
        """The same benchmark with some of its questions only, in the same order."""
        wanted: Collection[str] = set(ids)
        return _Subset(self, [question for question in self.questions if question.id in wanted])


class _Subset(QABenchmark):
    """Some questions of a benchmark."""

    def __init__(self, base: QABenchmark, questions: Sequence[Question]) -> None:
        self.base, self.questions = base, list(questions)
        self.name, self.settings = base.name, base.settings

    def video_path(self, question: Question) -> Path:
        return self.base.video_path(question)

    def video_fps(self, question: Question) -> float | None:
        return self.base.video_fps(question)
