"""The two rounds at inference: what the MLLM says of a frame, as prompts for the segmenter.

Source: SPOT (CVPR 2026): a box, then a 5 x 5 grid in it whose points are judged, then "prompt points are
filtered by confidence thresholds". Values, fall-backs and decoding are not given. Decoding is greedy
(assumed): round 1 freely, in round 2 between the two words, one point after the other, as each answer is
read by the next. The thresholds are those of SAM4MLLM's demo: p(no) > 0.9 is background, else p(yes) > 0.75
foreground, else the point is left out, with p over the whole vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from refstream.errors import UserError
from refstream.models.mllm.chat_tokens import token_piece
from refstream.models.mllm.pooling import check_pooling, pool_tokens

from .dialogue import box_turn, dialogue_length, point_turn
from .parallel import ParallelDialogues
from .signals import spot_tokens
from .text import BoxReply, SpotFormat

P_NO, P_YES = 0.9, 0.75  # SAM4MLLM's demo
NO_FOREGROUND = ("best", "box")


@dataclass(frozen=True, eq=False)
class Found:
    """One object of an expression, as prompts in [0, 1] of the frame.

    Attributes:
        box: (4,) float32 xyxy.
        points: (K, 2) float32 those that are kept, perhaps none.
        labels: (K,) int64 1 foreground, 0 background.
        p_yes: (25,) float32 of all points, before the filter; empty where none were asked for.
        p_no: Likewise.
        fallback: "best" or "box", where no point was foreground; else empty.
    """

    box: Tensor
    points: Tensor
    labels: Tensor
    p_yes: Tensor
    p_no: Tensor
    fallback: str = ""


@dataclass(frozen=True, eq=False)
class Reading:
    """What the MLLM says of one expression on one frame.

    Attributes:
        text: Its answer to round 1.
        reply: The answer as it was read.
        objects: With their prompts; none where it refuses or cannot be read.
    """

    text: str
    reply: BoxReply
    objects: list[Found] = field(default_factory=list)


class SpotReader:
    """Holds both rounds with the MLLM of a model.

    Args:
        model: Composite with ``mllm``.
        text: Keys of ``SpotFormat``.
        frame_tokens: Vision tokens per frame, see ``pool_tokens``; None: all of the MLLM.
        points: Hold round 2; False: boxes alone.
        p_no: A point is background above it.
        p_yes: A point that is not background is foreground above it.
        no_foreground: Where no point is foreground: "best" makes the one with the highest p(yes) foreground
            if that is higher than its p(no), else the box stands alone; "box": it always does.
        max_objects: Boxes that are used, in the order in which they are said.
        max_new_tokens: Longest answer of round 1.

    Raises:
        UserError: For values out of range, or a tokenizer that cannot say what is needed.
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
        no_foreground: str = "best",
        max_objects: int = 4,
        max_new_tokens: int = 96,
    ) -> None:
        if not (0 <= p_no <= 1 and 0 <= p_yes <= 1) or no_foreground not in NO_FOREGROUND:
            raise UserError(
                f"p_no and p_yes must lie in [0, 1] and no_foreground in {NO_FOREGROUND}; got {p_no}, "
                f"{p_yes} and {no_foreground!r}"
            )
        if min(max_objects, max_new_tokens) < 1:
            raise UserError(
                f"max_objects and max_new_tokens must be at least 1, got {max_objects} and {max_new_tokens}"
            )
        self.mllm = model.mllm
        self.text = spot_format(text)
        self.tokens = spot_tokens(self.mllm.prompts, self.text)
        self.frame_tokens = tokens_per_frame(self.mllm, frame_tokens)
        self.points, self.p_no, self.p_yes = points, p_no, p_yes
        self.no_foreground, self.max_objects = no_foreground, max_objects
        self.max_new_tokens = max_new_tokens
        check_length(self.mllm, self.text, self.frame_tokens)

    @torch.no_grad()
    def read(self, vision_tokens: Tensor, expressions: Sequence[str]) -> list[Reading]:
        """Both rounds for N expressions on one frame.

        Args:
            vision_tokens: (1, n, D) of the frame's one tile.
            expressions: As typed; they are cleaned here.
        """
        prompts, count = self.mllm.prompts, len(expressions)
        said = [prompts.clean(expression) for expression in expressions]
        seen = pool_tokens(vision_tokens, self.frame_tokens)
        talk = ParallelDialogues(self.mllm, count)
        opening = prompts.opening()
        if opening.input_ids.shape[1]:
            talk.append([opening] * count)
        asked = [
            prompts.turn_opening(box_turn(self.text, one), first=True, tile_tokens=self.frame_tokens)
            for one in said
        ]
        hidden = talk.append(asked, [seen] * count)
        texts = self._speak(talk, hidden)
        readings = [Reading(text, self.text.read_boxes(text)) for text in texts]
        most = max(min(len(reading.reply.boxes), self.max_objects) for reading in readings)
        for number in range(most):
            rows = [row for row, reading in enumerate(readings) if number < len(reading.reply.boxes)]
            boxes = [readings[row].reply.boxes[number] for row in rows]
            for row, found in zip(rows, self._judge(talk, rows, boxes, said), strict=True):
                readings[row].objects.append(found)
        return readings

    def _speak(self, talk: ParallelDialogues, hidden: Tensor) -> list[str]:
        """Free greedy answers of all rows, with the ends of their turns."""
        prompts = self.mllm.prompts
        markers = (prompts.ids.image_start, prompts.ids.image_context, prompts.ids.image_end)
        forbidden = [*markers, prompts.ids.turn_start]
        said: list[list[int]] = [[] for _ in range(len(talk))]
        open_rows = set(range(len(talk)))
        for _ in range(self.max_new_tokens):
            logits = self.mllm.logits(hidden).float()
            logits[:, forbidden] = -torch.inf
            chosen = logits.argmax(-1).tolist()
            open_rows -= {row for row in open_rows if chosen[row] in prompts.stop_ids}
            if not open_rows:
                break
            for row in open_rows:
                said[row].append(chosen[row])
            hidden = talk.append([token_piece([t]) if r in open_rows else None for r, t in enumerate(chosen)])
        talk.append([prompts.turn_closing("")] * len(talk))
        return [str(prompts.tokenizer.decode(ids, skip_special_tokens=False)).strip() for ids in said]

    def _judge(
        self, talk: ParallelDialogues, rows: Sequence[int], boxes: Sequence[Tensor], said: Sequence[str]
    ) -> list[Found]:
        """Round 2 for one box of each of some rows."""
        grids = [self.text.points(box) for box in boxes]
        if not self.points:
            none = torch.zeros(0)
            return [Found(box, torch.zeros(0, 2), none.long(), none, none) for box in boxes]
        prompts = self.mllm.prompts
        asked = [
            prompts.turn_opening(point_turn(self.text, said[row], box, grid), first=False)
            for row, box, grid in zip(rows, boxes, grids, strict=True)
        ]
        hidden = talk.append(_placed(len(talk), rows, asked))
        heard = []
        for k in range(self.text.num_points):
            if k and self.tokens.separator:
                hidden = talk.append(
                    _placed(len(talk), rows, [token_piece(self.tokens.separator)] * len(rows))
                )
            pair = list(self.tokens.candidates(k))
            both = self.mllm.logits(hidden[list(rows)]).float().softmax(-1)[:, pair]  # (rows, 2) yes, no
            heard.append(both.cpu())
            chosen = [pair[one] for one in both.argmax(-1).tolist()]
            hidden = talk.append(_placed(len(talk), rows, [token_piece([token]) for token in chosen]))
        talk.append(_placed(len(talk), rows, [prompts.turn_closing("")] * len(rows)))
        p = torch.stack(heard, dim=1)  # (rows, K, 2)
        return [
            self._filtered(box, grid, *one.unbind(-1)) for box, grid, one in zip(boxes, grids, p, strict=True)
        ]

    def _filtered(self, box: Tensor, grid: Tensor, p_yes: Tensor, p_no: Tensor) -> Found:
        """The points that are sure enough."""
        background = p_no > self.p_no
        foreground = ~background & (p_yes > self.p_yes)
        fallback = ""
        if not bool(foreground.any()):
            fallback, best = "box", int(p_yes.argmax())
            if self.no_foreground == "best" and p_yes[best] > p_no[best]:
                fallback = "best"
                foreground[best], background[best] = True, False
            else:
                background = torch.zeros_like(background)
        kept = foreground | background
        return Found(box, grid[kept], foreground[kept].long(), p_yes, p_no, fallback)


