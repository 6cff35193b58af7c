"""Several pipelines over one stream: masks and words side by side, each query with the one that it asks for.

    session = StreamSession(JoinedPipelines({"watch": speaker.pipeline(), "segment": model.pipeline()}))
    session.add("tell me when the light turns green", kind="watch")
    session.add("the red car", kind="segment")

Every pipeline sees every frame and its own queries only, so that each says what it would say alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from refstream.errors import UserError
from refstream.models.protocols import JointPipeline, RememberingPipeline, StreamPipeline, answers_of
from refstream.structures import Frame, Query, StreamEvent


@dataclass(frozen=True)
class JoinedState:
    """One query.

    Attributes:
        query: As its pipeline knows it.
        kind: Name of that pipeline.
        inner: That pipeline's state.
    """

    query: Query
    kind: str
    inner: Any


class JoinedPipelines:
    """Implements ``StreamPipeline`` by handing each query to the pipeline that its ``kind`` names.

    Args:
        pipelines: By name, at least one. The first answers queries without a kind.

    Attributes:
        causal: Whether all of them are.
        max_frames: The least of theirs; None if none has a limit.
        answers: "text", "masks", or "both".

    Raises:
        ValueError: For no pipeline, or one without a name.
    """

    def __init__(self, pipelines: Mapping[str, StreamPipeline]) -> None:
        if not pipelines or not all(pipelines):
            raise ValueError(f"expected one pipeline or more, each with a name, got {sorted(pipelines)}")
        self.pipelines = dict(pipelines)
        limits = [p.max_frames for p in self.pipelines.values() if p.max_frames is not None]
        kinds = {answers_of(pipeline) for pipeline in self.pipelines.values()}
        self.causal = all(pipeline.causal for pipeline in self.pipelines.values())
        self.max_frames = min(limits, default=None)
        self.answers = kinds.pop() if len(kinds) == 1 else "both"

    def for_stream(self) -> JoinedPipelines:
        """The same for one stream, see ``RememberingPipeline``."""
        return JoinedPipelines(
            {
                name: pipeline.for_stream() if isinstance(pipeline, RememberingPipeline) else pipeline
                for name, pipeline in self.pipelines.items()
            }
        )

    def start(self, query: Query) -> JoinedState:
        """A fresh state of the pipeline that is asked.

        Raises:
            UserError: If there is none of that name.
        """
        kind = query.kind or next(iter(self.pipelines))
        if kind not in self.pipelines:
            raise UserError(
                f"query {query.id!r} is of kind {kind!r}; this session answers {', '.join(self.pipelines)}"
            )
        return JoinedState(query, kind, self.pipelines[kind].start(query))

    def encode(self, frame: Frame) -> dict[str, Any]:
        """What each pipeline makes of the frame, by name."""
        return {name: pipeline.encode(frame) for name, pipeline in self.pipelines.items()}

    def step(
        self, states: Sequence[JoinedState], frame: Frame, features: Mapping[str, Any]
    ) -> list[StreamEvent]:
        """All queries by one frame: their events in the order of the states."""
        events = [
            event
            for kind, inner in self._by_kind(states).items()
            for event in self.pipelines[kind].step(inner, frame, features[kind])
        ]
        return _in_order(states, events)

    def finish(self, state: JoinedState) -> list[StreamEvent]:
        """What one query still has to say."""
        return self.pipelines[state.kind].finish(state.inner)

    def finish_all(self, states: Sequence[JoinedState]) -> list[StreamEvent]:
        """As ``finish``; those of a ``JointPipeline`` together."""
        events: list[StreamEvent] = []
        for kind, inner in self._by_kind(states).items():
            pipeline = self.pipelines[kind]
            if isinstance(pipeline, JointPipeline):
                events += pipeline.finish_all(inner)
            else:
                events += [event for state in inner for event in pipeline.finish(state)]
        return _in_order(states, events)

    def _by_kind(self, states: Sequence[JoinedState]) -> dict[str, list[Any]]:
        inner: dict[str, list[Any]] = defaultdict(list)
        for state in states:
            inner[state.kind].append(state.inner)
        return inner


def _in_order(states: Sequence[JoinedState], events: Sequence[StreamEvent]) -> list[StreamEvent]:
    """Events of one query after the other."""
    found: dict[str, list[StreamEvent]] = defaultdict(list)
    for event in events:
        found[event.query_id].append(event)
    return [event for state in states for event in found[state.query.id]]
