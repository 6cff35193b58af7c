"""A small model learns eight frames by all losses, and finds the object again in two greedy rounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from refstream_projects.spot.bridge import visible_alphas
from refstream_projects.spot.dialogue import Exchange, box_turn, exchange_turns, frame_signals, point_turn
from refstream_projects.spot.geometry import box_centre
from refstream_projects.spot.losses import FrameTruth, SPOTLoss
from refstream_projects.spot.signals import SpotTokens, spot_tokens
from refstream_projects.spot.text import SpotFormat
from torch import Tensor

from refstream.models.mllm.chat_tokens import token_piece
from refstream.models.mllm.decoding import decide, decode_free
from refstream.models.mllm.dialogue import Dialogue
from refstream.models.modeling import RefStreamModel

from .speakers import SHORT, small_speaker

TEXT = SpotFormat(yes="<Yes>", no="<No>", separator="", grid=3, **SHORT)  # type: ignore[arg-type]
EXPRESSION, SIZE, FRAMES = "the red circle", 64, 8


def clip() -> tuple[np.ndarray, Tensor]:
    """(8, 64, 64, 3) frames of an L-shaped object that moves, and its (8, 64, 64) masks."""
    masks = torch.zeros(FRAMES, SIZE, SIZE, dtype=torch.bool)
    for t in range(FRAMES):
        x, y = 4 + 5 * t, 30 - 3 * t
        masks[t, y : y + 24, x : x + 20] = True
        masks[t, y : y + 12, x + 10 : x + 20] = False
    frames = np.zeros((FRAMES, SIZE, SIZE, 3), np.uint8)
    frames[masks.numpy()] = (255, 40, 40)
    return frames, masks


def train(
    model: RefStreamModel, frames: np.ndarray, masks: Tensor, tokens: SpotTokens, steps: int
) -> list[float]:
    """Loss of every step; the grids move as they do in training."""
    mllm, loss = model.mllm, SPOTLoss(class_weight=0.1)
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    maker = torch.Generator().manual_seed(0)
    pixels = mllm.preprocess(list(frames))
    values = []
    for _ in range(steps):
        said = [Exchange.of(EXPRESSION, mask[None], TEXT, generator=maker) for mask in masks]
        chat = mllm.prompts.turns([exchange_turns(TEXT, one) for one in said])
        hidden = mllm.forward_chat(chat, mllm.encode_images(pixels), with_loss=False).hidden
        centres = torch.cat([box_centre(one.boxes) for one in said])
        plan = loss.bridge.plan(centres, visible_alphas([True] * FRAMES))
        signals = [
            frame_signals(mllm.logits, hidden, chat, e, TEXT, tokens, row=t) for t, e in enumerate(said)
        ]
        truths = [FrameTruth(one.boxes, one.labels, (plan[t],)) for t, one in enumerate(said)]
        value = torch.stack(list(loss(signals, truths, num_frames=FRAMES).values())).sum()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
        values.append(value.item())
    return values


@torch.no_grad()
def ask(model: RefStreamModel, frame: np.ndarray, tokens: SpotTokens) -> tuple[Tensor, Tensor, Tensor]:
    """Box, points and labels of one frame, decoded greedily."""
    mllm = model.mllm
    dialogue = Dialogue(mllm)
    dialogue.add(mllm.prompts.opening(), segment="system")
    opening = mllm.prompts.turn_opening(box_turn(TEXT, EXPRESSION), first=True)
    hidden = dialogue.append(opening, mllm.encode_images(mllm.preprocess([frame])), segment="round")
    reply = TEXT.read_boxes(decode_free(dialogue, hidden).text)
    assert reply.problem == ""
    assert len(reply.boxes) == 1
    box = reply.boxes[0]
    points = TEXT.points(box)
    asked = mllm.prompts.turn_opening(point_turn(TEXT, EXPRESSION, box, points), first=False)
    hidden = dialogue.append(asked, segment="round")
    labels = []
    for k in range(TEXT.num_points):
        decision = decide(dialogue, hidden, tokens.candidates(k))
        labels.append(int(decision.probabilities[0] > 0.5))
        hidden = dialogue.append(token_piece([decision.ids[1 - labels[-1]]]))
    return box, points, torch.tensor(labels)


def filled(box: Tensor, points: Tensor, labels: Tensor) -> Tensor:
    """A segmenter for toys: (64, 64) pixels in the box whose nearest point lies on the object."""
    at = (torch.arange(SIZE) + 0.5) / SIZE
    places = torch.stack((at.expand(SIZE, SIZE), at[:, None].expand(SIZE, SIZE)), dim=-1)
    inside = ((places >= box[:2]) & (places <= box[2:])).all(-1)
    nearest = (places[:, :, None] - points).square().sum(-1).argmin(-1)
    return inside & (labels[nearest] > 0)


@pytest.mark.slow
def test_a_small_model_learns_eight_frames() -> None:
    model = small_speaker(TEXT, hidden_size=64, intermediate_size=128).train()
    tokens = spot_tokens(model.mllm.prompts, TEXT)
    frames, masks = clip()
    values = train(model, frames, masks, tokens, steps=250)
    model.eval()
    ious = []
    for frame, mask in zip(frames, masks, strict=True):
        found = filled(*ask(model, frame, tokens))
        ious.append(float((found & mask).sum() / (found | mask).sum()))
    assert values[-1] < 0.1 * values[0]
    assert sum(ious) / FRAMES > 0.8, ious
