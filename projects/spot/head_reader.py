"""One pass instead of two rounds: the question of round 1, one token as the answer, and the head reads it.

    user       Where is "the red circle"? ...  <image>
    assistant  [SEG]                                    or the refusal, where nothing is to be seen

Whether the object is there is said in words: by what the language model prefers where its answer begins, the
head's token or the refusal's first. Box and judgements come from the states, see ``head``. No token is
decoded, so all expressions of a frame cost one pass together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from refstream.errors import UserError
from refstream.models.mllm.chat import Turn
from refstream.models.mllm.chat_tokens import IGNORE, ChatTokens
from refstream.models.mllm.pooling import pool_tokens

from .head import BoxPointHead
from .point_filter import NO_FOREGROUND, P_NO, P_YES, PointFilter
from .reader import Found, Reading, SpotReader, spot_format, tokens_per_frame
from .signals import answer_ids
from .text import SCALE, BoxReply, SpotFormat

READERS = ("dialogue", "head")
HEAD_KEYS = ("text", "frame_tokens", "points", "p_no", "p_yes", "no_foreground")


@dataclass(frozen=True, eq=False)
class HeadStates:
    """What the head reads of B dialogues of one turn.

    Attributes:
        hidden: (B, L, D) final-norm hidden states.
        start: (B,) place of each answer's first token.
        state: (B, D) at that token.
        before: (B, D) where it is predicted.
        seen: (B, n, D) at the vision tokens.
    """

    hidden: Tensor
    start: Tensor
    state: Tensor
    before: Tensor
    seen: Tensor


def head_states(mllm: Any, chat: ChatTokens, images: Tensor) -> HeadStates:
    """Run B answered dialogues with one image each: (B, n, D) vision tokens."""
    hidden = mllm.forward_chat(chat, images, with_loss=False).hidden
    rows = torch.arange(len(hidden), device=hidden.device)
    start = (chat.labels != IGNORE).long().argmax(1)
    seen = hidden[chat.image_positions].unflatten(0, (len(hidden), -1))
    return HeadStates(hidden, start, hidden[rows, start], hidden[rows, start - 1], seen)


def answer_turn(text: SpotFormat, head: BoxPointHead, expression: str, *, seen: bool = True) -> Turn:
    """The one turn of a dialogue: the head's token where the object is seen, else the refusal.

    The picture stands last, so that the states of its tokens, which points attend to, have read the question.
    """
    return Turn(text.ask_box(expression), head.answer if seen else text.refusal, images=1)


def first_tokens(prompts: Any, text: SpotFormat, head: BoxPointHead) -> tuple[int, int]:
    """The first tokens of an answer: that of the head, and that of the refusal.

    Raises:
        UserError: If the head's is no token of its own in answers.
    """
    ids = answer_ids(prompts, head.answer) if head.answer in prompts.answer_tokens else []
    if len(ids) != 1 + len(answer_ids(prompts, "")):
        raise UserError(
            f"the head reads the state of {head.answer!r}, which is no token of its own in answers; name it "
            "in the model's config, mllm=dict(added_tokens=[...], prompts=dict(answer_tokens=[...]))"
        )
    return ids[0], answer_ids(prompts, text.refusal)[0]


def check_head(model: Any, text: SpotFormat, frame_tokens: int) -> None:
    """Raise a ``UserError`` if a model has no such head, its points are not those of the grid, or the
    question does not fit the language model.
    """
    head = model.head
    if not isinstance(head, BoxPointHead):
        raise UserError(
            'reader="head" needs a model with head=dict(type="BoxPointHead"), this one has '
            f"{type(head).__name__}: train one with the learner SPOTHeadLearner"
        )
    if head.num_points != text.num_points:
        raise UserError(
            f"the head judges {head.num_points} points, the grid of {text.grid} x {text.grid} has "
            f"{text.num_points}: set points of the head or grid of text"
        )
    prompts = model.mllm.prompts
    first_tokens(prompts, text, head)
    frame_cells(model.mllm, frame_tokens)
    turns = [[answer_turn(text, head, "the red circle", seen=seen)] for seen in (True, False)]
    length = int(prompts.turns(turns, tile_tokens=frame_tokens).input_ids.shape[1])
    limit = int(model.mllm.config.text_config.max_position_embeddings)
    if length > limit:
        raise UserError(
            f"the question about a frame has some {length} tokens, the language model takes {limit}: use "
            "fewer frame_tokens"
        )


def frame_cells(mllm: Any, count: int) -> Tensor:
    """(n, 2) float32 centres x, y in [0, 1] of the cells that ``count`` vision tokens show, row by row.

    Raises:
        UserError: If the tokens are no grid.
    """
    rows, columns = getattr(mllm, "image_grid", (math.isqrt(count),) * 2)
    if rows * columns != count:
        rows = columns = math.isqrt(count)  # pooled
    if rows * columns != count:
        raise UserError(f"{count} vision tokens per frame are no square; set frame_tokens to one that is")
    y, x = torch.meshgrid(
        (torch.arange(rows) + 0.5) / rows, (torch.arange(columns) + 0.5) / columns, indexing="ij"
    )
    return torch.stack((x.flatten(), y.flatten()), dim=-1)


def inside_frame(boxes: Tensor) -> Tensor:
    """The part of (N, 4) boxes that lies in the frame, each side at least a thousandth long."""
    low = boxes[:, :2].clamp(0, 1 - 1 / SCALE)
    high = boxes[:, 2:].clamp(0, 1)
    return torch.cat((low, torch.maximum(high, low + 1 / SCALE)), dim=-1)


class HeadReader:
    """Reads frames through a ``BoxPointHead``; one object per expression.

    Args:
        model: Composite with ``mllm`` and such a ``head``.
        text: Keys of ``SpotFormat``: the question of round 1, the refusal and the grid.
        frame_tokens: Vision tokens per frame, see ``pool_tokens``; None: all of the MLLM.
        points: Judge points; False: boxes alone.
        p_no: A point is background where 1 - sigmoid(z) is above it, see ``PointFilter``.
        p_yes: A point that is not is foreground where sigmoid(z) is above it.
        no_foreground: See ``PointFilter``.

    Raises:
        UserError: For values out of range, or a model that has no such head or token.
    """

    def __init__(
        self,
        model: Any,
        *,
        text: dict[str, Any] | None = None,
        frame_tokens: int | None = None,
        points: bool = True,
        p_no: float = P_NO,
        p_yes: float = P_YES,
        no_foreground: str = NO_FOREGROUND[0],
    ) -> None:
        self.filter = PointFilter(p_no, p_yes, no_foreground)
        self.mllm, self.head, self.points = model.mllm, model.head, points
        self.text = spot_format(text)
        self.frame_tokens = tokens_per_frame(self.mllm, frame_tokens)
        check_head(model, self.text, self.frame_tokens)
        self.answers = first_tokens(self.mllm.prompts, self.text, self.head)

    @torch.no_grad()
    def read(
        self,
        vision_tokens: Tensor,
        expressions: Sequence[str],
        before: Sequence[Reading | None] | None = None,
    ) -> list[Reading]:
        """One pass for N expressions on one frame.

        Args:
            vision_tokens: (1, n, D) of the frame's one tile.
            expressions: As typed; they are cleaned here.
            before: Of no use here: nothing is guessed.
        """
        prompts = self.mllm.prompts
        turns = [[answer_turn(self.text, self.head, prompts.clean(one))] for one in expressions]
        chat = prompts.turns(turns, tile_tokens=self.frame_tokens).to(self.mllm.device)
        seen = pool_tokens(vision_tokens, self.frame_tokens)
        found = head_states(self.mllm, chat, seen.expand(len(expressions), -1, -1))
        there = self.mllm.logits(found.before)[:, list(self.answers)].argmax(1) == 0
        boxes = inside_frame(self.head.boxes(found.state))
        grids = self.text.points(boxes)
        z = torch.zeros(len(boxes), 0)
        if self.points:
            cells = frame_cells(self.mllm, self.frame_tokens)
            z = self.head.judge(found.state, found.seen, cells, grids)
        rows = zip(there.tolist(), boxes.float().cpu(), grids.float().cpu(), z.float().cpu(), strict=True)
        return [self._reading(*row) for row in rows]

    def _reading(self, there: bool, box: Tensor, grid: Tensor, z: Tensor) -> Reading:
        if not there:
            refused = BoxReply(torch.zeros(0, 4), refused=True, problem="")
            return Reading(self.text.refusal, refused)
        reply = BoxReply(box[None], refused=False, problem="")
        p_yes, p_no = z.sigmoid(), (-z).sigmoid()
        points, labels, fallback = torch.zeros(0, 2), torch.zeros(0).long(), ""
        if self.points:
            kept, foreground, fallback = self.filter(p_yes, p_no)
            points, labels = grid[kept], foreground[kept].long()
        return Reading(self.head.answer, reply, [Found(box, points, labels, p_yes, p_no, fallback)])


def spot_reader(kind: str, model: Any, **keys: Any) -> SpotReader | HeadReader:
    """The reader of a name, "dialogue" or "head"; the latter leaves keys alone that mean nothing to it.

    Raises:
        UserError: For another name, and as the readers do.
    """
    if kind not in READERS:
        raise UserError(f"reader must be one of {READERS}, got {kind!r}")
    if kind == "dialogue":
        return SpotReader(model, **keys)
    return HeadReader(model, **{key: value for key, value in keys.items() if key in HEAD_KEYS})
