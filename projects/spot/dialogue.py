"""The dialogue of a frame: round 1 the boxes, round 2 once per box the points of its grid.

    user       <image> Where is "the red circle"? ...
    assistant  [312,408,500,633]
    user       In the box [312,408,500,633], does each of these points lie on "the red circle"? [330,430],...
    assistant  Yes Yes No ...

Source: SPOT (CVPR 2026); its words are not given, those here follow SAM4MLLM's two rounds (assumed). In
training the answers are given, and the grid lies in the true box with its edges moved a little, so that
round 2 meets background and boxes that are not quite right. At inference both come from the same functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from refstream.models.mllm.chat import Turn
from refstream.models.mllm.chat_tokens import IGNORE, ChatTokens

from .geometry import full_precision, jitter_box, mask_box, point_labels
from .signals import FrameSignals, SpotTokens, judgements, soft_boxes
from .text import SpotFormat

if TYPE_CHECKING:
    from refstream.models.mllm.chat import PromptBuilder

JITTER = 0.1  # assumed


@dataclass(frozen=True, eq=False)
class Exchange:
    """What is said of one frame in training: N visible objects, K points each.

    Attributes:
        expression: As it is put into the questions.
        boxes: (N, 4) float32 true boxes, the answer of round 1; N = 0 is refused.
        grid_boxes: (N, 4) float32 boxes of round 2.
        points: (N, K, 2) float32 their grids.
        labels: (N, K) int64 whether each point lies on its object, the answers of round 2.
        objects: Which of the given masks each object is.
    """

    expression: str
    boxes: Tensor
    grid_boxes: Tensor
    points: Tensor
    labels: Tensor
    objects: tuple[int, ...]

    @classmethod
    def of(
        cls,
        expression: str,
        masks: Tensor,
        text: SpotFormat,
        *,
        jitter: float = JITTER,
        grid_boxes: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Exchange:
        """Make it from true masks.

        Args:
            expression: Cleaned.
            masks: (M, H, W), inside where not 0; empty ones are left out, none is a refusal.
            text: How it will be written.
            jitter: How far the grid's box departs from the true one, see ``jitter_box``; 0: it does not. Up
                to 0.1 no centre of a cell leaves the true box: background is then met inside of it alone.
            grid_boxes: (M, 4) boxes to take instead, such as the model's own; clipped to the frame.
            generator: Of the jitter.

        Raises:
            ValueError: If shapes do not fit.
        """
        if masks.ndim != 3 or (grid_boxes is not None and grid_boxes.shape != (len(masks), 4)):
            raise ValueError(
                f"need (M, H, W) masks and as many grid boxes, got {tuple(masks.shape)} and "
                f"{None if grid_boxes is None else tuple(grid_boxes.shape)}"
            )
        masks = masks.cpu()
        found = [(m, box) for m, mask in enumerate(masks) if (box := mask_box(mask)) is not None]
        objects = tuple(m for m, _ in found)
        boxes = torch.stack([box for _, box in found]) if found else torch.zeros(0, 4)
        if grid_boxes is None:
            grids = jitter_box(boxes, jitter, generator)
        else:
            grids = grid_boxes.detach().float().cpu()[list(objects)].clamp(0, 1)
        points = text.points(grids)
        judged = [point_labels(masks[m], points[n]) for n, m in enumerate(objects)]
        labels = torch.stack(judged) if judged else torch.zeros(0, text.num_points, dtype=torch.int64)
        return cls(expression, boxes, grids, points, labels, objects)


def box_turn(text: SpotFormat, expression: str, answer: str | None = None, images: int = 1) -> Turn:
    """Round 1; open where no answer is given. The picture stands first, as in InternVL's grounding."""
    return Turn(text.ask_box(expression), answer, images, images_first=True)


def point_turn(
    text: SpotFormat, expression: str, box: Tensor, points: Tensor, answer: str | None = None
) -> Turn:
    """Round 2 about one (4,) box and its (K, 2) points; open where no answer is given."""
    return Turn(text.ask_points(expression, box, points), answer)


def exchange_turns(text: SpotFormat, exchange: Exchange, images: int = 1) -> tuple[Turn, ...]:
    """The 1 + N turns of a training dialogue, with their answers."""
    said = exchange.expression
    turns = [box_turn(text, said, text.say_boxes(exchange.boxes), images)]
    for box, points, labels in zip(exchange.grid_boxes, exchange.points, exchange.labels, strict=True):
        turns.append(point_turn(text, said, box, points, text.say_points(labels)))
    return tuple(turns)


