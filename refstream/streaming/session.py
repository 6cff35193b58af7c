"""One stream, several questions: push frames in, get events out.

    session = StreamSession(model.pipeline())
    session.open(["the red circle"])
    for frame in open_video("clip.mp4"):
        for event in session.step(frame):
            ...
    session.close()

Demo, evaluation and benchmarks all drive this class; there is no second inference loop.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

import torch

from refstream.models.protocols import JointPipeline, RememberingPipeline, StreamPipeline
from refstream.structures import Frame, Query, StreamEvent

logger = logging.getLogger(__name__)


class StreamSession:
    """The state of one stream: its queries and what each remembers. The model itself stays stateless.

    Args:
        pipeline: A method's pipeline; may be shared by many sessions. Several side by side:
            ``refstream.streaming.joined.JoinedPipelines``.
        live: True for a source that cannot wait (camera, network stream).

    Raises:
        ValueError: If a non-causal pipeline is given a live source.
    """

    def __init__(self, pipeline: StreamPipeline, *, live: bool = False) -> None:
        if live and not pipeline.causal:
            raise ValueError(
                f"{type(pipeline).__name__} looks at the whole clip before it answers, and a live source "
                "never ends: use a causal pipeline, or record the stream first"
            )
        self.pipeline = pipeline.for_stream() if isinstance(pipeline, RememberingPipeline) else pipeline
        self._states: dict[str, Any] = {}
        self._ask_times: dict[str, float] = {}  # of queries whose time has not come
        self._num_added = 0
        self._num_frames = 0
        self._last: tuple[int, float] | None = None
        self._closed = False

    @property
    def query_ids(self) -> list[str]:
        """Ids of the open queries, in the order in which they were added."""
        return list(self._states)

    def open(self, expressions: str | Sequence[str]) -> list[str]:
        """Add several queries at once; return their ids."""
        if isinstance(expressions, str):
            expressions = [expressions]
        if not expressions:
            raise ValueError("open() needs at least one expression, got none")
        return [self.add(expression) for expression in expressions]

    def add(
        self, expression: str, query_id: str | None = None, kind: str = "", *, time_s: float | None = None
    ) -> str:
        """Add one query, also in mid-stream; it answers from the next frame on.

        Args:
            expression: The words.
            query_id: None: a number.
            kind: Which of several pipelines is asked, see ``JoinedPipelines``.
            time_s: When it is asked, in seconds of the stream: until a frame of that time or later comes, it
                is as if it were not there. None: now, the time of the last frame.

        Raises:
            ValueError: For an empty expression, an id that is in use, or a time that has passed.
        """
        self._check_open()
        if not expression.strip():
            raise ValueError(
                "the expression is empty: say in words what to look for, e.g. 'the dog on the left'"
            )
        query_id = str(self._num_added) if query_id is None else query_id
        if query_id in self._states:
            raise ValueError(f"query id {query_id!r} is in use; open ids are {self.query_ids}")
        now = 0.0 if self._last is None else self._last[1]
        asked = now if time_s is None else time_s
        if not (math.isfinite(asked) and asked >= now):
            raise ValueError(f"a query can be asked at {now:.3f} s or later, got {time_s} s")
        self._states[query_id] = self.pipeline.start(Query(query_id, expression, kind, asked))
        if time_s is not None:
            self._ask_times[query_id] = time_s
        self._num_added += 1
        return query_id

    def drop(self, query_id: str) -> list[StreamEvent]:
        """End one query in mid-stream; return what it still had to say: nothing before its time.

        Raises:
            ValueError: If no such query is open.
        """
        if query_id not in self._states:
            raise ValueError(f"no open query {query_id!r}; open ids are {self.query_ids}")
        if self._ask_times.pop(query_id, None) is not None:
            del self._states[query_id]
            return []
        with torch.inference_mode():
            return self.pipeline.finish(self._states.pop(query_id))

    def step(self, frame: Frame) -> list[StreamEvent]:
        """Push one frame; get one event per open query (none while a non-causal pipeline buffers).

        A pipeline that answers in words has an event when it has looked, and none in between.

        Raises:
            ValueError: If frames come out of order, or a non-causal pipeline's buffer is full.
        """
        self._check_open()
        self._check_order(frame)
        limit = self.pipeline.max_frames
        if limit is not None and self._num_frames >= limit:
            raise ValueError(
                f"{type(self.pipeline).__name__} buffers at most {limit} frames; this stream is longer"
            )
        start = time.perf_counter()
        with torch.inference_mode():
            features = self.pipeline.encode(frame)
            states = self._asked(frame.time_s)
            events = self.pipeline.step(states, frame, features) if states else []
        self._num_frames += 1
        self._last = (frame.index, frame.time_s)
        latency_ms = (time.perf_counter() - start) * 1000.0
        return [replace(event, latency_ms=latency_ms) for event in events]

    def close(self) -> list[StreamEvent]:
        """End all queries; return what a non-causal pipeline kept back. Closing twice is harmless."""
        if self._closed:
            return []
        start = time.perf_counter()
        with torch.inference_mode():
            states = list(self._states.values())
            if isinstance(self.pipeline, JointPipeline):
                events = self.pipeline.finish_all(states)
            else:
                events = [event for state in states for event in self.pipeline.finish(state)]
        for query_id in self._ask_times.keys() - {event.query_id for event in events}:
            at = self._ask_times[query_id]
            logger.warning("query %r was to be asked at %.3f s, where no frame came any more", query_id, at)
        self._states.clear()
        self._ask_times.clear()
        self._closed = True
        latency_ms = (time.perf_counter() - start) * 1000.0
        return [replace(event, latency_ms=latency_ms) for event in events]

    def __enter__(self) -> StreamSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            kept_back = self.close()
            if kept_back:
                logger.warning(
                    "%d events came at the end and were not read: call close() yourself", len(kept_back)
                )
        else:
            self._states.clear()
            self._ask_times.clear()
            self._closed = True

    def _asked(self, time_s: float) -> list[Any]:
        """States of the queries that have been asked by now, in the order in which they were added."""
        self._ask_times = {name: at for name, at in self._ask_times.items() if at > time_s}
        return [state for name, state in self._states.items() if name not in self._ask_times]

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("the session is closed; open a new StreamSession")

    def _check_order(self, frame: Frame) -> None:
        if self._last is None:
            return
        index, time_s = self._last
        if frame.index <= index or frame.time_s < time_s:
            raise ValueError(
                f"frames must come in order: after frame {index} at {time_s:.3f} s came frame {frame.index} "
                f"at {frame.time_s:.3f} s"
            )
