"""InternVL folders as published, or in transformers' layout: configuration and weights under native names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import InternVLConfig

from refstream.checkpoints import internvl as layout
from refstream.checkpoints.safe import load_state

TEXT_KEYS = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "rms_norm_eps", "rope_parameters"),
)
VISION_KEYS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size")


def read_folder(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Arguments of ``InternVLConfig`` and the native state dict; no code of the folder is run.

    Args:
        path: An original ``InternVL2_5-*`` / ``InternVL3-*`` folder or a transformers ``internvl`` folder.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: For an unknown architecture.
    """
    path = Path(path)
    config_file = path / "config.json"
    if not config_file.is_file():
        raise FileNotFoundError(f"no config.json in {path}; expected the folder of an InternVL model")
    written = json.loads(config_file.read_text(encoding="utf-8"))
    kind = written.get("model_type")
    if kind == "internvl_chat":
        return layout.native_config(written), layout.to_native(load_state(path))
    if kind == "internvl":
        return InternVLConfig.from_dict(written).to_dict(), layout.modernise_native(load_state(path))
    raise ValueError(
        f"{config_file} is of model_type {kind!r}, expected 'internvl_chat' or 'internvl'"
        + ("; load it with refstream.models.sa2va" if kind == "sa2va_chat" else "")
    )


def differences(ours: Any, theirs: Any) -> list[str]:
    """What differs between two ``InternVLConfig`` in sizes and constants that weights are bound to."""
    parts = (("text_config", TEXT_KEYS), ("vision_config", VISION_KEYS))
    pairs = [
        (f"{part}.{key}", getattr(getattr(ours, part), key), getattr(getattr(theirs, part), key))
        for part, keys in parts
        for key in keys
    ]
    pairs.append(("downsample_ratio", ours.downsample_ratio, theirs.downsample_ratio))
    return [f"{key} is {found!r}, expected {wanted!r}" for key, wanted, found in pairs if wanted != found]
