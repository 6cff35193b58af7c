"""SAM 1 as a segmenter of single images: boxes, points and embeddings in, masks of the frame out.

Source: Kirillov et al., Segment Anything (ICCV 2023). The layers are transformers' ``SamModel``; prompts, the
choice of the mask, and the way between a padded square and the frame are written here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import SamConfig

from refstream.checkpoints.safe import load_state, load_strict
from refstream.errors import UserError
from refstream.models.segmenter.building import empty_sam1, float32_positions, initialise_sam1
from refstream.models.segmenter.framing import cut_to_frame, frame_extent, padded_pixels
from refstream.models.segmenter.loading import load_sam1, sam1_state
from refstream.models.segmenter.position import random_fourier
from refstream.models.segmenter.sam1_config import sam1_config
from refstream.registry import MODELS
from refstream.structures import ImageFeatures, MaskPrediction, SegPrompt

FIRST_CORNER = 2  # label of the upper left corner of a box; the lower right one follows


@MODELS.register_module()
class Sam1Segmenter(nn.Module):
    """SAM 1 (ViT-B, -L, -H) over transformers' modules; see ``protocols.Segmenter``.

    Prompts and masks are those of the frame squeezed to the square, as of every segmenter; inside, the frame
    keeps its shape and is padded. There is no memory, and masks cannot be prompts.

    Args:
        config: Of ``SamModel``, or a dictionary: the content of a transformers ``config.json``, or
            ``dict(size="base")``, "large" or "huge".
        weights: File, folder or state dict under transformers' names; must fit ``config`` exactly. None:
            random values as the ``segment_anything`` package draws them.

    Attributes:
        model: The transformers model.
        image_size: S.
        prompt_dim: C, 256 in the public models.
        mask_size: h = w, side of low-resolution masks, S / 4.

    Raises:
        ValueError: If configuration or weights are of another kind, or do not fit each other.
    """

    def __init__(
        self,
        config: SamConfig | Mapping[str, Any],
        *,
        weights: str | Path | Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.model = empty_sam1(sam1_config(config))
        sizes: Any = self.model.config
        self.image_size = int(sizes.vision_config.image_size)
        self.prompt_dim = int(sizes.prompt_encoder_config.hidden_size)
        self.mask_size = 4 * int(sizes.prompt_encoder_config.image_embedding_size)
        if weights is None:
            initialise_sam1(self.model)
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
    ) -> Sam1Segmenter:
        """Load a transformers folder, such as ``facebook/sam-vit-base`` as published.

        Args:
            path: Folder with ``config.json`` and safetensors.
            dtype: Of the weights.
            device: Where they go.

        Raises:
            FileNotFoundError: If something is missing.
            ValueError: If it is not SAM 1, corrupt, or incomplete.
        """
        config, state = load_sam1(path)
        try:
            segmenter = cls(config, weights=state)
        except ValueError as error:
            raise ValueError(f"cannot load {path}: {error}") from error
        return segmenter.to(device=device, dtype=dtype).eval()

    def load_weights(self, state: Mapping[str, Tensor], what: str = "SAM 1 weights") -> None:
        """Load a state dict under transformers' names.

        Raises:
            ValueError: For another layout, or naming missing, unexpected and mis-shaped keys.
        """
        load_strict(self.model, sam1_state(state), what)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Sam1Segmenter:
        """Move and cast as usual, but keep the random matrix of the position encoding in float32."""
        with float32_positions(self.model):
            super()._apply(fn, recurse)
        return self

    @property
    def config(self) -> SamConfig:
        """transformers' configuration of ``model``."""
        config: Any = self.model.config
        return config

    @property
    def device(self) -> torch.device:
        """Where the weights live."""
        return self.model.prompt_encoder.no_mask_embed.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.model.prompt_encoder.no_mask_embed.weight.dtype

    def new_memory(self, policy: str | Mapping[str, Any] = "sam2") -> Any:
        """SAM 1 remembers nothing.

        Raises:
            UserError: Always.
        """
        raise UserError(
            f"SAM 1 has no memory, and {policy!r} was asked for: set memory='off' in the pipeline, or take a "
            "Sam2Segmenter"
        )

    def preprocess(self, images: Sequence[np.ndarray]) -> Tensor:
        """(H, W, 3) uint8 RGB images of any sizes -> (B, 3, S, S) float32, NaN beyond the frame."""
        return padded_pixels(images, self.image_size, device=self.device)

    def encode(self, pixels: Tensor) -> ImageFeatures:
        """Encode (B, 3, S, S), NaN beyond the frame, once; the result serves any number of prompts.

        Raises:
            ValueError: If the shape is another.
        """
        size = self.image_size
        if pixels.ndim != 4 or pixels.shape[1:] != (3, size, size):
            raise ValueError(f"expected pixels (B, 3, {size}, {size}), got {tuple(pixels.shape)}")
        filled = torch.where(pixels.isnan(), 0.0, pixels)  # as the package pads what is normalised
        embedding = self.model.vision_encoder(filled.to(self.dtype)).last_hidden_state
        side, half = self.mask_size, self.mask_size // 2
        return ImageFeatures(
            embedding=embedding,
            high_res=(
                embedding.new_zeros(len(pixels), 0, side, side),
                embedding.new_zeros(len(pixels), 0, half, half),
            ),
            position=self._dense_position(),
            extent=frame_extent(pixels),
        )

    def decode(
        self,
        features: ImageFeatures,
        prompt: SegPrompt | None,
        *,
        memory: Any = None,
        multimask: bool = True,
    ) -> MaskPrediction:
        """Decode N prompts against B images: B must be N, or 1 (shared by all prompts).

        An embedding stands for itself: no null point is added to it (Lai et al., LISA, CVPR 2024).

        Args:
            features: Of B images.
            prompt: A box, points, an embedding, or several of them.
            memory: None.
            multimask: Choose the best of three masks by predicted IoU; False: the single mask.

        Returns:
            Masks of the frames alone. ``pred_iou`` is what SAM 1 predicts, cut to [0, 1], ``candidate_iou``
            as it is; ``object_score``, which SAM 1 lacks, is the highest logit of the mask, so positive
            where the mask is not empty; ``object_pointer`` is (N, 0).

        Raises:
            UserError: For a memory, or a prompt by mask.
            ValueError: If there is no prompt, or numbers or shapes do not fit.
        """
        if memory is not None:
            self.new_memory(type(memory).__name__)
        if prompt is None:
            raise ValueError("nothing to segment: no prompt is given, and SAM 1 has no memory")
        if prompt.mask_logits is not None:
            raise UserError("SAM 1 is prompted here by boxes, points and embeddings, and not by masks")
        count = prompt.num_prompts
        if features.batch_size not in (1, count):
            raise ValueError(f"{count} prompts need 1 or {count} images, got {features.batch_size}")
        share = torch.ones(1, 2, device=features.embedding.device)
        if features.extent is not None:
            share = features.extent.float() / self.image_size
        masks, iou = self.model.mask_decoder(
            image_embeddings=features.embedding.expand(count, -1, -1, -1),
            image_positional_embeddings=features.position,
            sparse_prompt_embeddings=self._sparse_tokens(prompt, share.flip(1))[:, None],
            dense_prompt_embeddings=self.model.prompt_encoder.no_mask_embed.weight[:, :, None, None],
            multimask_output=multimask,
        )
        candidates, iou = cut_to_frame(masks[:, 0].float(), share), iou[:, 0].float()
        rows, best = torch.arange(count, device=iou.device), iou.argmax(dim=1)
        logits = candidates[rows, best]
        return MaskPrediction(
            mask_logits=logits,
            pred_iou=iou[rows, best].clamp(0, 1),
            object_score=logits.flatten(1).amax(1),
            candidate_logits=candidates,
            candidate_iou=iou,
            object_pointer=logits.new_zeros(count, 0),
        )

    def _sparse_tokens(self, prompt: SegPrompt, scale: Tensor) -> Tensor:
        """(N, K, C): points, a null point if there is no box, corners of the box; then the embedding.

        Args:
            prompt: Of N rows, in the squeezed square.
            scale: (1 or N, 2) from there to the padded square, x and y.
        """
        count, null = prompt.num_prompts, self.model.prompt_encoder.not_a_point_embed.weight
        tokens = []
        points, labels, boxes = prompt.points_xy, prompt.point_labels, prompt.box_xyxy
        if points is not None and labels is not None:
            if points.ndim != 3 or points.shape != (*labels.shape, 2):
                raise ValueError(
                    f"points must be (N, K, 2) and labels (N, K), got {tuple(points.shape)} and "
                    f"{tuple(labels.shape)}"
                )
            tokens.append(self._embed_points(points.to(null.device) * scale[:, None], labels.to(null.device)))
            if boxes is None:
                tokens.append(null.expand(count, 1, -1))
        if boxes is not None:
            if boxes.shape != (count, 4):
                raise ValueError(f"boxes must be (N, 4), got {tuple(boxes.shape)}")
            corners = boxes.to(null.device).reshape(count, 2, 2) * scale[:, None]
            kinds = torch.arange(FIRST_CORNER, FIRST_CORNER + 2, device=null.device)
            tokens.append(self._embed_points(corners, kinds.expand(count, 2)))
        if prompt.embedding is not None:
            if prompt.embedding.ndim != 3 or prompt.embedding.shape[2] != self.prompt_dim:
                raise ValueError(
                    f"embeddings must be (N, K, {self.prompt_dim}), got {tuple(prompt.embedding.shape)}"
                )
            tokens.append(prompt.embedding.to(null))
        return torch.cat(tokens, dim=1)

    def _embed_points(self, points: Tensor, labels: Tensor) -> Tensor:
        """(N, K, 2) pixels of the padded square and (N, K) labels, -1 to 3 -> (N, K, C)."""
        encoder: Any = self.model.prompt_encoder
        places = (points.float() + 0.5) / self.image_size  # centre of the pixel
        place = random_fourier(places, encoder.shared_embedding.positional_embedding)
        table = torch.cat([one.weight for one in encoder.point_embed])
        kind = table[labels.clamp(min=0).long()]
        null = encoder.not_a_point_embed.weight
        return torch.where(labels[..., None] < 0, null, place.to(kind.dtype) + kind)

    def _dense_position(self) -> Tensor:
        """(1, C, h16, w16) position encoding of the padded square, in the dtype of the weights."""
        matrix = self.model.shared_image_embedding.positional_embedding
        side = self.mask_size // 4
        steps = (torch.arange(side, device=matrix.device, dtype=torch.float32) + 0.5) / side
        grid = torch.stack((steps.expand(side, side), steps[:, None].expand(side, side)), dim=-1)
        return random_fourier(grid, matrix).permute(2, 0, 1)[None].to(self.dtype)
