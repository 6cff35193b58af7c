"""For tests of methods: fakes that refer by colour, real models with random weights, and words for them."""

from refstream.testing.fakes import FakeMLLM, FakeModel, FakeSegmenter, moving_square_video
from refstream.testing.scripted import say
from refstream.testing.small import fitting_head, small_model

__all__ = [
    "FakeMLLM",
    "FakeModel",
    "FakeSegmenter",
    "fitting_head",
    "moving_square_video",
    "say",
    "small_model",
]
