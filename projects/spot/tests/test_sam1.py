"""Boxes and points into SAM 1: frames that are not square, a folder that travels, no memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from refstream_projects.spot.pipeline import seg_prompt
from refstream_projects.spot.reader import Found, Reading

import refstream
from refstream.errors import UserError
from refstream.models.segmenter.sam1 import Sam1Segmenter
from refstream.streaming.session import StreamSession
from refstream.structures import Frame, StreamEvent
from refstream.testing.small import SAM1

from .composites import TEXT, composite

BOX = "[100,200,400,700]"
SIZES = [(36, 64), (90, 30), (64, 64), (1, 1)]


def found(text: str = BOX) -> Found:
    box = TEXT.read_boxes(text).boxes[0]
    none = torch.zeros(0)
    return Found(box, TEXT.points(box)[:2], torch.tensor([1, 0]), none, none)


class Said:
    """A reader that always says the same box."""

    def read(
        self, vision_tokens: torch.Tensor, expressions: Sequence[str], before: Any = None
    ) -> list[Reading]:
        return [Reading(BOX, TEXT.read_boxes(BOX), [found()]) for _ in expressions]


@pytest.fixture(scope="module")
def model() -> Any:
    made: Any = composite()
    torch.manual_seed(0)
    made.segmenter = Sam1Segmenter(SAM1).double().eval()
    made.config.segmenter = dict(type="Sam1Segmenter", config=SAM1)
    return made


def picture(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)


def run(model: Any, size: tuple[int, int]) -> list[StreamEvent]:
    pipeline = model.pipeline()
    pipeline.reader = Said()
    session = StreamSession(pipeline)
    session.open(["the red square"])
    frames = [Frame(t, t / 10, picture(size)) for t in range(2)]
    return [event for frame in frames for event in session.step(frame)] + session.close()


@pytest.mark.parametrize("size", SIZES)
def test_masks_are_those_of_the_frame(model: Any, size: tuple[int, int]) -> None:
    events = run(model, size)
    with torch.inference_mode():
        image = model.segmenter.encode(model.segmenter.preprocess([picture(size)]))
        logits = model.segmenter.decode(image, seg_prompt([found()], 64)).mask_logits
        full = F.interpolate(logits[None], size, mode="bilinear", align_corners=False)[0, 0]
    for event in events:
        assert event.mask is not None
        assert event.mask.shape == size
        np.testing.assert_array_equal(event.mask, (full > 0).numpy())
        assert event.pred_iou is not None
        assert 0 <= event.pred_iou <= 1
        assert event.object_score == pytest.approx(float(logits.max()))
    assert events[1].consistency == 1.0


def test_a_folder_travels(model: Any, tmp_path: Path) -> None:
    loaded = refstream.load(model.save(tmp_path / "model"), dtype=torch.float64)
    assert isinstance(loaded.segmenter, Sam1Segmenter)
    for name, value in model.segmenter.state_dict().items():
        torch.testing.assert_close(loaded.segmenter.state_dict()[name], value, rtol=0, atol=1e-6)
    for one, other in zip(run(model, (36, 64)), run(loaded, (36, 64)), strict=True):
        assert np.mean(one.mask != other.mask) < 0.01


@pytest.mark.parametrize("kind", ["SPOT", "SpokenBox", "SegPropagation"])
def test_a_memory_is_refused_when_the_pipeline_is_made(model: Any, kind: str) -> None:
    with pytest.raises(UserError, match=r"SAM 1 has no memory.*memory='off'"):
        model.pipeline(type=kind, memory="on")
