"""OVO-Bench: questions about what was, what is now, and what is still to come in a video.

Source: JoeLeelyf/OVO-Bench (arXiv 2501.05510), ``data/ovo_bench_new.json``: 1,640 records. A record of the
nine tasks of multiple choice is one question, asked at ``realtime``; one of REC (count so far), SSR (is this
step being done now) and CRR (is there enough to answer yet) is asked again at every entry of ``test_info``.
That makes 3,035 query points (the authors' README says 3,100).

The prompts are worded here, and ask for the answers in the official form: options lettered "A. ..." and
joined by "; ", the letter alone; a number alone; Yes or No.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from refstream.data.datasets.reading import relative_path
from refstream.errors import UserError
from refstream.evaluation.qa.base import LETTERS, QABenchmark, Question
from refstream.evaluation.qa.tables import Row, first_file, read_rows, strings, take

log = logging.getLogger(__name__)

TASKS: dict[str, tuple[str, ...]] = {
    "Backward": ("EPM", "ASI", "HLD"),
    "Realtime": ("OCR", "ACR", "ATR", "STU", "FPD", "OJR"),
    "Forward": ("REC", "SSR", "CRR"),
}
MODE_OF = {task: mode for mode, tasks in TASKS.items() for task in tasks}
NUM_RECORDS, NUM_QUESTIONS = 1640, 3035
"""Of the public file."""
NUMBER = (int, float)

CHOICE_PROMPT = (
    "Question: {question}\nOptions:\n{options}\n\n"
    "Answer with the letter of the right option alone, for example A. Add nothing else."
)
COUNT_PROMPT = (
    "In this video people may repeat an action. Count how often it is done in all, by anyone; only a "
    "complete "
    "action counts.\nHow many times did they {activity}?\n"
    "Answer with one number alone, for example 0, 1 or 2. Add nothing else."
)
STEP_PROMPT = (
    "This video shows a procedure of several steps. One of them is:\n{step}\n"
    "Is the person doing this step right now, at the end of the video? Answer Yes or No alone."
)
ENOUGH_PROMPT = (
    "This question is about the latest part of the video:\n{question}\n"
    "Does what you have seen so far, above all at the end of the video, tell enough to answer it? "
    "Answer Yes or No alone."
)


class OVOBench(QABenchmark):
    """The public annotations.

    Args:
        root: Holds ``ovo_bench_new.json`` (or ``data/ovo_bench_new.json``, as in a clone of the authors'
            repository) with ``src_videos`` beside it.
        anno_path: The annotations, if they lie elsewhere.
        video_dir: The source videos, if they lie elsewhere. A model is shown a video up to the time of the
            question.
        chunked_dir: Take the authors' cut videos ``<id>.mp4`` and ``<id>_<i>.mp4`` of this folder instead;
            they end at the next whole second.
        tasks: Only these; all twelve by default.

    Raises:
        UserError: If the file is missing or a record is not as described; names the record.
    """

    name = "ovo"

    def __init__(
        self,
        root: str | Path = "data/video_qa/ovo_bench",
        *,
        anno_path: str | Path | None = None,
        video_dir: str | Path | None = None,
        chunked_dir: str | Path | None = None,
        tasks: Sequence[str] | None = None,
    ) -> None:
        wanted = tuple(MODE_OF) if tasks is None else tuple(tasks)
        unknown = [task for task in wanted if task not in MODE_OF]
        if unknown or not wanted:
            raise UserError(
                f"OVO-Bench has the tasks {', '.join(MODE_OF)}; got {', '.join(unknown) or 'none'}"
            )
        if anno_path is None:
            self.anno_path = first_file(Path(root), "ovo_bench_new.json", "data/ovo_bench_new.json")
        else:
            self.anno_path = Path(anno_path)
        self.video_dir = Path(video_dir) if video_dir else self.anno_path.parent / "src_videos"
        self.chunked_dir = Path(chunked_dir) if chunked_dir else None
        rows = read_rows(self.anno_path)
        self.records = [row for row in rows if row.get("task") not in MODE_OF or row["task"] in wanted]
        self.questions = list(self._read())
        self.settings = {"tasks": list(wanted), "cut": "chunks" if chunked_dir else "at the question's time"}
        if tasks is None and (len(rows), len(self.questions)) != (NUM_RECORDS, NUM_QUESTIONS):
            log.warning(
                "%s holds %d records with %d query points; the public file has %d with %d",
                self.anno_path,
                len(rows),
                len(self.questions),
                NUM_RECORDS,
                NUM_QUESTIONS,
            )

    def video_path(self, question: Question) -> Path:
        if self.chunked_dir is not None:
            return self.chunked_dir / f"{question.id}.mp4"
        return self.video_dir / question.video

    def _read(self) -> Iterator[Question]:
        seen: set[str] = set()
        for number, record in enumerate(self.records):
            name = str(record.get("id"))
            where = f"{self.anno_path}, record {number} (id {name})"
            take(record, "id", (int, str), where)
            if name in seen:
                raise UserError(f"{where}: another record has this id")
            seen.add(name)
            if record.get("task") not in MODE_OF:
                raise UserError(
                    f"{where}: expected a task of {', '.join(MODE_OF)}, got {record.get('task')!r}"
                )
            relative_path(record.get("video"), f"{where}, video")
            if MODE_OF[record["task"]] == "Forward":
                yield from _forward(record, name, where)
            else:
                yield _choice(record, name, where)


def question_groups(task: str) -> dict[str, str]:
    """The groups of a question of a task, coarsest first."""
    return {"mode": MODE_OF[task], "task": task}


def _choice(record: Row, name: str, where: str) -> Question:
    options = strings(record, "options", where)
    index = take(record, "gt", int, where)
    if not 0 <= index < len(options):
        raise UserError(f"{where}: gt is {index}, but there are {len(options)} options, counted from 0")
    text = take(record, "question", str, where)
    listed = "; ".join(f"{LETTERS[i]}. {option}" for i, option in enumerate(options))
    return Question(
        id=name,
        video=record["video"],
        prompt=CHOICE_PROMPT.format(question=text, options=f"{listed};"),
        answer=LETTERS[index],
        kind="choice",
        task=record["task"],
        groups=question_groups(record["task"]),
        text=text,
        options=options,
        end_s=_time(record, "realtime", where),
        details={"record": name},
    )


def _forward(record: Row, name: str, where: str) -> Iterator[Question]:
    points = take(record, "test_info", list, where)
    if not points:
        raise UserError(f"{where}: test_info is empty; expected at least one query point")
    task = record["task"]
    for index, point in enumerate(points):
        at = f"{where}, test_info {index}"
        if not isinstance(point, dict):
            raise UserError(f"{at}: expected an object, got {str(point)[:60]!r}")
        details: dict[str, Any] = {"record": name, "point": index}
        if task == "REC":
            text = take(record, "activity", str, where)
            prompt, answer = COUNT_PROMPT.format(activity=text), str(take(point, "count", int, at))
        else:
            kind = take(point, "type", int, at)
            if kind not in (0, 1):
                raise UserError(f"{at}: type is {kind}; expected 0 (No) or 1 (Yes)")
            answer = "Yes" if kind else "No"
            if task == "SSR":
                text = take(point, "step", str, at)
                prompt = STEP_PROMPT.format(step=text)
            else:
                text = take(record, "question", str, where)
                prompt = ENOUGH_PROMPT.format(question=text)
                details["ask_s"] = _time(record, "ask_time", where)
        yield Question(
            id=f"{name}_{index}",
            video=record["video"],
            prompt=prompt,
            answer=answer,
            kind="count" if task == "REC" else "yes_no",
            task=task,
            groups=question_groups(task),
            text=text,
            end_s=_time(point, "realtime", at),
            details=details,
        )


def _time(row: Row, key: str, where: str) -> float:
    value = float(take(row, key, NUMBER, where))
    if not 0 <= value < float("inf"):
        raise UserError(f"{where}: {key} is {value}; expected seconds from the start of the video")
    return value
