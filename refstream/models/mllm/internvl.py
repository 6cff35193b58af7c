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
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import InternVLConfig, InternVLForConditionalGeneration, PreTrainedTokenizerFast

from refstream.checkpoints import internvl as layout
from refstream.checkpoints.safe import load_strict
from refstream.models.mllm import tokens as T
from refstream.models.mllm.chat import IGNORE, ChatTokens, PromptBuilder
from refstream.models.mllm.generation import Generation, generate_greedy
from refstream.models.mllm.loading import differences, read_folder
from refstream.models.mllm.sizes import prepare_config, released_config, restore_rotary
from refstream.models.mllm.tiles import ResizeMode, image_tiles, num_tiles
from refstream.models.mllm.tokenizer import build_tiny_tokenizer, load_tokenizer
from refstream.models.protocols import MLLMOutput
from refstream.registry import MODELS

logger = logging.getLogger(__name__)


@MODELS.register_module()
class InternVL(nn.Module):
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

    @classmethod
    def from_state(
        cls,
        config: InternVLConfig | dict[str, Any],
        state: Mapping[str, Tensor],
        tokenizer: PreTrainedTokenizerFast,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        **options: Any,
    ) -> InternVL:
        """From a native configuration and state dict; every key must be there and fit."""
        model = cls._empty(config, tokenizer, dtype, device, options)
        model.load_weights(state)
        return model

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

    @classmethod
    def _empty(
        cls,
        config: Any,
        tokenizer: Any,
        dtype: torch.dtype,
        device: torch.device | str,
        options: dict[str, Any],
    ) -> InternVL:
        """Allocated but not filled: far faster than initialising weights that are about to be replaced."""
        with torch.device("meta"):
            model = cls(config, tokenizer, **options)
        return model.to(dtype).to_empty(device=device).eval()

    def save_pretrained(self, path: str | Path) -> None:
        """Write a folder in transformers' ``internvl`` layout, which :meth:`from_pretrained` reads."""
        path = Path(path)
        path.mkdir(parents=True, exist_ok=True)
        state = {key: value.detach().cpu().contiguous() for key, value in self.model.state_dict().items()}
        save_file(state, path / "model.safetensors", metadata={"format": "pt"})
        self.model.config.save_pretrained(path)
        self.tokenizer.save_pretrained(path)

    def resize_vocabulary(self, tokens: Sequence[str]) -> int:
        """Add special tokens; both matrices grow, new rows are the mean of the old ones.

        Returns:
            How many tokens were new.
        """
        added = T.add_special_tokens(self.tokenizer, tuple(tokens))
        size = max(self.config.text_config.vocab_size, len(self.tokenizer))
        for module in (self.word_embeddings, self.model.lm_head):
            grown = layout.grow_rows(module.weight.detach(), size)
            module.weight = nn.Parameter(grown, requires_grad=module.weight.requires_grad)
        self.word_embeddings.num_embeddings = self.model.lm_head.out_features = size
        self.config.text_config.vocab_size = size
        self.prompts = PromptBuilder(self.tokenizer, **self.prompts.options())
        return added

    @property
    def config(self) -> Any:
        """transformers' ``InternVLConfig`` of ``model``."""
        return self.model.config

    @property
    def word_embeddings(self) -> nn.Embedding:
        """(V, D) input embeddings."""
        return self.model.model.language_model.embed_tokens

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.word_embeddings.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the language model's weights."""
        return self.word_embeddings.weight.dtype

    def _apply(self, fn: Any, recurse: bool = True) -> InternVL:
        """Move or cast everything but the rotary frequencies, which stay float32."""
        super()._apply(fn, recurse)
        restore_rotary(self.model, self.device)
        return self

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

    def vocabulary_modules(self) -> list[nn.Module]:
        """What has one row per token: input embeddings and output head, each with a ``weight`` (V, D)."""
        return [self.word_embeddings, self.model.lm_head]

    def replace_vocabulary(self, embeddings: nn.Module, head: nn.Module) -> None:
        """Put other modules in the places of ``vocabulary_modules``."""
        self.model.model.language_model.embed_tokens = embeddings
        self.model.lm_head = head

    def language_model(self) -> nn.Module:
        """The language model, without its output head."""
        return self.model.model.language_model

    def checkpoint_gradients(self) -> None:
        """Recompute the language model's layers on the way back instead of keeping their activations."""
        language: Any = self.language_model()
        language.gradient_checkpointing_enable(dict(use_reentrant=False))

    def encode_images(self, pixels: Tensor) -> Tensor:
        """(tiles, 3, s, s) -> (tiles, num_image_tokens, D) vision tokens in the LLM's space."""
        return self.model.model.get_image_features(pixel_values=pixels.to(self.device)).pooler_output

    def embed(
        self,
        chat: ChatTokens,
        image_tokens: Tensor | None,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
    ) -> Tensor:
        """(B, L, D) input embeddings, vision tokens and context states in their places; see forward_chat."""
        embeds = self.word_embeddings(chat.input_ids)
        expected = chat.num_image_slots
        given = 0 if image_tokens is None else image_tokens.shape[:-1].numel()
        if given != expected:
            raise ValueError(
                f"the prompt has places for {expected} vision tokens, got {given}; build the prompt with "
                "num_tiles equal to the tiles that were encoded"
            )
        if image_tokens is not None and expected:
            places = chat.image_positions[..., None].expand_as(embeds)
            embeds = embeds.masked_scatter(places, image_tokens.to(embeds.dtype))
        if context is not None and chat.context_positions.shape[1] > 0:
            embeds = _write_context(embeds, chat.context_positions, context, context_mask)
        return embeds

    def forward_chat(
        self,
        chat: ChatTokens,
        image_tokens: Tensor | None,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
        *,
        with_logits: bool = False,
        with_loss: bool | None = None,
    ) -> MLLMOutput:
        """Run the LLM once over prompt and forced answer.

        Padding is on the right and attention is causal, so real tokens never see it and no mask is needed;
        hidden states at padding are meaningless.

        Args:
            chat: B dialogues on the model's device.
            image_tokens: (tiles, num_image_tokens, D) in reading order, or (B, tokens, D); None: pure text.
            context: (B, K, D) or None. States that overwrite the K context slots (SER, StreamingRVOS 3.2); a
                prompt without such slots (Sa2VA) has no place for them and is run as it is.
            context_mask: (B,) or (B, K) bool or None. False keeps the learned placeholder (first frame).
            with_logits: Also return logits.
            with_loss: Also return the token loss; None means "while training".
        """
        embeds = self.embed(chat, image_tokens, context, context_mask)
        self._check_length(embeds.shape[1])
        hidden = self.model.model.language_model(inputs_embeds=embeds, use_cache=False).last_hidden_state
        logits = self.model.lm_head(hidden) if with_logits else None
        loss = row_loss = None
        if self.training if with_loss is None else with_loss:
            row_loss = self.token_losses(hidden, chat.labels)
            loss = row_loss.sum() / (chat.labels[:, 1:] != IGNORE).sum().clamp(min=1)
        return MLLMOutput(hidden=hidden, logits=logits, loss=loss, row_loss=row_loss)

    def generate(
        self,
        chat: ChatTokens,
        image_tokens: Tensor | None,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
        *,
        max_new_tokens: int = 64,
        stop_words: Sequence[str] = (),
        keep_all_hidden: bool = False,
    ) -> Generation:
        """Answer one open dialogue (``with_answer=False``) freely and greedily, see ``Generation``."""
        embeds = self.embed(chat, image_tokens, context, context_mask)
        self._check_length(embeds.shape[1] + max_new_tokens)
        return generate_greedy(
            self,
            embeds,
            max_new_tokens=max_new_tokens,
            stop_ids=self.prompts.stop_ids,
            stop_words=(*self.prompts.stop_words, *stop_words),
            keep_all_hidden=keep_all_hidden,
        )

    def token_losses(self, hidden: Tensor, labels: Tensor) -> Tensor:
        """(B,) float32: cross-entropy summed over each row's supervised tokens.

        Each is predicted by the position before it. Zero (with a graph) where no token is supervised.
        """
        supervised = labels[:, 1:] != IGNORE
        predicting, targets = hidden[:, :-1][supervised], labels[:, 1:][supervised]
        losses = F.cross_entropy(self.model.lm_head(predicting).float(), targets, reduction="none")
        rows = supervised.nonzero()[:, 0]
        return (hidden[:, 0, 0].float() * 0.0).index_add(0, rows, losses)

    def _check_length(self, length: int) -> None:
        limit = self.config.text_config.max_position_embeddings
        if length > limit:
            raise ValueError(
                f"the prompt has {length} tokens, the language model takes {limit}; use fewer tiles or images"
            )


def _write_context(embeds: Tensor, positions: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
    """Overwrite slots (B, K) of ``embeds`` (B, L, D) by ``context`` (B, K, D) where ``mask`` allows."""
    expected = (*positions.shape, embeds.shape[-1])
    if tuple(context.shape) != expected:
        raise ValueError(f"context must be {expected} (B, K, D), got {tuple(context.shape)}")
    valid = positions >= 0
    if mask is not None:
        valid = valid & (mask[:, None] if mask.ndim == 1 else mask)
    rows = torch.arange(embeds.shape[0], device=embeds.device)[:, None].expand_as(positions)
    places = (rows, positions.clamp(min=0))
    weight = valid[..., None].to(embeds.dtype)
    values = torch.where(valid[..., None], context.to(embeds.dtype), 0)
    written = torch.zeros_like(embeds).index_put(places, values, accumulate=True)
    written_at = torch.zeros_like(embeds[..., :1]).index_put(places, weight, accumulate=True) > 0
    return torch.where(written_at, written, embeds)
