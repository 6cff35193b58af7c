"""What the losses see of an answer: coordinates and judgements that gradients pass through.

SPOT (CVPR 2026) does not say how gradients pass from boxes in words to the model (assumed, no parameter is
added):

* a number is an expectation under teacher forcing: with three digits, sum_j 10^(2-j) E[digit_j] / 1000 over a
  softmax of the ten digits alone; with location tokens, E[n] / 1000 over the thousand of them
* the points are the grid of that soft box, an affine function of it
* the logit of a point is z = logit(yes) - logit(no) where its judgement is said
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from refstream.errors import UserError
from refstream.models.mllm.chat_tokens import IGNORE

from .geometry import full_precision
from .text import LOCATION_TOKENS, SCALE, SpotFormat

if TYPE_CHECKING:
    from refstream.models.mllm.chat import PromptBuilder

NUM_DIGITS = 3


@dataclass(frozen=True)
class SpotTokens:
    """Tokens of numbers and judgements; made by ``spot_tokens``, which checks them.

    Attributes:
        numbers: Of the digits 0 to 9, or of the 1000 locations.
        first: Of yes and no where they begin an answer.
        rest: Of yes and no further on; a tokenizer may put the space before a word into its token.
        separator: What stands between judgements, as far as ``rest`` does not hold it.
    """

    numbers: tuple[int, ...]
    first: tuple[int, int]
    rest: tuple[int, int]
    separator: tuple[int, ...] = ()

    @property
    def per_number(self) -> int:
        """J, tokens per number: 3, or 1 with locations."""
        return 1 if len(self.numbers) == SCALE else NUM_DIGITS

    def candidates(self, point: int) -> tuple[int, int]:
        """Yes and no as candidates for the judgement of the ``point``-th point."""
        return self.first if point == 0 else self.rest


@dataclass(frozen=True, eq=False)
class FrameSignals:
    """What the model says of one frame: N objects, K points each, M supervised tokens; all with a graph.

    Attributes:
        boxes: (N, 4) float32 soft boxes.
        points: (N, K, 2) float32 their grids.
        z: (N, K) float32, > 0 means on the object.
        token_losses: (M,) float32 cross-entropy of every supervised token.
        is_point: (M,) bool, the tokens that are judgements of points.
    """

    boxes: Tensor
    points: Tensor
    z: Tensor
    token_losses: Tensor
    is_point: Tensor


def soft_numbers(logits: Tensor, tokens: SpotTokens) -> Tensor:
    """Expected values of numbers: (..., J, V) logits where their tokens are said -> (...) float32 in [0,
    0.999].

    Raises:
        ValueError: If J does not fit the tokens.
    """
    if logits.ndim < 2 or logits.shape[-2] != tokens.per_number:
        raise ValueError(f"need (..., {tokens.per_number}, V) logits, got {tuple(logits.shape)}")
    index = torch.tensor(tokens.numbers, device=logits.device)
    probabilities = logits.index_select(-1, index)
    probabilities = full_precision(probabilities).softmax(-1)
    expected = probabilities @ torch.arange(len(index)).to(probabilities)  # (..., J)
    powers = 10.0 ** torch.arange(tokens.per_number - 1, -1, -1).to(expected)
    return (expected * powers).sum(-1) / SCALE


def soft_boxes(logits: Tensor, tokens: SpotTokens) -> Tensor:
    """(..., 4, J, V) logits of boxes' numbers -> (..., 4) float32 xyxy; a corner may lie beyond the other
    one."""
    if logits.ndim < 3 or logits.shape[-3] != 4:
        raise ValueError(f"need (..., 4, J, V) logits, got {tuple(logits.shape)}")
    return soft_numbers(logits, tokens)


def judgements(logits: Tensor, tokens: SpotTokens) -> Tensor:
    """z of K points: (..., K, V) logits where their judgements are said, in order -> (..., K) float32."""
    if logits.ndim < 2:
        raise ValueError(f"need (..., K, V) logits, got {tuple(logits.shape)}")
    count = logits.shape[-2]
    pairs = torch.tensor([tokens.candidates(k) for k in range(count)], device=logits.device).reshape(count, 2)
    values = full_precision(logits.gather(-1, pairs.expand(*logits.shape[:-1], 2)))
    return values[..., 0] - values[..., 1]


def spot_tokens(prompts: PromptBuilder, text: SpotFormat) -> SpotTokens:
    """Look the tokens up, and check that answers are made of them; before training and inference.

    Raises:
        UserError: If special tokens are missing, numbers are not one token per digit, or judgements not one
            token.
    """
    lacking = [token for token in text.answer_tokens if token not in prompts.answer_tokens]
    if lacking:
        raise UserError(
            f"the prompts read {lacking[:3]} in an answer as plain text ({len(lacking)} such tokens); name "
            "them in the model's config, mllm=dict(added_tokens=[...], prompts=dict(answer_tokens=[...]))"
        )
    numbers = _number_tokens(prompts, text)
    return SpotTokens(numbers, *_judgement_tokens(prompts, text))


def answer_ids(prompts: PromptBuilder, answer: str) -> list[int]:
    """Tokens of an answer, with those that end its turn."""
    labels = prompts.turn_closing(answer).labels[0]
    return [int(token) for token in labels if token != IGNORE]


def _number_tokens(prompts: PromptBuilder, text: SpotFormat) -> tuple[int, ...]:
    """Ids of the digits or locations, found again in an answer that holds every number once."""
    spelt = LOCATION_TOKENS if text.coordinates == "locations" else tuple("0123456789")
    pieces = [prompts.encoder.encode(prompts.encoder.answer(one)) for one in spelt]
    values = torch.arange(SCALE)
    said = text.say_boxes(values.reshape(-1, 4) / SCALE)
    if all(len(piece) == 1 for piece in pieces):
        ids = tuple(piece[0] for piece in pieces)
        wanted = (
            list(range(SCALE)) if len(ids) == SCALE else [int(d) for n in values.tolist() for d in f"{n:03d}"]
        )
        at = {token: value for value, token in enumerate(ids)}
        if [at[token] for token in answer_ids(prompts, said) if token in at] == wanted:
            return ids
    hint = (
        'the tokenizer joins digits, as that of Llama-3 does; set text=dict(coordinates="locations")'
        if text.coordinates == "digits"
        else "<000> to <999> must be special tokens of the tokenizer"
    )
    raise UserError(f"numbers such as {said[:17]!r} are not one token per digit or location: {hint}")


def _judgement_tokens(
    prompts: PromptBuilder, text: SpotFormat
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, ...]]:
    """First, rest and separator as of ``SpotTokens``, which spell any answer."""
    end = answer_ids(prompts, "")

    def ids_of(labels: list[int]) -> list[int]:
        ids = answer_ids(prompts, text.say_points(torch.tensor(labels)))
        return ids[: len(ids) - len(end)]

    singles = [ids_of([label]) for label in (1, 0)]
    pairs = [ids_of([1, label]) for label in (1, 0)]
    if all(len(one) == 1 for one in singles) and all(len(one) >= 2 for one in pairs):
        first = (singles[0][0], singles[1][0])
        rest = (pairs[0][-1], pairs[1][-1])
        separator = tuple(pairs[0][1:-1])
        pattern = [(k * k + k // 3) % 2 for k in range(text.num_points)]
        spelt = [first[1 - pattern[0]]]
        for label in pattern[1:]:
            spelt += [*separator, rest[1 - label]]
        if first[0] != first[1] and rest[0] != rest[1] and ids_of(pattern) == spelt:
            return first, rest, separator
    raise UserError(
        f"{text.yes!r} and {text.no!r}, separated by {text.separator!r}, are not one token each: "
        f"{singles} and {pairs}; use other words or another separator, or added tokens: "
        "text=dict(yes='<Yes>', no='<No>', separator='')"
    )
