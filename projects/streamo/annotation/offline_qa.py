"""Questions about whole videos, with the stretch that shows the answer -> records of a stream.

A file is a JSON list of objects or a CSV table with a header. Columns: ``question``, ``answer`` and ``end``,
and if wanted ``start``, ``asked``, ``video``, ``task`` and ``id``; a video may have many rows. Times as in
raw annotations. The answer is given when the stretch [start, end] is over, or without a start at the moment
``end``. A question without ``asked`` comes up where the stretch begins: that is as late as it can be while
nothing is missed.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from refstream.data.datasets.reading import expect, read_array
from refstream.errors import UserError
from refstream.stream_records import StreamAnswer, StreamAsk, StreamRecord

from ..records import parse_task, parse_time
from .checks import Event, Finding, Limits, clip, known_before_asked, reason_against

COLUMNS = ("question", "answer", "start", "end", "asked", "video", "task", "id")
DEFAULT_TASK = "time_sensitive_qa"


@dataclass(frozen=True)
class OfflineQuestion:
    """One row.

    Attributes:
        question: What is asked.
        asked_s: When.
        event: The answer, and the stretch or moment that shows it.
        video: Name, path or stem of its video; empty if the file does not say.
        task: One of ``records.TASKS``.
        id: Unique in its file.
        where: File and row, for messages.
    """

    question: str
    asked_s: float
    event: Event
    video: str
    task: str
    id: str
    where: str


def read_questions(path: str | Path) -> list[OfflineQuestion]:
    """All rows of a file, in its order.

    Args:
        path: Ends in .json or .csv.

    Raises:
        UserError: If the file cannot be read, or a row lacks words or an end, has a time that cannot be read
            or ends before it starts, or an id stands twice; names file, row and column.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no file of questions at {path}")
    kind = path.suffix.lower()
    if kind not in {".json", ".csv"}:
        raise UserError(f"{path}: expected a .json or .csv file of questions, got {kind or 'no ending'!r}")
    rows: list[Any] = read_array(path) if kind == ".json" else _csv_rows(path)
    questions = [_question(row, number, path) for number, row in enumerate(rows)]
    seen: dict[str, str] = {}
    for question in questions:
        if question.id in seen:
            raise UserError(f"{question.where}: the id {question.id!r} stands in {seen[question.id]} already")
        seen[question.id] = question.where
    return questions


def by_video(
    questions: list[OfflineQuestion], videos: list[str]
) -> tuple[dict[str, list[OfflineQuestion]], list[OfflineQuestion]]:
    """Which rows belong to which video.

    Args:
        questions: All rows.
        videos: Names of the videos in the records: paths with "/". A row names one by its path, with or
            without the ending, or by its last part; one that names none belongs to the only video.

    Returns:
        Name of each video -> its rows; and the rows whose video is not among them.

    Raises:
        UserError: If a row fits several videos, or names none and there are several.
    """
    places: dict[str, set[str]] = {}
    for video in videos:
        path = PurePosixPath(video)
        for name in (video, str(path.with_suffix("")), path.name, path.stem):
            places.setdefault(name, set()).add(video)
    found: dict[str, list[OfflineQuestion]] = {video: [] for video in videos}
    homeless = []
    for row in questions:
        fitting = {row.video} if row.video in found else places.get(row.video, set())
        if not row.video:
            fitting = set(videos)
        if len(fitting) > 1:
            what = f"video {row.video!r} may be any of" if row.video else "names no video; there are"
            raise UserError(f"{row.where}: {what} {', '.join(sorted(fitting)[:5])}; write its path")
        if fitting:
            found[fitting.pop()].append(row)
        else:
            homeless.append(row)
    return found, homeless


def to_records(
    questions: list[OfflineQuestion], video: str, duration_s: float, limits: Limits
) -> tuple[list[StreamRecord], list[Finding]]:
    """A record for each row of one video, and what was mended or left out.

    Args:
        questions: Rows of this video.
        video: Its name in the records.
        duration_s: Of the video.
        limits: Only the slack counts: a stretch may be short.

    Returns:
        Records in the order of the rows. An answer that ends after the video by more than the slack, a
        stretch that begins after it, and a question asked after it are left out.
    """
    records: list[StreamRecord] = []
    findings: list[Finding] = []
    for row in questions:
        event, kind = row.event, reason_against(row.event, duration_s, limits)
        if not kind and row.asked_s >= duration_s:
            kind = "outside"
        if not kind and event.end_s > duration_s:
            kind, event = "clipped", clip(event, duration_s)
        if kind:
            findings.append(Finding(kind, row.task, row.event.text, row.event.begin_s, row.event.end_s))
        if kind in {"", "clipped"}:
            record = StreamRecord(
                video=video,
                task=row.task,
                asks=(StreamAsk(row.question, row.asked_s),),
                answers=(StreamAnswer(event.text, event.end_s, event.start_s),),
                duration_s=duration_s,
                id=f"{video}:qa:{row.id}",
                source="offline questions",
            )
            findings += known_before_asked(record)
            records.append(record)
    return records, findings


def _csv_rows(path: Path) -> list[dict[str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 ({error})") from error
    table = csv.DictReader(io.StringIO(text, newline=""))
    header = list(table.fieldnames or [])
    if missing := {"question", "answer", "end"} - set(header):
        raise UserError(
            f"{path}: no column {', '.join(sorted(missing))}; the first line must have {', '.join(COLUMNS)} "
            f"(question, answer and end are needed), got {', '.join(header) or 'nothing'}"
        )
    rows = []
    for number, row in enumerate(table):
        if None in row or None in row.values():
            raise UserError(
                f"{path}, row {number}: expected {len(header)} cells; is a cell with a comma quoted?"
            )
        rows.append(row)
    return rows


def _question(row: object, number: int, path: Path) -> OfflineQuestion:
    where = f"{path}, row {number}"
    cells: Mapping[str, Any] = expect(row, dict, where)
    if unknown := set(cells) - set(COLUMNS):
        raise UserError(
            f"{where}: unknown column {', '.join(sorted(unknown))}; known are {', '.join(COLUMNS)}"
        )
    question, answer = _words(cells, "question", where), _words(cells, "answer", where)
    start_s = parse_time(cells.get("start"), f"{where}, start")
    end_s = parse_time(cells.get("end"), f"{where}, end")
    asked_s = parse_time(cells.get("asked"), f"{where}, asked")
    if end_s is None:
        raise UserError(f"{where}: needs an end: the time from which on the answer is known")
    if start_s is not None and start_s > end_s:
        raise UserError(f"{where}: starts at {start_s:g} s, after its end at {end_s:g} s")
    if asked_s is None:
        asked_s = end_s if start_s is None else start_s
    return OfflineQuestion(
        question=question,
        asked_s=asked_s,
        event=Event(answer, end_s, start_s),
        video=str(cells.get("video") or "").strip(),
        task=parse_task(cells.get("task") or DEFAULT_TASK, where),
        id=str(cells["id"]) if cells.get("id") not in (None, "") else str(number),
        where=where,
    )


def _words(cells: Mapping[str, Any], column: str, where: str) -> str:
    text = cells.get(column)
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{where}: {column} has no words, got {text!r}")
    return " ".join(text.split())
