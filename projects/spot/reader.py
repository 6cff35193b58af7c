"""The two rounds at inference: what the MLLM says of a frame, as prompts for the segmenter.

Source: SPOT (CVPR 2026): a box, then a 5 x 5 grid in it whose points are judged. Decoding is not given. It is
greedy here (assumed): round 1 freely, in round 2 between the two words, where each answer is read by the
next; module ``decoding`` says how that takes fewer passes than tokens, and ``point_filter`` which points are
kept. Probabilities are over the whole vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from refstream.errors import UserError
from refstream.models.mllm.chat_tokens import ChatTokens
from refstream.models.mllm.pooling import check_pooling, pool_tokens

from .decoding import Judged, Spoken, decode
from .dialogue import box_turn, dialogue_length, point_turn
from .parallel import ParallelDialogues
from .point_filter import NO_FOREGROUND, P_NO, P_YES, PointFilter
from .signals import answer_ids, spot_tokens
from .text import BoxReply, SpotFormat

DECODING = ("guess", "one_by_one")
LIKELY_BOX = (0.3, 0.3, 0.7, 0.7)
LIKELY_OBJECTS = 2  # a guess costs width, not passes


@dataclass(frozen=True, eq=False)
class Found:
    """One object of an expression, as prompts in [0, 1] of the frame.

    Attributes:
        box: (4,) float32 xyxy.
        points: (K, 2) float32 those that are kept, perhaps none.
        labels: (K,) int64 1 foreground, 0 background.
        p_yes: (25,) float32 of all points, before the filter; empty where none were asked for.
        p_no: Likewise.
        fallback: "best" or "box", where no point was foreground; "room", where the language model could hold
            no more judgements, so that none were asked for; else empty.
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
        ids: Tokens of the answer; empty if none were decoded.
    """

    text: str
    reply: BoxReply
    objects: list[Found] = field(default_factory=list)
    ids: tuple[int, ...] = ()


class SpotReader:
    """Holds both rounds with the MLLM of a model.

    Args:
        model: Composite with ``mllm``.
        text: Keys of ``SpotFormat``.
        frame_tokens: Vision tokens per frame, see ``pool_tokens``; None: all of the MLLM.
        points: Hold round 2; False: boxes alone.
        p_no: See ``PointFilter``.
        p_yes: Likewise.
        no_foreground: Likewise.
        max_objects: Boxes that are used, in the order in which they are said.
        max_new_tokens: Longest answer of round 1.
        decoding: "guess": guess and check, see ``decoding``; "one_by_one": a token per pass. Both say the
            same, up to rounding.

    Attributes:
        passes: Passes of the language model in the last ``read``.

    Raises:
        UserError: For values out of range, a tokenizer that cannot say what is needed, or a chat template
            without an end-of-turn token.
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
        max_objects: int = 4,
        max_new_tokens: int = 96,
        decoding: str = DECODING[0],
    ) -> None:
        if min(max_objects, max_new_tokens) < 1:
            raise UserError(
                f"max_objects and max_new_tokens must be at least 1, got {max_objects} and {max_new_tokens}"
            )
        if decoding not in DECODING:
            raise UserError(f"decoding must be one of {DECODING}, got {decoding!r}")
        self.mllm = model.mllm
        if self.mllm.prompts.stop_words:
            raise UserError(
                f"chat template {self.mllm.prompts.template!r} ends its turns in plain words; both rounds "
                'need an end-of-turn token, as of "qwen_chat"'
            )
        self.text = spot_format(text)
        self.tokens = spot_tokens(self.mllm.prompts, self.text)
        self.frame_tokens = tokens_per_frame(self.mllm, frame_tokens)
        self.points, self.filter = points, PointFilter(p_no, p_yes, no_foreground)
        self.max_objects, self.max_new_tokens = max_objects, max_new_tokens
        self.ahead = 0 if decoding == "one_by_one" else None
        self.passes = 0
        check_length(self.mllm, self.text, self.frame_tokens)

    @torch.no_grad()
    def read(
        self,
        vision_tokens: Tensor,
        expressions: Sequence[str],
        before: Sequence[Reading | None] | None = None,
    ) -> list[Reading]:
        """Both rounds for N expressions on one frame.

        Args:
            vision_tokens: (1, n, D) of the frame's one tile.
            expressions: As typed; they are cleaned here.
            before: What was read of each at an earlier look, if anything was: the first guess at the answers.
                It decides on the number of passes alone.

        Raises:
            ValueError: If there are not as many readings of before as expressions.
        """
        prompts, count = self.mllm.prompts, len(expressions)
        past: list[Reading | None] = [None] * count
        if before is not None:
            past = list(before)
        if len(past) != count:
            raise ValueError(f"{count} expressions need as many readings of before, got {len(past)}")
        said = [prompts.clean(expression) for expression in expressions]
        seen = pool_tokens(vision_tokens, self.frame_tokens)
        talk = ParallelDialogues(self.mllm, count)
        talk.defer([prompts.opening()] * count)
        questions = {
            row: prompts.turn_opening(box_turn(self.text, one), first=True, tile_tokens=self.frame_tokens)
            for row, one in enumerate(said)
        }
        readings = self._speak(talk, questions, seen, past)
        most = max(min(len(reading.reply.boxes), self.max_objects) for reading in readings)
        for number in range(most):
            rows = [row for row, reading in enumerate(readings) if number < len(reading.reply.boxes)]
            boxes = [readings[row].reply.boxes[number] for row in rows]
            likely = {row: self._likely(past[row], number) for row in rows}
            for row, found in zip(rows, self._judge(talk, likely, boxes, said), strict=True):
                readings[row].objects.append(found)
        self.passes = talk.passes
        return readings

    def _speak(
        self,
        talk: ParallelDialogues,
        questions: dict[int, ChatTokens],
        seen: Tensor,
        past: Sequence[Reading | None],
    ) -> list[Reading]:
        """Round 1: free greedy answers of all rows, with the ends of their turns."""
        prompts, text = self.mllm.prompts, self.text
        markers = (prompts.ids.image_start, prompts.ids.image_context, prompts.ids.image_end)
        box = torch.tensor([LIKELY_BOX] * min(self.max_objects, LIKELY_OBJECTS))
        likely = [answer_ids(prompts, one) for one in (text.say_boxes(box), text.refusal)]
        closing = prompts.turn_closing("")
        answers = {}
        for row, last in enumerate(past):
            room = talk.room(row) - _length(questions[row]) - _length(closing)
            answers[row] = Spoken(
                likely if last is None or not last.ids else [last.ids, *likely],
                max(1, min(self.max_new_tokens, room)),
                stops=prompts.stop_ids,
                forbidden=[*markers, prompts.ids.turn_start],
                loose=self.tokens.numbers,
                ahead=self.ahead,
            )
        decode(talk, answers, questions, dict.fromkeys(questions, seen))
        talk.defer([closing] * len(talk))
        readings = []
        for one in answers.values():
            said = str(prompts.tokenizer.decode(one.certain, skip_special_tokens=False)).strip()
            readings.append(Reading(said, text.read_boxes(said), ids=tuple(one.certain)))
        return readings

    def _likely(self, last: Reading | None, number: int) -> Tensor:
        """(K,) guess at the judgements of an object, > 0 on it."""
        objects = [] if last is None else last.objects
        if number < len(objects) and len(objects[number].p_yes) == self.text.num_points:
            return objects[number].p_yes - objects[number].p_no
        return torch.ones(self.text.num_points)

    def _judge(
        self,
        talk: ParallelDialogues,
        likely: dict[int, Tensor],
        boxes: Sequence[Tensor],
        said: Sequence[str],
    ) -> list[Found]:
        """Round 2 for one box of each of some rows, those of the guesses."""
        grids = [self.text.points(box) for box in boxes]
        if not self.points:
            return [_bare(box) for box in boxes]
        prompts = self.mllm.prompts
        questions = {
            row: prompts.turn_opening(point_turn(self.text, said[row], box, grid), first=False)
            for row, box, grid in zip(likely, boxes, grids, strict=True)
        }
        closing = prompts.turn_closing("")
        needed = self.text.num_points * (1 + len(self.tokens.separator)) + _length(closing)
        held = {row: asked for row, asked in questions.items() if _length(asked) + needed <= talk.room(row)}
        answers = {row: Judged(likely[row], self.tokens, ahead=self.ahead) for row in held}
        if held:
            decode(talk, answers, held)
            talk.defer([closing if row in answers else None for row in range(len(talk))])
        found = []
        for row, box, grid in zip(likely, boxes, grids, strict=True):
            if row in answers:
                found.append(self._filtered(box, grid, *answers[row].heard.float().unbind(-1)))
            else:
                found.append(_bare(box, "room"))
        return found

    def _filtered(self, box: Tensor, grid: Tensor, p_yes: Tensor, p_no: Tensor) -> Found:
        """The points that are sure enough."""
        kept, foreground, fallback = self.filter(p_yes, p_no)
        return Found(box, grid[kept], foreground[kept].long(), p_yes, p_no, fallback)


def _length(piece: ChatTokens) -> int:
    return int(piece.input_ids.shape[1])


def _bare(box: Tensor, fallback: str = "") -> Found:
    """A box without points."""
    none = torch.zeros(0)
    return Found(box, torch.zeros(0, 2), none.long(), none, none, fallback)


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
