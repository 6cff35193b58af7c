"""A language model that says what it is told to, behind everything else of a real MLLM.

Pixels, vision tokens, prompts, tokens, positions, caches and masks stay those of the adapter; only the layers
between its word embeddings and its next word are replaced. So what asks a model in words, in one piece or in
many, alone or side by side, is tested as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from refstream.models.mllm.adapter import MLLMAdapter
from refstream.models.mllm.chat import Turn

Script = Callable[[str, Tensor], str]
CERTAINTY = 20.0  # logit of the word that is said; all others have 0


def say(mllm: MLLMAdapter, script: Script) -> None:
    """Let a real MLLM answer by a script, for ever; it is not to be saved any more.

    Args:
        mllm: In float32 or float64; with word embeddings that differ from each other.
        script: Gets the dialogue up to where the answer begins, special words and all, and (n, D) the vision
            tokens in it; gives the answer's words. It is called once for every pair of them that differs from
            those before.
    """
    language = ScriptedLanguage(mllm, script)
    mllm.model.model.language_model = language
    mllm.model.lm_head = ScriptedHead(language)


class ScriptedLanguage(nn.Module):
    """In the place of a transformer: reads the words so far in the cache, and knows the one that is next.

    Args:
        mllm: Whose words it reads.
        script: See ``say``.

    Attributes:
        passes: How often it has been run.
    """

    def __init__(self, mllm: MLLMAdapter, script: Script) -> None:
        super().__init__()
        self.embed_tokens = mllm.word_embeddings
        self.passes = 0
        self._prompts, self._script = mllm.prompts, script
        self._answers: dict[tuple[bytes, bytes], list[int]] = {}
        one, other = (self._opening(text) for text in ("a", "b"))
        size = next(n for n in range(len(one)) if one[-n - 1] != other[-n - 1])
        self._begin = one[-size:]  # what every question ends with

    def forward(
        self,
        inputs_embeds: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        **keys: Any,
    ) -> SimpleNamespace:
        """(B, L, D) embeddings -> (B, L, D) states that hold the next word's number, in their own dtype.

        Args:
            inputs_embeds: New tokens.
            attention_mask: (B, past + L), 0 at filling.
            past_key_values: Cache, which grows by the embeddings; None: there is no past.
            keys: Others are not needed.
        """
        self.passes += 1
        size = inputs_embeds.shape[1]
        seen = inputs_embeds
        if past_key_values is not None:
            kept = inputs_embeds[:, None]
            for layer in range(max(1, len(past_key_values.layers))):  # all alike, so that it can be cut
                seen = past_key_values.update(kept, kept, layer)[0][:, 0]
        hidden = torch.zeros_like(inputs_embeds)
        for row, states in enumerate(seen):
            live = torch.ones(len(states), dtype=torch.bool, device=states.device)
            if attention_mask is not None:
                live = attention_mask[row].bool()
            fresh = torch.arange(len(states), device=states.device)[live] - (len(states) - size)
            for place, token in zip(fresh.tolist(), self._next(states[live]), strict=True):
                if place >= 0:
                    hidden[row, place, 0] = token
        return SimpleNamespace(
            last_hidden_state=hidden, hidden_states=(hidden,), past_key_values=past_key_values
        )

    def _opening(self, text: str) -> list[int]:
        ids: list[int] = self._prompts.turn_opening(Turn(text, None), first=True).input_ids[0].tolist()
        return ids

    def _next(self, states: Tensor) -> list[int]:
        """The next word after each of (n, D) embeddings; the end of a turn outside of answers."""
        rows = {row.tobytes(): n for n, row in enumerate(_numbers(self.embed_tokens.weight))}
        numbers = [rows.get(row.tobytes()) for row in _numbers(states)]
        image = torch.tensor([number is None for number in numbers])
        ids = [self._prompts.ids.image_context if number is None else number for number in numbers]
        found, answer, said = [], [self._prompts.ids.turn_end], 0
        for at in range(len(ids)):
            said += 1
            if ids[max(0, at + 1 - len(self._begin)) : at + 1] == self._begin:
                answer, said = self._answer(ids[: at + 1], states[: at + 1][image[: at + 1]]), 0
            found.append(answer[min(said, len(answer) - 1)])
        return found

    def _answer(self, ids: list[int], images: Tensor) -> list[int]:
        """Words of an answer up to the end of its turn."""
        text = str(self._prompts.tokenizer.decode(ids, skip_special_tokens=False))
        key = (text.encode(), _numbers(images).tobytes())
        if key not in self._answers:
            closing = self._prompts.turn_closing(self._script(text, images)).input_ids[0].tolist()
            self._answers[key] = closing[: closing.index(self._prompts.ids.turn_end) + 1]
        return self._answers[key]


class ScriptedHead(nn.Module):
    """States of a ``ScriptedLanguage`` -> logits.

    Args:
        language: Whose words they are.
    """

    def __init__(self, language: ScriptedLanguage) -> None:
        super().__init__()
        self._words = len(language.embed_tokens.weight)

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., V)."""
        logits = torch.zeros(*hidden.shape[:-1], self._words, dtype=hidden.dtype, device=hidden.device)
        return logits.scatter(-1, hidden[..., :1].round().long(), CERTAINTY)


def _numbers(values: Tensor) -> np.ndarray:
    return values.detach().cpu().contiguous().numpy()
