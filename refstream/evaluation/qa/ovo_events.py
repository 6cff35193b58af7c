"""From what a streaming model said, and when, to OVO-Bench's answers.

A streaming run asks each thing once (``stream_queries``) and logs events (``EventJsonlWriter``: query_id,
time_s, text, extra). The answer at a query point t is read from the events of its query up to t, and never
from later ones, except by the option that says so. Events without text said nothing.

| Task | Rule | The answer at t |
|---|---|---|
| choice | ``last`` | the last text at or before t |
| | ``first_after`` | the first text at or after t: sees what follows, as some published runs do |
| REC | ``events`` | how many texts there were up to t: the model spoke once per action |
| | ``spoken`` | the last text up to t that holds one number; none: no answer |
| SSR, CRR | ``spoken`` | the last text up to t, which should say Yes or No |
| | ``state`` | SSR: Yes while the last state up to t is "standby"; CRR: Yes once there was a text |

A "response" at t itself says that the step is over with t; the labels of SSR count that moment in (145 of the
public file's 629 points lie there), so it is a Yes as well.

States stand in ``extra["state"]``: "silence", "standby" or "response".
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from refstream.errors import UserError
from refstream.evaluation.qa.base import QABenchmark, Question
from refstream.evaluation.qa.parsing import parse_number
from refstream.evaluation.qa.tables import take
from refstream.structures import StreamEvent

ChoiceRule = Literal["last", "first_after"]
CountRule = Literal["events", "spoken"]
StateRule = Literal["spoken", "state"]
STATES = ("silence", "standby", "response")
SAME_TIME_S = 1e-3
"""Times closer than this are the same: containers round timestamps to milliseconds."""


@dataclass(frozen=True)
class StreamQuery:
    """One thing to ask in a streaming run.

    Attributes:
        id: The ``query_id`` of its events.
        video: As in the questions.
        text: The words.
        task: OVO-Bench's name of the task.
        ask_s: When to ask: the question's own time where it has one, else the start of the video.
        end_s: The last time that is asked about; a run may stop there.
        points: Ids of the questions that its events answer.
    """

    id: str
    video: str
    text: str
    task: str
    ask_s: float
    end_s: float
    points: tuple[str, ...]


@dataclass
class EventLog:
    """The events of one query in the order of time.

    Attributes:
        text_times, texts: Of the events with text, as many.
        state_times, states: Of the events with a state, as many.
    """

    text_times: list[float] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    state_times: list[float] = field(default_factory=list)
    states: list[str] = field(default_factory=list)


def stream_queries(benchmark: QABenchmark) -> list[StreamQuery]:
    """What to ask in a streaming run: each record once, each step of an SSR record once.

    Choices are asked at their time, CRR at its ``ask_time``, REC and SSR at the start of the video.
    """
    points: dict[str, list[Question]] = {}
    for question in benchmark.questions:
        points.setdefault(query_id(question), []).append(question)
    return [
        StreamQuery(
            id=name,
            video=asked[0].video,
            text=asked[0].prompt if asked[0].kind == "choice" else asked[0].text,
            task=asked[0].task,
            ask_s=_ask_s(asked[0]),
            end_s=max(_time(question) for question in asked),
            points=tuple(question.id for question in asked),
        )
        for name, asked in points.items()
    ]


def query_id(question: Question) -> str:
    """The id of the query whose events answer a question: the record's; with the step's words for SSR."""
    record = str(question.details["record"])
    return f"{record}/{question.text}" if question.task == "SSR" else record


def is_event_log(path: str | Path) -> bool:
    """Whether a file is JSONL whose first line is an event."""
    path = Path(path)
    if path.suffix != ".jsonl" or not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        try:
            first = json.loads(file.readline())
        except ValueError:
            return False
    return isinstance(first, dict) and {"query_id", "time_s"} <= first.keys()


def read_event_log(path: str | Path) -> dict[str, EventLog]:
    """Events of a JSONL file by query, those of equal time in the order of the file.

    Raises:
        UserError: If the file is missing or a line is no event; names the line.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no log of events at {path}; expected JSONL with query_id, time_s and text")
    rows: list[tuple[str, float, str | None, Any]] = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            where = f"{path}, line {number}"
            try:
                row = json.loads(line) if line.strip() else None
            except ValueError as error:
                raise UserError(f"{where} is not valid JSON ({error})") from error
            if row is None:
                continue
            if not isinstance(row, dict):
                raise UserError(f"{where}: expected an event, got {line[:60]!r}")
            time_s = float(take(row, "time_s", (int, float), where))
            text = row.get("text")
            if text is not None and not isinstance(text, str):
                raise UserError(f"{where}: expected text to be words or null, got {str(text)[:60]!r}")
            rows.append((take(row, "query_id", str, where), time_s, text, row.get("extra")))
    return _logs(rows)


