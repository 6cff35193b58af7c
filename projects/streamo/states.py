"""The three states of a turn as tokens: which they are, how their rows begin, how a reply is read.

Source: Streamo. The paper writes <Silence>, <Standby> and <Response>; the released code, data and README
write them as closing tags. Each is one special token of its own, so the tokenizer must know it before a model
is trained: in a config by the MLLM's ``added_tokens``, and by ``answer_tokens`` of its ``prompts``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from refstream.errors import UserError
from refstream.models.mllm.tokens import token_id

STATES = ("silence", "standby", "response")
STATE_TOKENS = ("<Silence>", "<Standby>", "<Response>")
RELEASE_TOKENS = ("</Silence>", "</Standby>", "</Response>")
WORDS = ("silence", "standby", "response")
"""Words whose rows stand in for those of the states in ``initialise_states``."""

Initial = Literal["mean", "words", "padding"]
_SPELLINGS = dict(zip((*STATE_TOKENS, *RELEASE_TOKENS), STATES * 2, strict=True))
_ANY_STATE = re.compile("|".join(re.escape(token) for token in _SPELLINGS))
_LIKE_A_STATE = re.compile(r"</?\s*(silence|standby|response)\s*>", re.IGNORECASE)


@dataclass(frozen=True)
class StateIds:
    """Vocabulary indices of the states, all different.

    Raises:
        ValueError: If two are equal: the loss would treat two states as one.
    """

    silence: int
    standby: int
    response: int

    def __post_init__(self) -> None:
        if len(set(self.all)) != len(STATES):
            raise ValueError(
                f"the states must be three different tokens, got the ids {self.all}: the tokenizer does not "
                f"know them as tokens of their own; add {STATE_TOKENS}"
            )

    @property
    def all(self) -> tuple[int, int, int]:
        """In the order of ``STATES``."""
        return self.silence, self.standby, self.response

    def name(self, index: int) -> str:
        """The state of a vocabulary index."""
        return STATES[self.all.index(index)]


def state_ids(tokenizer: Any) -> StateIds:
    """Look the states up.

    Raises:
        UserError: If one is missing, not special, or not decoded as it is written.
    """
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    found = [token_id(tokenizer, token) for token in STATE_TOKENS]
    wrong = [
        token for token, at in zip(STATE_TOKENS, found, strict=True) if at is None or token not in special
    ]
    if wrong:
        raise UserError(
            f"the tokenizer has no special tokens {wrong}: the model is not made for streams; name the "
            "states in its config, mllm=dict(added_tokens=[..., '<Silence>', '<Standby>', '<Response>'])"
        )
    ids = StateIds(*(int(at) for at in found if at is not None))
    for token, at in zip(STATE_TOKENS, ids.all, strict=True):
        if (read := tokenizer.decode([at], skip_special_tokens=False)) != token:
            raise UserError(
                f"token {at} is written {token!r} and decoded as {read!r}: the tokenizer is damaged"
            )
    return ids


def check_prompts(prompts: Any) -> None:
    """Raise a ``UserError`` unless answers may hold the states as tokens."""
    missing = [token for token in STATE_TOKENS if token not in prompts.answer_tokens]
    if missing:
        raise UserError(
            f"the prompts read {missing} in an answer as plain text; in the model's config: "
            f"mllm=dict(prompts=dict(answer_tokens={list(STATE_TOKENS)}))"
        )


@torch.no_grad()
def initialise_states(mllm: Any, how: Initial = "words") -> None:
    """Give the states' rows of input embeddings and output head their first values, in place.

    The release does nothing: its tokens take untrained rows that pad the vocabulary of Qwen2.5-VL.

    Args:
        mllm: An adapter such as ``InternVL``, its weights loaded, its vocabulary not wrapped for training.
        how: "mean": every state the mean of all other rows, so that they begin alike. "words": the mean of
            the rows of the tokens that spell ``WORDS``, so that they begin apart. "padding": as they are.

    Raises:
        ValueError: For another rule.
        UserError: If the tokenizer does not know the states.
    """
    if how not in ("mean", "words", "padding"):
        raise ValueError(f"initialise must be 'mean', 'words' or 'padding', got {how!r}")
    ids = state_ids(mllm.tokenizer)
    if how == "padding":
        return
    seen: set[int] = set()
    for module in mllm.vocabulary_modules():
        weight: Tensor = module.weight
        if id(weight) in seen:  # tied
            continue
        seen.add(id(weight))
        others = torch.ones(len(weight), dtype=torch.bool, device=weight.device)
        others[list(ids.all)] = False
        others[len(mllm.tokenizer) :] = False  # rows without a token
        mean = weight[others.nonzero()[:, 0]].float().mean(0) if how == "mean" else None
        for index, word in zip(ids.all, WORDS, strict=True):
            pieces = mllm.tokenizer(word, add_special_tokens=False)["input_ids"]
            row = weight[torch.tensor(pieces, device=weight.device)].float().mean(0) if mean is None else mean
            weight[index] = row.to(weight.dtype)


def holds_state_token(text: str) -> bool:
    """Whether a text holds one of the state tokens, in either spelling: it would end up as a decision."""
    return _LIKE_A_STATE.search(text) is not None


def parse_reply(text: str) -> tuple[str | None, str]:
    """State and words of a reply that was generated freely, in either spelling of the tokens.

    A reply is well formed if it begins with a state, holds no second one, and has words after Response and
    none after the others.

    Args:
        text: Decoded with its special tokens; white space at both ends does not count.

    Returns:
        The state, None if the reply is malformed, and its words: the whole reply if it is malformed.
    """
    said = text.strip()
    match = _ANY_STATE.match(said)
    if match is None:
        return None, said
    state, words = _SPELLINGS[match[0]], said[match.end() :].strip()
    if _ANY_STATE.search(words) or bool(words) != (state == "response"):
        return None, said
    return state, words
