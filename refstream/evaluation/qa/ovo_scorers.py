"""The scorers of OVO-Bench: the public one with its defects, and strict ones.

The public rule (``utils/OVOBenchScore.py`` of JoeLeelyf/OVO-Bench): an option is right if its letter occurs
anywhere in the answer, case counted; a count if all digits of the answer, glued together, are it; Yes / No
if it occurs anywhere, or the answer is exactly Y / N. The accuracy of a task is the mean over its query
points; Backward, Realtime and Forward are means over their tasks, and the total is the mean of the three.
Known defects, kept in ``official``: "ABCDE Yes No 1" is right nearly everywhere, "1 or 2" is 12, the A of
"An" is option A, lists are searched for members instead of letters, and an answer that is no text stops the
script, as does a mode without any result.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from refstream.evaluation.protocols.base import OVERALL, Summary
from refstream.evaluation.qa.base import QABenchmark, Question
from refstream.evaluation.qa.ovo import MODE_OF, TASKS
from refstream.evaluation.qa.scoring import (
    ACCURACY,
    COUNT,
    Constant,
    Mark,
    QARow,
    StrictScorer,
    constant,
    most_frequent,
)

EXPLOIT = "ABCDE Yes No 1"
UNABLE = "Unable to answer"


class OVOStrict(StrictScorer):
    """One option, one number or yes / no; a task is the mean over its query points, as in the public code."""

    rule = (
        "one option, one number or yes/no (see parsing); task: mean over query points; mode: mean over "
        "tasks; "
        "total: mean over modes"
    )

    def summarize(self, rows: Sequence[QARow]) -> Summary:
        """Total, modes, tasks. There is no total without all three modes."""
        tasks: dict[str, list[float]] = {}
        for task, marks in _by_task(rows).items():
            tasks[task] = self.task_values(marks)
        accuracy = {task: 100 * sum(values) / len(values) for task, values in tasks.items()}
        counts = {task: float(len(marks)) for task, marks in _by_task(rows).items()}
        modes: Summary = {}
        for mode, names in TASKS.items():
            present = [task for task in names if task in tasks]
            if present:
                mean = sum(accuracy[task] for task in present) / len(present)
                modes[f"mode/{mode}"] = {ACCURACY: mean, COUNT: sum(counts[task] for task in present)}
        summary: Summary = {}
        if len(modes) == len(TASKS):
            total = sum(figures[ACCURACY] for figures in modes.values()) / len(modes)
            summary[OVERALL] = {ACCURACY: total, COUNT: float(len(rows))}
        summary.update(modes)
        order = [task for task in MODE_OF if task in tasks]
        summary.update({f"task/{task}": {ACCURACY: accuracy[task], COUNT: counts[task]} for task in order})
        return summary

    def task_values(self, rows: Sequence[QARow]) -> list[float]:
        """What a task is the mean of."""
        return [row.mark.correct for row in rows]

    def floors(self, benchmark: QABenchmark) -> dict[str, Constant]:
        """Constant words for all questions, and the best constants by task."""
        return {
            "always A": constant("A"),
            "always Yes": constant("Yes"),
            f"always {EXPLOIT!r}": constant(EXPLOIT),
            "most frequent": most_frequent(benchmark),
            "unable, else A": _unable,
        }


class OVOStrictPerQuestion(OVOStrict):
    """As ``OVOStrict``, but a task is the mean over records, each the mean over its query points (the paper's
    appendix; the public code does otherwise)."""

    name = "strict-per-question"
    rule = (
        "one option, one number or yes/no (see parsing); record: mean over its query points; task: mean over "
        "records; mode: mean over tasks; total: mean over modes"
    )

    def task_values(self, rows: Sequence[QARow]) -> list[float]:
        records: dict[str, list[float]] = {}
        for row in rows:
            records.setdefault(str(row.question.details.get("record", row.question.id)), []).append(
                row.mark.correct
            )
        return [sum(values) / len(values) for values in records.values()]


class OVOOfficial(OVOStrict):
    """The figures of the public script, defects included.

    Where the script stops with an error, the figures that it prints before are given and no others, and
    ``crash`` says what happened.
    """

    name = "official"
    rule = (
        "the public script, defects included: letter or Yes/No anywhere in the answer, digits glued "
        "together; task: "
        "mean over query points; mode: mean over tasks; total: mean over modes"
    )

    def mark(self, question: Question, answer: Any) -> Mark:
        try:
            return Mark(float(_official(question, answer)), None)
        except TypeError as error:
            return Mark(0.0, None, f"TypeError: {error}")

    def summarize(self, rows: Sequence[QARow]) -> Summary:
        crashed = _crashed_mode(rows)
        if crashed is None:
            return super().summarize(rows)
        printed = list(TASKS)[: list(TASKS).index(crashed)]
        kept = [row for row in rows if MODE_OF[row.question.task] in printed]
        return super().summarize(kept) if kept else {}

    def crash(self, rows: Sequence[QARow]) -> str:
        mode = _crashed_mode(rows)
        if mode is not None:
            row = next(r for r in rows if r.mark.crash and MODE_OF[r.question.task] == mode)
            return f"question {row.question.id}: {row.mark.crash}"
        present = {MODE_OF[row.question.task] for row in rows}
        for name in TASKS:
            if name not in present:
                variable = f"{name.lower()}_score"
                return (
                    f"no result of {name}: UnboundLocalError: cannot access local variable '{variable}' "
                    "where it is "
                    "not associated with a value"
                )
        return ""


def official_lines(model: str, summary: Summary) -> list[str]:
    """What the public script prints for a summary of ``OVOOfficial``; tasks in the order of the paper."""
    titles = {
        "Backward": "Evaluate Backward Tracing...",
        "Realtime": "Evaluate Real-time Visual Perception...",
        "Forward": "Evaluate Forward Active Responding...",
    }
    lines = [f"Offline Model: {model}"]
    for mode, tasks in TASKS.items():
        if f"mode/{mode}" not in summary:
            continue
        lines.append(titles[mode])
        for task in tasks:
            if f"task/{task}" in summary:
                lines.append(f"Task: {task}, Acc: {summary[f'task/{task}'][ACCURACY]:.2f}")
        lines += [f"{mode} Avg.: {summary[f'mode/{mode}'][ACCURACY]:.2f}", ""]
    if OVERALL in summary:
        lines.append(f"Total Avg.: {summary[OVERALL][ACCURACY]:.2f}")
    return lines


def _official(question: Question, answer: Any) -> bool:
    """Raises TypeError where the public code does: it takes any value for a text."""
    if question.kind == "count":
        return "".join(re.findall(r"\d+", answer)) == question.answer
    if question.kind == "yes_no" and answer == str(question.answer)[0]:
        return True
    return question.answer in answer


def _by_task(rows: Sequence[QARow]) -> dict[str, list[QARow]]:
    tasks: dict[str, list[QARow]] = {}
    for row in rows:
        tasks.setdefault(row.question.task, []).append(row)
    return tasks


def _crashed_mode(rows: Sequence[QARow]) -> str | None:
    """The first mode, in the order of the script, in which an answer stops it."""
    crashed = {MODE_OF[row.question.task] for row in rows if row.mark.crash}
    return next((mode for mode in TASKS if mode in crashed), None)


def _unable(question: Question) -> str:
    """The option that says so, which is the truth of every HLD question of the public file; else A, or No."""
    if question.kind == "choice":
        same = (
            label for label, text in zip(question.labels, question.options, strict=True) if text == UNABLE
        )
        return next(same, "A")
    return "No" if question.kind == "yes_no" else "0"
