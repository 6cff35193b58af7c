"""Answers within a running dialogue: greedy, with the first token chosen among a few (a decision).

The answer becomes part of the dialogue, with the end of its turn, token for token as a training dialogue has
it. To try an answer without keeping it, take a ``Dialogue.snapshot`` before and ``crop`` to it afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from refstream.models.mllm.chat_tokens import token_piece
from refstream.models.mllm.dialogue import Dialogue


@dataclass(frozen=True)
class Decision:
    """What the model thinks of a few candidates for the next token.

    Attributes:
        ids: The candidates.
        probabilities: (n,) float32 on the CPU, softmax over the candidates alone.
        mass: Their share of the probability over the whole vocabulary, in [0, 1].
    """

    ids: tuple[int, ...]
    probabilities: Tensor
    mass: float


@dataclass(frozen=True)
class Reply:
    """An answer that was decoded into a dialogue.

    Attributes:
        ids: Its tokens without the end of the turn; the chosen first one included.
        text: What they spell, special tokens included; without the chosen first token and outer spaces where
            there was a choice.
        finished: False if the answer was cut off because its limit was reached.
        first: The chosen first token, None for a free answer.
        decision: What it was chosen from, None for a free answer.
    """

    ids: tuple[int, ...]
    text: str
    finished: bool
    first: int | None = None
    decision: Decision | None = None


@torch.no_grad()
def decide(dialogue: Dialogue, hidden: Tensor, candidates: Sequence[int]) -> Decision:
    """Probabilities of the next token being each of ``candidates``.

    Args:
        dialogue: Where ``hidden`` comes from.
        hidden: (1, L, D) as of ``Dialogue.append``; its last row is read.
        candidates: Different token numbers.

    Raises:
        ValueError: If there is no candidate, or one twice.
    """
    ids = tuple(int(token) for token in candidates)
    if not ids or len(set(ids)) != len(ids):
        raise ValueError(f"a decision needs different candidate tokens, got {list(ids)}")
    logits = _next_logits(dialogue, hidden)
    chosen = logits[list(ids)]
    mass = (chosen.logsumexp(0) - logits.logsumexp(0)).exp()
    return Decision(ids, chosen.softmax(0).cpu(), float(mass))


@torch.no_grad()
def decode_constrained(
    dialogue: Dialogue,
    hidden: Tensor,
    first: Sequence[int],
    *,
    pick: Callable[[Tensor], int] | None = None,
    final: Collection[int] = (),
    max_new_tokens: int = 64,
) -> Reply:
    """Choose the first token among ``first``, then go on greedily to the end of the turn.

    The candidates never come again in the text that follows, nor do the tokens of images and turns.

    Args:
        dialogue: Its last turn is open.
        hidden: (1, L, D) states of the piece that opened it.
        first: The candidates.
        pick: From (n,) probabilities over them to the index of the chosen one; None takes the largest.
        final: Candidates that are a whole answer: nothing is generated after them.
        max_new_tokens: Most tokens of the answer, the first included; fewer where the dialogue's window has
            less room.

    Raises:
        ValueError: For a bad choice or limit, or if there is no room for an answer.
    """
    decision = decide(dialogue, hidden, first)
    index = int(decision.probabilities.argmax()) if pick is None else int(pick(decision.probabilities))
    if not 0 <= index < len(decision.ids):
        raise ValueError(f"pick must give an index below {len(decision.ids)}, got {index}")
    chosen = decision.ids[index]
    limit = _limit(dialogue, max_new_tokens)
    ids, finished = [chosen], True
    if chosen in final:
        dialogue.add(token_piece(ids))
    else:
        hidden = dialogue.append(token_piece(ids))
        rest, finished = _continue(dialogue, hidden, decision.ids, limit - 1)
        ids += rest
    dialogue.end_turn()
    return Reply(tuple(ids), _text(dialogue, ids[1:]).strip(), finished, chosen, decision)


@torch.no_grad()
def decode_free(dialogue: Dialogue, hidden: Tensor, *, max_new_tokens: int = 64) -> Reply:
    """Go on greedily to the end of the turn; tokens of images and turns do not come.

    Args and errors as of ``decode_constrained``.
    """
    ids, finished = _continue(dialogue, hidden, (), _limit(dialogue, max_new_tokens))
    dialogue.end_turn()
    return Reply(tuple(ids), _text(dialogue, ids), finished)


def _limit(dialogue: Dialogue, max_new_tokens: int) -> int:
    """Most tokens of an answer, so that the end of the turn still fits."""
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
    if dialogue.mllm.prompts.stop_words:
        raise ValueError(
            f"chat template {dialogue.mllm.prompts.template!r} ends its turns in plain words; a running "
            'dialogue needs one with an end-of-turn token, such as "qwen_chat"'
        )
    end = int(dialogue.mllm.prompts.turn_closing("").input_ids.shape[1])
    limit = max_new_tokens if dialogue.room is None else min(max_new_tokens, dialogue.room - end)
    if limit < 1:
        raise ValueError("the dialogue's window has no room for an answer; give it a larger reserve")
    return limit


def _continue(dialogue: Dialogue, hidden: Tensor, never: Sequence[int], limit: int) -> tuple[list[int], bool]:
    """(tokens, whether the turn was ended by the model); the tokens are in the dialogue."""
    prompts = dialogue.mllm.prompts
    markers = (prompts.ids.image_start, prompts.ids.image_context, prompts.ids.image_end)
    forbidden = [*never, *markers, prompts.ids.turn_start]
    ids: list[int] = []
    while True:
        logits = _next_logits(dialogue, hidden)
        logits[forbidden] = -torch.inf
        token = int(logits.argmax())
        if token in prompts.stop_ids:
            return ids, True
        if len(ids) == limit:
            return ids, False
        ids.append(token)
        hidden = dialogue.append(token_piece([token]))


def _next_logits(dialogue: Dialogue, hidden: Tensor) -> Tensor:
    """(V,) float32 logits after the last row of (1, L, D)."""
    if hidden.ndim != 3 or hidden.shape[0] != 1 or hidden.shape[1] == 0:
        raise ValueError(f"hidden must be (1, L, D) with L > 0, got {tuple(hidden.shape)}")
    return dialogue.mllm.logits(hidden[0, -1]).float().clone()


def _text(dialogue: Dialogue, ids: Sequence[int]) -> str:
    return str(dialogue.mllm.prompts.tokenizer.decode(list(ids), skip_special_tokens=False))
