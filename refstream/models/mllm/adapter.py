"""What an MLLM adapter does beyond its pixels: prompts in, hidden states, losses, words and caches out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Cache, DynamicCache, PreTrainedTokenizerFast

from refstream.checkpoints.internvl import grow_rows
from refstream.models.mllm import tokens as T
from refstream.models.mllm.chat import IGNORE, ChatTokens, PromptBuilder
from refstream.models.mllm.embedding import write_context, write_images
from refstream.models.mllm.generation import Generation, generate_greedy
from refstream.models.mllm.sizes import restore_rotary
from refstream.models.protocols import MLLMOutput


class MLLMAdapter(nn.Module):
    """Base of adapters over a transformers class with ``model.language_model`` and ``lm_head``.

    A subclass builds ``model``, ``tokenizer``, ``prompts``, ``hidden_size`` and ``num_image_tokens`` in its
    constructor, has ``positions``, ``load_weights`` and what turns pixels into vision tokens.

    Head and word embeddings may be one matrix (``config.tie_word_embeddings``); they stay one.
    """

    model: Any
    tokenizer: PreTrainedTokenizerFast
    prompts: PromptBuilder
    hidden_size: int
    num_image_tokens: int

    # ------------------------------------------------------------ for the subclass

    def positions(self, chat: ChatTokens, start: int = 0) -> tuple[Tensor, int]:
        """Positions of a (1, L) piece of a dialogue and the next piece's start, see ``DialogueMLLM``."""
        raise NotImplementedError

    def batch_positions(self, chat: ChatTokens) -> Tensor | None:
        """Positions of B whole dialogues; None where they are simply counted."""
        return None

    def load_weights(self, state: Mapping[str, Tensor], what: str = "weights") -> None:
        """Load a native state dict, strictly."""
        raise NotImplementedError

    # ------------------------------------------------------------ making, saving

    @classmethod
    def from_state(
        cls,
        config: Any,
        state: Mapping[str, Tensor],
        tokenizer: PreTrainedTokenizerFast,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        **options: Any,
    ) -> Self:
        """From a native configuration and state dict; every key must be there and fit."""
        model = cls._empty(config, tokenizer, dtype, device, options)
        model.load_weights(state)
        return model

    @classmethod
    def _empty(
        cls,
        config: Any,
        tokenizer: Any,
        dtype: torch.dtype,
        device: torch.device | str,
        options: dict[str, Any],
    ) -> Self:
        """Allocated but not filled: far faster than initialising weights that are about to be replaced."""
        with torch.device("meta"):
            model = cls(config, tokenizer, **options)  # type: ignore[call-arg]
        return model.to(dtype).to_empty(device=device).eval()

    def save_pretrained(self, path: str | Path) -> None:
        """Write a folder in transformers' layout, which ``from_pretrained`` and transformers read."""
        path = Path(path)
        path.mkdir(parents=True, exist_ok=True)
        stored = self.model.state_dict()
        if self.tied:
            stored.pop("lm_head.weight")
        state = {key: value.detach().cpu().contiguous() for key, value in stored.items()}
        save_file(state, path / "model.safetensors", metadata={"format": "pt"})
        self.model.config.save_pretrained(path)
        self.tokenizer.save_pretrained(path)

    def resize_vocabulary(self, tokens: Sequence[str]) -> int:
        """Add special tokens; both matrices grow if they must, new rows are the mean of the old ones.

        Returns:
            How many tokens were new.
        """
        added = T.add_special_tokens(self.tokenizer, tuple(tokens))
        size = max(self.config.text_config.vocab_size, len(self.tokenizer))
        for module in (self.word_embeddings, self.model.lm_head):
            grown = grow_rows(module.weight.detach(), size)
            module.weight = nn.Parameter(grown, requires_grad=module.weight.requires_grad)
        self.word_embeddings.num_embeddings = self.model.lm_head.out_features = size
        self.config.text_config.vocab_size = size
        self._tie()
        self.prompts = PromptBuilder(self.tokenizer, **self.prompts.options())
        return added

    def _tie(self) -> None:
        """Make head and word embeddings one again: building empty or on another device parts them."""
        if self.tied:
            self.model.lm_head.weight = self.word_embeddings.weight

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Move or cast everything but the rotary frequencies, which stay float32."""
        super()._apply(fn, recurse)
        self._tie()
        restore_rotary(self.model, self.device)
        return self

    # ------------------------------------------------------------ parts

    @property
    def config(self) -> Any:
        """transformers' configuration of ``model``."""
        return self.model.config

    @property
    def tied(self) -> bool:
        """Whether output head and word embeddings are one matrix."""
        return bool(self.model.config.tie_word_embeddings)

    @property
    def word_embeddings(self) -> Any:
        """(V, D) input embeddings."""
        return self.model.model.language_model.embed_tokens

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return torch.device(self.word_embeddings.weight.device)

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the language model's weights."""
        dtype: torch.dtype = self.word_embeddings.weight.dtype
        return dtype

    def vocabulary_modules(self) -> list[nn.Module]:
        """What has one row per token: input embeddings and output head, each with a ``weight`` (V, D)."""
        return [self.word_embeddings, self.model.lm_head]

    def replace_vocabulary(self, embeddings: nn.Module, head: nn.Module) -> None:
        """Put other modules in the places of ``vocabulary_modules``; from then on they are two matrices."""
        self.model.model.language_model.embed_tokens = embeddings
        self.model.lm_head = head
        self.config.tie_word_embeddings = False

    def language_model(self) -> nn.Module:
        """The language model, without its output head."""
        language: nn.Module = self.model.model.language_model
        return language

    def checkpoint_gradients(self) -> None:
        """Recompute the language model's layers on the way back instead of keeping their activations."""
        language: Any = self.language_model()
        language.gradient_checkpointing_enable(dict(use_reentrant=False))

    # ------------------------------------------------------------ running

    def embed(
        self,
        chat: ChatTokens,
        image_tokens: Tensor | None,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
    ) -> Tensor:
        """(B, L, D) input embeddings, vision tokens and context states in their places; see forward_chat."""
        embeds = write_images(self.word_embeddings(chat.input_ids), chat, image_tokens)
        if context is not None and chat.context_positions.shape[1] > 0:
            embeds = write_context(embeds, chat.context_positions, context, context_mask)
        return embeds

    def new_cache(self) -> DynamicCache:
        """An empty key-value cache for ``extend``."""
        return DynamicCache(config=self.config.text_config)

    def extend(self, embeds: Tensor, positions: Tensor, cache: Cache | None = None) -> Tensor:
        """(1, L, D) final-norm hidden states of tokens that follow those in the cache, which grows by them.

        Args:
            embeds: (1, L, D) input embeddings.
            positions: See ``positions``. Without a cache, positions that start again at 0 begin a new
                dialogue: several may be packed in one row, and none sees another.
            cache: Of ``new_cache``; None runs the tokens alone.

        Raises:
            ValueError: If the dialogue gets longer than the language model takes.
        """
        self._check_length(embeds.shape[1] + (0 if cache is None else cache.get_seq_length()))
        keys = {"position_ids": positions, "past_key_values": cache, "use_cache": cache is not None}
        hidden: Tensor = self.model.model.language_model(inputs_embeds=embeds, **keys).last_hidden_state
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., D) hidden states -> (..., V) logits of the next token."""
        logits: Tensor = self.model.lm_head(hidden)
        return logits

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
            image_tokens: (images, num_image_tokens, D) in reading order, or (B, tokens, D); None: pure text.
            context: (B, K, D) or None. States that overwrite the K context slots; a prompt without such slots
                has no place for them and is run as it is.
            context_mask: (B,) or (B, K) bool or None. False keeps the learned placeholder.
            with_logits: Also return logits.
            with_loss: Also return the token loss; None means "while training".
        """
        embeds = self.embed(chat, image_tokens, context, context_mask)
        self._check_length(embeds.shape[1])
        keys = {"position_ids": self.batch_positions(chat), "use_cache": False}
        hidden = self.model.model.language_model(inputs_embeds=embeds, **keys).last_hidden_state
        logits = self.logits(hidden) if with_logits else None
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
            positions=self.batch_positions(chat),
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
        losses = F.cross_entropy(self.logits(predicting).float(), targets, reduction="none")
        rows = supervised.nonzero()[:, 0]
        return (hidden[:, 0, 0].float() * 0.0).index_add(0, rows, losses)

    def _check_length(self, length: int) -> None:
        limit = self.config.text_config.max_position_embeddings
        if length > limit:
            raise ValueError(
                f"the prompt has {length} tokens, the language model takes {limit}; use fewer tiles or images"
            )
