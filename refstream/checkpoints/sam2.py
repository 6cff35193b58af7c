"""Key names of SAM2 checkpoints: Meta's ``.pt`` files, Sa2VA exports, transformers' ``Sam2VideoModel``.

All functions are pure: names, shapes and plain dictionaries in, the same out. Three layouts:

* **Meta** (``sam2_hiera_*.pt``, ``sam2.1_hiera_*.pt``): the names of the ``sam2`` package.
* **Sa2VA**: Meta's names behind ``grounding_encoder.sam2_model.``, but ``gamma`` of the memory fuser is
  ``g_weight``.
* **transformers**: the names of ``Sam2VideoModel``. It stores the random matrix of the position encoding
  twice and the four point embeddings as one table; everything else is a renaming.

SAM 2.1 has three tensors more than 2.0 (``VERSION_KEYS``), which is how the version is told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

SA2VA_PREFIX = "grounding_encoder.sam2_model."
VERSION_KEYS = ("no_obj_embed_spatial", "obj_ptr_tpos_proj.weight", "obj_ptr_tpos_proj.bias")
POSITION_MATRIX = "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
POSITION_COPY = "shared_image_embedding.positional_embedding"
POINT_TABLE = "prompt_encoder.point_embed.weight"
NUM_POINT_KINDS = 4

# Sizes of the four public models: facebookresearch/sam2, sam2/configs/sam2.1/*.yaml (2.0: the same trunks).
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"embed_dim": 96, "num_heads": 1, "stages": [1, 2, 7, 2], "global_att_blocks": [5, 7, 9]},
    "small": {"embed_dim": 96, "num_heads": 1, "stages": [1, 2, 11, 2], "global_att_blocks": [7, 10, 13]},
    "base_plus": {
        "embed_dim": 112,
        "num_heads": 2,
        "stages": [2, 3, 16, 3],
        "global_att_blocks": [12, 16, 20],
        "window_pos_embed_bkg_spatial_size": [14, 14],
    },
    "large": {
        "embed_dim": 144,
        "num_heads": 2,
        "stages": [2, 6, 36, 4],
        "global_att_blocks": [23, 33, 43],
        "window_spec": [8, 4, 16, 8],
    },
}
TRUNK_DEFAULTS: dict[str, Any] = {
    "window_spec": [8, 4, 14, 7],
    "window_pos_embed_bkg_spatial_size": [7, 7],
    "q_pool": 3,
}


def _mlp(meta: str, hf: str) -> dict[str, str]:
    """Three-layer perceptron: ``layers.0/1/2`` <-> ``proj_in``, ``layers.0``, ``proj_out``."""
    return {
        f"{meta}.layers.0": f"{hf}.proj_in",
        f"{meta}.layers.1": f"{hf}.layers.0",
        f"{meta}.layers.2": f"{hf}.proj_out",
    }


def _attention(meta: str, hf: str) -> dict[str, str]:
    names = {f"{meta}.{name}": f"{hf}.{name}" for name in ("q_proj", "k_proj", "v_proj")}
    return {**names, f"{meta}.out_proj": f"{hf}.o_proj"}


def _trunk_names() -> dict[str, str]:
    meta, hf = "image_encoder.trunk", "vision_encoder.backbone"
    block, hf_block = f"{meta}.blocks.{{i}}", f"{hf}.blocks.{{i}}"
    return {
        f"{meta}.patch_embed.proj": f"{hf}.patch_embed.projection",
        f"{meta}.pos_embed": f"{hf}.pos_embed",
        f"{meta}.pos_embed_window": f"{hf}.pos_embed_window",
        f"{block}.attn.qkv": f"{hf_block}.attn.qkv",
        f"{block}.attn.proj": f"{hf_block}.attn.proj",
        f"{block}.norm1": f"{hf_block}.layer_norm1",
        f"{block}.norm2": f"{hf_block}.layer_norm2",
        f"{block}.mlp.layers.0": f"{hf_block}.mlp.proj_in",
        f"{block}.mlp.layers.1": f"{hf_block}.mlp.proj_out",
        f"{block}.proj": f"{hf_block}.proj",
        "image_encoder.neck.convs.{i}.conv": "vision_encoder.neck.convs.{i}",
    }


def _prompt_encoder_names() -> dict[str, str]:
    meta, hf = "sam_prompt_encoder", "prompt_encoder"
    mask = {0: "conv1", 1: "layer_norm1", 3: "conv2", 4: "layer_norm2", 6: "conv3"}
    return {
        f"{meta}.pe_layer.positional_encoding_gaussian_matrix": f"{hf}.shared_embedding.positional_embedding",
        f"{meta}.not_a_point_embed": f"{hf}.not_a_point_embed",
        f"{meta}.no_mask_embed": f"{hf}.no_mask_embed",
        **{f"{meta}.mask_downscaling.{i}": f"{hf}.mask_embed.{name}" for i, name in mask.items()},
    }


def _mask_decoder_names() -> dict[str, str]:
    meta, hf = "sam_mask_decoder", "mask_decoder"
    block, hf_block = f"{meta}.transformer.layers.{{i}}", f"{hf}.transformer.layers.{{i}}"
    same = ("iou_token", "mask_tokens", "obj_score_token", "conv_s0", "conv_s1")
    attentions = ("self_attn", "cross_attn_token_to_image", "cross_attn_image_to_token")
    names = {f"{meta}.{name}": f"{hf}.{name}" for name in same}
    for name in attentions:
        names |= _attention(f"{block}.{name}", f"{hf_block}.{name}")
    names |= {f"{block}.norm{n}": f"{hf_block}.layer_norm{n}" for n in (1, 2, 3, 4)}
    return {
        **names,
        f"{block}.mlp.layers.0": f"{hf_block}.mlp.proj_in",
        f"{block}.mlp.layers.1": f"{hf_block}.mlp.proj_out",
        **_attention(
            f"{meta}.transformer.final_attn_token_to_image", f"{hf}.transformer.final_attn_token_to_image"
        ),
        f"{meta}.transformer.norm_final_attn": f"{hf}.transformer.layer_norm_final_attn",
        f"{meta}.output_upscaling.0": f"{hf}.upscale_conv1",
        f"{meta}.output_upscaling.1": f"{hf}.upscale_layer_norm",
        f"{meta}.output_upscaling.3": f"{hf}.upscale_conv2",
        **_mlp(f"{meta}.output_hypernetworks_mlps.{{i}}", f"{hf}.output_hypernetworks_mlps.{{i}}"),
        **_mlp(f"{meta}.iou_prediction_head", f"{hf}.iou_prediction_head"),
        **_mlp(f"{meta}.pred_obj_score_head", f"{hf}.pred_obj_score_head"),
    }


def _memory_names() -> dict[str, str]:
    block, hf_block = "memory_attention.layers.{i}", "memory_attention.layers.{i}"
    names: dict[str, str] = {}
    for name in ("self_attn", "cross_attn_image"):
        names |= _attention(f"{block}.{name}", f"{hf_block}.{name}")
    names |= {f"{block}.{name}": f"{hf_block}.{name}" for name in ("linear1", "linear2")}
    names |= {f"{block}.norm{n}": f"{hf_block}.layer_norm{n}" for n in (1, 2, 3)}
    for i in range(4):
        down, hf_down = (
            "memory_encoder.mask_downsampler.encoder",
            f"memory_encoder.mask_downsampler.layers.{i}",
        )
        names |= {f"{down}.{3 * i}": f"{hf_down}.conv", f"{down}.{3 * i + 1}": f"{hf_down}.layer_norm"}
    fuser, hf_fuser = "memory_encoder.fuser.layers.{i}", "memory_encoder.memory_fuser.layers.{i}"
    return {
        **names,
        "memory_attention.norm": "memory_attention.layer_norm",
        "memory_encoder.mask_downsampler.encoder.12": "memory_encoder.mask_downsampler.final_conv",
        "memory_encoder.pix_feat_proj": "memory_encoder.feature_projection",
        "memory_encoder.out_proj": "memory_encoder.projection",
        f"{fuser}.dwconv": f"{hf_fuser}.depthwise_conv",
        f"{fuser}.norm": f"{hf_fuser}.layer_norm",
        f"{fuser}.pwconv1": f"{hf_fuser}.pointwise_conv1",
        f"{fuser}.pwconv2": f"{hf_fuser}.pointwise_conv2",
        f"{fuser}.gamma": f"{hf_fuser}.scale",
        "maskmem_tpos_enc": "memory_temporal_positional_encoding",
        "no_mem_embed": "no_memory_embedding",
        "no_mem_pos_enc": "no_memory_positional_encoding",
        "no_obj_ptr": "no_object_pointer",
        "no_obj_embed_spatial": "occlusion_spatial_embedding_parameter",
        "mask_downsample": "mask_downsample",
        "obj_ptr_tpos_proj": "temporal_positional_encoding_projection_layer",
        **_mlp("obj_ptr_proj", "object_pointer_proj"),
    }


def _compile(names: Mapping[str, str]) -> list[tuple[re.Pattern[str], str]]:
    """Name templates -> (pattern of a whole key, replacement); ``{i}`` is a number, the leaf is kept."""
    rules = []
    for source, target in names.items():
        pattern = re.escape(source).replace(r"\{i\}", r"(\d+)") + r"(\.weight|\.bias)?"
        leaf = r"\2" if "{i}" in source else r"\1"
        rules.append((re.compile(pattern), target.replace("{i}", r"\1") + leaf))
    return rules


_META_TO_HF = {**_trunk_names(), **_prompt_encoder_names(), **_mask_decoder_names(), **_memory_names()}
_TO_HF = _compile(_META_TO_HF)
_TO_META = _compile({hf: meta for meta, hf in _META_TO_HF.items()})


def _rename(key: str, rules: Iterable[tuple[re.Pattern[str], str]]) -> str | None:
    for pattern, target in rules:
        match = pattern.fullmatch(key)
        if match is not None:
            return match.expand(target)
    return None


def strip_sa2va(state: Mapping[str, Any]) -> dict[str, Any]:
    """The SAM2 part of a Sa2VA export or training checkpoint under Meta's names.

    Takes keys behind ``grounding_encoder.sam2_model.`` at any depth and renames ``g_weight`` to ``gamma``;
    everything else is left out. Works on tensors and on shapes.

    Raises:
        ValueError: If there is no such key.
    """
    part = {}
    for key, value in state.items():
        _, found, name = key.partition(SA2VA_PREFIX)
        if found:
            part[name.removesuffix("g_weight") + "gamma" if name.endswith(".g_weight") else name] = value
    if not part:
        raise ValueError(f"expected keys behind '{SA2VA_PREFIX}', found none among {len(state)} keys")
    return part


def to_sa2va(state: Mapping[str, Any]) -> dict[str, Any]:
    """Meta's names -> the names of a Sa2VA export (inverse of ``strip_sa2va``)."""
    return {
        SA2VA_PREFIX + (k.removesuffix("gamma") + "g_weight" if k.endswith(".gamma") else k): v
        for k, v in state.items()
    }


