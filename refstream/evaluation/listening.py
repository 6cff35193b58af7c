"""A model that answers in words, listened to over one stream: frames in, what each question got out.

Several questions share a stream and a ``StreamSession``, each with its own time and end. A question is put at
the turn whose interval holds its time: at the last frame looked at that is not later. It is dropped before
the first frame behind its end, so that nothing it says can come from there.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from refstream.errors import UserError
from refstream.evaluation.ledger import Ledger, Record
from refstream.models.protocols import StreamPipeline, answers_of
from refstream.streaming.session import StreamSession
from refstream.structures import Frame, StreamEvent

TOLERANCE_S = 1e-3
"""Times closer than this are the same: containers round timestamps to milliseconds."""
SLACK_S = 1.0
"""Annotated times are rounded: a question may be put so long after the last turn of a video."""
STATES = ("silence", "standby", "response")
FINAL = "final"
"""Reason of an event that a pipeline gives only because its question has ended."""
T = TypeVar("T")


@dataclass(frozen=True)
class Ask:
    """A question to a stream.

    Attributes:
        id: Unique among those of the stream.
        text: The words.
        time_s: When it is asked.
        end_s: Frames behind this time are kept from it.
        at_end: Whether an answer counts that is given only because the question has ended (``FINAL``).
    """

    id: str
    text: str
    time_s: float = 0.0
    end_s: float = math.inf
    at_end: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.time_s <= self.end_s:
            raise ValueError(f"question {self.id}: asked at {self.time_s} s, ends at {self.end_s} s")


@dataclass
class Heard:
    """What one question got.

    Attributes:
        ask: The question.
        turns: Times of the frames that were looked at while it was open; the first is the turn of the
            question.
        events: What was said: (time, text or None, state or None), in the order of the stream.
    """

    ask: Ask
    turns: list[float] = field(default_factory=list)
    events: list[tuple[float, str | None, str | None]] = field(default_factory=list)

    def record(self) -> Record:
        """For a ledger; times in whole microseconds, as those of videos are."""
        end = None if math.isinf(self.ask.end_s) else self.ask.end_s
        return {
            "item": self.ask.id,
            "text": self.ask.text,
            "ask_s": self.ask.time_s,
            "end_s": end,
            "turns": [round(at, 6) for at in self.turns],
            "events": [[round(at, 6), text, state] for at, text, state in self.events],
        }


@dataclass
class ListeningCost:
    """What a stream cost; reading frames is not counted.

    Attributes:
        num_turns: Frames that were looked at.
        seconds: Time in the session.
        latencies_ms: Of each of them.
    """

    num_turns: int = 0
    seconds: float = 0.0
    latencies_ms: list[float] = field(default_factory=list)


def rate_of(pipeline: Any) -> float | None:
    """How often a pipeline in words decides, per second: its ``fps``. None: at every frame.

    Raises:
        UserError: If it does not say, or says something impossible.
    """
    name = type(pipeline).__name__
    if not hasattr(pipeline, "fps"):
        raise UserError(f"pipeline {name} does not say how often it decides: it has no `fps`")
    fps = pipeline.fps
    if fps is not None and not (math.isfinite(fps) and fps > 0):
        raise UserError(f"{name} decides {fps} times a second; expected a number above 0")
    return None if fps is None else float(fps)


def turn_frames(frames: Iterable[Frame], fps: float | None) -> Iterator[Frame]:
    """The frames that are looked at: the first at or after k/fps for each k; all for None."""
    due = -math.inf
    for frame in frames:
        if frame.time_s + TOLERANCE_S >= due:
            yield frame
            due = _next_turn(frame.time_s, fps)


def turn_indices(times: Sequence[float], fps: float | None) -> list[int]:
    """The same for the times of all frames: indices of those that are looked at."""
    found, due = [], -math.inf
    for index, time_s in enumerate(times):
        if time_s + TOLERANCE_S >= due:
            found.append(index)
            due = _next_turn(time_s, fps)
    return found


def listen(
    pipeline: StreamPipeline,
    frames: Iterable[Frame],
    asks: Sequence[Ask],
    finish: Callable[[Heard], None],
    *,
    fps: float | None = None,
) -> ListeningCost:
    """Stream the frames once, until the last question has ended.

    Args:
        pipeline: Causal, answers in words.
        frames: In order, from the start of the stream; read no further than one turn behind the last end.
        asks: At least one, ids unique.
        finish: Given each question as soon as it has ended.
        fps: Turns per second, as ``rate_of(pipeline)``.

    Raises:
        UserError: If the pipeline gives no words, or looks ahead; if the stream ends before a question.
        ValueError: If the pipeline speaks of a frame that the question did not have.
    """
    check_speaks(pipeline)
    waiting = sorted(asks, key=lambda ask: ask.time_s)
    opened: dict[str, Heard] = {}
    cost = ListeningCost()
    slack_s = SLACK_S + (1 / fps if fps else 0.0)
    frame: Frame | None = None
    with StreamSession(pipeline) as session:
        for frame, following in with_next(turn_frames(frames, fps)):
            for heard in [h for h in opened.values() if frame.time_s > h.ask.end_s + TOLERANCE_S]:
                _note(pipeline, heard, session.drop(heard.ask.id))
                finish(opened.pop(heard.ask.id))
            while waiting and _is_now(waiting[0], frame, following, slack_s):
                ask = waiting.pop(0)
                opened[ask.id] = Heard(ask)
                session.add(ask.text, ask.id, time_s=frame.time_s)
            if not opened and not waiting:
                break
            _step(pipeline, session, frame, opened, cost)
        for heard in list(opened.values()):
            _note(pipeline, heard, session.drop(heard.ask.id))
            finish(opened.pop(heard.ask.id))
    if waiting:
        last = "no frame" if frame is None else f"{frame.time_s:.2f} s"
        raise UserError(
            f"the stream ends at {last}, before question {waiting[0].id} at {waiting[0].time_s:.2f} s"
        )
    return cost


def check_speaks(pipeline: Any) -> None:
    """Raises UserError if a pipeline gives masks alone, or answers once the stream is over."""
    name = type(pipeline).__name__
    if answers_of(pipeline) == "masks":
        raise UserError(
            f"pipeline {name} answers in masks; a benchmark of streams wants one that answers in words"
        )
    if not pipeline.causal:
        raise UserError(f"pipeline {name} waits for the end of a stream; expected one that answers within it")


def with_next(items: Iterable[T]) -> Iterator[tuple[T, T | None]]:
    """Each item with the one that follows; the last with None."""
    iterator = iter(items)
    try:
        item = next(iterator)
    except StopIteration:
        return
    for following in iterator:
        yield item, following
        item = following
    yield item, None


def speed_of(costs: Ledger) -> dict[str, float] | None:
    """Turns per second and latencies in ms of a run, from the costs of its streams; None without any."""
    records = [record for name in sorted(costs.done()) if (record := costs.read(name)) is not None]
    latencies = [value for record in records for value in record["latencies_ms"]]
    seconds = sum(record["seconds"] for record in records)
    if not latencies or not seconds:
        return None
    p50, p95 = np.percentile(latencies, [50, 95])
    return {
        "turns": float(len(latencies)),
        "turns_per_second": len(latencies) / seconds,
        "latency_ms_p50": float(p50),
        "latency_ms_p95": float(p95),
    }


def _next_turn(time_s: float, fps: float | None) -> float:
    return -math.inf if fps is None else (math.floor((time_s + TOLERANCE_S) * fps) + 1) / fps


def _is_now(ask: Ask, frame: Frame, following: Frame | None, slack_s: float) -> bool:
    """Whether the frame is the last turn that is not later than a question."""
    if following is None:
        return ask.time_s <= frame.time_s + slack_s
    return following.time_s > ask.time_s + TOLERANCE_S


def _step(
    pipeline: StreamPipeline,
    session: StreamSession,
    frame: Frame,
    opened: dict[str, Heard],
    cost: ListeningCost,
) -> None:
    late = [heard.ask.id for heard in opened.values() if frame.time_s > heard.ask.end_s + TOLERANCE_S]
    if late:
        raise AssertionError(f"a frame of {frame.time_s} s must not be shown to {late}")
    for heard in opened.values():
        heard.turns.append(frame.time_s)
    start = time.perf_counter()
    events = session.step(frame)
    seconds = time.perf_counter() - start
    if opened:
        cost.latencies_ms.append(seconds * 1000)
        cost.num_turns += 1
    cost.seconds += seconds
    by_query: dict[str, list[StreamEvent]] = {}
    for event in events:
        by_query.setdefault(event.query_id, []).append(event)
    for name, said in by_query.items():
        _note(pipeline, opened[name], said)


def _note(pipeline: StreamPipeline, heard: Heard, events: Sequence[StreamEvent]) -> None:
    name = type(pipeline).__name__
    for event in events:
        if event.reason == FINAL and not heard.ask.at_end:
            continue
        last = heard.turns[-1] if heard.turns else -math.inf
        if event.time_s > last + TOLERANCE_S:
            raise ValueError(f"{name} spoke of {event.time_s} s when the last frame was of {last} s")
        state = event.extra.get("state")
        if state is not None and state not in STATES:
            raise ValueError(f"{name}: state is {state!r}, expected {', '.join(STATES)}")
        text = event.text if event.text is not None and event.text.strip() else None
        heard.events.append((event.time_s, text, state))
