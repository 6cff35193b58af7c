"""A benchmark small enough to reckon by hand, and pipelines whose scores are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from refstream.evaluation.benchmark import EvalExpression, EvalVideo, MaskBenchmark
from refstream.structures import Frame, ImageFeatures, MaskPrediction, Query, SegPrompt, StreamEvent

HEIGHT, WIDTH, NUM_FRAMES = 40, 60, 3
RED, BLUE = (220, 10, 10), (10, 10, 220)


@dataclass
class State:
    """What the pipelines of these tests remember: the query and, if they buffer, the events to come."""

    query: Query
    events: list[StreamEvent]


class ColourPipeline:
    """Marks the pixels of the colour that the words name, or of any colour; calls the MLLM on even frames."""

    causal = True
    max_frames = None

    def start(self, query: Query) -> State:
        return State(query, [])

    def encode(self, frame: Frame) -> np.ndarray:
        return frame.image.astype(int)

    def mask(self, words: str, image: np.ndarray) -> np.ndarray:
        red, blue = image[..., 0] > image[..., 2] + 50, image[..., 2] > image[..., 0] + 50
        return red if "red" in words else blue if "blue" in words else red | blue

    def step(self, states: list[State], frame: Frame, features: np.ndarray) -> list[StreamEvent]:
        return [self.answer(state, frame, features) for state in states]

    def answer(self, state: State, frame: Frame, features: np.ndarray) -> StreamEvent:
        mask = self.mask(state.query.expression, features)
        return StreamEvent(
            state.query.id, frame.index, frame.time_s, mask=mask, invoked_mllm=frame.index % 2 == 0
        )

    def finish(self, state: State) -> list[StreamEvent]:
        return state.events


class BufferingPipeline(ColourPipeline):
    """The same, told at the end."""

    causal = False
    max_frames = 100

    def step(self, states: list[State], frame: Frame, features: np.ndarray) -> list[StreamEvent]:
        for state in states:
            state.events.append(self.answer(state, frame, features))
        return []


class BoxSegmenter:
    """Fills the box it is given; its input is a square of 100 pixels, its masks are 50 pixels wide."""

    image_size = 100
    prompt_dim = 8

    def preprocess(self, images: list[np.ndarray]) -> torch.Tensor:
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
        return F.interpolate(pixels, (self.image_size, self.image_size))

    def encode(self, pixels: torch.Tensor) -> ImageFeatures:
        return ImageFeatures(pixels, (pixels, pixels), pixels)

    def decode(
        self, features: ImageFeatures, prompt: SegPrompt, *, memory: Any = None, multimask: bool = True
    ) -> MaskPrediction:
        assert prompt.box_xyxy is not None
        centres = torch.arange(50) * 2.0 + 1.0
        x0, y0, x1, y1 = (side[:, None] for side in prompt.box_xyxy.unbind(1))
        columns, rows = (centres > x0) & (centres < x1), (centres > y0) & (centres < y1)
        logits = (rows[:, :, None] & columns[:, None, :]).float() * 20 - 10
        ones = torch.ones(len(logits))
        return MaskPrediction(logits, ones, ones, logits[:, None], ones[:, None], ones[:, None])


class TwoSquares(MaskBenchmark):
    """One clip: a large red square that stands and a small blue one that walks."""

    name, split = "two_squares", "test"

    def __init__(self) -> None:
        self.seed = 3
        self.weights = {"appearance": 0.75, "motion": 0.25}
        self.settings = {"seed": self.seed}
        self.targets = {"0": 0, "1": 1, "2": 1}
        expressions = (
            EvalExpression("0", "the red square", "appearance", {"target": [0], "held_out": False}),
            EvalExpression("1", "the blue square", "appearance", {"target": [1], "held_out": True}),
            EvalExpression("2", "the square that moves", "motion", {"target": [1], "held_out": False}),
        )
        frames = tuple(f"{t:05d}" for t in range(NUM_FRAMES))
        self.videos = [EvalVideo("only", frames, expressions, (HEIGHT, WIDTH), 10.0)]
        self.masks = np.zeros((2, NUM_FRAMES, HEIGHT, WIDTH), dtype=bool)
        self.masks[0, :, 4:24, 4:24] = True
        for t in range(NUM_FRAMES):
            self.masks[1, t, 28:36, 30 + 4 * t : 38 + 4 * t] = True
        self.frames = np.full((NUM_FRAMES, HEIGHT, WIDTH, 3), 60, dtype=np.uint8)
        self.frames[self.masks[0]], self.frames[self.masks[1]] = RED, BLUE

    def images(self, video):
        return iter(self.frames)

    def truth(self, video, expression):
        return self.masks[self.targets[expression.id]]

    def objects(self, video):
        return self.masks


@pytest.fixture
def two_squares() -> TwoSquares:
    return TwoSquares()


@pytest.fixture
def colour_pipeline() -> ColourPipeline:
    return ColourPipeline()


@pytest.fixture
def buffering_pipeline() -> BufferingPipeline:
    return BufferingPipeline()


@pytest.fixture
def box_segmenter() -> BoxSegmenter:
    return BoxSegmenter()
