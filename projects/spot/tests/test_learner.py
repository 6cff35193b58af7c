"""The learner: pieces equal the whole, empty frames refuse, and it learns to speak boxes that the reader
reads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from refstream_projects.spot.learner import SPOTLearner
from refstream_projects.spot.reader import SpotReader

from refstream.data.collate import ClipSample, collate_clips
from refstream.errors import UserError

from .composites import KEYS, TEXT, composite, moving

TERMS = ("loss_box", "loss_class", "loss_text", "loss_bridge")


def learn(model: Any, learner: SPOTLearner, *samples: ClipSample) -> dict[str, torch.Tensor]:
    model.zero_grad()
    losses = learner.losses(model, collate_clips(samples))
    total: Any = sum(losses[name] for name in TERMS)
    total.backward()
    return losses


def gradients(model: Any) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in model.mllm.named_parameters() if p.grad is not None}


def assert_same(
    found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], atol: float = 2e-6
) -> None:
    """Equal up to the float32 in which signals and losses are computed."""
    assert found.keys() == expected.keys() != set()
    for name, value in expected.items():
        scale = max(float(value.detach().abs().max()), 1.0)
        torch.testing.assert_close(found[name], value, rtol=0, atol=atol * scale, msg=name)


@pytest.fixture(scope="module")
def model() -> Any:
    return composite()


@pytest.mark.parametrize(
    "keys", [dict(frames_at_once=1), dict(frames_at_once=3), dict(frames_at_once=3, recompute=True)]
)
def test_a_segment_in_pieces_is_the_whole_segment(model, keys) -> None:
    sample = moving(8, hidden=(5,))
    whole = learn(model, SPOTLearner(), sample)
    expected = gradients(model)
    pieces = learn(model, SPOTLearner(**keys), sample)
    assert_same({n: pieces[n] for n in TERMS}, {n: whole[n] for n in TERMS})
    assert_same(gradients(model), expected)


def test_frames_may_be_accumulated_one_by_one(model) -> None:
    """Each frame with a backward pass of its own, nothing of the others in memory."""
    sample = moving(8, hidden=(2,))
    learner, batch = SPOTLearner(), collate_clips([sample])
    whole = learn(model, learner, sample)
    expected = gradients(model)
    model.zero_grad()
    segment = learner.segments(model, batch, TEXT)[0]
    found = dict.fromkeys(TERMS, 0.0)
    for t, frame in enumerate(segment.frames):
        signals, _ = learner.hear(model, [frame], learner.vision(model, batch), TEXT)
        losses = learner.segment_losses(segment, signals, first=t)
        total: Any = sum(losses.values())
        total.backward()
        found = {name: found[name] + float(losses[name].detach()) for name in TERMS}
    assert found == pytest.approx({name: float(whole[name].detach()) for name in TERMS}, rel=1e-5)
    assert_same(gradients(model), expected)


def test_the_bridge_moves_between_the_ends_alone(model) -> None:
    bridge = SPOTLearner(loss=dict(type="SPOTLoss", box_weight=0, class_weight=0, text_weight=0))
    assert float(learn(model, bridge, moving(8))["loss_bridge"].detach()) > 0
    assert any(float(g.abs().max()) > 0 for g in gradients(model).values())
    for sample in (moving(2), moving(8, hidden=tuple(range(2, 8))), moving(1)):
        assert float(learn(model, bridge, sample)["loss_bridge"].detach()) == 0


def test_clips_are_averaged_over_segments(model) -> None:
    one, other = moving(8), moving(8, hidden=(0, 1))
    learner = SPOTLearner()
    assert learner.counts(model, collate_clips([one, other])) == {"segments": 2}
    both = learn(model, learner, one, other)
    alone = [learn(model, learner, sample) for sample in (one, other)]
    for name in TERMS:
        mean = sum(float(losses[name].detach()) for losses in alone) / 2
        assert float(both[name].detach()) == pytest.approx(mean, rel=1e-5)
    halved = replace(collate_clips([one]), totals={"segments": 2.0})
    assert float(learner.losses(model, halved)["loss_box"].detach()) == pytest.approx(
        float(alone[0]["loss_box"].detach()) / 2, rel=1e-5
    )


def test_longer_clips_are_cut() -> None:
    model, batch = composite(), collate_clips([moving(11)])
    learner = SPOTLearner(segment_length=4)
    assert [len(part) for part in learner.segments_of(batch, 0)] == [4, 4, 3]
    assert learner.counts(model, batch) == {"segments": 3}
    phased = SPOTLearner(segment_length=4, phase="random")
    assert sum(len(part) for part in phased.segments_of(batch, 0)) == 11
    assert [s.frames[0].image for s in learner.segments(model, batch, TEXT)] == [0, 4, 8]


def test_an_expression_that_is_never_seen_learns_its_refusal_alone(model) -> None:
    losses = learn(model, SPOTLearner(), moving(4, hidden=(0, 1, 2, 3)))
    assert [float(losses[name].detach()) for name in ("loss_box", "loss_class", "loss_bridge")] == [0, 0, 0]
    assert float(losses["loss_text"].detach()) > 0
    assert "box_iou" not in losses


def test_several_clips_keep_their_images_apart(model) -> None:
    batch = collate_clips([moving(3), moving(3, hidden=(0,))])
    images = [frame.image for s in SPOTLearner().segments(model, batch, TEXT) for frame in s.frames]
    assert images == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("grid", ["truth", "prediction", "jitter"])
def test_grids_of_round_two(model, grid) -> None:
    learner = SPOTLearner(grid=grid)
    batch = collate_clips([moving(3)])
    segments = learner.segments(model, batch, TEXT)
    vision = learner.vision(model, batch)
    if grid == "prediction":
        truth = [frame.exchange.grid_boxes for frame in segments[0].frames]
        segments = learner.regridded(model, segments, vision, TEXT)
        assert not torch.allclose(segments[0].frames[0].exchange.grid_boxes, truth[0])
    for frame in segments[0].frames:
        said = frame.exchange
        assert torch.equal(said.grid_boxes, said.boxes) == (grid == "truth")
        if grid == "jitter":
            reach = 0.1 * (said.boxes[:, 2:] - said.boxes[:, :2]).repeat(1, 2)
            assert bool(((said.grid_boxes - said.boxes).abs() <= reach + 1e-6).all())
    again = SPOTLearner(grid=grid).segments(model, batch, TEXT)
    if grid == "jitter":  # drawn from the sample alone
        assert torch.equal(again[0].frames[1].exchange.points, segments[0].frames[1].exchange.points)
    assert float(learn(model, learner, moving(3))["loss_class"].detach()) > 0


def test_dialogues_are_refused(model) -> None:
    talk = ClipSample(
        np.zeros((1, 8, 8, 3), np.uint8), [], np.zeros((0, 1, 8, 8), bool), "chat", (("what", "that"),)
    )
    with pytest.raises(UserError, match=r"holds dialogues: leave their dataset out"):
        SPOTLearner().counts(model, collate_clips([talk]))


@pytest.mark.parametrize(
    "keys", [dict(grid="x"), dict(phase="x"), dict(centre="x"), dict(segment_length=0), dict(jitter=0.5)]
)
def test_bad_keys(keys) -> None:
    with pytest.raises(ValueError, match="must be"):
        SPOTLearner(**keys)


def test_a_tokenizer_that_cannot_judge_is_refused() -> None:
    with pytest.raises(UserError, match="not one token each"):
        SPOTLearner(text=dict(KEYS, yes="Yes", no="No", separator=" ")).prepare(composite())
    with pytest.raises(UserError, match="frame_tokens must be one of"):
        SPOTLearner(frame_tokens=3).prepare(composite())
    SPOTLearner().prepare(composite())


@pytest.mark.slow
def test_it_learns_what_the_reader_then_reads() -> None:
    """Four frames by heart, one of them empty: boxes to the thousandth, points and the refusal."""
    model = composite().float().train()
    sample = moving(4, hidden=(2,))
    learner = SPOTLearner(grid="truth")
    batch = collate_clips([sample])
    optimizer = torch.optim.Adam(model.mllm.parameters(), lr=4e-3)
    first = None
    for _ in range(160):
        optimizer.zero_grad()
        losses = learner.losses(model, batch)
        total: Any = sum(losses[name] for name in TERMS)
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.mllm.parameters(), 1.0)
        optimizer.step()
        first = float(total.detach()) if first is None else first
    assert float(total.detach()) < 0.01 * first
    model.eval()
    reader = SpotReader(model, text=KEYS)
    for frame in learner.segments(model, batch, TEXT)[0].frames:
        with torch.no_grad():
            seen = model.vision_tokens([sample.frames[frame.image]])[0]
        (reading,) = reader.read(seen, sample.expressions)
        assert reading.text == TEXT.say_boxes(frame.exchange.boxes)
        assert reading.reply.refused == (frame.image == 2)
        for found in reading.objects:
            judged = (found.p_yes > found.p_no).long()
            assert judged.tolist() == frame.exchange.labels[0].tolist()
