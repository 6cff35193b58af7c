"""Fakes for tests of methods: an MLLM and a segmenter that really refer, by colour, without any weights."""

from refstream.testing.fakes import FakeMLLM, FakeModel, FakeSegmenter, moving_square_video

__all__ = ["FakeMLLM", "FakeModel", "FakeSegmenter", "moving_square_video"]
