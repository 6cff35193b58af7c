"""A pipeline that says at each turn what a script says, and remembers what it was shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from refstream.structures import Frame, Query, StreamEvent

Script = Callable[[Query, float], tuple[str | None, str | None]]
"""From a query and the time of a turn to (text, state)."""


@dataclass
class ScriptedState:
    query: Query


class Scripted:
    """Speaks by the script; one event per turn if it has a state or a text.

    Attributes:
        shown: (query id, time) of each frame that a query was stepped with.
        encoded: Times of all frames of the stream.
        fail_after: Ctrl-C once so many frames were encoded.
    """

    causal = True
    max_frames = None
    answers = "text"

    def __init__(self, script: Script, fps: float | None = 1.0) -> None:
        self.script, self.fps = script, fps
        self.shown: list[tuple[str, float]] = []
        self.encoded: list[float] = []
        self.fail_after: int | None = None

    def start(self, query: Query) -> ScriptedState:
        return ScriptedState(query)

    def encode(self, frame: Frame) -> Any:
        if len(self.encoded) == self.fail_after:
            raise KeyboardInterrupt
        self.encoded.append(frame.time_s)

    def step(self, states: Sequence[ScriptedState], frame: Frame, features: Any) -> list[StreamEvent]:
        events = []
        for state in states:
            self.shown.append((state.query.id, frame.time_s))
            text, decided = self.script(state.query, frame.time_s)
            if text is not None or decided is not None:
                extra = {} if decided is None else {"state": decided}
                events.append(StreamEvent(state.query.id, frame.index, frame.time_s, text=text, extra=extra))
        return events

    def finish(self, state: ScriptedState) -> list[StreamEvent]:
        return []


def frames_at(times: Sequence[float], value: int = 50) -> Iterator[Frame]:
    """Small grey frames at given times."""
    image = np.full((4, 4, 3), value, dtype=np.uint8)
    return (Frame(index, float(time), image) for index, time in enumerate(times))