def meta_to_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Meta's names (also with Sa2VA's ``g_weight``) -> names of transformers' ``Sam2VideoModel``.

    Raises:
        ValueError: If a key is not one of SAM2's, or if some but not all point embeddings are there.
    """
    renamed: dict[str, Tensor] = {}
    points: dict[int, Tensor] = {}
    unknown = []
    for key, value in state.items():
        name = key.removesuffix("g_weight") + "gamma" if key.endswith(".g_weight") else key
        point = re.fullmatch(r"sam_prompt_encoder\.point_embeddings\.(\d+)\.weight", name)
        target = _rename(name, _TO_HF)
        if point is not None:
            points[int(point.group(1))] = value
        elif target is None:
            unknown.append(key)
        else:
            renamed[target] = value
            if name == POSITION_MATRIX:
                renamed[POSITION_COPY] = value.clone()
    if unknown:
        raise ValueError(
            f"{len(unknown)} keys are not SAM2's, e.g. {unknown[:5]}; is this a SAM2 checkpoint?"
        )
    if points:
        if sorted(points) != list(range(NUM_POINT_KINDS)):
            raise ValueError(f"expected point embeddings 0 to {NUM_POINT_KINDS - 1}, found {sorted(points)}")
        renamed[POINT_TABLE] = torch.cat([points[i] for i in range(NUM_POINT_KINDS)])
    return renamed


def transformers_to_meta(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of transformers' ``Sam2VideoModel`` -> Meta's names (inverse of ``meta_to_transformers``).

    Raises:
        ValueError: If a key is not one of ``Sam2VideoModel``'s.
    """
    renamed: dict[str, Tensor] = {}
    unknown = []
    for key, value in state.items():
        if key == POSITION_COPY:
            continue
        target = _rename(key, _TO_META)
        if key == POINT_TABLE:
            for i, row in enumerate(value.split(1)):
                renamed[f"sam_prompt_encoder.point_embeddings.{i}.weight"] = row.clone()
        elif target is None:
            unknown.append(key)
        else:
            renamed[target] = value
    if unknown:
        raise ValueError(f"{len(unknown)} keys are not Sam2VideoModel's, e.g. {unknown[:5]}")
    return renamed