@dataclass(frozen=True, eq=False)
class Places:
    """Where a dialogue says what; places of hidden states that predict a token, M of them supervised.

    Attributes:
        rows: (M,) int64 places in the dialogue, ascending.
        targets: (M,) int64 the tokens that are said there.
        numbers: (N, 4, J) int64 indices into ``rows`` of the boxes' numbers.
        points: (N, K) int64 indices into ``rows`` of the judgements.
    """

    rows: Tensor
    targets: Tensor
    numbers: Tensor
    points: Tensor

    @property
    def is_point(self) -> Tensor:
        """(M,) bool: the judgements."""
        found = torch.zeros(len(self.rows), dtype=torch.bool, device=self.rows.device)
        found[self.points.flatten()] = True
        return found


def find_places(labels: Tensor, num_objects: int, text: SpotFormat, tokens: SpotTokens) -> Places:
    """Find numbers and judgements in a tokenised training dialogue.

    Args:
        labels: (L,) of one row of ``PromptBuilder.turns``, -100 where nothing is supervised.
        num_objects: N.
        text: How the dialogue was written.
        tokens: Of the same tokenizer.

    Raises:
        ValueError: If the row is not such a dialogue of N objects.
    """
    said = (labels != IGNORE).nonzero()[:, 0]
    starts = [0, *((said.diff() > 1).nonzero()[:, 0] + 1).tolist(), len(said)]
    answers = list(pairwise(starts)) if len(said) else []
    if len(answers) != 1 + num_objects:
        raise ValueError(f"{num_objects} objects need {1 + num_objects} answers, got {len(answers)}")
    targets = labels[said]
    numbers = _indices(targets, answers[0], tokens.numbers) if num_objects else []
    judged = [_indices(targets, answer, {*tokens.first, *tokens.rest}) for answer in answers[1:]]
    wrong = [len(row) for row in judged if len(row) != text.num_points]
    expected = num_objects * 4 * tokens.per_number
    if len(numbers) != expected or wrong:
        raise ValueError(
            f"{num_objects} boxes with {text.num_points} points each need {expected} tokens of numbers and "
            f"{text.num_points} judgements, got {len(numbers)} and {[len(row) for row in judged]}"
        )
    device = labels.device
    return Places(
        rows=said - 1,
        targets=targets,
        numbers=torch.tensor(numbers, dtype=torch.int64, device=device).reshape(-1, 4, tokens.per_number),
        points=torch.tensor(judged, dtype=torch.int64, device=device).reshape(-1, text.num_points),
    )


def frame_signals(
    logits_of: Callable[[Tensor], Tensor],
    hidden: Tensor,
    chat: ChatTokens,
    exchange: Exchange,
    text: SpotFormat,
    tokens: SpotTokens,
    *,
    row: int = 0,
) -> FrameSignals:
    """Read what the losses need of one dialogue.

    Args:
        logits_of: Hidden states (M, D) to logits (M, V), ``mllm.logits``; called once, for supervised tokens
            alone.
        hidden: (B, L, D) final-norm hidden states of ``chat``.
        chat: B dialogues of ``exchange_turns``.
        exchange: What the dialogue of ``row`` says.
        text: How it was written.
        tokens: Of the same tokenizer.
        row: Which dialogue of the batch.

    Raises:
        ValueError: If the dialogue is not that of the exchange.
    """
    places = find_places(chat.labels[row].to(hidden.device), len(exchange.boxes), text, tokens)
    return read_signals(logits_of(hidden[row, places.rows]), places, text, tokens)


def read_signals(logits: Tensor, places: Places, text: SpotFormat, tokens: SpotTokens) -> FrameSignals:
    """The signals in (M, V) logits of a dialogue's supervised tokens, computed in float32 or better."""
    boxes = soft_boxes(logits[places.numbers], tokens)
    return FrameSignals(
        boxes=boxes,
        points=text.points(boxes),
        z=judgements(logits[places.points], tokens),
        token_losses=F.cross_entropy(full_precision(logits), places.targets, reduction="none"),
        is_point=places.is_point,
    )


def dialogue_length(
    prompts: PromptBuilder, text: SpotFormat, num_objects: int, tile_tokens: int | None = None
) -> int:
    """Tokens of a dialogue about an object named in three words, to be compared with what a model takes."""
    boxes = torch.tensor((0.25, 0.25, 0.75, 0.75)).expand(num_objects, 4)
    labels = torch.ones(num_objects, text.num_points, dtype=torch.int64)
    exchange = Exchange("the red circle", boxes, boxes, text.points(boxes), labels, tuple(range(num_objects)))
    chat = prompts.turns([exchange_turns(text, exchange)], tile_tokens=tile_tokens)
    return int(chat.input_ids.shape[1])


def _indices(targets: Tensor, answer: tuple[int, int], wanted: tuple[int, ...] | set[int]) -> list[int]:
    """Where wanted tokens stand among the targets of one answer."""
    some = torch.tensor(sorted(wanted), device=targets.device)
    return [answer[0] + int(i) for i in torch.isin(targets[slice(*answer)], some).nonzero()[:, 0]]
