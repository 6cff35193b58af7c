"""How answers in words are scored, and what constant answers would score: the floors beside every figure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

from refstream.errors import UserError
from refstream.evaluation.protocols.base import OVERALL, Summary
from refstream.evaluation.qa.answers import Answers, check_answers
from refstream.evaluation.qa.base import LETTERS, QABenchmark, Question
from refstream.evaluation.qa.parsing import parse

Constant = Callable[[Question], Any]
"""An answer that needs no video."""
ACCURACY, COUNT = "accuracy", "questions"
NUM_LISTED = 20


@dataclass(frozen=True)
class Mark:
    """What a scorer says of one answer.

    Attributes:
        correct: 1 or 0; between them only for the floor "chance".
        parsed: What the scorer read out of the words, None if nothing.
        crash: The error with which the public scorer would stop here, "" if it would not.
    """

    correct: float
    parsed: str | None = None
    crash: str = ""


@dataclass(frozen=True)
class QARow:
    """One question with its answer and its mark; ``answer`` None means that there was none."""

    question: Question
    answer: Any
    mark: Mark

    def flat(self) -> dict[str, Any]:
        """For tables and CSV."""
        q = self.question
        return {
            "id": q.id,
            "video": q.video,
            "task": q.task,
            **q.groups,
            "end_s": q.end_s,
            "truth": q.answer,
            "answer": self.answer,
            "parsed": self.mark.parsed,
            "correct": self.mark.correct,
            "missing": self.answer is None,
        }


class QAScorer(ABC):
    """A way of scoring. Missing answers are wrong in all of them.

    Attributes:
        name: As in the table of benchmarks and in results.
        rule: In a sentence, how answers are read and averaged.
    """

    name: str
    rule: str

    @abstractmethod
    def mark(self, question: Question, answer: Any) -> Mark:
        """Judge an answer that is not None."""

    def summarize(self, rows: Sequence[QARow]) -> Summary:
        """Figures in percent. By default: the share of right answers, over all and in each group."""
        return mean_summary(rows)

    def crash(self, rows: Sequence[QARow]) -> str:
        """With which error the public scorer would stop before its last figure; "" if it would not."""
        return ""

    def floors(self, benchmark: QABenchmark) -> dict[str, Constant]:
        """Constant answers worth knowing: each option, and the most frequent truth of each task."""
        most = max((len(q.labels) for q in benchmark.questions), default=0)
        constants: dict[str, Constant] = {f"always {LETTERS[i]}": _option(i) for i in range(most)}
        return {**constants, "most frequent": most_frequent(benchmark)}


class StrictScorer(QAScorer):
    """One option, one number or yes / no, read by ``parsing``; the mean over questions."""

    name = "strict"
    rule = "one option, one number or yes/no (see parsing); mean over questions"

    def mark(self, question: Question, answer: Any) -> Mark:
        parsed = parse(question, answer)
        return Mark(float(parsed is not None and parsed == question.answer), parsed)


@dataclass
class QAResult:
    """The scores of one set of answers.

    Attributes:
        benchmark: Its name.
        scorer: Name of the scorer.
        rule: What the scorer does.
        summary: Group ("overall", "task/EPM", ...) -> metric -> value; accuracies in percent.
        marks: One row per question, in the benchmark's order.
        floors: Name of a constant answer -> its summary, by the same scorer.
        missing: Ids of questions without an answer: they count as wrong.
        unknown: Ids of answers that nobody asked for: they count nowhere.
        error: Why the public scorer would print no last figure; "" if it would.
        settings: Of the benchmark.
        fingerprint: Of the benchmark.
    """

    benchmark: str
    scorer: str
    rule: str
    summary: Summary
    marks: list[QARow]
    floors: dict[str, Summary]
    missing: list[str]
    unknown: list[str]
    error: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    fingerprint: str = ""

    @property
    def expected(self) -> int:
        """How many questions there are."""
        return len(self.marks)

    @property
    def found(self) -> int:
        """How many were answered."""
        return self.expected - len(self.missing)

    def rows(self) -> list[dict[str, Any]]:
        """One flat row per question."""
        return [row.flat() for row in self.marks]

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable, without the rows."""
        return {
            "benchmark": self.benchmark,
            "scorer": self.scorer,
            "rule": self.rule,
            "settings": self.settings,
            "fingerprint": self.fingerprint,
            "expected": self.expected,
            "found": self.found,
            "missing": self.missing,
            "unknown": self.unknown,
            "error": self.error,
            "summary": self.summary,
            "floors": self.floors,
        }

    def table(self) -> Table:
        """A table for ``rich``: one row per group, the floors in the columns beside the answers'."""
        caption = f"{self.rule}. Answered: {self.found} of {self.expected}"
        caption += "; the others count as wrong" if self.missing else ""
        caption += f". {len(self.unknown)} answers belong to no question" if self.unknown else ""
        caption += f". The public scorer stops here: {self.error}" if self.error else ""
        table = Table(title=f"{self.benchmark}, {self.scorer}: accuracy in percent", caption=caption)
        for column in ("group", COUNT, "answers", *self.floors):
            is_group = column == "group"
            head = column.replace(" ", "\n")  # narrow
            table.add_column(head, justify="left" if is_group else "right", no_wrap=True)
        groups = dict.fromkeys([*self.summary, *(g for floor in self.floors.values() for g in floor)])
        for group in groups:
            count = self.summary.get(group, {}).get(COUNT)
            cells = [
                _cell(figures.get(group, {}).get(ACCURACY))
                for figures in (self.summary, *self.floors.values())
            ]
            table.add_row(group, "-" if count is None else f"{count:.0f}", *cells)
        return table

    def missing_note(self) -> str:
        """The first missing ids in words, "" if none is missing."""
        if not self.missing:
            return ""
        more = f", ... ({len(self.missing)} in all)" if len(self.missing) > NUM_LISTED else ""
        return f"without an answer: {', '.join(self.missing[:NUM_LISTED])}{more}"


