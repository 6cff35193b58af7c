"""What tells one model from another: masks in a ledger are only taken over if the same model made them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import refstream

SUFFIXES = (".json", ".safetensors", ".bin", ".pt", ".pth", ".model", ".txt", ".jinja")
"""Of the files that decide what a model answers; its page, its training log and pictures do not."""
WHOLE = 2**24
"""Bytes up to which a file is read as a whole."""
SAMPLES, SAMPLE = 64, 2**16
"""Of a larger one: so many pieces, evenly spread from its first to its last byte, each of so many bytes."""


def model_fingerprint(folder: str | Path) -> str:
    """SHA-256 over the name, size and contents of each file that decides what the model answers.

    Of files above 16 MB, as weights are, 64 pieces of 64 kB are read: a second for any model. Training moves
    every weight, so that two states of a training differ in each piece.

    Args:
        folder: With config.json.
    """
    digest = hashlib.sha256()
    folder = Path(folder)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in SUFFIXES and not path.name.startswith("."):
            size = path.stat().st_size
            digest.update(repr((path.relative_to(folder).as_posix(), size)).encode())
            with open(path, "rb") as file:
                for number in range(SAMPLES if size > WHOLE else 1):
                    file.seek((size - SAMPLE) * number // (SAMPLES - 1) if size > WHOLE else 0)
                    digest.update(file.read(SAMPLE if size > WHOLE else -1))
    return digest.hexdigest()


def model_key(
    folder: str | Path, device: torch.device, dtype: torch.dtype, pipeline: Mapping[str, Any]
) -> dict[str, Any]:
    """What a model's masks depend on besides the data, for the key of a ledger.

    Args:
        folder: Of the model.
        device: Where it runs; kinds of devices round differently.
        dtype: Of its weights.
        pipeline: Overrides of its pipeline.
    """
    return {
        "model": model_fingerprint(folder),
        "pipeline": dict(pipeline),
        "device": device.type,
        "dtype": str(dtype).removeprefix("torch."),
        "refstream": refstream.__version__,
    }
