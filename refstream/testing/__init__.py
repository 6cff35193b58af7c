"""For tests of methods: fakes that really refer, by colour, and a real model with random weights."""

from refstream.testing.fakes import FakeMLLM, FakeModel, FakeSegmenter, moving_square_video
from refstream.testing.small import fitting_head, small_model

__all__ = [
    "FakeMLLM",
    "FakeModel",
    "FakeSegmenter",
    "fitting_head",
    "moving_square_video",
    "small_model",
]
