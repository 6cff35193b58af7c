"""``refstream.load``: one door for RefStream folders and for released Sa2VA / StreamingRVOS exports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from refstream.models.modeling import RefStreamModel
from refstream.registry import foreign_pipeline


def load(path: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Any:
    """Load a model folder; nothing of it is executed.

    Args:
        path: A RefStream folder, or an export of the Sa2VA family (``Sa2VAChatModel``).
        device: "cpu", "cuda", ...
        dtype: Floating type of the weights in memory; bfloat16 is usual on CUDA.

    Returns:
        A ``RefStreamModel`` in eval mode.

    Raises:
        FileNotFoundError: If the folder or its config.json does not exist.
        ValueError: If the folder is of an unknown kind, or its weights do not fit.
    """
    folder = Path(path)
    file = folder / "config.json"
    if not folder.is_dir():
        raise FileNotFoundError(f"no model folder at {folder}; give the folder that holds config.json")
    if not file.is_file():
        raise FileNotFoundError(f"{folder} has no config.json; it is not a model folder")
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise ValueError("CUDA was asked for, but this PyTorch sees no CUDA device; use device='cpu'")
    try:
        kind = json.loads(file.read_text(encoding="utf-8")).get("model_type")
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
        raise ValueError(f"{file} is not a JSON object: {error}") from error
    if kind == "refstream":
        return RefStreamModel.from_pretrained(folder, device=device, dtype=dtype)
    if kind == "sa2va_chat":
        from refstream.models.sa2va import load_sa2va

        return load_sa2va(folder, pipeline=foreign_pipeline(kind), device=device, dtype=dtype)
    raise ValueError(f"{file} says model_type {kind!r}; RefStream loads 'refstream' and 'sa2va_chat' folders")
