"""The three seams of RefStream: MLLM, Segmenter, StreamPipeline.

Whatever implements one of them can replace what is there by configuration alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from refstream.structures import Frame, ImageFeatures, MaskPrediction, Query, SegPrompt, StreamEvent

if TYPE_CHECKING:
    from transformers import Cache

    from refstream.models.mllm.chat import ChatTokens, PromptBuilder


@runtime_checkable
class Segmenter(Protocol):
    """Images and prompts in, masks out; keeps no state itself.

    Prompts and masks are those of a frame squeezed to the square, whatever its shape and whatever happens
    inside: pixel S on either axis is the frame's edge, and a mask resized to (H, W) is the frame's.

    Attributes:
        image_size: S, side of the square input in pixels.
        prompt_dim: C, width of an embedding prompt.
    """

    image_size: int
    prompt_dim: int

    def preprocess(self, images: Sequence[np.ndarray]) -> Tensor:
        """(H, W, 3) uint8 RGB images of any sizes -> (B, 3, S, S) float32, normalised, on the device.

        A segmenter that pads puts NaN there: ``encode`` learns from it where the frame is.
        """
        ...

    def encode(self, pixels: Tensor) -> ImageFeatures:
        """Encode (B, 3, S, S) once; the result serves any number of prompts."""
        ...

    def decode(
        self, features: ImageFeatures, prompt: SegPrompt, *, memory: Any = None, multimask: bool = True
    ) -> MaskPrediction:
        """Decode N prompts against B images: B must be N, or 1 (shared by all prompts)."""
        ...


@dataclass(frozen=True)
class MLLMOutput:
    """What a forward pass of the MLLM gives.

    Attributes:
        hidden: (B, L, D) final-norm hidden states.
        logits: (B, L, V) or None when they were not asked for.
        loss: Scalar token cross-entropy (float32), the mean over supervised tokens; None where not asked for.
        row_loss: (B,) float32, its sum over the supervised tokens of each row; None where not asked for.
    """

    hidden: Tensor
    logits: Tensor | None = None
    loss: Tensor | None = None
    row_loss: Tensor | None = None


@runtime_checkable
class MLLM(Protocol):
    """A vision-language model whose hidden states can be read.

    Attributes:
        hidden_size: D.
        num_image_tokens: Tokens per tile (256 for InternVL2.5 at 448 px).
    """

    hidden_size: int
    num_image_tokens: int

    def preprocess(self, images: Sequence[np.ndarray], *, max_tiles: int = 1) -> Tensor:
        """(H, W, 3) uint8 RGB images -> (tiles, 3, s, s) float32, normalised; by default one tile each."""
        ...

    def vision_modules(self) -> list[nn.Module]:
        """What turns pixels into vision tokens."""
        ...

    def encode_images(self, pixels: Tensor) -> Tensor:
        """(tiles, 3, s, s) -> (tiles, num_image_tokens, D) vision tokens in the LLM's space."""
        ...

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

        Args:
            chat: B tokenised dialogues, see ``refstream.models.mllm.chat``.
            image_tokens: (tiles, num_image_tokens, D), in the order in which their places occur in the batch,
                or (B, tiles * num_image_tokens, D); None for pure text.
            context: (B, K, D) or None. States that overwrite the K context slots (SER, StreamingRVOS 3.2).
            context_mask: (B, K) bool or None. False keeps the learned placeholder in that slot (first frame,
                or a memory that is not full yet).
            with_logits: Also return logits.
            with_loss: Also return the token loss; None means while training.
        """
        ...


@runtime_checkable
class DialogueMLLM(MLLM, Protocol):
    """An MLLM whose dialogues can go on: what ``refstream.models.mllm.dialogue`` needs of it.

    Attributes:
        prompts: Its prompt builder, with the tokenizer.
    """

    prompts: PromptBuilder

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        ...

    def embed(self, chat: ChatTokens, image_tokens: Tensor | None) -> Tensor:
        """(B, L, D) input embeddings, vision tokens in their places in reading order."""
        ...

    def positions(self, chat: ChatTokens, start: int = 0) -> tuple[Tensor, int]:
        """Positions (..., L) of a (1, L) piece of a dialogue from ``start`` on, and the next piece's start.

        A whole dialogue has the positions of its pieces in a row; an image is never cut by a piece's end.
        """
        ...

    def new_cache(self) -> Cache:
        """An empty key-value cache."""
        ...

    def extend(self, embeds: Tensor, positions: Tensor, cache: Cache | None = None) -> Tensor:
        """(1, L, D) final-norm hidden states of (1, L, D) inputs that follow those in the cache.

        The cache grows by them; None runs them alone, where each position 0 begins another, packed dialogue.
        """
        ...

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., D) hidden states -> (..., V) logits of the next token."""
        ...


class StreamState(Protocol):
    """Per-query state of a pipeline: a dataclass of bounded size."""

    query: Query


class StreamPipeline(Protocol):
    """What happens per frame: decide whether the MLLM looks, prompt the segmenter, update the memory.

    A pipeline that answers in words says so with ``answers = "text"``, see ``answers_of``. It speaks when it
    has something to say: at any frame it has any number of events for a query. Its ``fps`` says how often it
    decides, per second; None: at every frame.

    Attributes:
        causal: True if the event of frame t depends on frames <= t only.
        max_frames: For a non-causal pipeline the most frames it buffers; None if causal.
    """

    causal: bool
    max_frames: int | None

    def start(self, query: Query) -> Any:
        """A fresh state for one query."""
        ...

    def encode(self, frame: Frame) -> Any:
        """What all queries of this frame share: image features, computed once and only when needed."""
        ...

    def step(self, states: Sequence[Any], frame: Frame, features: Any) -> list[StreamEvent]:
        """Advance N queries by one frame: one event per state, in their order (none while buffering).

        With ``answers = "text"``: the events of each state, state after state.
        """
        ...

    def finish(self, state: Any) -> list[StreamEvent]:
        """Called once per query at its end; a non-causal pipeline emits here."""
        ...


@runtime_checkable
class JointPipeline(StreamPipeline, Protocol):
    """A pipeline whose queries share work at the end of a stream, as those that buffer the clip do."""

    def finish_all(self, states: Sequence[Any]) -> list[StreamEvent]:
        """``finish`` for all queries that are open when the stream ends."""
        ...


@runtime_checkable
class RememberingPipeline(StreamPipeline, Protocol):
    """A pipeline that remembers something of the stream itself, before and beside its queries."""

    def for_stream(self) -> StreamPipeline:
        """A pipeline for one stream: what it remembers is its own, the model is shared."""
        ...


def answers_of(pipeline: Any) -> str:
    """What the events of a pipeline, or of its class, hold: "masks", "text", or "both"."""
    return str(getattr(pipeline, "answers", "masks"))
