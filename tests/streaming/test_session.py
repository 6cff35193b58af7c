"""The session drives any pipeline; these use a tiny pipeline of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from refstream.streaming.session import StreamSession
from refstream.structures import Frame, Query, StreamEvent


@dataclass
class State:
    query: Query
    seen: int = 0


class Counting:
    """Says how many frames a query has seen."""

    causal = True
    max_frames: int | None = None

    def __init__(self) -> None:
        self.num_encodes = 0

    def start(self, query: Query) -> State:
        return State(query)

    def encode(self, frame: Frame) -> int:
        self.num_encodes += 1
        return self.num_encodes

    def step(self, states: Sequence[State], frame: Frame, features: int) -> list[StreamEvent]:
        for state in states:
            state.seen += 1
        return [StreamEvent(s.query.id, frame.index, frame.time_s, text=str(s.seen)) for s in states]

    def finish(self, state: State) -> list[StreamEvent]:
        return []


class Buffering(Counting):
    """Speaks at the end only."""

    causal = False
    max_frames = 3

    def step(self, states: Sequence[State], frame: Frame, features: int) -> list[StreamEvent]:
        super().step(states, frame, features)
        return []

    def finish(self, state: State) -> list[StreamEvent]:
        return [StreamEvent(state.query.id, i, 0.0, text="late") for i in range(state.seen)]


class Joint(Buffering):
    """Answers all queries at once."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def finish(self, state: State) -> list[StreamEvent]:
        return self.finish_all([state])

    def finish_all(self, states: Sequence[State]) -> list[StreamEvent]:
        self.batches.append(len(states))
        return [event for state in states for event in Buffering.finish(self, state)]


def frame(index: int, time_s: float | None = None) -> Frame:
    return Frame(index, index / 10 if time_s is None else time_s, np.zeros((4, 4, 3), np.uint8))


def test_queries_share_one_encoding_and_come_and_go() -> None:
    pipeline = Counting()
    session = StreamSession(pipeline)
    assert session.open(["a", "b"]) == ["0", "1"]
    assert [e.text for e in session.step(frame(0))] == ["1", "1"]
    assert session.add("c") == "2"
    session.drop("0")
    assert [(e.query_id, e.text) for e in session.step(frame(1))] == [("1", "2"), ("2", "1")]
    assert session.add("d") == "3"  # ids are never used twice
    assert pipeline.num_encodes == 2
    assert session.close() == []
    assert session.close() == []


def test_latency_is_measured() -> None:
    session = StreamSession(Counting())
    session.open("a")
    assert session.step(frame(0))[0].latency_ms > 0


def test_buffering_pipeline_emits_at_the_end_and_refuses_live_sources() -> None:
    with pytest.raises(ValueError, match="live source"):
        StreamSession(Buffering(), live=True)
    session = StreamSession(Buffering())
    session.open("a")
    for i in range(3):
        assert session.step(frame(i)) == []
    with pytest.raises(ValueError, match="at most 3 frames"):
        session.step(frame(3))
    assert [e.frame_index for e in session.close()] == [0, 1, 2]


def test_wrong_use() -> None:
    session = StreamSession(Counting())
    with pytest.raises(ValueError, match="empty"):
        session.open("  ")
    with pytest.raises(ValueError, match="at least one"):
        session.open([])
    session.add("a", query_id="x")
    with pytest.raises(ValueError, match="in use"):
        session.add("b", query_id="x")
    for time_s in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="or later"):
            session.add("b", time_s=time_s)
    with pytest.raises(ValueError, match="no open query"):
        session.drop("y")
    session.step(frame(5))
    with pytest.raises(ValueError, match="in order"):
        session.step(frame(5))
    with pytest.raises(ValueError, match="in order"):
        session.step(frame(6, time_s=0.1))
    session.close()
    with pytest.raises(ValueError, match="closed"):
        session.step(frame(7))


def test_an_error_inside_the_with_block_is_not_hidden() -> None:
    def broken() -> None:
        with StreamSession(Counting()) as session:
            session.open("a")
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        broken()


def test_queries_that_end_together_are_finished_together() -> None:
    pipeline = Joint()
    session = StreamSession(pipeline)
    session.open(["a", "b", "c"])
    session.step(frame(0))
    session.step(frame(1))
    assert [(e.query_id, e.frame_index) for e in session.drop("1")] == [("1", 0), ("1", 1)]
    assert [(e.query_id, e.frame_index) for e in session.close()] == [("0", 0), ("0", 1), ("2", 0), ("2", 1)]
    assert pipeline.batches == [1, 2]
    assert session.close() == []


def test_a_query_is_asked_at_its_time() -> None:
    pipeline = Asking()
    session = StreamSession(pipeline)
    session.add("now")
    session.add("later", time_s=0.25)
    session.add("at once", time_s=0.0)
    said = [[(e.query_id, e.text) for e in session.step(frame(i))] for i in range(5)]
    assert said[2] == [("0", "3"), ("2", "3")]
    assert said[3] == [("0", "4"), ("1", "1"), ("2", "4")]
    session.add("now")
    session.add("exactly now", time_s=0.4)
    with pytest.raises(ValueError, match=r"asked at 0\.400 s or later"):
        session.add("too late", time_s=0.39)
    assert pipeline.asked == [0.0, 0.25, 0.0, 0.4, 0.4]
    assert [e.text for e in session.step(frame(5))] == ["6", "3", "6", "1", "1"]


class Asking(Counting):
    """Notes when it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[float] = []

    def start(self, query: Query) -> State:
        self.asked.append(query.time_s)
        return super().start(query)


def test_a_query_whose_time_never_came_is_named(caplog: pytest.LogCaptureFixture) -> None:
    session = StreamSession(Counting())
    session.add("a", "early", time_s=0.1)
    session.add("a", "dropped", time_s=9.0)
    session.add("a", "late", time_s=9.0)
    session.step(frame(0))
    session.step(frame(1))
    session.drop("dropped")
    assert session.query_ids == ["early", "late"]
    assert session.close() == []
    assert [record.getMessage() for record in caplog.records] == [
        "query 'late' was to be asked at 9.000 s, where no frame came any more"
    ]


class Remembering(Counting):
    """Counts the frames of the stream, also those before a query."""

    def __init__(self, shared: Counting | None = None) -> None:
        super().__init__()
        self.shared = shared

    def for_stream(self) -> Remembering:
        return Remembering(self)

    def step(self, states: Sequence[State], frame: Frame, features: int) -> list[StreamEvent]:
        return [StreamEvent(s.query.id, frame.index, frame.time_s, text=str(features)) for s in states]


def test_each_session_has_its_own_memory_of_the_stream() -> None:
    pipeline = Remembering()
    first, second = StreamSession(pipeline), StreamSession(pipeline)
    first.step(frame(0))
    first.add("a")
    second.add("a")
    assert [e.text for e in first.step(frame(1))] == ["2"]
    assert [e.text for e in second.step(frame(1))] == ["1"]
    assert pipeline.num_encodes == 0
