"""What is due, and when, where a stream is looked at turn by turn: the truth beside which a model is heard.

A turn sees the frame at its beginning and no later one. The rules, for each question alone:

* An answer is due in the first turn that begins at or after its end, whose frame shows that it is over; in
  the last turn if no later one does; in the question's own turn if it was over before.
* Answers that are due in one turn are due as one text, in the order of their ends, with a space between.
* The state of a turn is "response" where something is due; else "standby" from the turn that contains the
  start of an answer that has one up to its response; else "silence".
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from refstream.evaluation.listening import TOLERANCE_S
from refstream.evaluation.metrics.timing import Timed
from refstream.stream_records import StreamAnswer, StreamRecord


@dataclass(frozen=True)
class StreamQuestion:
    """One question of a record, with its answers.

    Attributes:
        id: Unique in its world.
        stream: Id of the stream that is asked.
        task: The record's.
        text: The words.
        ask_s: When it is asked, in seconds.
        answers: In the order of their ends.
    """

    id: str
    stream: str
    task: str
    text: str
    ask_s: float
    answers: tuple[StreamAnswer, ...]


@dataclass(frozen=True)
class TurnTruth:
    """The truth of one question at the turns of a run.

    Attributes:
        due: What is to be said, when it is over; not before the question's turn nor after the last one.
        states: One per turn.
    """

    due: tuple[Timed, ...]
    states: tuple[str, ...]


def questions_of(record: StreamRecord, name: str, stream: str) -> list[StreamQuestion]:
    """The questions of a record, each to be asked alone: ``name`` if there is one, else ``name/0``, ..."""
    return [
        StreamQuestion(
            id=name if len(record.asks) == 1 else f"{name}/{number}",
            stream=stream,
            task=record.task,
            text=ask.text,
            ask_s=ask.time_s,
            answers=tuple(answer for answer in record.answers if answer.ask == number),
        )
        for number, ask in enumerate(record.asks)
    ]


def turn_truth(question: StreamQuestion, turns: Sequence[float], fps: float | None) -> TurnTruth:
    """What is due at some turns.

    Args:
        question: With its answers.
        turns: Times of the frames looked at, in order; the first is the turn of the question, and the last
            one the last of the stream.
        fps: Turns per second: a turn begins at k/fps, its frame may come a little later. None: it begins with
            its frame.

    Raises:
        ValueError: If there is no turn.
    """
    if not turns:
        raise ValueError(f"question {question.id} has no turn")
    begins = list(turns) if fps is None else [math.floor((at + TOLERANCE_S) * fps) / fps for at in turns]
    last = len(begins) - 1
    told: dict[int, list[StreamAnswer]] = {}
    standby: set[int] = set()
    for answer in question.answers:
        turn = min(bisect_left(begins, answer.end_s - TOLERANCE_S), last)
        told.setdefault(turn, []).append(answer)
        if answer.start_s is not None:
            standby.update(range(max(0, bisect_right(begins, answer.start_s + TOLERANCE_S) - 1), turn))
    due = []
    for turn, answers in sorted(told.items()):
        over = max(answer.end_s for answer in answers)
        over = min(over, turns[last]) if turn == last else over
        due.append(Timed(max(over, turns[0]), " ".join(answer.text for answer in answers)))
    states = ("response" if k in told else "standby" if k in standby else "silence" for k in range(last + 1))
    return TurnTruth(tuple(due), tuple(states))
