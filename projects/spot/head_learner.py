"""Training of SPOT with a regression head: one turn per frame, and the same losses on what the head reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from refstream.errors import UserError
from refstream.models.mllm.chat_tokens import IGNORE, ChatTokens
from refstream.registry import LEARNERS

from .geometry import full_precision
from .head_reader import answer_turn, check_head, frame_cells, head_states
from .learner import Looked, SPOTLearner
from .signals import FrameSignals
from .text import SpotFormat


@LEARNERS.register_module()
class SPOTHeadLearner(SPOTLearner):
    """As ``SPOTLearner``, through a ``BoxPointHead`` instead of two rounds in words.

    The box is the head's, the points are its grid, as the bridge sees them; judged are those of the box that
    ``grid`` names, as there. The text loss is that of the head's token, or of the refusal.
    """

    def prepare(self, model: Any) -> None:
        """Check that the model has the head, and reads frames through it; before training.

        Raises:
            UserError: If it has not, or tokens, lengths, ``frame_tokens`` or the grid do not fit.
        """
        if model.config.pipeline.get("reader") != "head":
            raise UserError(
                'SPOTHeadLearner trains a head that the pipeline would not read: set reader="head" there'
            )
        if model.mllm.device.type != "meta":
            check_head(model, self.format(model), self.tokens_per_frame(model))

    def clip_tokens(self, model: Any, expression: str, num_frames: int) -> tuple[int, int]:
        """Tokens of one expression's dialogues over a clip, and how many of them are targets."""
        turn = answer_turn(self.format(model), model.head, expression)
        chat = model.mllm.prompts.turns([[turn]], tile_tokens=self.tokens_per_frame(model))
        return num_frames * int(chat.input_ids.shape[1]), num_frames * int((chat.labels != IGNORE).sum())

    def _pass(
        self, model: Any, some: Sequence[Looked], vision: Tensor, text: SpotFormat
    ) -> list[FrameSignals]:
        """Signals of a few frames by one pass of the language model and the head."""
        turns = [
            [answer_turn(text, model.head, one.exchange.expression, seen=bool(len(one.exchange.boxes)))]
            for one in some
        ]
        chat = model.mllm.prompts.turns(turns, tile_tokens=int(vision.shape[1])).to(vision.device)
        images, points = vision[[one.image for one in some]], [one.exchange.points for one in some]
        return self._run(_run, model.mllm, model.head, chat, images, points, text)


def _run(
    mllm: Any, head: Any, chat: ChatTokens, images: Tensor, points: Sequence[Tensor], text: SpotFormat
) -> tuple[Tensor, ...]:
    """The fields of each row's ``FrameSignals``, one after the other.

    The head reads rows without an object as well, and nothing of that is used: all processes then train the
    same parameters.
    """
    found = head_states(mllm, chat, images)
    asked = torch.stack([one[0] if len(one) else torch.zeros(head.num_points, 2) for one in points])
    boxes, z = head(found.state, found.seen, frame_cells(mllm, images.shape[1]), asked)
    grids = text.points(boxes)
    said = chat.labels != IGNORE
    where = said.nonzero()  # (all supervised tokens, 2)
    logits = full_precision(mllm.logits(found.hidden[where[:, 0], where[:, 1] - 1]))
    losses = F.cross_entropy(logits, chat.labels[said], reduction="none")
    flat: list[Tensor] = []
    for row, own in enumerate(losses.split(said.sum(1).tolist())):
        there = slice(row, row + len(points[row]))  # one object, or none
        flat += [boxes[there], grids[there], z[there], own, torch.zeros_like(own, dtype=torch.bool)]
    return tuple(flat)
