"""InternVL chat checkpoints: original layout <-> transformers' native ``internvl`` layout.

The original layout (``OpenGVLab/InternVL2_5-*``, ``InternVL3-*``, ``model_type: internvl_chat``) keeps
``vision_model.*``, ``mlp1.*`` and ``language_model.*`` with a fused ``attn.qkv``; the native one has all of
it under ``model.``, ``lm_head`` outside, and three projections. Only InternViT-300M towers with Qwen2
language models are known here. Pure functions: dictionaries in, dictionaries out.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

_VISION = (
    ("embeddings.class_embedding", "embeddings.cls_token"),
    ("embeddings.position_embedding", "embeddings.position_embeddings"),
    ("embeddings.patch_embedding.", "embeddings.patch_embeddings.projection."),
)
_BLOCK = (
    ("ls1", "lambda_1"),
    ("ls2", "lambda_2"),
    ("attn.proj.", "attention.projection_layer."),
    ("norm1.", "layernorm_before."),
    ("norm2.", "layernorm_after."),
    ("mlp.", "mlp."),
)
_PROJECTOR = (("mlp1.0.", "layer_norm."), ("mlp1.1.", "linear_1."), ("mlp1.3.", "linear_2."))
_QKV = ("q_proj", "k_proj", "v_proj")
_EMBEDDING, _HEAD = "model.language_model.embed_tokens.weight", "lm_head.weight"

# What a missing key of a written config means: the defaults of the classes that wrote it (InternVL's
# InternVisionConfig, made for the 6 B tower; transformers 4's Qwen2Config).
_VISION_DEFAULTS: dict[str, Any] = {
    "num_channels": 3,
    "patch_size": 14,
    "image_size": 224,
    "qkv_bias": False,
    "hidden_size": 3200,
    "num_attention_heads": 25,
    "intermediate_size": 12800,
    "qk_normalization": True,
    "num_hidden_layers": 48,
    "hidden_act": "gelu",
    "norm_type": "rms_norm",
    "layer_norm_eps": 1e-6,
}
_TEXT_DEFAULTS: dict[str, Any] = {
    "vocab_size": 151936,
    "hidden_size": 4096,
    "intermediate_size": 22016,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "hidden_act": "silu",
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "use_sliding_window": False,
    "rope_scaling": None,
    "tie_word_embeddings": False,
}
_CHAT_DEFAULTS: dict[str, Any] = {"downsample_ratio": 0.5, "ps_version": "v1", "select_layer": -1}


def native_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of transformers' ``InternVLConfig`` from an original ``config.json``.

    Raises:
        ValueError: for an architecture other than InternViT-300M-like + Qwen2, naming the setting.
    """
    for part in ("vision_config", "llm_config"):
        if not isinstance(config.get(part), Mapping):
            raise ValueError(f"config.json has no {part!r}; expected an InternVL chat or Sa2VA folder")
    chat = _CHAT_DEFAULTS | {k: v for k, v in config.items() if k in _CHAT_DEFAULTS}
    vision = _VISION_DEFAULTS | dict(config["vision_config"])
    text = _TEXT_DEFAULTS | dict(config["llm_config"])
    _expect("ps_version", chat["ps_version"], "v2")
    _expect("select_layer", chat["select_layer"], -1)
    _expect("vision_config.norm_type", vision["norm_type"], "layer_norm")
    _expect("vision_config.qk_normalization", vision["qk_normalization"], False)
    _expect(
        "vision_config.image_size",
        vision["image_size"],
        config.get("force_image_size") or vision["image_size"],
    )
    _expect("llm_config.architectures", _llm_architecture(text), "Qwen2ForCausalLM")
    _expect("llm_config.use_sliding_window", text["use_sliding_window"], False)
    rope_theta = _rope_theta(text)
    sizes = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act")
    return {
        "vision_config": {
            **{
                name: vision[name]
                for name in (*sizes, "image_size", "patch_size", "num_channels", "layer_norm_eps")
            },
            "attention_bias": vision["qkv_bias"],
            "use_qk_norm": False,
            "norm_type": "layer_norm",
        },
        "text_config": {
            "model_type": "qwen2",
            **{name: text[name] for name in (*sizes, "num_key_value_heads", "vocab_size", "rms_norm_eps")},
            "max_position_embeddings": text["max_position_embeddings"],
            "rope_parameters": {"rope_type": "default", "rope_theta": rope_theta},
            "tie_word_embeddings": False,
        },
        "downsample_ratio": chat["downsample_ratio"],
        "tie_word_embeddings": False,
    }