def event_logs(events: Iterable[StreamEvent]) -> dict[str, EventLog]:
    """The same from events in memory."""
    return _logs([(event.query_id, event.time_s, event.text, event.extra) for event in events])


def fitting_rules(logs: Mapping[str, EventLog]) -> dict[str, Any]:
    """How answers are read where nobody says: by states, where the model tells them."""
    states = any(log.states for log in logs.values())
    return {"choice": "last", "count": "events", "state": "state" if states else "spoken"}


def answers_from_events(
    benchmark: QABenchmark,
    logs: Mapping[str, EventLog],
    *,
    choice: ChoiceRule = "last",
    count: CountRule = "events",
    state: StateRule = "spoken",
) -> dict[str, str]:
    """Answers of a streaming run, by question id; questions without one are left out.

    Args:
        benchmark: OVO-Bench.
        logs: By query id, see ``query_id``. A query without any event was not run: it has no answers.
        choice, count, state: The rules, see the module.

    Raises:
        UserError: For an unknown rule, a log that belongs to no question, or the rule "state" without states.
    """
    for name, value, kinds in (
        ("choice", choice, ChoiceRule),
        ("count", count, CountRule),
        ("state", state, StateRule),
    ):
        if value not in get_args(kinds):
            raise UserError(f"{name} must be one of {', '.join(get_args(kinds))}, got {value!r}")
    known = {query_id(question) for question in benchmark.questions}
    strange = [name for name in logs if name not in known]
    if logs and len(strange) == len(logs):
        raise UserError(
            f"no event belongs to {benchmark.name}; its queries are called e.g. {min(known)!r}, "
            f"those of the log e.g. {strange[0]!r}"
        )
    answers: dict[str, str] = {}
    for question in benchmark.questions:
        log = logs.get(query_id(question))
        if log is None:
            continue
        if question.kind == "choice":
            answer = _choice(log, _time(question), choice)
        elif question.kind == "count":
            answer = _count(log, _time(question), count)
        elif state == "spoken":
            answer = _last(log, _time(question))
        else:
            answer = _by_state(log, question)
        if answer is not None:
            answers[question.id] = answer
    return answers


def _logs(rows: Sequence[tuple[str, float, str | None, Any]]) -> dict[str, EventLog]:
    logs: dict[str, EventLog] = {}
    for name, time_s, text, extra in sorted(rows, key=lambda row: row[1]):
        log = logs.setdefault(name, EventLog())
        if text is not None and text.strip():
            log.text_times.append(time_s)
            log.texts.append(text)
        state = extra.get("state") if isinstance(extra, Mapping) else None
        if state is not None:
            if state not in STATES:
                raise UserError(
                    f"query {name} at {time_s} s: state is {state!r}, expected {', '.join(STATES)}"
                )
            log.state_times.append(time_s)
            log.states.append(state)
    return logs


def _choice(log: EventLog, time_s: float, rule: ChoiceRule) -> str | None:
    if rule == "last":
        return _last(log, time_s)
    index = bisect_left(log.text_times, time_s)
    return log.texts[index] if index < len(log.texts) else None


def _count(log: EventLog, time_s: float, rule: CountRule) -> str | None:
    spoken = bisect_right(log.text_times, time_s)
    if rule == "events":
        return str(spoken)
    return next((n for text in reversed(log.texts[:spoken]) if (n := parse_number(text)) is not None), None)


def _by_state(log: EventLog, question: Question) -> str:
    time_s = _time(question)
    if question.task == "CRR":
        return "Yes" if bisect_right(log.text_times, time_s) else "No"
    if not log.states:
        raise UserError(
            f"question {question.id}: no event of query {query_id(question)!r} has a state in extra; log "
            "states "
            'or take the rule state="spoken"'
        )
    index = bisect_right(log.state_times, time_s)
    if not index:
        return "No"
    ends_now = log.states[index - 1] == "response" and time_s - log.state_times[index - 1] <= SAME_TIME_S
    return "Yes" if ends_now or log.states[index - 1] == "standby" else "No"


def _last(log: EventLog, time_s: float) -> str | None:
    index = bisect_right(log.text_times, time_s)
    return log.texts[index - 1] if index else None


def _time(question: Question) -> float:
    if question.end_s is None:
        raise UserError(
            f"question {question.id} has no time; events answer questions of the annotations only"
        )
    return question.end_s


def _ask_s(question: Question) -> float:
    if question.kind == "choice":
        return _time(question)
    return float(question.details.get("ask_s", 0.0))
