"""Streams with mixed tasks: does a model say the right thing at the right time?

An evaluation of our own, in the spirit of the mixed-task benchmarks of streaming assistants and comparable
to none of them. Each question of each stream is asked once, at its time; the questions of a stream run side
by side. Per question, what was said is matched in time with what was due (``metrics.timing``), words are
compared for hits alone, and the state of every turn with its true one (``stream_truth``).

Figures of a task are over all of its questions together; "overall" is the mean over tasks of every share, the
sum of every count, and percentiles over all delays.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from refstream.errors import UserError
from refstream.evaluation.ledger import Record
from refstream.evaluation.listening import STATES, TOLERANCE_S
from refstream.evaluation.metrics.timing import (
    DELTA_S,
    REACH_S,
    Timed,
    Timing,
    match_events,
    same_words,
    span_iou,
    timing,
    total,
)
from refstream.evaluation.protocols.base import OVERALL, ItemScore, Summary
from refstream.evaluation.stream_truth import StreamQuestion, questions_of, turn_truth
from refstream.stream_records import StreamRecord
from refstream.structures import Frame

NAME = "minirvos_streams"
HEADLINE = "f1_text"
SPAN_IOU = 0.5
"""From which overlap on a stated span is right, as in temporal grounding (R@0.5)."""
SHARES = (
    "f1",
    "f1_text",
    "precision",
    "recall",
    "text_accuracy",
    "span_iou",
    *(f"{s}_recall" for s in STATES),
)
"""Metrics in percent; all others are counts, or seconds."""


@dataclass(frozen=True)
class TaskStream:
    """One stream and what is asked of it.

    Attributes:
        id: Unique in its world.
        records: Questions and answers.
        frames: Gives the stream from its start; at least the frames that are looked at with so many turns per
            second, all of them for None.
    """

    id: str
    records: tuple[StreamRecord, ...]
    frames: Callable[[float | None], Iterator[Frame]]

    @cached_property
    def questions(self) -> tuple[StreamQuestion, ...]:
        """All questions. Raises UserError if two records have one id."""
        names = [record.id or f"{self.id}/{number}" for number, record in enumerate(self.records)]
        if len(set(names)) != len(names):
            raise UserError(f"stream {self.id}: two records have the same id")
        return tuple(
            question
            for name, record in zip(names, self.records, strict=True)
            for question in questions_of(record, name, self.id)
        )

    def black(self) -> TaskStream:
        """The same questions on frames without any content."""

        def frames(fps: float | None) -> Iterator[Frame]:
            for frame in self.frames(fps):
                yield replace(frame, image=np.zeros_like(frame.image))

        return replace(self, frames=frames)


@dataclass(frozen=True)
class StreamWorld:
    """Streams to evaluate on.

    Attributes:
        name, split: Of the result.
        settings: What they are made from; JSON-serialisable.
        streams: In order.
    """

    name: str
    split: str
    settings: Mapping[str, Any]
    streams: Sequence[TaskStream]

    @cached_property
    def questions(self) -> dict[str, StreamQuestion]:
        """By id, in order. Raises UserError if there is none, or two share an id."""
        found = {question.id: question for stream in self.streams for question in stream.questions}
        if not found or len(found) != sum(len(stream.questions) for stream in self.streams):
            raise UserError(f"{self.name} {self.split}: no question, or two streams of one id")
        return found

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over all that is asked and answered."""
        return hashlib.sha256(repr(list(self.questions.values())).encode()).hexdigest()

    def first(self, number: int) -> StreamWorld:
        """The same with its first streams only, which the settings then say."""
        if number >= len(self.streams):
            return self
        note = f"the first {number} of {len(self.streams)} streams, not the whole evaluation"
        settings = {**self.settings, "max_streams": number, "note": note}
        return replace(self, settings=settings, streams=self.streams[:number])


def same_answer(said: str, due: str) -> bool:
    """Whether words say what was due: the same words, or, where the truth states a span in seconds, one span
    that overlaps it by ``SPAN_IOU``."""
    overlap = span_iou(said, due)
    return same_words(said, due) if overlap is None else overlap >= SPAN_IOU


