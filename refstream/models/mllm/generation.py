"""Free greedy generation with a key-value cache, keeping the hidden state of every token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import DynamicCache

if TYPE_CHECKING:
    from refstream.models.mllm.adapter import MLLMAdapter
    from refstream.models.mllm.internvl import InternVL


@dataclass(frozen=True)
class Generation:
    """What one dialogue was answered.

    Attributes:
        ids: (n,) int64 generated tokens, the end token included if it came.
        hidden: (m, D) final-norm hidden states AT the generated tokens (not at the positions that predicted
            them): row i belongs to ``ids[i]``. m = n - 1, since the last token was never fed.
        prompt_hidden: (D,) state of the last prompt token, which predicted ``ids[0]``.
        text: The decoded ids with special tokens.
        seg_state: (D,) state at the first ``[SEG]``, or None if there is none.
        all_hidden: With ``keep_all_hidden``: per forward pass, the states of every layer, (1, L, D) each.
    """

    ids: Tensor
    hidden: Tensor
    prompt_hidden: Tensor
    text: str
    seg_state: Tensor | None = None
    all_hidden: list[tuple[Tensor, ...]] = field(default_factory=list)

    def at(self, token: int) -> Tensor:
        """(k, D) states at every occurrence of ``token``."""
        return states_at(self.hidden, self.ids, token)


def states_at(hidden: Tensor, ids: Tensor, token: int) -> Tensor:
    """Rows of (m, D) ``hidden`` whose id in (n,) ``ids``, n >= m, is ``token``."""
    return hidden[(ids[: len(hidden)] == token).to(hidden.device)]


@torch.no_grad()
def generate_greedy(
    mllm: InternVL | MLLMAdapter,
    embeds: Tensor,
    *,
    positions: Tensor | None = None,
    max_new_tokens: int,
    stop_ids: Sequence[int],
    stop_words: Sequence[str] = (),
    keep_all_hidden: bool = False,
) -> Generation:
    """Greedy answer to one prompt.

    Args:
        mllm: The model.
        embeds: (1, L, D) embedded prompt without padding.
        positions: (..., L) of the prompt where they are not simply counted; words after it go on after the
            largest.
        max_new_tokens: Most tokens to generate.
        stop_ids: Tokens that end the answer.
        stop_words: Texts that end the answer; each step then decodes the answer so far, as Sa2VA's code does.
        keep_all_hidden: Also return the states of all layers at all steps, as Sa2VA's code does.
    """
    if embeds.shape[0] != 1:
        raise ValueError(f"generation takes one prompt at a time, got a batch of {embeds.shape[0]}")
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
    cache = DynamicCache(config=mllm.config.text_config)
    ids: list[int] = []
    states: list[Tensor] = []
    all_hidden: list[tuple[Tensor, ...]] = []
    while len(ids) < max_new_tokens:
        output = mllm.model.model.language_model(
            inputs_embeds=embeds,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            output_hidden_states=keep_all_hidden,
        )
        states.append(output.last_hidden_state[0, -1])
        if keep_all_hidden:
            all_hidden.append(output.hidden_states)
        next_id = mllm.model.lm_head(states[-1]).argmax()
        ids.append(int(next_id))
        if ids[-1] in stop_ids or (stop_words and _ends(mllm, ids, stop_words)):
            break
        embeds = mllm.word_embeddings(next_id.view(1, 1))
        if positions is not None:
            positions = positions.amax() + 1 + torch.zeros_like(positions[..., -1:])
    generated = torch.tensor(ids, dtype=torch.int64)
    hidden = torch.stack(states)[1:]
    at_seg = states_at(hidden, generated, mllm.prompts.ids.seg)
    return Generation(
        ids=generated,
        hidden=hidden,
        prompt_hidden=states[0],
        text=str(mllm.tokenizer.decode(ids, skip_special_tokens=False)),
        seg_state=at_seg[0] if len(at_seg) else None,
        all_hidden=all_hidden,
    )


def _ends(mllm: InternVL | MLLMAdapter, ids: list[int], stop_words: Sequence[str]) -> bool:
    text = str(mllm.tokenizer.decode(ids, skip_special_tokens=False))
    return text.replace("\r", "").replace("\n", "").endswith(tuple(stop_words))
