"""InternVL2.5 over transformers' native modules: vision tokens in, hidden states out.

Source: InternVL 2.5 (arXiv 2412.05271): InternViT-300M, pixel shuffle 0.5 (256 tokens per 448 px tile), a
two-layer projector, a Qwen2.5 language model. Nothing of a checkpoint is executed: configurations and weights
go through ``refstream.checkpoints.internvl``.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import InternVLConfig, InternVLForConditionalGeneration, PreTrainedTokenizerFast

from refstream.checkpoints import internvl as layout
from refstream.checkpoints.safe import load_strict
from refstream.models.mllm import tokens as T
from refstream.models.mllm.adapter import MLLMAdapter
from refstream.models.mllm.chat import ChatTokens, PromptBuilder
from refstream.models.mllm.loading import differences, read_folder
from refstream.models.mllm.sizes import prepare_config, released_config
from refstream.models.mllm.tiles import ResizeMode, image_tiles, num_tiles
from refstream.models.mllm.tokenizer import build_tiny_tokenizer, load_tokenizer
from refstream.registry import MODELS

logger = logging.getLogger(__name__)


@MODELS.register_module()
class InternVL(MLLMAdapter):
    """The MLLM of StreamingRVOS and Sa2VA; implements :class:`refstream.models.protocols.MLLM`.

    Args:
        config: transformers' ``InternVLConfig``, the arguments of one, or ``dict(size="internvl2_5-1b")``. A
            vocabulary smaller than the tokenizer's is grown to it, the image token and the number of tokens
            per tile are derived.
        tokenizer: A tokenizer or the folder of one; RefStream's special tokens are added where missing.
        prompts: Settings of :class:`PromptBuilder` (all but tokenizer and ``num_image_tokens``).
        resize: ``tensor`` or ``pil``, see :func:`refstream.models.mllm.tiles.image_tiles`.
        added_tokens: Special tokens to append where missing.
        init_word_embeddings_std: Standard deviation of fresh word embeddings; None keeps 0.02. A tiny model
            trained from scratch needs about 1.0, or the words drown among the image tokens.
    """

    def __init__(
        self,
        config: InternVLConfig | dict[str, Any],
        tokenizer: PreTrainedTokenizerFast | str | Path,
        *,
        prompts: dict[str, Any] | None = None,
        resize: ResizeMode = "tensor",
        added_tokens: Sequence[str] = (*T.IMAGE_TOKENS, *T.ADDED_TOKENS),
        init_word_embeddings_std: float | None = None,
    ) -> None:
        super().__init__()
        if isinstance(tokenizer, str | Path):
            tokenizer = load_tokenizer(tokenizer)
        T.add_special_tokens(tokenizer, tuple(added_tokens))
        if isinstance(config, dict):
            config = InternVLConfig(**(released_config(config["size"]) if "size" in config else config))
        settings: Any = copy.deepcopy(config)
        self.tokenizer = tokenizer
        self.resize: ResizeMode = resize
        self.num_image_tokens = prepare_config(settings, tokenizer)
        self.hidden_size = int(settings.text_config.hidden_size)
        self.image_size = int(settings.vision_config.image_size[0])
        self.prompts = PromptBuilder(tokenizer, self.num_image_tokens, **(prompts or {}))
        self.model = InternVLForConditionalGeneration(settings)
        if init_word_embeddings_std is not None:
            nn.init.normal_(self.word_embeddings.weight, std=init_word_embeddings_std)

    @classmethod
    def from_size(
        cls,
        name: str,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        tokenizer: PreTrainedTokenizerFast | str | Path | None = None,
        **options: Any,
    ) -> InternVL:
        """Random weights at a released size, for shapes, memory and speed.

        Args:
            name: A key of ``sizes.SIZES``: ``internvl2_5-1b`` or ``internvl2_5-4b``.
            dtype: Of all weights.
            device: Where they are made.
            tokenizer: None takes a small one with byte fallback; the vocabulary keeps its real size.
            **options: Of the constructor.
        """
        tokenizer = build_tiny_tokenizer(()) if tokenizer is None else tokenizer
        model = cls._empty(released_config(name), tokenizer, dtype, device, options)
        model.model.initialize_weights()
        return model

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        **options: Any,
    ) -> InternVL:
        """Load an original ``InternVL2_5-*`` / ``InternVL3-*`` folder or a transformers ``internvl`` folder.

        No code of the folder is run. Missing special tokens are added, their rows the mean of the others.

        Args:
            path: Folder with config.json, safetensors and tokenizer files.
            dtype: Weights are cast to it; rotary tables stay float32.
            device: Where they go.
            **options: Of the constructor.

        Raises:
            FileNotFoundError: if a file is missing.
            ValueError: for an unknown architecture or weights that do not fit it.
        """
        config, state = read_folder(path)
        return cls.from_state(config, state, load_tokenizer(path), dtype=dtype, device=device, **options)

    def load_weights(self, state: Mapping[str, Tensor], what: str = "InternVL weights") -> None:
        """Load a native state dict; rows of added tokens become the mean of the others.

        Raises:
            ValueError: Naming missing, unexpected and mis-shaped keys.
        """
        state = layout.grow_vocabulary(layout.untie_head(state), self.config.text_config.vocab_size)
        load_strict(self.model, state, what)

    def load_original(self, path: str | Path) -> None:
        """Load the weights of a folder that ``from_pretrained`` takes into this model of the same size.

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: If sizes or constants differ, or its tokens have other numbers here.
        """
        config, state = read_folder(path)
        wrong = differences(self.config, InternVLConfig(**config))
        ours, theirs = self.tokenizer.get_vocab(), load_tokenizer(path).get_vocab()
        moved = [token for token, number in theirs.items() if ours.get(token) != number]
        if wrong or moved:
            raise ValueError(
                f"{path} does not fit the model: {wrong or f'tokens have other numbers, e.g. {moved[:3]}'}; "
                "name its own size and its own tokenizer in the config"
            )
        self.load_weights(state, str(path))

    def tile_counts(self, images: Sequence[np.ndarray], *, max_tiles: int = 1) -> list[int]:
        """How many tiles :meth:`preprocess` makes of each image."""
        return [num_tiles(*image.shape[:2], max_tiles=max_tiles, side=self.image_size) for image in images]

    def preprocess(self, images: Sequence[np.ndarray], *, max_tiles: int = 1) -> Tensor:
        """(H, W, 3) uint8 RGB images -> (tiles, 3, s, s) float32, normalised, on the model's device."""
        if not images:
            raise ValueError("preprocess needs at least one image, got none")
        options: dict[str, Any] = {"side": self.image_size, "mode": self.resize, "device": self.device}
        return torch.cat([image_tiles(image, max_tiles=max_tiles, **options) for image in images])

    def vision_modules(self) -> list[nn.Module]:
        """What turns pixels into vision tokens: tower and projector."""
        return [self.model.model.vision_tower, self.model.model.multi_modal_projector]

    def encode_images(self, pixels: Tensor) -> Tensor:
        """(tiles, 3, s, s) -> (tiles, num_image_tokens, D) vision tokens in the LLM's space."""
        return self.model.model.get_image_features(pixel_values=pixels.to(self.device)).pooler_output

    def positions(self, chat: ChatTokens, start: int = 0) -> tuple[Tensor, int]:
        """(1, L) int64 positions of a piece of a dialogue, and where the next piece starts."""
        end = start + chat.input_ids.shape[1]
        return torch.arange(start, end, device=chat.input_ids.device)[None], end