def score_question(
    question: StreamQuestion,
    record: Record,
    fps: float | None,
    *,
    delta_s: float = DELTA_S,
    reach_s: float = REACH_S,
) -> ItemScore:
    """Score what one question got.

    Args:
        question: With its answers.
        record: ``turns`` and ``events``, see ``listening.Heard.record``.
        fps: Turns per second, None where every frame is one.
        delta_s, reach_s: See ``metrics.timing``.

    Returns:
        ``values``: f1, f1_text, precision and recall in [0, 1]. ``details``: the counts, per state how many
        turns have it and how many of these were decided so, and the overlap of each stated span.
    """
    turns = record["turns"]
    truth = turn_truth(question, turns, fps)
    said = [Timed(at, text or "") for at, text, state in record["events"] if text or state == "response"]
    counts = timing(said, truth.due, delta_s=delta_s, reach_s=reach_s, same=same_answer)
    decided = _decided(record)
    states = {
        state: [
            sum(now == then == state for now, then in zip(decided, truth.states, strict=True)),
            truth.states.count(state),
        ]
        for state in STATES
    }
    values = {name: getattr(counts, name) for name in ("f1", "f1_text", "precision", "recall")}
    details = {"timing": asdict(counts), "states": states, "spans": _spans(said, truth.due, delta_s, reach_s)}
    return ItemScore(question.stream, question.id, question.text, question.task, values, details=details)


def summarize(items: Sequence[ItemScore]) -> Summary:
    """Figures per task, "overall" first; see the module. Raises UserError without items."""
    if not items:
        raise UserError("no question was scored")
    tasks = {
        task: figures([item for item in items if item.group == task])
        for task in dict.fromkeys(item.group for item in items)
    }
    overall = figures(items)
    for name in SHARES:
        values = [task[name] for task in tasks.values() if name in task]
        if values:
            overall[name] = sum(values) / len(values)
    return {OVERALL: overall, **tasks}


def figures(items: Sequence[ItemScore]) -> dict[str, float]:
    """Figures of some questions together: shares in percent, counts, delays in seconds.

    Those of ``Timing.figures``; silence_recall, standby_recall, response_recall over turns; span_iou over
    hits whose truth states a span; questions. What is undefined is absent.
    """
    found = total(Timing(**item.details["timing"]) for item in items).figures()
    for state in STATES:
        right, whole = (sum(item.details["states"][state][k] for item in items) for k in (0, 1))
        if whole:
            found[f"{state}_recall"] = 100 * right / whole
    spans = [value for item in items for value in item.details["spans"]]
    if spans:
        found["span_iou"] = 100 * sum(spans) / len(spans)
    return {**found, "questions": float(len(items))}


def usual_texts(world: StreamWorld) -> dict[str, str]:
    """The most frequent answer of each task; "" for one that never has any."""
    texts: dict[str, Counter[str]] = {}
    for question in world.questions.values():
        texts.setdefault(question.task, Counter()).update(answer.text for answer in question.answers)
    return {task: counts.most_common(1)[0][0] if counts else "" for task, counts in texts.items()}


def _decided(record: Record) -> list[str]:
    """The state of each turn: as told; without a word on it, "response" where something was said."""
    turns = np.array(record["turns"])
    states = ["silence"] * len(turns)
    told = [False] * len(turns)
    for at, text, state in record["events"]:
        turn = max(0, int(np.searchsorted(turns, at + TOLERANCE_S)) - 1)
        if state is not None:
            states[turn], told[turn] = state, True
        elif text is not None and not told[turn]:
            states[turn] = "response"
    return states


def _spans(said: Sequence[Timed], due: Sequence[Timed], delta_s: float, reach_s: float) -> list[float]:
    """Overlaps of the stated spans with the due ones, of the hits."""
    pairs = match_events(said, due, delta_s=delta_s, reach_s=reach_s)
    overlaps = (span_iou(said[pair.said].text, due[pair.due].text) for pair in pairs if pair.hit)
    return [overlap for overlap in overlaps if overlap is not None]
