"""The MLLM of a model answers freely: the frames, one tile each, then the question; greedy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from refstream.errors import UserError

FRAMES_AT_ONCE = 16


class MLLMAnswerer:
    """An ``Answerer`` over a composite model; its segmenter is not used.

    Args:
        model: Has ``mllm``, with ``prompts``, ``preprocess``, ``encode_images``, ``generate`` and
            ``tokenizer``.
        max_new_tokens: Longest answer.
        say_times: Tell the model the times of the frames in a sentence before the question.
    """

    def __init__(self, model: Any, *, max_new_tokens: int = 32, say_times: bool = False) -> None:
        if max_new_tokens < 1:
            raise UserError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
        self.mllm = model.mllm
        self.max_new_tokens = max_new_tokens
        self.say_times = say_times

    @torch.no_grad()
    def answer(self, frames: Sequence[np.ndarray], times: Sequence[float], prompt: str) -> str:
        """See ``Answerer``. Special tokens and what ends the answer are not part of it.

        Raises:
            UserError: If frames and question are longer than the language model takes.
        """
        if not frames:
            raise UserError("a question about a video needs at least one frame, got none")
        if self.say_times:
            listed = ", ".join(f"{time:.1f}" for time in times)
            prompt = f"The frames were taken at these seconds of the video: {listed}.\n{prompt}"
        chat = self.mllm.prompts.text([[(prompt, None)]], num_tiles=1, num_images=len(frames))
        limit = self.mllm.config.text_config.max_position_embeddings
        length = chat.input_ids.shape[1] + self.max_new_tokens
        if length > limit:
            raise UserError(
                f"{len(frames)} frames and the question are {length} tokens long with the answer, the "
                "language model "
                f"takes {limit}; lower the number of frames"
            )
        starts = range(0, len(frames), FRAMES_AT_ONCE)
        groups = [self.mllm.preprocess(list(frames[start : start + FRAMES_AT_ONCE])) for start in starts]
        tokens = torch.cat([self.mllm.encode_images(pixels) for pixels in groups])
        reply = self.mllm.generate(chat.to(self.mllm.device), tokens, max_new_tokens=self.max_new_tokens)
        text = str(self.mllm.tokenizer.decode(reply.ids, skip_special_tokens=True))
        for word in self.mllm.prompts.stop_words:
            text = text.removesuffix(word)
        return text.strip()
