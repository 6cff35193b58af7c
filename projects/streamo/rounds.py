"""What a stream has shown so far, one frame per interval of the clock; shared by all queries of the stream.

Pictures are kept as the MLLM's pixels, whose size is the model's and not the camera's, until a query needs
their vision tokens; each is encoded at most once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from refstream.models.mllm.pooling import pool_tokens
from refstream.streaming.features import StageTimer, no_timer
from refstream.structures import Frame

from .clock import StreamClock

ENCODE_BATCH = 16  # pictures that go through the vision tower together


@dataclass
class Round:
    """The frame of one interval.

    Attributes:
        index: Number of the interval.
        label: Its tag, e.g. ``<3s-4s>``.
        pixels: (1, 3, h, w) float32 input of the vision tower; None once it is encoded.
        tokens: (n, D) pooled vision tokens; None before they are needed.
    """

    index: int
    label: str
    pixels: Tensor | None
    tokens: Tensor | None = None


class StreamRounds:
    """The newest rounds of one stream.

    An interval in which no frame comes has no round: the tags say that time has passed.

    Args:
        model: Composite with ``mllm``.
        clock: Cuts the stream into intervals.
        keep: Most rounds that are kept, at least 1.
        frame_tokens: Vision tokens per frame.
        stage: Stage timer.

    Attributes:
        last: Index and time of the last frame, of whatever interval; None before the first.
    """

    def __init__(
        self,
        model: Any,
        clock: StreamClock,
        *,
        keep: int,
        frame_tokens: int,
        stage: StageTimer = no_timer,
    ) -> None:
        self.clock = clock
        self.last: tuple[int, float] | None = None
        self._mllm, self._frame_tokens, self._stage = model.mllm, frame_tokens, stage
        self._rounds: deque[Round] = deque(maxlen=keep)

    def __len__(self) -> int:
        return len(self._rounds)

    def see(self, frame: Frame) -> None:
        """Take a frame; the first one of its interval begins a round."""
        self.last = (frame.index, frame.time_s)
        index = self.clock.interval_at(frame.time_s)
        if self._rounds and index <= self._rounds[-1].index:
            return
        with self._stage("preprocess"):
            pixels = self._mllm.preprocess([frame.image], max_tiles=1)
        self._rounds.append(Round(index, self.clock.label(index), pixels))

    def before(self, index: int) -> list[Round]:
        """Kept rounds of intervals before ``index``, in order."""
        return [one for one in self._rounds if one.index < index]

    def since(self, index: int) -> list[Round]:
        """Kept rounds of interval ``index`` and later ones, in order."""
        return [one for one in self._rounds if one.index >= index]

    def encode(self, rounds: Sequence[Round]) -> None:
        """Make sure that some rounds have their vision tokens."""
        todo = [(one, one.pixels) for one in rounds if one.pixels is not None]
        for at in range(0, len(todo), ENCODE_BATCH):
            some = todo[at : at + ENCODE_BATCH]
            with self._stage("vision_encode"):
                tokens = self._mllm.encode_images(torch.cat([pixels for _, pixels in some]))
                pooled = pool_tokens(tokens, self._frame_tokens)
            for (one, _), seen in zip(some, pooled, strict=True):
                one.tokens, one.pixels = seen.clone(), None  # a view would keep the whole batch
