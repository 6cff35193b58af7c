"""The learner on fakes: same SER and gate as inference, per-sample decisions, gradients where they belong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from refstream_projects.streamingrvos import StreamingRVOSLearner

from refstream.data.collate import ClipBatch, ClipSample, collate_clips
from refstream.testing import FakeModel, moving_square_video


def batch(colours: tuple[str, ...] = ("red", "blue"), said: tuple[str, ...] | None = None) -> ClipBatch:
    frames, masks = moving_square_video(4, colours=colours)
    clip = np.stack([f.image for f in frames])
    return collate_clips([ClipSample(clip, [f"the {c} square" for c in said or colours], masks)])


def test_every_frame_and_omcp_call_rates() -> None:
    model = FakeModel().train()
    every = StreamingRVOSLearner().losses(model, batch())
    assert every["looks_per_frame"].item() == 1.0
    assert every["iou"].item() > 0.99
    gated = StreamingRVOSLearner(gate=dict(type="ConsistencyGate")).losses(model, batch())
    assert gated["looks_per_frame"].item() == 0.25  # the first frame only


def test_the_gate_judges_every_sample_alone() -> None:
    model = FakeModel().train()
    learner = StreamingRVOSLearner(gate=dict(type="ConsistencyGate"))
    losses = learner.losses(model, batch(said=("red", "yellow")))  # no yellow square: always unsure
    assert losses["looks_per_frame"].item() == (1 + 4) / 8


class Recorder(FakeModel):
    """Remembers whether the context that each look was given has a graph."""

    def __init__(self) -> None:
        super().__init__()
        self.graphs: list[bool] = []
        forward = self.mllm.forward_chat

        def recording(chat: Any, tokens: Any, context: Any, mask: Any, **keys: Any) -> Any:
            self.graphs.append(context.requires_grad)
            return forward(chat, tokens, context, mask, **keys)

        self.mllm.forward_chat = recording  # type: ignore[method-assign]


@pytest.mark.parametrize("attached", [True, False])
def test_the_previous_state_is_attached_or_detached(attached: bool) -> None:
    model = Recorder().train()
    losses = StreamingRVOSLearner(attached=attached).losses(model, batch())
    assert model.graphs == [False] + [attached] * 3
    (losses["loss_bce"] + losses["loss_dice"]).backward()
    assert float(model.mllm.scale.grad) != 0


def test_iou_loss_is_the_distance_to_the_true_iou() -> None:
    model = FakeModel().train()
    losses = StreamingRVOSLearner(iou_weight=2.0).losses(model, batch())
    assert torch.isclose(losses["loss_iou"], 2 * (0.95 - losses["iou"]).abs(), atol=1e-5)
