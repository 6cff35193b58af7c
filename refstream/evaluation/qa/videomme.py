"""Video-MME: 900 videos in three lengths, three questions of four options each, with or without subtitles.

Source: BradyFU/Video-MME (arXiv 2405.21075), ``evaluation/eval_your_results.py``, and the rows that
lmms-lab/Video-MME publishes as Parquet: ``video_id``, ``videoID``, ``duration`` (short, medium, long),
``domain``, ``sub_category``, ``task_type``, ``question_id``, ``question``, ``options`` (already lettered "A.
..."), ``answer`` (a letter). The same rows are read from JSON, and the authors' nested form of results
(``questions`` in each video) as well. The prompt is worded here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from refstream.data.datasets.reading import relative_path
from refstream.errors import UserError
from refstream.evaluation.protocols.base import Summary
from refstream.evaluation.qa.base import LETTERS, QABenchmark, Question
from refstream.evaluation.qa.scoring import Mark, QARow, StrictScorer, mean_summary
from refstream.evaluation.qa.tables import Row, first_file, read_rows, strings, take

DURATIONS = ("short", "medium", "long")
VIDEO_SUFFIXES = (".mp4", ".MP4", ".mkv", ".webm")
PROMPT = (
    "{subtitles}Answer this multiple-choice question about the video{source} with the letter of the right "
    "option "
    "(A, B, C or D) alone.\n{question}\n{options}"
)
SUBTITLES = "These are the subtitles of the video:\n{lines}\n\n"
_TIME_LINE = re.compile(r"^\d+:\d{2}:\d{2}[,.]\d+ --> ")
_TAG = re.compile(r"<[^>]+>")
_PREFIXES = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    "The best option isThe correct option is",  # two strings that the authors' list runs together
    "Best answer:Best option:",
)


class VideoMME(QABenchmark):
    """The public questions.

    Args:
        root: Holds the questions (``*/test-*.parquet``, ``test-*.parquet``, ``video_mme.json``), the videos
            in ``data/<videoID>.mp4`` and the subtitles in ``subtitle/<videoID>.srt``.
        questions: The file of questions, if it lies elsewhere.
        subtitles: Put all subtitles of the video before the question; a video that has none is asked without.
        durations: Only these; all three by default.

    Raises:
        UserError: If a file is missing or a question is not as described; names it.
    """

    name = "videomme"

    def __init__(
        self,
        root: str | Path = "data/video_qa/videomme",
        *,
        questions: str | Path | None = None,
        subtitles: bool = False,
        durations: Sequence[str] = DURATIONS,
    ) -> None:
        self.root = Path(root)
        self.subtitles = subtitles
        unknown = [duration for duration in durations if duration not in DURATIONS]
        if unknown or not durations:
            raise UserError(f"Video-MME has the durations {', '.join(DURATIONS)}; got {unknown or 'none'}")
        patterns = ("videomme/test-*.parquet", "test-*.parquet", "*/test-*.parquet", "video_mme.json")
        self.path = Path(questions) if questions else first_file(self.root, *patterns)
        self._lines: dict[str, str] = {}
        read = (self._question(*entry) for entry in _flat(read_rows(self.path), self.path))
        self.questions = [question for question in read if question.groups["duration"] in durations]
        self.without_subtitles = [video for video, lines in self._lines.items() if not lines]
        self.settings = {
            "subtitles": subtitles,
            "durations": list(durations),
            "videos_without_subtitles": len(self.without_subtitles),
        }

    def video_path(self, question: Question) -> Path:
        paths = [self.root / "data" / f"{question.video}{suffix}" for suffix in VIDEO_SUFFIXES]
        return next((path for path in paths if path.is_file()), paths[0])

    def _question(self, row: Row, where: str) -> Question:
        options = strings(row, "options", where)
        answer = take(row, "answer", str, where).strip()
        if answer not in LETTERS[: len(options)] or len(answer) != 1:
            raise UserError(f"{where}: answer is {answer!r}; expected a letter of {len(options)} options")
        duration = take(row, "duration", str, where)
        if duration not in DURATIONS:
            raise UserError(f"{where}: duration is {duration!r}; expected {', '.join(DURATIONS)}")
        video = relative_path(row.get("videoID", row.get("video_id")), f"{where}, videoID")
        text = take(row, "question", str, where)
        lines = self._subtitle_lines(video) if self.subtitles else ""
        return Question(
            id=take(row, "question_id", str, where),
            video=video,
            prompt=PROMPT.format(
                subtitles=SUBTITLES.format(lines=lines) if lines else "",
                source=" and its subtitles" if lines else "",
                question=text,
                options="\n".join(options),
            ),
            answer=answer,
            kind="choice",
            task=take(row, "task_type", str, where),
            groups={
                "duration": duration,
                "domain": take(row, "domain", str, where),
                "sub-category": take(row, "sub_category", str, where),
                "task": row["task_type"],
            },
            text=text,
            options=tuple(re.sub(r"^[A-Z][.)]\s*", "", option) for option in options),
        )

    def _subtitle_lines(self, video: str) -> str:
        if video not in self._lines:
            path = self.root / "subtitle" / f"{video}.srt"
            self._lines[video] = read_srt(path) if path.is_file() else ""
        return self._lines[video]


class VideoMMEOfficial(StrictScorer):
    """The authors' rule: after some lead-ins are cut out, the first capital A to D anywhere in the answer.

    So "A man runs, so C" is A. The authors divide by the answers in which they find a letter, which rewards
    silence; "accuracy" divides by all questions, "accuracy_answered" is theirs.
    """

    name = "official"
    rule = "the authors' rule: the first of the letters A to D in the answer; mean over questions"

    def mark(self, question: Question, answer: Any) -> Mark:
        parsed = first_letter(answer, "ABCD", _PREFIXES) if isinstance(answer, str) else None
        return Mark(float(parsed is not None and parsed == question.answer), parsed)

    def summarize(self, rows: Sequence[QARow]) -> Summary:
        summary = mean_summary(rows)
        answered = mean_summary([row for row in rows if row.mark.parsed is not None])
        for group, figures in answered.items():
            summary[group]["accuracy_answered"] = figures["accuracy"]
        return summary


def first_letter(text: str, letters: str, prefixes: Sequence[str]) -> str | None:
    """The first of some capital letters anywhere in a text from which lead-ins were cut out."""
    for prefix in prefixes:
        text = text.strip().replace(prefix, "")
    match = re.search(f"[{letters}]", text)
    return match[0] if match else None


def read_srt(path: Path) -> str:
    """The words of a SubRip file, one line per subtitle, without times and tags."""
    blocks = re.split(
        r"\n\s*\n", path.read_text(encoding="utf-8-sig", errors="replace").replace("\r\n", "\n")
    )
    spoken = []
    for block in blocks:
        lines = block.strip().split("\n")
        times = next((i for i, line in enumerate(lines) if _TIME_LINE.match(line.strip())), None)
        if times is not None:
            spoken.append(" ".join(_TAG.sub("", line).strip() for line in lines[times + 1 :]).strip())
    return "\n".join(line for line in spoken if line)


def _flat(rows: list[Row], path: Path) -> Iterator[tuple[Row, str]]:
    """Rows of one question each; the nested form has other names for some columns."""
    for number, row in enumerate(rows):
        where = f"{path}, entry {number}"
        if "questions" not in row:
            yield row, where
            continue
        common = {
            "video_id": row.get("video_id"),
            "duration": row.get("duration_category"),
            "domain": row.get("video_category"),
            "sub_category": row.get("video_subcategory"),
        }
        for index, question in enumerate(take(row, "questions", list, where)):
            yield {**common, **question, "options": question.get("choices")}, f"{where}, question {index}"
