"""Streamo's raw annotations <-> ``StreamRecord``.

A record is ``video_name``, ``video_path``, ``task_type``, ``source``, ``question``: [{``content``, ``time``}]
and ``response``: [{``content``, ``st_time``, ``end_time``, ``time``}] with either the pair or the moment
filled, the others empty. Times are seconds, as a number or as text ("5", "5.5", "01:05", "00:01:05.5").
Source: the example in maifoundations/Streamo. Three keys are ours and may be missing: ``id``, ``duration``
(of the video, in seconds), and in a response ``question``, the number of the question that it answers, from
0. Without that number an answer belongs to the last question asked at or before its end, or to the first one
if none was.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from refstream.data.datasets.reading import expect, read_array
from refstream.errors import UserError
from refstream.files import write_json
from refstream.stream_records import StreamAnswer, StreamAsk, StreamRecord

from .states import holds_state_token

TASKS = ("narration", "event_caption", "action_caption", "event_grounding", "time_sensitive_qa")
"""The five tasks of the paper."""
ALIASES = {
    "narration": ("real_time_narration", "realtime_narration", "live_narration"),
    "event_caption": ("event_captioning", "event_detection", "dense_caption", "dense_captioning"),
    "action_caption": ("action_captioning",),
    "event_grounding": ("event_localization", "event_localisation", "temporal_grounding", "grounding"),
    "time_sensitive_qa": ("qa", "tsqa", "time_sensitive_question_answering"),
}
"""Other names, of the published files ("QA") and of the paper; case, "-" and " " do not matter."""
TASK_OF = {name: task for task, names in ALIASES.items() for name in (task, *names)}
FORM = 'seconds as a number or text, or "MM:SS" or "HH:MM:SS"'
_NUMBER = re.compile(r"\d+(\.\d*)?|\.\d+")
_CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d+(?:\.\d*)?)")

OnProblem = Callable[[str, UserError], None]
"""Is told the name of a record that cannot be used, and why."""


def read_raw(
    path: str | Path,
    *,
    allow_unknown_tasks: bool = False,
    default_question: str | None = None,
    on_problem: OnProblem | None = None,
) -> list[StreamRecord]:
    """All records of a file of raw annotations, in its order.

    Args:
        path: A JSON list of records.
        allow_unknown_tasks: Keep a task that is none of ``TASKS`` or their aliases under its own name.
        default_question: Asked at 0 s by records without a question; None makes those an error.
        on_problem: Called for each record that cannot be used, which is then left out; None raises instead.

    Raises:
        UserError: If the file is missing or no JSON list, or a record is of another form: names file, record
            and field.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no file of raw annotations at {path}")
    records = []
    for number, row in enumerate(read_array(path)):
        where = record_name(path, number, row)
        try:
            records.append(
                parse_record(
                    row,
                    where,
                    allow_unknown_tasks=allow_unknown_tasks,
                    default_question=default_question,
                )
            )
        except UserError as error:
            if on_problem is None:
                raise
            on_problem(where, error)
    return records


def record_name(path: str | Path, number: int, row: object) -> str:
    """What to call a record in a message: file, place, and its id or video."""
    name = (row.get("id") or row.get("video_name")) if isinstance(row, Mapping) else None
    return f"{path}, record {number}" + (f" ({name})" if name else "")


def parse_record(
    row: object, where: str, *, allow_unknown_tasks: bool = False, default_question: str | None = None
) -> StreamRecord:
    """One raw record; ``where`` names it in messages. Raises UserError as ``read_raw``."""
    record: dict[str, Any] = expect(row, dict, where)
    video = expect(record.get("video_path") or record.get("video_name"), str, f"{where}, video_path")
    questions = _rows(record, "question", where)
    if not questions and default_question is not None:
        questions = [{"content": default_question, "time": 0}]
    if not questions:
        raise UserError(f"{where}: asks nothing; expected at least one question")
    asks = [
        StreamAsk(_words(q, f"{where}, question {i}"), _required(q, "time", f"{where}, question {i}"))
        for i, q in enumerate(questions)
    ]
    order = sorted(range(len(asks)), key=lambda i: asks[i].time_s)
    asks = [asks[i] for i in order]
    place = {old: new for new, old in enumerate(order)}
    answers = [
        _answer(r, asks, place, f"{where}, response {i}")
        for i, r in enumerate(_rows(record, "response", where))
    ]
    duration = parse_time(record.get("duration"), f"{where}, duration")
    return StreamRecord(
        video=video,
        task=parse_task(record.get("task_type"), where, allow_unknown=allow_unknown_tasks),
        asks=tuple(asks),
        answers=tuple(sorted(answers, key=lambda answer: answer.end_s)),
        duration_s=duration,
        id=expect(record.get("id", ""), str, f"{where}, id"),
        source=expect(record.get("source", ""), str, f"{where}, source"),
    )


