"""What all queries of one frame share: each encoder runs at most once per frame, and only when asked."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any

from torch import Tensor

from refstream.structures import Frame, ImageFeatures

StageTimer = Callable[[str], AbstractContextManager[Any]]


def no_timer(name: str) -> AbstractContextManager[Any]:
    """The stage timer that measures nothing."""
    return nullcontext()


class FrameFeatures:
    """Lazily encoded features of a frame.

    Args:
        model: Holds ``mllm`` and ``segmenter``.
        frame: The frame.
        max_tiles: Tiles of the MLLM's view; 1 in streaming (256 tokens), as trained.
        stage: Stage timer.
    """

    def __init__(self, model: Any, frame: Frame, *, max_tiles: int = 1, stage: StageTimer = no_timer) -> None:
        self._model, self._frame = model, frame
        self._max_tiles, self._stage = max_tiles, stage

    @cached_property
    def segmenter(self) -> ImageFeatures:
        """Segmenter features, batch size 1."""
        self._model.require_segmenter()
        with self._stage("segmenter_encode"):
            return self._model.segmenter.encode(self._model.segmenter.preprocess([self._frame.image]))

    @cached_property
    def vision_tokens(self) -> Tensor:
        """(tiles, num_image_tokens, D) vision tokens of the MLLM."""
        with self._stage("vision_encode"):
            pixels = self._model.mllm.preprocess([self._frame.image], max_tiles=self._max_tiles)
            return self._model.mllm.encode_images(pixels)
