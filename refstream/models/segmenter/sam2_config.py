"""Configurations of ``Sam2VideoModel``: the public sizes, and reduced ones from a small dictionary."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from transformers import Sam2VideoConfig
from transformers.models.sam2.configuration_sam2 import Sam2HieraDetConfig, Sam2VisionConfig
from transformers.models.sam2_video.configuration_sam2_video import (
    Sam2VideoMaskDecoderConfig,
    Sam2VideoPromptEncoderConfig,
)

from refstream.checkpoints.sam2 import SIZES, TRUNK_DEFAULTS

STRIDE = 16
VERSIONS = ("2.0", "2.1")


def _check_version(version: str) -> None:
    if version not in VERSIONS:
        raise ValueError(f"SAM2 version must be one of {VERSIONS}, got {version!r}")


def _vision_config(trunk: Mapping[str, Any], image_size: int, hidden_dim: int) -> Sam2VisionConfig:
    trunk = {**TRUNK_DEFAULTS, **trunk}
    pooling = [sum(trunk["stages"][:i]) for i in range(1, 1 + trunk["q_pool"])]
    if set(pooling) & set(trunk["global_att_blocks"]):
        raise ValueError(
            f"global_att_blocks {trunk['global_att_blocks']} must not name the first of a stage, {pooling}"
        )
    widths = [trunk["embed_dim"] * 2**i for i in range(len(trunk["stages"]))]
    backbone = Sam2HieraDetConfig(
        hidden_size=trunk["embed_dim"],
        num_attention_heads=trunk["num_heads"],
        image_size=[image_size, image_size],
        window_positional_embedding_background_size=list(trunk["window_pos_embed_bkg_spatial_size"]),
        num_query_pool_stages=trunk["q_pool"],
        blocks_per_stage=list(trunk["stages"]),
        embed_dim_per_stage=widths,
        num_attention_heads_per_stage=[trunk["num_heads"] * 2**i for i in range(len(widths))],
        window_size_per_stage=list(trunk["window_spec"]),
        global_attention_blocks=list(trunk["global_att_blocks"]),
    )
    return Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=widths[::-1],
        backbone_feature_sizes=[[image_size // s] * 2 for s in (4, 8, STRIDE)],
        fpn_hidden_size=hidden_dim,
    )


def reduced_config(reduced: Mapping[str, Any], version: str = "2.1") -> Sam2VideoConfig:
    """Configuration from a small dictionary in the words of the ``sam2`` package.

    Args:
        reduced: ``trunk`` (``embed_dim``, ``num_heads``, ``stages``, ``global_att_blocks``; optionally
            ``window_spec``, ``window_pos_embed_bkg_spatial_size``), and optionally ``image_size`` (1024),
            ``hidden_dim`` (256), ``mem_dim`` (64), ``num_maskmem`` (7), ``max_obj_ptrs_in_encoder`` (16),
            ``memory_attention`` (``layers`` or ``num_layers``, ``feedforward`` or ``dim_feedforward``),
            ``memory_encoder`` (``fuser_layers``), ``mask_decoder`` (``mlp``, ``iou_head_hidden``).
        version: "2.0" or "2.1"; 2.1 adds a temporal encoding of pointers and an embedding of absent objects.

    Raises:
        ValueError: If the version is unknown, ``trunk`` is missing, or a size does not divide.
    """
    _check_version(version)
    if "trunk" not in reduced:
        raise ValueError(f"a reduced SAM2 configuration needs 'trunk', got {sorted(reduced)}")
    size, hidden = int(reduced.get("image_size", 1024)), int(reduced.get("hidden_dim", 256))
    mem_dim = int(reduced.get("mem_dim", 64))
    if size % 32 or hidden % mem_dim or hidden % 8:
        raise ValueError(
            f"image_size {size} must be a multiple of 32, hidden_dim {hidden} of 8 and of mem_dim {mem_dim}"
        )
    attention = reduced.get("memory_attention", {})
    decoder = reduced.get("mask_decoder", {})
    return Sam2VideoConfig(
        vision_config=_vision_config(reduced["trunk"], size, hidden),
        prompt_encoder_config=Sam2VideoPromptEncoderConfig(
            hidden_size=hidden, image_size=size, patch_size=STRIDE
        ),
        mask_decoder_config=Sam2VideoMaskDecoderConfig(
            hidden_size=hidden,
            mlp_dim=decoder.get("mlp", 2048),
            num_attention_heads=decoder.get("heads", 8),
            iou_head_hidden_dim=decoder.get("iou_head_hidden", 256),
        ),
        image_size=size,
        num_maskmem=reduced.get("num_maskmem", 7),
        max_object_pointers_in_encoder=reduced.get("max_obj_ptrs_in_encoder", 16),
        enable_temporal_pos_encoding_for_object_pointers=version == "2.1",
        enable_occlusion_spatial_embedding=version == "2.1",
        memory_attention_hidden_size=hidden,
        memory_attention_num_layers=attention.get("layers", attention.get("num_layers", 4)),
        memory_attention_feed_forward_hidden_size=attention.get(
            "feedforward", attention.get("dim_feedforward", 2048)
        ),
        memory_attention_rope_feat_sizes=[size // STRIDE] * 2,
        memory_encoder_hidden_size=hidden,
        memory_encoder_output_channels=mem_dim,
        mask_downsampler_embed_dim=hidden,
        memory_fuser_num_layers=reduced.get("memory_encoder", {}).get("fuser_layers", 2),
        memory_fuser_embed_dim=hidden,
        memory_fuser_intermediate_dim=4 * hidden,
    )


def size_config(size: str, version: str = "2.1") -> Sam2VideoConfig:
    """Configuration of a public model: "tiny", "small", "base_plus" or "large", 1024 px.

    Raises:
        ValueError: If size or version is unknown.
    """
    if size not in SIZES:
        raise ValueError(f"SAM2 size must be one of {sorted(SIZES)}, got {size!r}")
    return reduced_config({"trunk": SIZES[size]}, version)


def config_from_dict(config: Mapping[str, Any]) -> Sam2VideoConfig:
    """Configuration from a dictionary: ``config.json`` of transformers, ``size``, or reduced (``trunk``).

    transformers 5.17 reads ``mask_decoder_config`` as a prompt encoder's configuration and so loses the
    defaults of the decoder; here it is read as what it is.

    Raises:
        ValueError: If it describes another kind of model.
    """
    if "size" in config:
        return size_config(str(config["size"]), str(config.get("version", "2.1")))
    if "trunk" in config:
        return reduced_config(config, str(config.get("version", "2.1")))
    values = copy.deepcopy(dict(config))
    kind = values.pop("model_type", "sam2_video")
    if kind != "sam2_video":
        raise ValueError(f"expected a configuration of model_type 'sam2_video', got {kind!r}")
    decoder = values.get("mask_decoder_config") or {}
    if isinstance(decoder, Mapping):
        known = {k: v for k, v in decoder.items() if k in Sam2VideoMaskDecoderConfig.__dataclass_fields__}
        values["mask_decoder_config"] = Sam2VideoMaskDecoderConfig(**known)
    return Sam2VideoConfig(**values)