def original_config(native: Mapping[str, Any]) -> dict[str, Any]:
    """The original ``config.json`` of a native one (``InternVLConfig.to_dict()``); every value explicit."""
    vision, text = native["vision_config"], native["text_config"]
    sizes = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act")
    side, patch = (
        v[0] if isinstance(v, list | tuple) else v for v in (vision["image_size"], vision["patch_size"])
    )
    return {
        "architectures": ["InternVLChatModel"],
        "model_type": "internvl_chat",
        "downsample_ratio": native["downsample_ratio"],
        "force_image_size": side,
        "ps_version": "v2",
        "select_layer": -1,
        "template": "internvl2_5",
        "tie_word_embeddings": False,
        "vision_config": {
            "architectures": ["InternVisionModel"],
            "model_type": "intern_vit_6b",
            **{name: vision[name] for name in (*sizes, "num_channels", "layer_norm_eps")},
            "image_size": side,
            "patch_size": patch,
            "qkv_bias": vision["attention_bias"],
            "qk_normalization": False,
            "norm_type": "layer_norm",
        },
        "llm_config": {
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": "qwen2",
            **{name: text[name] for name in (*sizes, "num_key_value_heads", "vocab_size", "rms_norm_eps")},
            "max_position_embeddings": text["max_position_embeddings"],
            "rope_theta": text["rope_parameters"]["rope_theta"],
            "tie_word_embeddings": False,
        },
    }


