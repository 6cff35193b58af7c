"""The learner: what is supervised, what it is divided by, and that no cut of a step changes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from refstream_projects.streamo.learner import StreamoLearner, recall_of
from refstream_projects.streamo.losses import StateFocalLoss
from refstream_projects.streamo.states import StateIds, state_ids
from torch import Tensor

from refstream.data.collate import ClipBatch, ClipSample, collate_clips
from refstream.errors import UserError
from refstream.registry import LEARNERS
from refstream.testing import FakeModel, small_model

from .models import dialogue, small_speaker

SEEN = ["sstrs", "sss", "str", "ssss", "rs", "t", "sttr", "ss"]
SAMPLES = [dialogue(i, states) for i, states in enumerate(SEEN)]


def learner(**loss: Any) -> StreamoLearner:
    return StreamoLearner(loss=dict(type="StateFocalLoss", **loss), initialise=None)


def trainable(max_tokens: int = 0) -> Any:
    """In training mode and double precision; the vision tower frozen."""
    model = small_speaker().double().train()
    model.mllm.model.model.vision_tower.requires_grad_(False)
    return model


def gradients(model: Any, losses: Sequence[Tensor], divided_by: int) -> dict[str, Tensor]:
    """Of the mean of the losses of the micro-batches, as accumulation makes it."""
    model.zero_grad()
    for loss in losses:
        (loss / divided_by).backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def step(model: Any, learner: StreamoLearner, cuts: Sequence[int]) -> tuple[float, dict[str, Tensor]]:
    """Mean loss and gradient of one optimizer step over all samples, cut into micro-batches."""
    parts = [collate_clips(SAMPLES[a:b]) for a, b in pairwise(cuts)]
    counts = [learner.counts(model, part) for part in parts]
    totals = {name: sum(count[name] for count in counts) / len(parts) or 1.0 for name in counts[0]}
    losses = [learner.losses(model, replace(part, totals=totals))["loss_text"] for part in parts]
    mean = float(torch.stack(losses).detach().mean())
    return mean, gradients(model, losses, len(parts))


def test_supervised_are_state_answer_and_end_of_every_turn() -> None:
    model = small_speaker()
    chat = learner().chats(model, collate_clips([dialogue(0, "str")]))[0]
    read = model.mllm.tokenizer.decode(chat.labels[chat.labels >= 0])
    assert read == "<Silence><|im_end|><Standby><|im_end|><Response> it is red now 0<|im_end|>"
    assert chat.image_slots == (3 * 4,)


def test_counts_tell_absent_states_from_single_ones() -> None:
    model, own = small_speaker(), learner()
    counts = own.counts(model, collate_clips([dialogue(0, "ssr")]))
    text = len(model.mllm.tokenizer(" it is red now 0")["input_ids"])
    assert counts["tokens"] == 6 + text
    assert own._state_counts(counts).tolist() == [2, 0, 1]


def test_the_loss_is_that_of_padded_dialogues() -> None:
    model = trainable()
    batch = collate_clips(SAMPLES)
    found = learner(alpha="micro").losses(model, batch)["loss_text"]
    chat = model.mllm.prompts.turns(
        [[*_turns(sample)] for sample in SAMPLES],
    )
    vision = torch.cat(model.vision_tokens([f for clip in batch.frames for f in clip]))
    logits = model.mllm.forward_chat(chat, vision, with_logits=True).logits
    wanted = chat.labels[:, 1:] >= 0
    expected = StateFocalLoss(alpha="micro")(
        logits[:, :-1][wanted], chat.labels[:, 1:][wanted], state_ids(model.mllm.tokenizer)
    )
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def _turns(sample: ClipSample) -> Any:
    from refstream.models.mllm.chat import Turn

    return (Turn(text, answer, 1) for text, answer in sample.dialogue)


@pytest.mark.parametrize("alpha", ["global", "ema", "sample"])
def test_no_cut_of_a_step_changes_it(alpha: str | None) -> None:
    """1 x 8 = 2 x 4 = 8 x 1; several processes are micro-batches that run side by side."""
    model = trainable()
    whole, gradient = step(model, learner(alpha=alpha), (0, 8))
    assert set(gradient) & {n for n in gradient if "projector" in n}
    assert not {n for n in gradient if "vision_tower" in n}
    for cuts in ((0, 4, 8), range(9)):
        loss, other = step(model, learner(alpha=alpha), cuts)
        assert loss == pytest.approx(whole, rel=1e-5)
        for name, value in gradient.items():
            torch.testing.assert_close(other[name], value, rtol=1e-4, atol=1e-6)


def test_micro_counts_change_with_the_cut() -> None:
    model = trainable()
    losses = [step(model, learner(alpha="micro"), cuts)[0] for cuts in ((0, 8), range(9))]
    assert abs(losses[0] - losses[1]) > 1e-3


@pytest.mark.parametrize("max_tokens", [320, 700])
def test_rows_do_not_change_the_loss(max_tokens: int) -> None:
    model, batch = trainable(), collate_clips(SAMPLES)
    one = StreamoLearner(initialise=None).losses(model, batch)
    several = StreamoLearner(max_tokens=max_tokens, initialise=None)
    few = several.losses(model, batch)
    assert one["rows"] == 1
    assert few["rows"] > 1
    assert few["tokens"] == one["tokens"] > max_tokens
    first = gradients(model, [one["loss_text"]], 1)
    second = gradients(model, [few["loss_text"]], 1)
    assert few["loss_text"].item() == pytest.approx(one["loss_text"].item(), rel=1e-5)
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=1e-4, atol=1e-6)


def test_encoding_in_pieces_changes_nothing() -> None:
    model, batch = trainable(), collate_clips(SAMPLES[:3])
    losses = [
        StreamoLearner(encode_batch=n, initialise=None).losses(model, batch)["loss_text"].item()
        for n in (4, 100)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_frames_are_pooled_as_the_pipeline_says() -> None:
    model = small_speaker(dict(type="any", frame_tokens=1))
    assert StreamoLearner().tokens_per_frame(model) == 1
    assert StreamoLearner(frame_tokens=4).tokens_per_frame(model) == 4
    chat = StreamoLearner().chats(model, collate_clips(SAMPLES[:1]))[0]
    assert chat.image_slots == (len(SEEN[0]),)
    assert torch.isfinite(StreamoLearner().losses(model, collate_clips(SAMPLES[:1]))["loss_text"])
    with pytest.raises(UserError, match=r"\[1, 4\]"):
        StreamoLearner(frame_tokens=3).prepare(model)


def test_recall_counts_the_best_of_three() -> None:
    ids = StateIds(5, 6, 7)
    logits = torch.zeros(5, 9)
    logits[:, 0] = 9  # no state, and the most likely token: does not matter
    logits[[0, 1, 2, 3], [5, 7, 6, 7]] = 1
    targets = torch.tensor([5, 5, 6, 7, 8])
    assert recall_of(logits, targets, ids).tolist() == [[1, 2], [1, 1], [1, 1]]


def test_the_log_has_hits_and_cases() -> None:
    model, batch = trainable(), collate_clips(SAMPLES)
    found = learner().losses(model, batch)
    cases = [int(found[f"recall_{state}_cases"]) for state in ("silence", "standby", "response")]
    assert cases == ["".join(SEEN).count(letter) for letter in "str"]
    assert all(0 <= found[f"recall_{s}_hits"] <= found[f"recall_{s}_cases"] for s in ("silence", "response"))


def test_a_dialogue_about_one_picture_is_learnt_too() -> None:
    """Offline questions, mixed in so that nothing is forgotten: the frame stands in the first turn."""
    still = replace(SAMPLES[2], frames=SAMPLES[2].frames[:1], masks=SAMPLES[2].masks[:, :1], turn_images=())
    chat = learner().chats(small_speaker(), collate_clips([still]))[0]
    assert chat.image_slots == (4,)
    batch = collate_clips([replace(still, frames=still.frames[:0], masks=still.masks[:, :0]), SAMPLES[0]])
    assert torch.isfinite(learner().losses(small_speaker(), batch)["loss_text"])


def test_what_cannot_be_learnt_is_refused() -> None:
    model = small_speaker()
    masks = np.zeros((1, 2, 48, 64), bool)
    clip = ClipSample(np.zeros((2, 48, 64, 3), np.uint8), ["the red light"], masks, "a clip")
    with pytest.raises(UserError, match=r"expression with masks"):
        learner().counts(model, collate_clips([clip]))
    with pytest.raises(UserError, match=r"'stream 0' has \d+ tokens in 5 turns, at most 100 fit.*max_turns"):
        StreamoLearner(max_tokens=100).counts(model, collate_clips(SAMPLES[:1]))
    with pytest.raises(UserError, match="at most 64 fit"):
        learner().counts(small_speaker(max_position_embeddings=64), collate_clips(SAMPLES[:1]))
    with pytest.raises(UserError, match="added_tokens"):
        learner().prepare(small_model())
    with pytest.raises(ValueError, match="at least 1"):
        StreamoLearner(encode_batch=0)


@pytest.mark.parametrize("name", ["StreamingRVOSLearner", "VIRSTLearner"])
def test_learners_for_one_picture_refuse_streams(name: str) -> None:
    """Whichever of them are installed."""
    from refstream.registry import import_methods

    import_methods()
    if LEARNERS.get(name) is None:
        pytest.skip(f"{name} is not installed")
    with pytest.raises(UserError, match=rf"{name} learns dialogues about one picture, but 'stream 0'"):
        LEARNERS.build(dict(type=name)).counts(FakeModel(), collate_clips(SAMPLES[:1]))


def test_a_running_mean_sees_every_step_once() -> None:
    model, own = trainable(), learner(alpha="ema", momentum=0.5)
    batch = collate_clips(SAMPLES[:2])
    totals = {name: float(count) for name, count in own.counts(model, batch).items()}
    for _ in range(3):
        own.losses(model, replace(batch, totals=totals))
    assert own.loss.average.tolist() == own._state_counts(totals).tolist()
    fresh: ClipBatch = collate_clips([dialogue(0, "ttt")])
    own.losses(model, fresh)
    expected = own._state_counts(totals) / 2 + torch.tensor([0, 1.5, 0])
    assert own.loss.average.tolist() == pytest.approx(expected.tolist())
    assert "loss.average" in own.state_dict()