def spot_format(text: dict[str, Any] | None) -> SpotFormat:
    """The format of some keys.

    Raises:
        UserError: For keys that it does not take, or values that do not fit.
    """
    unknown = sorted(set(text or {}) - set(SpotFormat.__dataclass_fields__))
    if unknown:
        raise UserError(f"text has no keys {unknown}; it takes {sorted(SpotFormat.__dataclass_fields__)}")
    try:
        return SpotFormat(**(text or {}))
    except ValueError as error:
        raise UserError(f"text: {error}") from error


def tokens_per_frame(mllm: Any, wanted: int | None) -> int:
    """Vision tokens of a frame: ``wanted``, or all of them.

    Raises:
        UserError: If the MLLM's grid does not divide so.
    """
    whole = int(mllm.num_image_tokens)
    if wanted is not None and wanted != whole:
        check_pooling(whole, wanted)
    return whole if wanted is None else wanted


def check_length(mllm: Any, text: SpotFormat, frame_tokens: int) -> None:
    """Raise a ``UserError`` if even a dialogue about one object does not fit the language model."""
    length = dialogue_length(mllm.prompts, text, 1, frame_tokens)
    limit = int(mllm.config.text_config.max_position_embeddings)
    if length > limit:
        raise UserError(
            f"the dialogue of a frame has some {length} tokens, the language model takes {limit}: use fewer "
            "frame_tokens, a smaller grid, or raise max_position_embeddings of a model of one's own"
        )


def _placed(count: int, rows: Sequence[int], pieces: Sequence[Any]) -> list[Any]:
    """Pieces at their rows, None elsewhere."""
    found: list[Any] = [None] * count
    for row, piece in zip(rows, pieces, strict=True):
        found[row] = piece
    return found