def to_native(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Original keys -> keys of ``InternVLForConditionalGeneration``; unknown keys are kept as they are.

    ``attn.qkv`` is cut into three equal blocks (views).
    """
    result: dict[str, Tensor] = {}
    for key, value in state.items():
        qkv = re.fullmatch(r"vision_model\.encoder\.layers\.(\d+)\.attn\.qkv\.(weight|bias)", key)
        if qkv is None:
            result[_native_key(key)] = value
            continue
        if value.shape[0] % 3:
            raise ValueError(f"{key} must have 3 x hidden_size rows, got {tuple(value.shape)}")
        block = f"model.vision_tower.encoder.layer.{qkv[1]}.attention"
        for name, part in zip(_QKV, value.chunk(3), strict=True):
            result[f"{block}.{name}.{qkv[2]}"] = part
    return result


def to_original(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Inverse of :func:`to_native`."""
    result: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        qkv = re.fullmatch(
            r"model\.vision_tower\.encoder\.layer\.(\d+)\.attention\.([qkv]_proj)\.(weight|bias)", key
        )
        if qkv is None:
            result[_original_key(key)] = value
            continue
        fused = f"vision_model.encoder.layers.{qkv[1]}.attn.qkv.{qkv[3]}"
        parts.setdefault(fused, {})[qkv[2]] = value
    for fused, group in parts.items():
        if set(group) != set(_QKV):
            raise ValueError(f"cannot write {fused}: expected {list(_QKV)}, got {sorted(group)}")
        result[fused] = torch.cat([group[name] for name in _QKV])
    return result


def modernise_native(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keys as transformers 5 writes them, from those or from transformers 4.52's ``internvl`` folders."""
    renames = (
        ("language_model.model.", "model.language_model."),
        ("language_model.lm_head.", "lm_head."),
        ("vision_tower.", "model.vision_tower."),
        ("multi_modal_projector.", "model.multi_modal_projector."),
    )
    return {_replace_prefix(key, renames): value for key, value in state.items()}


def untie_head(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give a native state dict without ``lm_head`` (tied when saved) a copy of the word embeddings as one."""
    result = dict(state)
    if _HEAD not in result and _EMBEDDING in result:
        logger.info("no lm_head in the checkpoint: it was tied to the word embeddings, which are copied")
        result[_HEAD] = result[_EMBEDDING].clone()
    return result


def grow_vocabulary(state: Mapping[str, Tensor], size: int) -> dict[str, Tensor]:
    """Append rows to the word embeddings and ``lm_head`` of a native state dict until they have ``size``.

    A new row is the mean of the old ones: a fresh token then starts as unlikely as the average one.
    """
    result = dict(state)
    for key in (_EMBEDDING, _HEAD):
        if key in result:
            result[key] = grow_rows(result[key], size)
    return result


def grow_rows(weight: Tensor, size: int) -> Tensor:
    """(V, D) -> (max(V, size), D) with the mean row repeated."""
    extra = size - weight.shape[0]
    if extra <= 0:
        return weight
    mean = weight.float().mean(dim=0, keepdim=True).to(weight.dtype)
    return torch.cat([weight, mean.expand(extra, -1)])


def _native_key(key: str) -> str:
    if key.startswith("mlp1."):
        return _replace_prefix(key, tuple((a, f"model.multi_modal_projector.{b}") for a, b in _PROJECTOR))
    if key.startswith("language_model.lm_head."):
        return key.removeprefix("language_model.")
    if key.startswith("language_model.model."):
        return "model.language_model." + key.removeprefix("language_model.model.")
    if not key.startswith("vision_model."):
        return key
    name = key.removeprefix("vision_model.")
    block = re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)", name)
    if block is None:
        return "model.vision_tower." + _replace_prefix(name, _VISION)
    return f"model.vision_tower.encoder.layer.{block[1]}." + _replace_prefix(block[2], _BLOCK)


def _original_key(key: str) -> str:
    if key.startswith("lm_head."):
        return f"language_model.{key}"
    if key.startswith("model.language_model."):
        return "language_model.model." + key.removeprefix("model.language_model.")
    if key.startswith("model.multi_modal_projector."):
        name = key.removeprefix("model.multi_modal_projector.")
        return _replace_prefix(name, tuple((b, a) for a, b in _PROJECTOR))
    if not key.startswith("model.vision_tower."):
        return key
    name = key.removeprefix("model.vision_tower.")
    block = re.fullmatch(r"encoder\.layer\.(\d+)\.(.+)", name)
    if block is None:
        return "vision_model." + _replace_prefix(name, tuple((b, a) for a, b in _VISION))
    return f"vision_model.encoder.layers.{block[1]}." + _replace_prefix(
        block[2], tuple((b, a) for a, b in _BLOCK)
    )


def _replace_prefix(key: str, renames: tuple[tuple[str, str], ...]) -> str:
    for old, new in renames:
        if key.startswith(old):
            return new + key.removeprefix(old)
    return key


def _expect(name: str, value: Any, expected: Any) -> None:
    if value != expected:
        raise ValueError(
            f"this InternVL variant is not supported: {name} is {value!r} (given, or the default of a "
            f"missing key), expected {expected!r}; supported are InternVL2.5 1B and 4B, InternVL3 with "
            "InternViT-300M and Qwen2.5, and Sa2VA on them"
        )


def _llm_architecture(text: Mapping[str, Any]) -> str:
    architectures = text.get("architectures") or []
    if architectures:
        return str(architectures[0])
    return "Qwen2ForCausalLM" if text.get("model_type") == "qwen2" else str(text.get("model_type"))


def _rope_theta(text: Mapping[str, Any]) -> float:
    """Base of the rotary embedding; transformers 5 writes ``rope_parameters`` instead of ``rope_theta``."""
    parameters = text.get("rope_parameters") or {}
    scaling = text["rope_scaling"] or {}
    kind = scaling.get("type") or scaling.get("rope_type") or parameters.get("rope_type") or "default"
    if kind not in ("default", "dynamic"):
        raise ValueError(
            f"llm_config.rope_scaling of type {kind!r} is not supported, expected none or 'dynamic'"
        )
    # "dynamic" has no effect up to max_position_embeddings, and longer prompts are refused
    return float(parameters.get("rope_theta", text["rope_theta"]))
