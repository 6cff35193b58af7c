"""The seam to the MLLM: frames of a clip and [ST] embeddings in, [ST] states out, in one forward pass.

    reader = ClipReader(model, frame_tokens=16, max_mllm_frames=16)   # model: composite with ``mllm``
    vision = reader.vision_tokens(images)                  # T images -> (T', n, H), T' <= max_mllm_frames
    embeds = model.head.initial(features)                  # (1, N, H)
    reading = reader.read(vision, embeds, expressions)     # Q expressions about the clip, one forward pass
    prompts, scores = model.head.second(reading.hidden, features)
    reading.token_loss                                     # (Q,) with_loss=True or in training, [ST] left out

Signatures:

    reader.frames(num_frames: int) -> list[int]            # which of T frames the MLLM sees
    reader.encode(images) -> (T, n, H)                     # of exactly these images, nothing chosen
    reader.vision_tokens(images) -> (T', n, H)             # encode(images of frames(T))
    reader.chat(expressions, num_images=0, question=None, answer=None) -> ChatTokens
    reader.supervised_tokens(answer=None) -> int           # targets of one expression
    reader.read(vision (T', n, H) | Q of them, st_embeds (1 or Q, N, H), expressions,
                question=None, answer=None, with_loss=None) -> ClipReading

The prompt is one question about all frames, each an image of its own, with the forced answer (release: the
answer is given at test time, too):

    <|im_start|>user
    Frame1: <img> n x <IMG_CONTEXT> </img>
    Frame2: ...
    Please segment the red circle in this video.<|im_end|>
    <|im_start|>assistant
    Sure, N x [SEG].<|im_end|>

The N [SEG] mark the places of the [ST] tokens: their input embeddings are overwritten, their states read at
the same positions (no shift by one), their targets masked in the token loss.

Source: VIRST (CVPR 2026); released code for answer, read-back and masked targets. The MLLM is InternVL2.5
with a pooling of frame tokens, not VideoChat-Flash, whose 16 tokens per frame it follows: the grid of an
image is averaged over squares (256 -> 64 -> 16). "FrameI:" is InternVL2.5's way to write videos.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from refstream.errors import UserError
from refstream.models.mllm.chat_tokens import ChatTokens
from refstream.models.mllm.pooling import check_pooling, pool_tokens
from refstream.models.mllm.tokens import SEG

from .anchors import frame_slots
from .losses import ignore_targets
from .st_tokens import read_back

FRAME_TOKENS = 16
PLACE = "{st}"


@dataclass(frozen=True)
class ClipReading:
    """What the MLLM made of Q expressions.

    Attributes:
        hidden: (Q, N, H) final-norm states at the [ST] tokens.
        chat: The tokenised prompts; their labels are -100 on the [ST] tokens.
        token_loss: (Q,) float32, the cross-entropy summed over the supervised tokens of each answer; None
            where no loss was asked for.
    """

    hidden: Tensor
    chat: ChatTokens
    token_loss: Tensor | None = None

    @property
    def num_targets(self) -> int:
        """Supervised tokens of all Q answers: what ``token_loss`` sums over."""
        return int((self.chat.labels >= 0).sum())


class ClipReader:
    """Asks the MLLM about clips; has no weights of its own.

    Args:
        model: Composite with ``mllm`` and, for the number of [ST] tokens, ``head``.
        frame_tokens: n, vision tokens per frame: a square number that divides the MLLM's grid. None: 16, or
            all of an MLLM that has fewer.
        max_mllm_frames: Most frames that the MLLM sees, evenly spread over the clip.
        question: With ``{expression}``.
        answer: Forced answer, with ``{st}`` where the [ST] tokens stand.
        numbered: Write "(0) [SEG], (1) [SEG], ..." (release), not one [SEG] after the other.
        frame_label: Before each frame; ``{number}`` counts from 1. Empty for none.

    Raises:
        UserError: If the numbers do not fit the MLLM, or a text lacks its place.
    """

    def __init__(
        self,
        model: Any,
        *,
        frame_tokens: int | None = None,
        max_mllm_frames: int = 16,
        question: str = "Please segment {expression} in this video.",
        answer: str = "Sure, {st}.",
        numbered: bool = False,
        frame_label: str = "Frame{number}: ",
    ) -> None:
        if max_mllm_frames < 1:
            raise UserError(f"max_mllm_frames must be at least 1, got {max_mllm_frames}")
        if "{expression}" not in question:
            raise UserError(f'question must contain "{{expression}}", got {question!r}')
        self.model = model
        self.num_tokens = int(model.head.num_tokens)
        whole = int(model.mllm.num_image_tokens)
        self.frame_tokens = min(FRAME_TOKENS, whole) if frame_tokens is None else frame_tokens
        check_pooling(whole, self.frame_tokens)
        self.max_mllm_frames = max_mllm_frames
        self.question, self.answer = question, answer
        self.numbered, self.frame_label = numbered, frame_label
        self._fill(answer)

    def frames(self, num_frames: int) -> list[int]:
        """Which of T frames the MLLM sees: all, or ``max_mllm_frames`` evenly spread ones."""
        return frame_slots(num_frames, self.max_mllm_frames)

    def encode(self, images: Sequence[np.ndarray]) -> Tensor:
        """(T, n, H) pooled vision tokens of T images (H, W, 3) uint8 RGB; one tile each.

        A frozen vision tower runs without a graph.
        """
        return pool_tokens(torch.cat(self.model.vision_tokens(images)), self.frame_tokens)

    def vision_tokens(self, images: Sequence[np.ndarray]) -> Tensor:
        """(T', n, H) pooled vision tokens of the frames of a clip that the MLLM sees.

        Args:
            images: All T images of the clip, (H, W, 3) uint8 RGB; T' = min(T, max_mllm_frames).
        """
        return self.encode([images[t] for t in self.frames(len(images))])

    def chat(
        self,
        expressions: Sequence[str],
        num_images: int | Sequence[int] = 0,
        *,
        question: str | Sequence[str] | None = None,
        answer: str | Sequence[str] | None = None,
    ) -> ChatTokens:
        """Tokenised prompts on the model's device, targets of [ST] masked.

        Args:
            expressions: Q of them.
            num_images: Frames per row, or for all.
            question: With ``{expression}``, per row or for all; None: the reader's.
            answer: With ``{st}``, per row or for all; None: the reader's.
        """
        given = self.answer if answer is None else answer
        answers = self._fill(given) if isinstance(given, str) else [self._fill(one) for one in given]
        images = [num_images] * len(expressions) if isinstance(num_images, int) else list(num_images)
        prompts = self.model.mllm.prompts
        chat = self.model.chat(
            expressions,
            question=self.question if question is None else question,
            answer=answers,
            num_tiles=[min(n, 1) for n in images],
            num_images=images,
            with_context=False,
            tile_tokens=self.frame_tokens,
            image_label=self.frame_label,
        )
        labels = ignore_targets(chat.labels, {prompts.ids.seg})
        return replace(chat, labels=labels, seg_positions=chat.seg_positions.reshape(len(expressions), -1))

    def supervised_tokens(self, answer: str | None = None) -> int:
        """Targets of the token loss in one expression's answer: all but the [ST]; the end token counts."""
        return int((self.chat(["x"], answer=answer).labels >= 0).sum())

    def read(
        self,
        vision_tokens: Tensor | Sequence[Tensor],
        st_embeds: Tensor,
        expressions: Sequence[str],
        *,
        question: str | Sequence[str] | None = None,
        answer: str | Sequence[str] | None = None,
        with_loss: bool | None = None,
    ) -> ClipReading:
        """One forward pass for Q expressions.

        Gradients reach ``st_embeds``, ``vision_tokens`` and the MLLM, as far as they want any.

        Args:
            vision_tokens: (T', n, H) of the one clip, or Q of them where every expression has its own frames.
            st_embeds: (1 or Q, N, H) input embeddings of the [ST] tokens, cast to the MLLM's dtype.
            expressions: Q of them.
            question, answer: See ``chat``.
            with_loss: Also the token loss; None: while training.

        Raises:
            ValueError: If shapes do not fit, or the prompt is too long for the MLLM.
        """
        count = len(expressions)
        views = [vision_tokens] * count if isinstance(vision_tokens, Tensor) else list(vision_tokens)
        expected = (self.num_tokens, self.model.mllm.hidden_size)
        if len(views) != count or any(tuple(v.shape[1:]) != (self.frame_tokens, expected[1]) for v in views):
            raise ValueError(
                f"vision tokens must be (T', {self.frame_tokens}, {expected[1]}) for all or each of {count} "
                f"expressions, got {[tuple(v.shape) for v in views]}"
            )
        if st_embeds.shape[0] not in (1, count) or tuple(st_embeds.shape[1:]) != expected:
            raise ValueError(
                f"st_embeds must be (1 or {count}, {expected[0]}, {expected[1]}), got "
                f"{tuple(st_embeds.shape)}"
            )
        chat = self.chat(expressions, [len(view) for view in views], question=question, answer=answer)
        seen = torch.cat([view.flatten(0, 1) for view in views])[None]
        output = self.model.mllm.forward_chat(
            replace(chat, context_positions=chat.seg_positions),  # the states are written there
            seen,
            st_embeds.expand(count, -1, -1),
            with_loss=with_loss,
        )
        return ClipReading(read_back(output.hidden, chat.seg_positions), chat, output.row_loss)

    def _fill(self, answer: str) -> str:
        """An answer with its [ST] tokens.

        Raises:
            UserError: If it has no place for them, or [SEG] of its own.
        """
        if answer.count(PLACE) != 1 or SEG in answer:
            raise UserError(f'an answer must contain "{PLACE}" once and no {SEG} of its own, got {answer!r}')
        marks = [f"({i}) {SEG}" for i in range(self.num_tokens)]
        return answer.replace(PLACE, ", ".join(marks) if self.numbered else SEG * self.num_tokens)


def build_reader(model: Any, reader: Mapping[str, Any] | None) -> ClipReader:
    """A reader from the keys in a config.

    Raises:
        UserError: If a key is not one of ``ClipReader``, or the model's head has no [ST] tokens.
    """
    if not hasattr(model.head, "num_tokens"):
        raise UserError(
            f"the model's head {type(model.head).__name__} has no [ST] tokens: its config.json must name "
            "head SpatioTemporalFusion"
        )
    try:
        return ClipReader(model, **(reader or {}))
    except TypeError as error:
        raise UserError(f"reader does not accept {dict(reader or {})}: {error}") from error
