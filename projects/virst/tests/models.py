"""A small VIRST with random weights, and clips for it; shared by the tests of this method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from refstream.models.modeling import RefStreamModel
from refstream.streaming.session import StreamSession
from refstream.structures import Frame, StreamEvent
from refstream.testing import small_model

NUM_TOKENS = 3
SAID = ["the red circle", "the blue square", "circle"]
READER = dict(frame_tokens=1, max_mllm_frames=4)
NEAREST = dict(type="tdau", anchors="nearest")
HEAD = dict(type="SpatioTemporalFusion", num_tokens=NUM_TOKENS, map_size=4, grid=2, num_heads=4)


def small_virst(**pipeline: Any) -> RefStreamModel:
    """In double precision, so that batches of any size agree; the same weights every time.

    The object score is raised: with random weights it lies around 0, and absent objects have blank masks.
    """
    torch.manual_seed(3)
    model = small_model(dict(type="VIRST", **pipeline), words="the red circle blue square", head=HEAD)
    shift_score(model, 3.0)
    model.mllm.model.float()
    return model.double()


def shift_score(model: RefStreamModel, by: float) -> None:
    """Raise the object score of every mask."""
    with torch.no_grad():
        model.segmenter.model.mask_decoder.pred_obj_score_head.proj_out.bias += by


def clip(num_frames: int, size: tuple[int, int] = (48, 64), seed: int = 0) -> list[Frame]:
    """Noise that drifts."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (*size, 3), np.uint8)
    return [Frame(t, t / 10, np.roll(image, 5 * t, axis=1)) for t in range(num_frames)]


def stream(
    model: RefStreamModel, frames: list[Frame], said: list[str], **keys: Any
) -> list[list[StreamEvent]]:
    """Events of each query, in order of time."""
    session = StreamSession(model.pipeline(**keys))
    ids = session.open(said)
    events = [event for frame in frames for event in session.step(frame)] + session.close()
    return [sorted((e for e in events if e.query_id == i), key=lambda e: e.frame_index) for i in ids]


def numbers(event: StreamEvent) -> tuple[Any, ...]:
    """What an event says, up to what a matrix product owes to the size of its batch."""
    assert event.mask is not None
    said = (event.pred_iou, event.consistency, event.object_score)
    rounded = tuple(None if x is None else round(x, 5) for x in said)
    return event.frame_index, event.mask.tobytes(), *rounded, event.invoked_mllm, event.reason


def spy(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, note: Callable[..., None]) -> None:
    """Tell ``note`` of every call of a method before it happens."""
    method = getattr(owner, name)

    def told(*args: Any, **keys: Any) -> Any:
        note(*args, **keys)
        return method(*args, **keys)

    monkeypatch.setattr(owner, name, told)
