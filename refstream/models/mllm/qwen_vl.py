"""Qwen2.5-VL over transformers' native modules: vision tokens in, hidden states out.

Source: Qwen2.5-VL technical report (arXiv 2502.13923). Frames are images of one fixed size, so that each has
the same number of tokens. Positions are M-RoPE's (arXiv 2409.12191, section 2.1): the tokens of an image
share one temporal position and have their row and column, and what follows goes on after the largest of them;
an image of 8 x 15 tokens takes 15 positions, not 120. They are those of transformers' ``get_rope_index``, and
given with every forward pass here: transformers' ``generate`` counts everything after a cache as words, which
is wrong as soon as an image is appended to it. Nothing of a checkpoint is executed.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    Cache,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)

from refstream.checkpoints.safe import load_strict
from refstream.errors import UserError
from refstream.models.mllm import qwen_loading as layout
from refstream.models.mllm import tokens as T
from refstream.models.mllm.adapter import MLLMAdapter
from refstream.models.mllm.chat import ChatTokens, PromptBuilder
from refstream.models.mllm.pooling import check_pooling
from refstream.models.mllm.qwen_images import normalised_images, patches
from refstream.models.mllm.qwen_loading import IMAGE_MARKERS
from refstream.models.mllm.tiles import ResizeMode
from refstream.models.mllm.tokenizer import build_tiny_tokenizer, load_tokenizer
from refstream.registry import MODELS

IMAGE_SIZE = (224, 420)


@MODELS.register_module()
class QwenVL(MLLMAdapter):
    """Qwen2.5-VL 3B and 7B; implements :class:`refstream.models.protocols.DialogueMLLM`.

    Args:
        config: transformers' ``Qwen2_5_VLConfig``, the arguments of one, or ``dict(size="qwen2_5-vl-3b")``. A
            vocabulary smaller than the tokenizer's is grown to it. The released matrices have more rows than
            the released tokenizer has tokens: added tokens take those, and keep what is stored there.
        tokenizer: A tokenizer or the folder of one; special tokens are added where missing.
        prompts: Settings of :class:`PromptBuilder` (all but tokenizer and ``num_image_tokens``). The released
            chat template begins with a system turn ("You are a helpful assistant."), ours with none.
        image_size: (H, W) of every image, multiples of 28 px; each is resized as a whole. (224, 420) is what
            16:9 frames get within the usual limits, see ``qwen_images.fitting_size`` for other shapes.
        resize: ``tensor`` (torch) or ``pil``, both bicubic.
        added_tokens: Special tokens to append where missing.
    """

    def __init__(
        self,
        config: Qwen2_5_VLConfig | dict[str, Any],
        tokenizer: PreTrainedTokenizerFast | str | Path,
        *,
        prompts: dict[str, Any] | None = None,
        image_size: Sequence[int] = IMAGE_SIZE,
        resize: ResizeMode = "tensor",
        added_tokens: Sequence[str] = T.ADDED_TOKENS,
    ) -> None:
        super().__init__()
        if isinstance(tokenizer, str | Path):
            tokenizer = load_tokenizer(tokenizer)
        T.add_special_tokens(tokenizer, (*IMAGE_MARKERS, *added_tokens))
        if isinstance(config, dict):
            config = layout.released_config(config["size"]) if "size" in config else config
            config = Qwen2_5_VLConfig(**config)
        settings: Any = copy.deepcopy(config)
        layout.prepare_config(settings, tokenizer)
        self.tokenizer = tokenizer
        self.resize: ResizeMode = resize
        self._factor = settings.vision_config.patch_size * settings.vision_config.spatial_merge_size
        self.image_size = _checked_size(image_size, self._factor)
        rows, columns = self.image_grid
        self.num_image_tokens = rows * columns
        self.hidden_size = int(settings.text_config.hidden_size)
        options = {"image_markers": IMAGE_MARKERS, **(prompts or {})}
        self.prompts = PromptBuilder(tokenizer, self.num_image_tokens, **options)
        self.model = Qwen2_5_VLForConditionalGeneration(settings)
        self._tie()

    @classmethod
    def from_size(
        cls,
        name: str,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        tokenizer: PreTrainedTokenizerFast | str | Path | None = None,
        **options: Any,
    ) -> QwenVL:
        """Random weights at a released size, for shapes, memory and speed.

        Args:
            name: A key of ``qwen_loading.SIZES``: ``qwen2_5-vl-3b`` or ``qwen2_5-vl-7b``.
            dtype: Of all weights.
            device: Where they are made.
            tokenizer: None takes a small one with byte fallback; the vocabulary keeps its real size.
            **options: Of the constructor.
        """
        tokenizer = build_tiny_tokenizer(()) if tokenizer is None else tokenizer
        model = cls._empty(layout.released_config(name), tokenizer, dtype, device, options)
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
    ) -> QwenVL:
        """Load a ``Qwen2.5-VL-*`` folder as published, or one that transformers or ``save_pretrained`` wrote.

        Args:
            path: Folder with config.json, safetensors and tokenizer files; no code of it is run.
            dtype: Weights are cast to it; rotary tables stay float32.
            device: Where they go.
            **options: Of the constructor.

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: For another architecture, or weights that do not fit it.
        """
        config, state = layout.read_folder(path)
        return cls.from_state(config, state, load_tokenizer(path), dtype=dtype, device=device, **options)

    def load_weights(self, state: Mapping[str, Tensor], what: str = "Qwen2.5-VL weights") -> None:
        """Load a state dict under native or published names; rows it lacks become the mean of the others.

        Raises:
            ValueError: Naming missing, unexpected and mis-shaped keys.
        """
        native = layout.native_state(state, tied=self.tied)
        load_strict(self.model, layout.grow(native, self.config.text_config.vocab_size), what)

    def load_original(self, path: str | Path) -> None:
        """Load the weights of a folder that ``from_pretrained`` takes into this model of the same size.

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: If sizes or constants differ, or its tokens have other numbers here.
        """
        config, state = layout.read_folder(path)
        wrong = layout.differences(self.config, Qwen2_5_VLConfig(**config))
        ours, theirs = self.tokenizer.get_vocab(), load_tokenizer(path).get_vocab()
        moved = [token for token, number in theirs.items() if ours.get(token) != number]
        if wrong or moved:
            raise ValueError(
                f"{path} does not fit the model: {wrong or f'tokens have other numbers, e.g. {moved[:3]}'}; "
                "name its own size and its own tokenizer in the config"
            )
        self.load_weights(state, str(path))

    # ------------------------------------------------------------ pixels

    @property
    def image_grid(self) -> tuple[int, int]:
        """(rows, columns) of the tokens of an image."""
        return self.image_size[0] // self._factor, self.image_size[1] // self._factor

    def tile_counts(self, images: Sequence[np.ndarray], *, max_tiles: int = 1) -> list[int]:
        """One each: Qwen2.5-VL has no tiles, an image is resized as a whole whatever ``max_tiles`` allows."""
        return [1] * len(images)

    def preprocess(self, images: Sequence[np.ndarray], *, max_tiles: int = 1) -> Tensor:
        """(H, W, 3) uint8 RGB images -> (N, 3, *image_size) float32, normalised, on the model's device."""
        return normalised_images(images, self.image_size, mode=self.resize, device=self.device)

    def vision_modules(self) -> list[nn.Module]:
        """What turns pixels into vision tokens: the tower, with the connector (``merger``) in it."""
        return [self.model.model.visual]

    def encode_images(self, pixels: Tensor) -> Tensor:
        """(N, 3, *image_size) -> (N, num_image_tokens, D) vision tokens in the LLM's space.

        Raises:
            ValueError: If the pixels are not of ``image_size``.
        """
        if pixels.ndim != 4 or tuple(pixels.shape[1:]) != (3, *self.image_size):
            raise ValueError(f"pixels must be (N, 3, {self.image_size}), got {tuple(pixels.shape)}")
        vision = self.config.vision_config
        rows = patches(
            pixels.to(self.device),
            side=vision.patch_size,
            merge=vision.spatial_merge_size,
            times=vision.temporal_patch_size,
        )
        grid = self._vision_grid(*self.image_grid).expand(len(pixels), 3)
        tokens: Tensor = self.model.model.visual(rows, grid_thw=grid.to(self.device)).pooler_output
        return tokens.unflatten(0, (len(pixels), self.num_image_tokens))

    # ------------------------------------------------------------ positions

    def positions(self, chat: ChatTokens, start: int = 0) -> tuple[Tensor, int]:
        """(3, 1, L) int64 time, row and column of a piece of a dialogue, and where the next piece starts.

        Raises:
            ValueError: For more than one dialogue, padding, or an image whose tokens have no grid.
        """
        if chat.batch_size != 1 or not bool(chat.attention_mask.all()):
            raise ValueError(f"a piece is one dialogue without padding, got a batch of {chat.batch_size}")
        if chat.num_image_slots == 0:
            end = start + chat.input_ids.shape[1]
            words = torch.arange(start, end, device=chat.input_ids.device)
            return words.expand(3, 1, -1), end
        positions = self._rope_index(chat) + start
        return positions, int(positions.max()) + 1

    def batch_positions(self, chat: ChatTokens) -> Tensor:
        """(3, B, L) positions of B whole dialogues; those of padding are meaningless."""
        return self._rope_index(chat)

    def extend(self, embeds: Tensor, positions: Tensor, cache: Cache | None = None) -> Tensor:
        """See ``MLLMAdapter.extend``; (1, L) positions stand for all three axes, as for words.

        In a packed row an image never begins a dialogue: its first token is a word of the template.
        """
        if positions.ndim == 2:
            positions = positions[None].expand(3, -1, -1)
        if cache is None:
            # transformers finds packed dialogues in a fourth row, which counts tokens
            positions = torch.cat([_counted(positions[0])[None], positions])
        return super().extend(embeds, positions, cache)

    def _rope_index(self, chat: ChatTokens) -> Tensor:
        lengths = _run_lengths(chat.image_positions)
        grids = [self._vision_grid(*self._token_grid(length)) for length in lengths]
        positions, _ = self.model.model.get_rope_index(
            chat.input_ids,
            mm_token_type_ids=chat.image_positions.int(),
            image_grid_thw=torch.cat(grids) if grids else None,
            attention_mask=chat.attention_mask,
        )
        return positions

    def _token_grid(self, count: int) -> tuple[int, int]:
        """(rows, columns) of an image with ``count`` tokens: all of them, or a square pooled to a square."""
        if count == self.num_image_tokens:
            return self.image_grid
        check_pooling(self.num_image_tokens, count)
        rows, columns = self.image_grid
        if rows != columns:  # 4 x 9 tokens are no 6 x 6, though as many
            raise UserError(
                f"an image of {rows} x {columns} tokens cannot be pooled to {count}; leave frame_tokens "
                "out, or give a square image_size"
            )
        return math.isqrt(count), math.isqrt(count)

    def _vision_grid(self, rows: int, columns: int) -> Tensor:
        """(1, 3) time, rows and columns of an image in patches, as transformers counts them."""
        merge = self.config.vision_config.spatial_merge_size
        return torch.tensor([[1, rows * merge, columns * merge]])


def _checked_size(size: Sequence[int], factor: int) -> tuple[int, int]:
    """(H, W) if both are positive multiples of a token's side."""
    if isinstance(size, str | int) or len(size) != 2 or any(n < factor or n % factor for n in size):
        raise ValueError(
            f"image_size must be (H, W), both multiples of {factor} px (the side of a token), got {size!r}"
        )
    return int(size[0]), int(size[1])


def _run_lengths(places: Tensor) -> list[int]:
    """Lengths of the runs of True in (B, L) bool, row by row; an image is one run, markers part them."""
    ended = torch.nn.functional.pad(places.int(), (1, 1)).diff(dim=1)  # +1 where a run starts, -1 after it
    starts, ends = (ended == 1).nonzero(), (ended == -1).nonzero()
    lengths: list[int] = (ends[:, 1] - starts[:, 1]).tolist()
    return lengths


def _counted(first: Tensor) -> Tensor:
    """(1, L) places of tokens within their dialogues, from (1, L) positions on one axis: 0 begins one."""
    places = torch.arange(first.shape[1], device=first.device)[None]
    begins = torch.where(first == 0, places, 0).cummax(dim=1).values
    return places - begins
