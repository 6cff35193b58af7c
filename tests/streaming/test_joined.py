"""Pipelines side by side say what each says alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from refstream.errors import UserError
from refstream.models.protocols import StreamPipeline, answers_of
from refstream.streaming.joined import JoinedPipelines
from refstream.streaming.session import StreamSession
from refstream.structures import Frame, Query, StreamEvent
from refstream.testing import FakeModel, moving_square_video


@dataclass
class Heard:
    query: Query
    seen: int = 0


class Speaker:
    """Every third frame of a query it says how many frames the stream had; every sixth it says so twice."""

    causal = True
    max_frames: int | None = None
    answers = "text"

    def __init__(self) -> None:
        self.num_frames = 0

    def for_stream(self) -> Speaker:
        return Speaker()

    def start(self, query: Query) -> Heard:
        return Heard(query)

    def encode(self, frame: Frame) -> int:
        self.num_frames += 1
        return self.num_frames

    def step(self, states: Sequence[Heard], frame: Frame, features: int) -> list[StreamEvent]:
        events = []
        for state in states:
            state.seen += 1
            times = (state.seen % 3 == 0) + (state.seen % 6 == 0)
            words = f"{state.query.expression} {features}"
            events += [StreamEvent(state.query.id, frame.index, frame.time_s, text=words)] * times
        return events

    def finish(self, state: Heard) -> list[StreamEvent]:
        return [StreamEvent(state.query.id, 0, 0.0, text="end")]


class Buffer(Speaker):
    """Answers at the end, all queries at once."""

    causal = False
    answers = "masks"

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.max_frames: int | None = limit

    def for_stream(self) -> Buffer:
        return self

    def step(self, states: Sequence[Heard], frame: Frame, features: int) -> list[StreamEvent]:
        return []

    def finish(self, state: Heard) -> list[StreamEvent]:
        raise AssertionError("they end together")

    def finish_all(self, states: Sequence[Heard]) -> list[StreamEvent]:
        return [StreamEvent(s.query.id, 0, 0.0, text=f"one of {len(states)}") for s in states]


def said(events: Sequence[StreamEvent]) -> list[tuple[Any, ...]]:
    """Events without the clock, masks as bytes."""
    return [
        (replace(e, latency_ms=0.0, mask=None), None if e.mask is None else e.mask.tobytes()) for e in events
    ]


def masks() -> Any:
    return FakeModel({"type": "StreamingRVOS"}).pipeline()


def run(session: StreamSession, queries: Sequence[tuple[str, str, str, float]]) -> list[StreamEvent]:
    for query_id, words, kind, time_s in queries:
        session.add(words, query_id, kind, time_s=time_s)
    frames, _ = moving_square_video(8)
    return [event for frame in frames for event in session.step(frame)] + session.close()


def test_text_and_masks_of_one_stream_equal_those_of_two() -> None:
    spoken = [("t0", "tell me", "", 0.0), ("t1", "say when", "", 0.25)]
    marked = [("m0", "the red square", "", 0.0), ("m1", "the blue square", "", 0.3)]
    alone = {
        "watch": said(run(StreamSession(Speaker()), spoken)),
        "segment": said(run(StreamSession(masks()), marked)),
    }
    session = StreamSession(JoinedPipelines({"watch": Speaker(), "segment": masks()}), live=True)
    mixed = [
        (*spoken[0][:2], "watch", 0.0),
        (*marked[0][:2], "segment", 0.0),
        (*spoken[1][:2], "watch", 0.25),
        (*marked[1][:2], "segment", 0.3),
    ]
    together = run(session, mixed)
    assert answers_of(session.pipeline) == "both"
    assert said([e for e in together if e.query_id.startswith("t")]) == alone["watch"]
    assert said([e for e in together if e.query_id.startswith("m")]) == alone["segment"]
    assert [e.query_id for e in together if e.frame_index == 5][:4] == ["t0", "t0", "m0", "t1"]
    assert sum(e.mask is not None for e in together) == 8 + 5
    assert any(e.mask is not None and e.mask.any() for e in together)


def test_the_first_answers_what_has_no_kind() -> None:
    joined = JoinedPipelines({"a": Speaker(), "b": Buffer(9)})
    assert joined.start(Query("0", "x")).kind == "a"
    with pytest.raises(UserError, match="answers a, b"):
        joined.start(Query("0", "x", kind="c"))
    wrongs: tuple[dict[str, StreamPipeline], ...] = ({}, {"": Speaker()})
    for wrong in wrongs:
        with pytest.raises(ValueError, match="each with a name"):
            JoinedPipelines(wrong)


def test_what_all_of_them_can_holds_for_the_whole() -> None:
    joined = JoinedPipelines({"a": Speaker(), "b": Buffer(9), "c": Buffer(4)})
    assert (joined.causal, joined.max_frames, joined.answers) == (False, 4, "both")
    one = JoinedPipelines({"a": Speaker()})
    assert (one.causal, one.max_frames, one.answers) == (True, None, "text")
    assert answers_of(masks()) == answers_of(type(masks())) == "masks"
    with pytest.raises(ValueError, match="live source"):
        StreamSession(joined, live=True)


def test_queries_end_as_their_pipeline_ends_them() -> None:
    session = StreamSession(JoinedPipelines({"a": Speaker(), "b": Buffer(9)}))
    for query_id, kind in (("0", "b"), ("1", "a"), ("2", "b")):
        session.add("x", query_id, kind)
    session.step(Frame(0, 0.0, np.zeros((4, 4, 3), np.uint8)))
    assert [e.text for e in session.drop("1")] == ["end"]
    assert [(e.query_id, e.text) for e in session.close()] == [("0", "one of 2"), ("2", "one of 2")]


def test_streams_do_not_share_a_memory() -> None:
    joined = JoinedPipelines({"a": Speaker(), "segment": masks()})
    first, second = StreamSession(joined), StreamSession(joined)
    assert [e.text for e in run(first, [("0", "x", "a", 0.0)])] == ["x 3", "x 6", "x 6", "end"]
    assert [e.text for e in run(second, [("0", "x", "a", 0.0)])] == ["x 3", "x 6", "x 6", "end"]
