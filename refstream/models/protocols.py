"""The three seams of RefStream: MLLM, Segmenter, StreamPipeline.

Whatever implements one of them can replace what is there by configuration alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor, nn

from refstream.structures import Frame, ImageFeatures, MaskPrediction, Query, SegPrompt, StreamEvent

if TYPE_CHECKING:
    from refstream.models.mllm.chat import ChatTokens


@runtime_checkable
class Segmenter(Protocol):
    """Images and prompts in, masks out; keeps no state itself.

    Attributes:
        image_size: S, side of the square input in pixels.
        prompt_dim: C, width of an embedding prompt.
    """

    image_size: int
    prompt_dim: int

    def preprocess(self, images: Sequence[np.ndarray]) -> Tensor:
        """(H, W, 3) uint8 RGB images of any sizes -> (B, 3, S, S) float32, normalised, on the device."""
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


class StreamState(Protocol):
    """Per-query state of a pipeline: a dataclass of bounded size."""

    query: Query


class StreamPipeline(Protocol):
    """What happens per frame: decide whether the MLLM looks, prompt the segmenter, update the memory.

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
        """Advance N queries by one frame: one event per state, in their order (none while buffering)."""
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
