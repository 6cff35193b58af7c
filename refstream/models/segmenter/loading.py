"""Weights of SAM2 (Meta's ``.pt``, a Sa2VA export, a transformers folder) and of SAM 1 (the folder alone)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Sam2VideoConfig, SamConfig

from refstream.checkpoints.safe import load_state
from refstream.checkpoints.sam2 import SA2VA_PREFIX, identify, meta_to_transformers, strip_sa2va
from refstream.models.segmenter.building import POSITION_MATRICES
from refstream.models.segmenter.sam1_config import sam1_config
from refstream.models.segmenter.sam2_config import config_from_dict, size_config


def to_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename any known layout to the names of ``Sam2VideoModel``.

    Raises:
        ValueError: If the keys are not SAM2's.
    """
    if any(key.startswith("vision_encoder.") for key in state):
        return dict(state)
    if any(SA2VA_PREFIX in key for key in state):
        state = strip_sa2va(state)
    return meta_to_transformers(state)


def load_sam2(
    path: str | Path, device: str | torch.device = "cpu"
) -> tuple[Sam2VideoConfig, dict[str, Tensor]]:
    """Configuration and weights of a transformers folder or of a checkpoint with Meta's names.

    Args:
        path: A folder with ``config.json`` and safetensors, or a ``.pt`` / ``.safetensors`` whose size and
            version are told from its keys and shapes.
        device: Where the tensors go.

    Returns:
        The configuration, and the state dict under transformers' names.

    Raises:
        FileNotFoundError: If something is missing.
        ValueError: If it is not SAM2, of an unknown size, or corrupt.
    """
    path = Path(path)
    if path.is_dir():
        return config_from_dict(_folder_config(path, "SAM2")), to_transformers(load_state(path, device))
    state = load_state(path, device)
    if any(key.startswith("vision_encoder.") for key in state):
        raise ValueError(
            f"{path} has transformers' names but no config.json; give the folder instead of the file"
        )
    if any(SA2VA_PREFIX in key for key in state):
        state = strip_sa2va(state)
    size, version = identify({key: tuple(value.shape) for key, value in state.items()})
    return size_config(size, version), meta_to_transformers(state)


def sam1_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """SAM 1's weights under all names of ``SamModel``: files hold its two equal position matrices once.

    Raises:
        ValueError: For the names of Meta's ``.pth``.
    """
    if any(key.startswith("image_encoder.") for key in state):
        raise ValueError(
            "these are Meta's names of SAM 1; give a transformers folder, such as facebook/sam-vit-base"
        )
    full = dict(state)
    first, second = (f"{name}.positional_embedding" for name in POSITION_MATRICES)
    for have, lack in ((first, second), (second, first)):
        if have in full:
            full.setdefault(lack, full[have])
    return full


def load_sam1(path: str | Path, device: str | torch.device = "cpu") -> tuple[SamConfig, dict[str, Tensor]]:
    """Configuration and weights of a transformers folder of SAM 1.

    Args:
        path: A folder with ``config.json`` and safetensors.
        device: Where the tensors go.

    Raises:
        FileNotFoundError: If something is missing.
        ValueError: If it is not SAM 1, or corrupt.
    """
    folder = Path(path)
    return sam1_config(_folder_config(folder, "SAM 1")), sam1_state(load_state(folder, device))


def _folder_config(folder: Path, what: str) -> dict[str, Any]:
    """The content of a folder's config.json."""
    config_path = folder / "config.json"
    if not config_path.is_file():
        raise FileNotFoundError(f"no config.json in {folder}; expected a transformers folder of {what}")
    try:
        values: dict[str, Any] = json.loads(config_path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{config_path} is not valid JSON ({error})") from error
    return values
