"""The learner on fakes: same SER and gate as inference, per-sample decisions, gradients where they belong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from refstream_projects.streamingrvos import StreamingRVOSLearner

from refstream.data.collate import ClipBatch, ClipSample, collate_clips
from refstream.testing import FakeModel, moving_square_video, small_model


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


@pytest.mark.parametrize(
    ("truncate", "graphs"),
    [(None, [False, True, True, True]), (0, [False] * 4), (1, [False, True, False, True])],
)
def test_the_previous_state_is_attached_up_to_a_length(truncate: int | None, graphs: list[bool]) -> None:
    model = Recorder().train()
    losses = StreamingRVOSLearner(truncate=truncate).losses(model, batch())
    assert model.graphs == graphs
    (losses["loss_bce"] + losses["loss_dice"]).backward()
    assert float(model.mllm.scale.grad) != 0


def test_iou_loss_is_the_distance_to_the_true_iou() -> None:
    model = FakeModel().train()
    losses = StreamingRVOSLearner(iou_weight=2.0).losses(model, batch())
    assert torch.isclose(losses["loss_iou"], 2 * (0.95 - losses["iou"]).abs(), atol=1e-5)


def test_a_release_quirk_lets_one_sample_decide_for_all() -> None:
    """The best mask of the batch is reliable, so the yellow square that is not there is never sought."""
    model = FakeModel().train()
    gate = dict(type="LaggedConsistencyGate")
    said = ("red", "yellow")
    own = StreamingRVOSLearner(gate=gate).losses(model, batch(said=said))
    shared = StreamingRVOSLearner(gate=gate, batch_gate=True).losses(model, batch(said=said))
    assert own["looks_per_frame"].item() == (1 + 4) / 8
    assert shared["looks_per_frame"].item() == (1 + 1) / 8


def test_detach_llm_leaves_the_language_model_without_gradient() -> None:
    model = FakeModel().train()
    losses = StreamingRVOSLearner(detach_llm=True).losses(model, batch())
    assert not losses["loss_bce"].requires_grad  # the fakes have no other parameter


def test_totals_divide_the_sums() -> None:
    """Two batches, each divided by the mean count, average to the whole batch."""
    model, learner = FakeModel().train(), StreamingRVOSLearner()
    frames, masks = moving_square_video(4, colours=("red", "blue"))
    clip = np.stack([f.image for f in frames])
    samples = [
        ClipSample(clip, ["the red square", "the yellow square"], masks, "a"),
        ClipSample(clip, ["the blue square"], masks[1:], "b"),
    ]
    whole = learner.losses(model, collate_clips(samples))
    parts = [collate_clips([sample]) for sample in samples]
    counts = [learner.counts(model, part) for part in parts]
    assert [count["masks"] for count in counts] == [8, 4]
    totals = {name: sum(count[name] for count in counts) / 2 for name in counts[0]}
    split = [learner.losses(model, replace(part, totals=totals)) for part in parts]
    for name in ("loss_bce", "loss_dice"):
        assert torch.isclose(whole[name], (split[0][name] + split[1][name]) / 2, atol=1e-6)


def test_dialogues_are_learned_beside_clips() -> None:
    """On a real model: the sums of a mixed batch are those of its parts."""
    model, learner = small_model(), StreamingRVOSLearner()
    frames, masks = moving_square_video(2, colours=("red",))
    clip = np.stack([f.image for f in frames])
    turns = (("what is it", "a square"), ("sure", "yes"))
    samples = [
        ClipSample(clip, ["the red square"], masks, "clip"),
        ClipSample(clip[:1], [], np.zeros((0, 1, 64, 64), bool), "seen", turns),
        ClipSample(
            np.zeros((0, 0, 0, 3), np.uint8), [], np.zeros((0,) * 4, bool), "said", (("hi", "hello"),)
        ),
    ]
    batch = collate_clips(samples)
    counts = learner.counts(model, batch)
    parts = [collate_clips([sample]) for sample in samples]
    each = [learner.counts(model, part) for part in parts]
    assert counts == {name: sum(one[name] for one in each) for name in ("masks", "tokens")}
    with torch.no_grad():
        whole = learner.losses(model, batch)["loss_text"]
        split = [learner.losses(model, replace(part, totals=counts))["loss_text"] for part in parts]
    assert torch.isclose(whole, torch.stack(split).sum(), rtol=1e-4)


def test_released_wording_varies_and_repeats() -> None:
    prompts, learner = FakeModel().mllm.prompts, StreamingRVOSLearner(templates="released")
    frames, masks = moving_square_video(1, colours=("red",))
    clip = np.stack([f.image for f in frames])
    batch = collate_clips([ClipSample(clip, ["the red square"], masks, f"s@{i}") for i in range(64)])
    wording = learner.wording(prompts, batch)
    assert len({question for question, _ in wording}) > 10
    assert len({answer for _, answer in wording}) == 5
    assert wording == learner.wording(prompts, batch)


def test_every_part_is_replaced_by_config_alone() -> None:
    model = Recorder().train()
    StreamingRVOSLearner(context=dict(type="NoMemory")).losses(model, batch())
    assert model.graphs == [False] * 4
    learner = StreamingRVOSLearner(
        mask_loss=dict(type="FullSizeMaskLoss"),
        gate=dict(type="EveryKGate", k=2),
        context=dict(type="ZeroedMemory"),
    )
    assert learner.losses(FakeModel().train(), batch())["looks_per_frame"].item() == 0.5
