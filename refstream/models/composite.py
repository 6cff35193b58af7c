"""What an MLLM, a head and a segmenter do together; shared by the real model and the fakes of the tests."""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from refstream.errors import UserError
from refstream.models.mllm.chat import ChatTokens
from refstream.models.protocols import MLLMOutput
from refstream.registry import PIPELINES, import_methods
from refstream.structures import ImageFeatures


class SegComposite:
    """Mixin over ``mllm``, ``segmenter``, ``head`` and ``config.pipeline``."""

    mllm: Any
    segmenter: Any
    head: Any
    config: Any

    def pipeline(self, **overrides: Any) -> Any:
        """The streaming pipeline that config.json names, with keys overridden (``gate=...``, ``stage=...``).

        Another ``type`` takes none of the keys of the one that is named.

        Raises:
            ValueError: If no method is named, or the named one is not installed.
            UserError: If the pipeline has no such key.
        """
        import_methods()
        own = copy.deepcopy(self.config.pipeline)
        keys = {**(own if overrides.get("type") in (None, own.get("type")) else {}), **overrides}
        kind = keys.get("type")
        if kind is None or PIPELINES.get(kind) is None:
            raise ValueError(
                f"the model names pipeline {kind!r}; installed are {sorted(PIPELINES.module_dict)}"
            )
        taken = inspect.signature(PIPELINES.get(kind)).parameters
        foreign = sorted(set(keys) - {"type", *taken})
        if foreign and all(one.kind != one.VAR_KEYWORD for one in taken.values()):
            raise UserError(
                f"pipeline {kind} takes no {foreign}; its keys are {sorted({*taken} - {'model'})}"
            )
        return PIPELINES.build(dict(keys, model=self))

    def chat(self, expressions: Sequence[str], **keys: Any) -> ChatTokens:
        """Tokenised questions with the forced answer, on the model's device: ``PromptBuilder.referring``."""
        return self.mllm.prompts.referring(expressions, **keys).to(self.mllm.device)

    def seg_states(self, output: MLLMOutput, chat: ChatTokens) -> Tensor:
        """(N, D) final-norm hidden states at each row's [SEG] token itself (not at the position before)."""
        rows = torch.arange(chat.batch_size, device=output.hidden.device)
        return output.hidden[rows, chat.seg_positions]

    def force_seg(
        self,
        expressions: Sequence[str],
        image_tokens: Tensor,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
        *,
        reprompt: Sequence[bool] | bool = False,
    ) -> tuple[list[Tensor | None], list[str]]:
        """[SEG] states of the forced answer: one prefill for N expressions on one image, no decoding.

        Args:
            expressions: N expressions.
            image_tokens: (tiles, num_image_tokens, D) of the one image.
            context: (N, K, D) context states, and
            context_mask: (N, K) which of them count.
            reprompt: Per row, add the sentence that the target may have changed.

        Returns:
            N states (D,) and N answers.
        """
        n, tiles = len(expressions), image_tokens.shape[0]
        chat = self.chat(expressions, reprompt=reprompt, num_tiles=tiles)
        shared = image_tokens.reshape(1, -1, image_tokens.shape[-1]).expand(n, -1, -1)
        output = self.mllm.forward_chat(chat, shared, context, context_mask)
        return list(self.seg_states(output, chat)), [self.mllm.prompts.answer] * n

    def generate_seg(
        self,
        expressions: Sequence[str],
        image_tokens: Tensor,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
        *,
        reprompt: Sequence[bool] | bool = False,
        **keys: Any,
    ) -> tuple[list[Tensor | None], list[str]]:
        """As ``force_seg``, but the MLLM speaks freely (greedy), one expression after the other.

        A row is None where the answer holds no [SEG]; of several the first counts.
        """
        flags = [reprompt] * len(expressions) if isinstance(reprompt, bool) else list(reprompt)
        states: list[Tensor | None] = []
        texts: list[str] = []
        for i, expression in enumerate(expressions):
            chat = self.chat(
                [expression], reprompt=flags[i], num_tiles=image_tokens.shape[0], with_answer=False
            )
            row = slice(i, i + 1)
            reply = self.mllm.generate(
                chat,
                image_tokens,
                None if context is None else context[row],
                None if context_mask is None else context_mask[row],
                **keys,
            )
            states.append(reply.seg_state)
            texts.append(reply.text)
        return states, texts

    def vision_tokens(self, images: Sequence[np.ndarray], *, max_tiles: int = 1) -> list[Tensor]:
        """The MLLM's view of each image, for training; a frozen tower runs without a graph.

        Args:
            images: B images (H, W, 3) uint8, of any sizes.
            max_tiles: Most tiles of an image, see ``MLLM.preprocess``.

        Returns:
            B tensors (tiles, num_image_tokens, D).
        """
        tiles = [1] * len(images) if max_tiles == 1 else self.mllm.tile_counts(images, max_tiles=max_tiles)
        with no_grad_if_frozen(self.mllm.vision_modules()):
            tokens = self.mllm.encode_images(self.mllm.preprocess(images, max_tiles=max_tiles))
        return list(tokens.split(tiles))

    def image_features(self, images: Sequence[np.ndarray]) -> ImageFeatures:
        """The segmenter's features of B images, for training; a frozen segmenter runs without a graph.

        Raises:
            UserError: If the model has no segmenter.
        """
        self.require_segmenter()
        with no_grad_if_frozen([self.segmenter]):
            return self.segmenter.encode(self.segmenter.preprocess(images))

    def require_segmenter(self) -> None:
        """Raise a ``UserError`` if this is a model that only speaks."""
        if self.segmenter is None:
            raise UserError(
                f"the model has no segmenter, its pipeline {self.config.pipeline.get('type')!r} answers in "
                "words; use a model whose config.json names a segmenter"
            )


def no_grad_if_frozen(modules: Sequence[torch.nn.Module]) -> contextlib.AbstractContextManager[Any]:
    """``torch.no_grad()`` if no parameter of the modules wants a gradient, else nothing."""
    wanted = any(p.requires_grad for m in modules for p in m.parameters())
    return contextlib.nullcontext() if wanted else torch.no_grad()
