"""Qwen2.5-VL: released sizes, and folders as published or as transformers writes them, under native names.

Source: Qwen2.5-VL technical report (arXiv 2502.13923), table 1, and ``config.json`` of the released 3B and 7B
models: a ViT of 32 blocks with windows of 112 px (four blocks see everything), four patches of 14 px merged
into one token by a two-layer connector, a Qwen2.5 language model with M-RoPE.

A published folder keeps ``visual.*``, ``model.*`` and ``lm_head.*`` and a flat ``config.json``; transformers'
module has ``model.visual.*`` and ``model.language_model.*``. The 3B model ties its output head to the word
embeddings and so stores no head; the 7B model has one of its own.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLConfig

from refstream.checkpoints.internvl import grow_vocabulary
from refstream.checkpoints.safe import load_state
from refstream.models.mllm import tokens as T

logger = logging.getLogger(__name__)

IMAGE_MARKERS = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>")
"""What stands before, for and after the vision tokens of an image."""

VIDEO_PAD = "<|video_pad|>"
TEXT_KEYS = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "rms_norm_eps"),
)
VISION_KEYS = (
    *("depth", "hidden_size", "intermediate_size", "num_heads", "out_hidden_size", "patch_size"),
    *("temporal_patch_size", "spatial_merge_size", "window_size", "fullatt_block_indexes"),
)
EMBEDDINGS, HEAD = "model.language_model.embed_tokens.weight", "lm_head.weight"

_VISION = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "patch_size": 14,
    "temporal_patch_size": 2,
    "spatial_merge_size": 2,
    "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31],
    "tokens_per_second": 2,
}
_TEXT = {
    "max_position_embeddings": 128000,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
}
SIZES: dict[str, dict[str, Any]] = {
    "qwen2_5-vl-3b": {
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
    },
    "qwen2_5-vl-7b": {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
    },
}
"""Language models of the released sizes. Their matrices have more rows than the tokenizer has tokens."""

TIED = ("qwen2_5-vl-3b",)


def released_config(name: str) -> dict[str, Any]:
    """Arguments of ``Qwen2_5_VLConfig`` for a released size.

    Raises:
        ValueError: For a name that is not in ``SIZES``.
    """
    if name not in SIZES:
        raise ValueError(f"unknown size {name!r}, expected one of {sorted(SIZES)}")
    return {
        "vision_config": {**_VISION, "out_hidden_size": SIZES[name]["hidden_size"]},
        "text_config": {**_TEXT, **SIZES[name]},
        "tie_word_embeddings": name in TIED,
    }


def prepare_config(config: Any, tokenizer: PreTrainedTokenizerFast) -> None:
    """Set in a ``Qwen2_5_VLConfig`` what follows from the tokenizer; the stored dtype is dropped.

    Raises:
        ValueError: If the language model is one whose cache RefStream does not handle.
    """
    if config.text_config.use_sliding_window:
        raise ValueError("use_sliding_window is true in this Qwen2.5-VL config, expected false")
    start, pad, end = (T.token_id(tokenizer, marker) for marker in IMAGE_MARKERS)
    config.vision_start_token_id, config.image_token_id, config.vision_end_token_id = start, pad, end
    video = T.token_id(tokenizer, VIDEO_PAD)
    # frames are images here; a vocabulary without the token must not have it point at some word
    config.video_token_id = -1 if video is None else video
    config.text_config.vocab_size = max(config.text_config.vocab_size, len(tokenizer))
    for name in ("bos_token_id", "eos_token_id"):
        if (getattr(config.text_config, name) or 0) >= config.text_config.vocab_size:
            setattr(config.text_config, name, None)
    for part in (config, config.text_config, config.vision_config):
        part.dtype = None  # or transformers would build the parts in it, whatever the caller asked for


def read_folder(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Arguments of ``Qwen2_5_VLConfig`` and the native state dict; no code of the folder is run.

    Args:
        path: A published ``Qwen2.5-VL-*`` folder, or one that transformers wrote.

    Raises:
        FileNotFoundError: If config.json or the weights are missing.
        ValueError: For another architecture, or a file that is no JSON object.
    """
    path = Path(path)
    file = path / "config.json"
    if not file.is_file():
        raise FileNotFoundError(f"no config.json in {path}; expected the folder of a Qwen2.5-VL model")
    try:
        written = json.loads(file.read_text(encoding="utf-8"))
        kind = written.get("model_type")
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
        raise ValueError(f"{file} is not a JSON object: {error}") from error
    if kind != "qwen2_5_vl":
        raise ValueError(
            f"{file} is of model_type {kind!r}, expected 'qwen2_5_vl' (Qwen2.5-VL); "
            "InternVL folders are loaded by InternVL, other models are not supported"
        )
    config = Qwen2_5_VLConfig(**written)
    state = native_state(load_state(path), tied=config.tie_word_embeddings)
    return config.to_dict(), state


def native_state(state: Mapping[str, Tensor], *, tied: bool) -> dict[str, Tensor]:
    """A state dict under the names of transformers' module, with a head.

    Args:
        state: Published names, or native ones.
        tied: Whether the output head is the word embeddings; where it is, a stored head is not used.
    """
    native = {_native_key(key): value for key, value in state.items()}
    if tied and EMBEDDINGS in native:
        stored = native.get(HEAD)
        if stored is not None and not torch.equal(stored, native[EMBEDDINGS]):
            logger.warning("the config ties head and word embeddings; the head that is stored is not used")
        native[HEAD] = native[EMBEDDINGS]
    return native


def grow(state: Mapping[str, Tensor], size: int) -> dict[str, Tensor]:
    """The state with ``size`` rows in both vocabulary matrices, new ones the mean of the others."""
    return grow_vocabulary(dict(state), size)


def differences(ours: Any, theirs: Any) -> list[str]:
    """What differs between two ``Qwen2_5_VLConfig`` in sizes and constants that weights are bound to."""
    parts = (("text_config", TEXT_KEYS), ("vision_config", VISION_KEYS))
    pairs = [
        (f"{part}.{key}", getattr(getattr(ours, part), key), getattr(getattr(theirs, part), key))
        for part, keys in parts
        for key in keys
    ]
    pairs += [
        (f"rope_parameters.{key}", *(side.text_config.rope_parameters.get(key) for side in (ours, theirs)))
        for key in ("rope_theta", "mrope_section")
    ]
    pairs.append(("tie_word_embeddings", ours.tie_word_embeddings, theirs.tie_word_embeddings))
    return [
        f"{key} is {found!r}, expected {wanted!r}"
        for key, wanted, found in pairs
        if _plain(wanted) != _plain(found)
    ]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _native_key(key: str) -> str:
    if key.startswith("visual."):
        return f"model.{key}"
    if key.startswith("model.") and not key.startswith(("model.visual.", "model.language_model.")):
        return "model.language_model." + key.removeprefix("model.")
    return key
