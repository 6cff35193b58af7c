"""The special tokens of RefStream's language models.

Source: StreamingRVOS (CVPR 2026), released code: eight tokens are added to InternVL2.5's vocabulary, in this
order (151,674 -> 151,682 tokens, so that ``[SEG]`` is 151674); Sa2VA adds the first five only. The paper's
``[INFO]`` slot is ``<TIME_CONTEXT>``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SEG = "[SEG]"
PHRASE_START, PHRASE_END = "<p>", "</p>"
REGION_START, REGION_END = "<vp>", "</vp>"
TIME_CONTEXT = "<TIME_CONTEXT>"
CONTEXT_START, CONTEXT_END = "<context>", "</context>"

IMAGE_START, IMAGE_END = "<img>", "</img>"
IMAGE_CONTEXT = "<IMG_CONTEXT>"

TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"
END_OF_TEXT = "<|endoftext|>"

SA2VA_TOKENS = (SEG, PHRASE_START, PHRASE_END, REGION_START, REGION_END)
ADDED_TOKENS = (*SA2VA_TOKENS, TIME_CONTEXT, CONTEXT_START, CONTEXT_END)
IMAGE_TOKENS = (IMAGE_START, IMAGE_END, IMAGE_CONTEXT)
IMAGE_MARKERS = (IMAGE_START, IMAGE_CONTEXT, IMAGE_END)
"""What stands before, at and after the places of an image's vision tokens."""
CHAT_TOKENS = (TURN_START, TURN_END, END_OF_TEXT)

ANSWER_TOKENS = SA2VA_TOKENS
"""What an answer may contain; everything else in it is plain text."""


@dataclass(frozen=True)
class SpecialIds:
    """Vocabulary indices of the special tokens; None for those that this vocabulary lacks."""

    turn_start: int
    turn_end: int
    image_start: int
    image_end: int
    image_context: int
    seg: int
    time_context: int | None = None
    context_start: int | None = None
    context_end: int | None = None

    @property
    def has_context(self) -> bool:
        """Whether the vocabulary has the three tokens of the context slot."""
        return None not in (self.time_context, self.context_start, self.context_end)


def token_id(tokenizer: PreTrainedTokenizerFast, token: str) -> int | None:
    """Index of ``token``, or None if the vocabulary lacks it (the unknown token does not count)."""
    return tokenizer.backend_tokenizer.token_to_id(token)


def special_ids(
    tokenizer: PreTrainedTokenizerFast, image_markers: Sequence[str] = IMAGE_MARKERS
) -> SpecialIds:
    """Look the special tokens up.

    Args:
        tokenizer: Holds them.
        image_markers: This family's three tokens before, at and after an image's vision tokens.

    Raises:
        ValueError: if one of those that every prompt needs is missing.
    """
    if isinstance(image_markers, str) or len(image_markers) != 3:
        raise ValueError(f"image_markers are three tokens (before, at, after), got {image_markers!r}")
    vocabulary = tokenizer.get_vocab()
    required = {
        "turn_start": TURN_START,
        "turn_end": TURN_END,
        "image_start": image_markers[0],
        "image_context": image_markers[1],
        "image_end": image_markers[2],
        "seg": SEG,
    }
    missing = [token for token in required.values() if token not in vocabulary]
    if missing:
        raise ValueError(
            f"the tokenizer lacks the special tokens {missing}; add them with "
            "refstream.models.mllm.tokens.add_special_tokens or use a tokenizer of InternVL2.5"
        )
    optional = {"time_context": TIME_CONTEXT, "context_start": CONTEXT_START, "context_end": CONTEXT_END}
    ids: dict[str, Any] = {name: vocabulary[token] for name, token in required.items()}
    ids |= {name: vocabulary.get(token) for name, token in optional.items()}
    return SpecialIds(**ids)


def add_special_tokens(
    tokenizer: PreTrainedTokenizerFast, tokens: tuple[str, ...] = (*IMAGE_TOKENS, *ADDED_TOKENS)
) -> int:
    """Make every one of ``tokens`` a special token, appending those that are new, in order.

    A token that the vocabulary holds as an ordinary one is marked special as well, so that text typed by a
    user can never be taken for it.

    Returns:
        How many entries were appended to the vocabulary.
    """
    from tokenizers import AddedToken

    before = len(tokenizer)
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    wanted = [AddedToken(token, special=True, normalized=False) for token in tokens if token not in special]
    if wanted:
        tokenizer.add_tokens(wanted, special_tokens=True)  # type: ignore[arg-type]
    return len(tokenizer) - before
