"""SAM2 as a segmenter: encode an image once, decode any number of prompts, with or without a memory.

Source: Ravi et al., SAM 2: Segment Anything in Images and Videos (2024). The layers are transformers'
``Sam2VideoModel``; what happens between them (prompts, choice of the mask, memory) is written here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Sam2VideoConfig

from refstream.checkpoints.safe import load_state, load_strict
from refstream.models.segmenter.building import empty_model, float32_positions, initialise
from refstream.models.segmenter.conditioning import encode_memory, fuse_memory
from refstream.models.segmenter.loading import load_sam2, to_transformers
from refstream.models.segmenter.memory import Memory, MemoryEntry, build_memory
from refstream.models.segmenter.position import sine_grid
from refstream.models.segmenter.preprocess import RESIZES, square_pixels
from refstream.models.segmenter.prompts import dense_position, embed_masks, sparse_tokens
from refstream.models.segmenter.pyramid import pyramid
from refstream.models.segmenter.sam2_config import config_from_dict, reduced_config, size_config
from refstream.registry import MODELS
from refstream.structures import ImageFeatures, MaskPrediction, SegPrompt

ABSENT_LOGIT = -1024.0  # sam2/modeling/sam2_base.py, NO_OBJ_SCORE
MASK_SCALE, MASK_BIAS = 20.0, -10.0  # a mask prompt becomes logits of -10 and 10


@MODELS.register_module()
class Sam2Segmenter(nn.Module):
    """SAM 2.0 / 2.1 over transformers' modules; keeps no state of its own (see ``protocols.Segmenter``).

    Weights may have any floating dtype; position tables stay float32 whatever the module is cast to.

    Args:
        config: Of ``Sam2VideoModel``, or a dictionary: the content of a transformers ``config.json``,
            ``dict(size="large", version="2.1")``, or a reduced one with ``trunk`` (see ``reduced_config``).
        weights: ``.pt``, ``.safetensors``, folder or state dict to load; must fit ``config`` exactly. None:
            random values as the ``sam2`` package draws them.
        resize: How images become square, see ``square_pixels``.
        bf16_constants: Normalise with constants rounded to bfloat16 (Sa2VA release).
        blank_absent: Whether masks with object score <= 0 become -1024 everywhere, as in the ``sam2``
            package. None: as the memory policy says, and not without a memory.

    Attributes:
        model: The transformers model.
        image_size: S.
        prompt_dim: C, 256 in the public models.
        mask_size: h = w, side of low-resolution masks, S / 4.
    """

    def __init__(
        self,
        config: Sam2VideoConfig | Mapping[str, Any],
        *,
        weights: str | Path | Mapping[str, Tensor] | None = None,
        resize: str = "bilinear",
        bf16_constants: bool = False,
        blank_absent: bool | None = None,
    ) -> None:
        super().__init__()
        if resize not in RESIZES:
            raise ValueError(f"resize must be one of {RESIZES}, got {resize!r}")
        if not isinstance(config, Sam2VideoConfig):
            config = config_from_dict(config)
        self.model = empty_model(config)
        sizes: Any = config
        self.image_size = int(sizes.image_size)
        self.prompt_dim = int(sizes.prompt_encoder_config.hidden_size)
        self.mask_size = self.image_size // 4
        self.resize = resize
        self.bf16_constants = bf16_constants
        self.blank_absent = blank_absent
        if weights is None:
            initialise(self.model)
        elif isinstance(weights, Mapping):
            self.load_weights(weights)
        else:
            self.load_weights(load_state(weights), str(weights))

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        **options: Any,
    ) -> Sam2Segmenter:
        """Load a transformers folder or Meta's ``.pt``, which tells size and version by its keys and shapes.

        Args:
            path: Folder or file.
            dtype: Of the weights.
            device: Where they go.
            options: ``resize``, ``bf16_constants``, ``blank_absent``.

        Raises:
            FileNotFoundError: If something is missing.
            ValueError: If it is not SAM2, of unknown size, corrupt, or incomplete.
        """
        config, state = load_sam2(path)
        try:
            segmenter = cls(config, weights=state, **options)
        except ValueError as error:
            raise ValueError(f"cannot load {path}: {error}") from error
        return segmenter.to(device=device, dtype=dtype).eval()

    @classmethod
    def from_size(cls, size: str, version: str = "2.1", **options: Any) -> Sam2Segmenter:
        """Random weights at a public size: "large", "base_plus", "small" or "tiny", 1024 px."""
        return cls(size_config(size, version), **options).eval()

    @classmethod
    def from_reduced(cls, reduced: Mapping[str, Any], version: str = "2.1", **options: Any) -> Sam2Segmenter:
        """Random weights at a reduced size, see ``sam2_config.reduced_config``."""
        return cls(reduced_config(reduced, version), **options).eval()

    def load_weights(self, state: Mapping[str, Tensor], what: str = "SAM2 weights") -> None:
        """Load a state dict in any known layout (Meta, Sa2VA, transformers).

        Raises:
            ValueError: Naming missing, unexpected and mis-shaped keys.
        """
        load_strict(self.model, to_transformers(state), what)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Sam2Segmenter:
        """Move and cast as usual, but keep the random matrix of the position encoding in float32."""
        with float32_positions(self.model):
            super()._apply(fn, recurse)
        return self

    @property
    def config(self) -> Sam2VideoConfig:
        """transformers' configuration of ``model``."""
        config: Any = self.model.config
        return config

    @property
    def device(self) -> torch.device:
        """Where the weights live."""
        return self.model.no_memory_embedding.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.model.no_memory_embedding.dtype

    def new_memory(self, policy: str | Mapping[str, Any] = "sam2") -> Memory:
        """A fresh memory for one query: "none", "sam2", or ``dict(type="sam2", known_num_frames=6, ...)``."""
        config = {"type": policy} if isinstance(policy, str) else dict(policy)
        if config.get("type") == "sam2":
            config.setdefault("num_maps", self.model.config.num_maskmem)
            config.setdefault("max_pointers", self.model.config.max_object_pointers_in_encoder)
        return build_memory(config)

    def preprocess(self, images: Sequence[np.ndarray]) -> Tensor:
        """(H, W, 3) uint8 RGB images of any sizes -> (B, 3, S, S) float32, normalised, on our device."""
        return square_pixels(
            images,
            self.image_size,
            resize=self.resize,
            bf16_constants=self.bf16_constants,
            device=self.device,
        )

    def encode(self, pixels: Tensor) -> ImageFeatures:
        """Encode (B, 3, S, S) once; the result serves any number of prompts.

        Raises:
            ValueError: If the shape is another.
        """
        if pixels.ndim != 4 or pixels.shape[1:] != (3, self.image_size, self.image_size):
            raise ValueError(
                f"expected pixels (B, 3, {self.image_size}, {self.image_size}), got {tuple(pixels.shape)}"
            )
        encoder, decoder = self.model.vision_encoder, self.model.mask_decoder
        stages = encoder.backbone(pixels.to(self.dtype)).intermediate_hidden_states
        stride4, stride8, stride16 = pyramid(self.model, stages)
        _, channels, height, width = stride16.shape
        return ImageFeatures(
            embedding=stride16,
            high_res=(decoder.conv_s0(stride4), decoder.conv_s1(stride8)),
            position=sine_grid(channels, height, width, stride16.device).to(stride16.dtype),
        )

    def run_heads(
        self,
        image: Tensor,
        high_res: tuple[Tensor, Tensor],
        sparse: Tensor,
        dense: Tensor | None,
        multimask: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The mask decoder on ready tokens.

        Args:
            image: (1 or N, C, h16, w16) with memory or no-memory embedding.
            high_res: As in ``ImageFeatures``, 1 or N.
            sparse: (N, K, C).
            dense: (N, C, h16, w16), or None for no mask prompt.
            multimask: Three masks, or one, which falls back to the best of three where it is not stable.

        Returns:
            Logits (N, M, h, w) float32, IoU (N, M) float32, mask tokens (N, M, C), object score (N,) float32.
        """
        if dense is None:
            dense = self.model.prompt_encoder.no_mask_embed.weight[:, :, None, None]
        masks, iou, tokens, score = self.model.mask_decoder(
            image_embeddings=image.expand(sparse.shape[0], -1, -1, -1),
            image_positional_embeddings=dense_position(self.model),
            sparse_prompt_embeddings=sparse[:, None],
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
            high_resolution_features=list(high_res),
        )
        return masks[:, 0].float(), iou[:, 0].float(), tokens[:, 0], score[:, 0, 0].float()

    def _predict(
        self,
        image: Tensor,
        high_res: tuple[Tensor, Tensor],
        sparse: Tensor,
        dense: Tensor | None,
        multimask: bool,
    ) -> MaskPrediction:
        """Run the heads, choose the candidate with the best predicted IoU, make the object pointer."""
        masks, iou, tokens, score = self.run_heads(image, high_res, sparse, dense, multimask)
        rows = torch.arange(len(masks), device=masks.device)
        best = iou.argmax(dim=1)
        return MaskPrediction(
            mask_logits=masks[rows, best],
            pred_iou=iou[rows, best],
            object_score=score,
            candidate_logits=masks,
            candidate_iou=iou,
            object_pointer=self._pointer(tokens[rows, best], score > 0),
        )

    def _pointer(self, token: Tensor, visible: Tensor) -> Tensor:
        """(N, C): projected mask token, or the learned pointer of an absent object."""
        return torch.where(
            visible[:, None], self.model.object_pointer_proj(token), self.model.no_object_pointer
        )

    def wants_multimask(self, prompt: SegPrompt | None) -> bool:
        """Whether SAM2 answers this prompt with three masks: none or one point (a box counts as two)."""
        count = 0
        if prompt is not None and prompt.points_xy is not None:
            count += int(prompt.points_xy.shape[1])
        if prompt is not None and prompt.box_xyxy is not None:
            count += 2
        return self.model.config.multimask_min_pt_num <= count <= self.model.config.multimask_max_pt_num

    def decode(
        self,
        features: ImageFeatures,
        prompt: SegPrompt | None,
        *,
        memory: Memory | None = None,
        multimask: bool = True,
        frame_index: int | None = None,
        is_conditioning: bool = False,
        padded: bool = True,
    ) -> MaskPrediction:
        """Decode N prompts against B images: B must be N, or 1 (shared by all prompts).

        Args:
            features: Of B images.
            prompt: What to segment; None goes on tracking what the memory holds.
            memory: Of N objects. Empty or None: the learned no-memory embedding takes its place.
            multimask: Choose the best of three masks; False: one mask, see ``run_heads``.
            frame_index: Position of this frame for the memory; by default after the newest remembered one.
            is_conditioning: The frame is prompted afresh: the memory is not read.
            padded: Add null points to an embedding, see ``sparse_tokens``.

        Raises:
            ValueError: If numbers do not fit, or there is neither a prompt nor a memory.
        """
        read = None
        if memory is not None and not is_conditioning:
            read = memory.read(memory.last_index + 1 if frame_index is None else frame_index)
        if prompt is None and read is None:
            raise ValueError("nothing to segment: no prompt is given and the memory holds nothing")
        image = features.embedding
        if read is None:
            image = image + self.model.no_memory_embedding.reshape(1, -1, 1, 1)
        else:
            image = fuse_memory(self.model, features, read)
        num_prompts = image.shape[0] if prompt is None else prompt.num_prompts
        if image.shape[0] not in (1, num_prompts) or features.batch_size not in (1, num_prompts):
            raise ValueError(
                f"{num_prompts} prompts need 1 or {num_prompts} images and memories, got {image.shape[0]}"
            )
        dense = (
            None
            if prompt is None or prompt.mask_logits is None
            else embed_masks(self.model, prompt.mask_logits)
        )
        sparse = sparse_tokens(self.model, prompt, num_prompts, padded)
        return self._blank(self._predict(image, features.high_res, sparse, dense, multimask), memory)

    def _blank(self, prediction: MaskPrediction, memory: Memory | None) -> MaskPrediction:
        """Empty the masks of absent objects where that is asked for."""
        blank = self.blank_absent
        if blank is None:
            blank = memory is not None and memory.blank_absent
        if not blank:
            return prediction
        absent = prediction.object_score <= 0
        return replace(
            prediction,
            mask_logits=prediction.mask_logits.masked_fill(absent[:, None, None], ABSENT_LOGIT),
            candidate_logits=prediction.candidate_logits.masked_fill(
                absent[:, None, None, None], ABSENT_LOGIT
            ),
        )

    def from_mask(self, features: ImageFeatures, masks: Tensor) -> MaskPrediction:
        """Take given masks as the prediction; the decoder runs once, for the object pointer.

        Its predicted IoU is kept, too (the ``sam2`` package reports 1 instead).

        Args:
            features: Of 1 or N images.
            masks: (N, H, W) bool, resized to S x S if needed.
        """
        square = masks.to(self.device)[:, None].float()
        size = (self.image_size, self.image_size)
        if square.shape[-2:] != size:
            square = F.interpolate(square, size, mode="bilinear", align_corners=False, antialias=True)
            square = (square >= 0.5).float()
        small = (self.mask_size, self.mask_size)
        logits = F.interpolate(
            square * MASK_SCALE + MASK_BIAS, small, mode="bilinear", align_corners=False, antialias=True
        )
        visible = square.flatten(1).any(dim=1)
        dense = embed_masks(self.model, self.model.mask_downsample(square.to(self.dtype)))
        sparse = sparse_tokens(self.model, None, len(square))
        seen = self._predict(features.embedding, features.high_res, sparse, dense, multimask=False)
        pointer = torch.where(visible[:, None], seen.object_pointer, self.model.no_object_pointer)
        score = visible.float() * MASK_SCALE + MASK_BIAS
        return replace(
            seen,
            mask_logits=logits[:, 0],
            object_score=score,
            candidate_logits=logits,
            object_pointer=pointer,
        )

    def remember(
        self,
        features: ImageFeatures,
        prediction: MaskPrediction,
        memory: Memory,
        *,
        frame_index: int,
        is_conditioning: bool = False,
        mask_from_prompt: bool | None = None,
    ) -> None:
        """Write a frame and its prediction into the memory.

        Args:
            features: Of that frame.
            prediction: N objects.
            memory: Of the same N objects; policy "none" keeps nothing and costs nothing.
            frame_index: Position of the frame.
            is_conditioning: The frame was prompted.
            mask_from_prompt: Store the hard mask instead of probabilities; by default on conditioning frames
                if the policy has ``hard_prompted_masks``.
        """
        if not memory.stores:
            return
        hard = mask_from_prompt
        if hard is None:
            hard = is_conditioning and memory.hard_prompted_masks
        logits, score = prediction.mask_logits, prediction.object_score
        encoded = encode_memory(self.model, features.embedding, logits, score, hard, memory.map_dtype)
        memory.write(MemoryEntry(frame_index, prediction.object_pointer, encoded, is_conditioning))
