"""Controls of SER: what must hurt if the states fed back are really read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from refstream.registry import PIPELINES
from refstream.streaming.features import FrameFeatures
from refstream.structures import Frame, StreamEvent

from .pipeline import StreamingRVOS, StreamingRVOSState


@PIPELINES.register_module()
class SwappedContext(StreamingRVOS):
    """Every query is told the [SEG] states of another query of the stream, the next one in order.

    A stream with one query swaps nothing.
    """

    def __init__(self, model: Any, **keys: Any) -> None:
        super().__init__(model, **keys)
        self._stream: Sequence[StreamingRVOSState] = ()

    def step(
        self, states: Sequence[StreamingRVOSState], frame: Frame, features: FrameFeatures
    ) -> list[StreamEvent]:
        """As ``StreamingRVOS.step``."""
        self._stream = states
        return super().step(states, frame, features)

    def _context(self, states: Sequence[StreamingRVOSState], tokens: Tensor) -> tuple[Tensor, Tensor]:
        place = {id(state): i for i, state in enumerate(self._stream)}
        others = [self._stream[(place[id(state)] + 1) % len(self._stream)] for state in states]
        return super()._context(others, tokens)