def _stages(shapes: Mapping[str, tuple[int, ...]]) -> list[int]:
    """Blocks per stage: a stage is a run of blocks of one width."""
    stages: list[int] = []
    width, index = None, 0
    while (key := f"image_encoder.trunk.blocks.{index}.attn.proj.weight") in shapes:
        if shapes[key][0] != width:
            stages.append(0)
            width = shapes[key][0]
        stages[-1] += 1
        index += 1
    return stages


def sam2_version(keys: Iterable[str]) -> str:
    """``"2.0"`` or ``"2.1"``, from the presence of all or none of ``VERSION_KEYS`` (Meta's names).

    Raises:
        ValueError: If only some of them are there.
    """
    found = set(VERSION_KEYS) & set(keys)
    if found and len(found) != len(VERSION_KEYS):
        missing = sorted(set(VERSION_KEYS) - found)
        raise ValueError(
            f"SAM 2.1 has {list(VERSION_KEYS)}, 2.0 none of them; only {missing} are missing here"
        )
    return "2.1" if found else "2.0"


def identify(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, str]:
    """Find size and version of a checkpoint with Meta's names.

    Args:
        shapes: Shape of every tensor.

    Returns:
        (size, version), e.g. ``("large", "2.1")``.

    Raises:
        ValueError: If these are no SAM2 keys, or not one of the four public sizes.
    """
    patch = shapes.get("image_encoder.trunk.patch_embed.proj.weight")
    if patch is None:
        raise ValueError("no SAM2 image encoder among the keys (image_encoder.trunk.patch_embed.proj.weight)")
    stages = _stages(shapes)
    for size, trunk in SIZES.items():
        if trunk["embed_dim"] == patch[0] and trunk["stages"] == stages:
            return size, sam2_version(shapes)
    known = {name: (trunk["embed_dim"], trunk["stages"]) for name, trunk in SIZES.items()}
    raise ValueError(
        f"unknown SAM2 size: embedding width {patch[0]}, blocks per stage {stages}; known are {known}. "
        "For another size build the segmenter from its configuration"
    )
