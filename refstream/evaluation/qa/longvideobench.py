"""LongVideoBench: questions that refer to a moment of a long video, with up to five options.

Source: longvideobench/LongVideoBench (arXiv 2407.15754): ``lvb_val.json`` (``id``, ``video_path``,
``question``, ``candidates``, ``correct_choice`` from 0, ``duration``, ``duration_group`` 15, 60, 600 or
3600, ``question_category``, ``topic_category``, ``subtitle_path``) or the same as Parquet with ``option0``
to ``option4`` ("N/A" where there is none). ``lvb_test_wo_gt.json`` has no answers: it can be answered, not
scored. The prompt is worded here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from refstream.data.datasets.reading import relative_path
from refstream.errors import UserError
from refstream.evaluation.qa.base import LETTERS, QABenchmark, Question
from refstream.evaluation.qa.scoring import Mark, StrictScorer
from refstream.evaluation.qa.tables import Row, first_file, read_rows, strings, take
from refstream.evaluation.qa.videomme import first_letter

SPLITS: dict[str, tuple[str, ...]] = {
    "val": ("lvb_val.json", "validation-*.parquet"),
    "test": ("lvb_test_wo_gt.json", "test-*.parquet"),
}
NUM_OPTIONS, NO_OPTION = 5, "N/A"
PROMPT = "{subtitles}Question: {question}\n{options}\nAnswer with the letter of the right option alone."
SUBTITLES = "These are the subtitles of the video:\n{lines}\n\n"
_PREFIXES = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    "The best option is",
    "The correct option is",
    "Best answer:",
    "Best option:",
)


class LongVideoBench(QABenchmark):
    """The public questions.

    Args:
        root: Holds the file of the split, ``videos/`` and ``subtitles/``.
        split: "val", or "test", whose answers are not public.
        subtitles: Put all subtitles of the video before the question.

    Raises:
        UserError: If a file is missing or a question is not as described; names it.
    """

    name = "longvideobench"

    def __init__(
        self,
        root: str | Path = "data/video_qa/longvideobench",
        *,
        split: str = "val",
        subtitles: bool = False,
    ) -> None:
        self.root = Path(root)
        if split not in SPLITS:
            raise UserError(f"LongVideoBench has the splits {', '.join(SPLITS)}; got {split!r}")
        self.subtitles = subtitles
        self.path = first_file(self.root, *SPLITS[split])
        rows = read_rows(self.path)
        self.questions = [self._question(row, f"{self.path}, entry {i}") for i, row in enumerate(rows)]
        self.settings = {"split": split, "subtitles": subtitles}

    def video_path(self, question: Question) -> Path:
        return self.root / "videos" / question.video

    def _question(self, row: Row, where: str) -> Question:
        options = _options(row, where)
        index = row.get("correct_choice")
        if index is not None and not 0 <= take(row, "correct_choice", int, where) < len(options):
            raise UserError(f"{where}: correct_choice is {index}, but there are {len(options)} options")
        text = take(row, "question", str, where)
        lines = self._subtitle_lines(row, where) if self.subtitles else ""
        category = take(row, "question_category", str, where)
        return Question(
            id=take(row, "id", str, where),
            video=relative_path(row.get("video_path"), f"{where}, video_path"),
            prompt=PROMPT.format(
                subtitles=SUBTITLES.format(lines=lines) if lines else "",
                question=text,
                options="\n".join(f"{LETTERS[i]}. {option}" for i, option in enumerate(options)),
            ),
            answer=None if index is None else LETTERS[index],
            kind="choice",
            task=category,
            groups={
                "duration": str(take(row, "duration_group", int, where)),
                "category": category,
                "topic": str(row.get("topic_category", "")),
            },
            text=text,
            options=options,
        )

    def _subtitle_lines(self, row: Row, where: str) -> str:
        path = self.root / "subtitles" / relative_path(row.get("subtitle_path"), f"{where}, subtitle_path")
        if not path.is_file():
            raise UserError(f"{where}: no subtitles at {path}; unpack subtitles.tar, or ask without them")
        try:
            entries = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{path} is not valid JSON ({error})") from error
        return "\n".join(str(entry.get("text", entry.get("line", ""))).strip() for entry in entries)


class LongVideoBenchOfficial(StrictScorer):
    """The rule of lmms-eval, which the authors point to: the first capital A to E after some lead-ins.

    Where there is none, that code draws an option at random; here the answer is wrong.
    """

    name = "official"
    rule = (
        "lmms-eval's rule: the first of the letters A to E in the answer, none is wrong; mean over questions"
    )

    def mark(self, question: Question, answer: Any) -> Mark:
        parsed = first_letter(answer, "ABCDE", _PREFIXES) if isinstance(answer, str) else None
        return Mark(float(parsed is not None and parsed == question.answer), parsed)


def submission(benchmark: QABenchmark, answers: Mapping[str, Any]) -> dict[str, str]:
    """What the server of the test split takes: {question id: letter}; "" where no letter can be read."""
    return {
        question.id: first_letter(str(answers.get(question.id) or ""), "ABCDE", _PREFIXES) or ""
        for question in benchmark.questions
    }


def _options(row: Row, where: str) -> tuple[str, ...]:
    if "candidates" in row:
        return strings(row, "candidates", where)
    given: Sequence[Any] = [row.get(f"option{i}") for i in range(NUM_OPTIONS)]
    options = tuple(str(option) for option in given if option not in (None, NO_OPTION))
    if len(options) < 2:
        raise UserError(f"{where}: expected candidates, or option0 to option4; got {sorted(row)}")
    return options