def parse_task(value: object, where: str, *, allow_unknown: bool = False) -> str:
    """The name in ``TASKS`` of a task. Raises UserError for one that is unknown, unless allowed."""
    name = expect(value, str, f"{where}, task_type")
    known = TASK_OF.get(re.sub(r"[\s\-_]+", "_", name.strip().lower()))
    if known is None and not (allow_unknown and name.strip()):
        raise UserError(
            f"{where}: task_type {name!r} is unknown; expected one of {', '.join(TASKS)} (or allow others)"
        )
    return known or name


def parse_time(value: object, where: str) -> float | None:
    """Seconds of a time in one of the forms above; None if it is not given (None or "").

    Raises:
        UserError: If it cannot be read, is negative or not finite.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    seconds = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str):
        text = value.strip()
        if _NUMBER.fullmatch(text):
            seconds = float(text)
        elif match := _CLOCK.fullmatch(text):
            hours, minutes, rest = int(match[1] or 0), int(match[2]), float(match[3])
            if rest < 60 and (match[1] is None or minutes < 60):
                seconds = hours * 3600 + minutes * 60 + rest
    if not (math.isfinite(seconds) and seconds >= 0):
        raise UserError(f"{where}: {value!r} is not a time; expected {FORM}, 0 or later")
    return seconds


def write_raw(path: str | Path, records: Iterable[StreamRecord]) -> None:
    """Write raw annotations that ``read_raw`` reads as the same records.

    The public converter reads them as well: times are text in seconds, unused ones are empty. The number of
    the question that a response answers is written where there are several.

    Raises:
        OutputError: If the file cannot be written.
    """
    write_json(path, [raw_row(record) for record in records])


def raw_row(record: StreamRecord) -> dict[str, Any]:
    """One record in the raw form."""
    row: dict[str, Any] = {
        "video_name": re.split(r"[/\\]", record.video)[-1],
        "video_path": record.video,
        "task_type": record.task,
        "source": record.source,
        "question": [{"content": ask.text, "time": _seconds(ask.time_s)} for ask in record.asks],
        "response": [_raw_response(answer, len(record.asks)) for answer in record.answers],
    }
    if record.id:
        row["id"] = record.id
    if record.duration_s is not None:
        row["duration"] = record.duration_s
    return row


def _raw_response(answer: StreamAnswer, num_asks: int) -> dict[str, Any]:
    response: dict[str, Any] = {"content": answer.text, "st_time": "", "end_time": "", "time": ""}
    if answer.start_s is None:
        response["time"] = _seconds(answer.end_s)
    else:
        response["st_time"], response["end_time"] = _seconds(answer.start_s), _seconds(answer.end_s)
    if num_asks > 1:
        response["question"] = answer.ask
    return response


def _seconds(time_s: float) -> str:
    """Seconds as text, "5" for 5.0, never in exponents, exact when read again."""
    text = repr(float(time_s))
    return f"{time_s:.9f}".rstrip("0").rstrip(".") if "e" in text else text.removesuffix(".0")


def _answer(
    row: dict[str, Any], asks: Sequence[StreamAsk], place: Mapping[int, int], where: str
) -> StreamAnswer:
    start = parse_time(row.get("st_time"), f"{where}, st_time")
    end = parse_time(row.get("end_time"), f"{where}, end_time")
    moment = parse_time(row.get("time"), f"{where}, time")
    if (moment is None) == (end is None) or (start is None) != (end is None):
        given = {key: row.get(key) for key in ("st_time", "end_time", "time")}
        raise UserError(f"{where}: expected st_time and end_time, or time alone, got {given}")
    over = end if moment is None else moment
    assert over is not None
    if start is not None and start > over:
        raise UserError(f"{where}: st_time {start:g} s is after end_time {over:g} s")
    if (number := row.get("question")) is not None:
        if not isinstance(number, int) or isinstance(number, bool) or number not in place:
            raise UserError(f"{where}: question {number!r} is none of the {len(asks)} questions, from 0")
        asked = place[number]
    else:
        asked = max((i for i, ask in enumerate(asks) if ask.time_s <= over), default=0)
    words = _words(row, where)
    if holds_state_token(words):  # it would be learned as a second decision in the same turn
        raise UserError(f"{where}, content: holds a state token, which is no word: {words[:80]!r}")
    return StreamAnswer(words, over, start, asked)


def _rows(record: Mapping[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    rows = expect(record.get(key) or [], list, f"{where}, {key}")
    return [expect(row, dict, f"{where}, {key} {i}") for i, row in enumerate(rows)]


def _words(row: Mapping[str, Any], where: str) -> str:
    text = expect(row.get("content"), str, f"{where}, content")
    if not text.strip():
        raise UserError(f"{where}, content: expected words, got an empty text")
    return text


def _required(row: Mapping[str, Any], key: str, where: str) -> float:
    seconds = parse_time(row.get(key), f"{where}, {key}")
    if seconds is None:
        raise UserError(f"{where}, {key}: no time is given; expected {FORM}")
    return seconds