def score_answers(
    benchmark: QABenchmark, answers: Answers, scorer: QAScorer, *, with_floors: bool = True
) -> QAResult:
    """Score a set of answers.

    Args:
        benchmark: Its questions must have answers.
        answers: Question id -> what was answered.
        scorer: One of the benchmark's.
        with_floors: Also score constant answers.

    Raises:
        UserError: If the truth is not public, or no answer belongs to the benchmark.
    """
    hidden = [question.id for question in benchmark.questions if question.answer is None]
    if hidden:
        raise UserError(
            f"{benchmark.name}: {len(hidden)} of {len(benchmark.questions)} questions have no public answer "
            f"(first: {hidden[0]}); write the answers to a file and submit them to the benchmark's server"
        )
    missing, unknown = check_answers(benchmark, answers)
    marks = _marks(benchmark, lambda q: answers.get(q.id), scorer)
    floors: dict[str, Summary] = {}
    if with_floors:
        for name, answer_of in scorer.floors(benchmark).items():
            floors[name] = scorer.summarize(_marks(benchmark, answer_of, scorer))
        floors["chance"] = scorer.summarize([_by_chance(question) for question in benchmark.questions])
    return QAResult(
        benchmark.name,
        scorer.name,
        scorer.rule,
        scorer.summarize(marks),
        marks,
        floors,
        missing,
        unknown,
        scorer.crash(marks),
        dict(benchmark.settings),
        benchmark.fingerprint,
    )


def mean_summary(rows: Sequence[QARow]) -> Summary:
    """Accuracy and number of questions, over all rows and in each group of each kind."""
    groups: dict[str, list[float]] = {OVERALL: [row.mark.correct for row in rows]}
    kinds = dict.fromkeys(kind for row in rows for kind in row.question.groups)
    for kind in kinds:
        for row in rows:
            if kind in row.question.groups:
                groups.setdefault(f"{kind}/{row.question.groups[kind]}", []).append(row.mark.correct)
    return {group: figures(values) for group, values in groups.items() if values}


def figures(values: Sequence[float]) -> dict[str, float]:
    """Accuracy in percent, and the number of questions, of at least one mark."""
    return {ACCURACY: 100 * sum(values) / len(values), COUNT: float(len(values))}


def constant(text: str) -> Constant:
    """The same words for all questions."""
    return lambda question: text


def most_frequent(benchmark: QABenchmark) -> Constant:
    """The most frequent truth of each task, for options their place; of equals the first in the file."""
    truths: dict[str, Counter[int | str]] = {}
    for question in benchmark.questions:
        if question.answer is not None:
            is_choice = question.kind == "choice"
            truth = question.labels.index(question.answer) if is_choice else question.answer
            truths.setdefault(question.task, Counter())[truth] += 1
    best = {task: counts.most_common(1)[0][0] for task, counts in truths.items()}

    def answer(question: Question) -> str:
        truth = best[question.task]
        return _option(truth)(question) if isinstance(truth, int) else truth

    return answer


def _option(index: int) -> Constant:
    """The option at a place; a letter that is no option where there are fewer, Yes / No for the first two."""

    def answer(question: Question) -> str:
        if question.kind == "yes_no":
            return ("Yes", "No")[index] if index < 2 else "neither"
        return question.labels[index] if index < len(question.labels) else LETTERS[index]

    return answer


def _marks(benchmark: QABenchmark, answer_of: Constant, scorer: QAScorer) -> list[QARow]:
    rows = []
    for question in benchmark.questions:
        answer = answer_of(question)
        rows.append(QARow(question, answer, Mark(0.0) if answer is None else scorer.mark(question, answer)))
    return rows


def _by_chance(question: Question) -> QARow:
    """What drawing an answer at random is expected to score; a count cannot be drawn."""
    choices = {"choice": len(question.labels), "yes_no": 2, "count": 0}[question.kind]
    return QARow(question, "", Mark(1 / choices if choices else 0.0))


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
