"""Loading of weights without executing anything: safetensors (single, sharded), ``.pt`` of tensors only."""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

logger = logging.getLogger(__name__)

INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"
WRAPPERS = ("model", "state_dict")


def _load_safetensors(path: Path, device: str | torch.device) -> dict[str, Tensor]:
    try:
        return load_file(path, device=str(device))
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(
            f"{path} is not a readable safetensors file ({error}); it may be truncated: fetch it again"
        ) from error


def _load_sharded(index_path: Path, device: str | torch.device) -> dict[str, Tensor]:
    """Read the shards named by an index; every key must come from the shard that the index names."""
    try:
        weight_map = json.loads(index_path.read_text(encoding="utf-8"))["weight_map"]
        shards = sorted(set(weight_map.values()))
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{index_path} is not a safetensors index with a 'weight_map' ({error!r})"
        ) from error
    absent = [name for name in shards if not (index_path.parent / name).is_file()]
    if absent:
        raise FileNotFoundError(f"{index_path} names {len(shards)} shards, missing: {absent}")
    state: dict[str, Tensor] = {}
    for name in shards:
        if Path(name).name != name:
            raise ValueError(f"{index_path} names a shard outside its folder: {name!r}")
        state |= _load_safetensors(index_path.parent / name, device)
    lost = sorted(set(weight_map) - set(state))
    if lost:
        raise ValueError(f"{index_path} lists {len(lost)} keys that its shards do not hold, e.g. {lost[:5]}")
    return state


def _unwrap(content: Any, path: Path) -> dict[str, Tensor]:
    """The flat tensor dictionary in a ``.pt``: itself, or under ``model`` or ``state_dict``."""
    for name in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
            break
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"{path} holds a {type(content).__name__}, expected a dictionary of tensors")
    other = [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    if other:
        raise ValueError(f"{path} holds {len(other)} entries that are not tensors, e.g. {other[:5]}")
    return {str(key): value for key, value in content.items()}


def _load_pt(path: Path, device: str | torch.device) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is corrupt or holds more than tensors; such files are not loaded, they could run code "
            f"({str(error).splitlines()[0]})"
        ) from error
    except (RuntimeError, EOFError, ValueError, OSError) as error:
        raise ValueError(f"{path} is not a readable checkpoint ({error}); fetch it again") from error
    return _unwrap(content, path)


def load_state(path: str | Path, device: str | torch.device = "cpu") -> dict[str, Tensor]:
    """Load a state dict from a file or a folder, never executing what it contains.

    Args:
        path: ``.safetensors``, ``.safetensors.index.json``, ``.pt``/``.pth``/``.bin`` (tensors only, possibly
            under ``model`` or ``state_dict``), or a folder with ``model.safetensors`` or its sharded form.
        device: Where the tensors go.

    Returns:
        Name -> tensor, in the stored dtype.

    Raises:
        FileNotFoundError: If the file, a shard, or any weights in the folder are missing.
        ValueError: If a file is corrupt, of an unknown kind, or holds more than tensors.
    """
    path = Path(path)
    if path.is_dir():
        if (path / INDEX_NAME).is_file():
            return _load_sharded(path / INDEX_NAME, device)
        if (path / SINGLE_NAME).is_file():
            return _load_safetensors(path / SINGLE_NAME, device)
        raise FileNotFoundError(f"no {SINGLE_NAME} and no {INDEX_NAME} in {path}")
    if not path.is_file():
        raise FileNotFoundError(f"weights not found: {path}")
    if path.name.endswith(".index.json"):
        return _load_sharded(path, device)
    if path.suffix == ".safetensors":
        return _load_safetensors(path, device)
    if path.suffix in (".pt", ".pth", ".bin"):
        return _load_pt(path, device)
    raise ValueError(f"unknown kind of weights: {path}; expected .safetensors, .pt, .pth or .bin")


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f", ... ({len(names)} in all)" if len(names) > 5 else "")


def load_strict(module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Copy a state dict into a module; every key must be there, none may be left over, every shape must fit.

    Values are cast to the module's dtypes. Nothing is copied when anything is wrong.

    Args:
        module: Where the values go.
        state: Name -> tensor.
        what: What is being loaded, for the message.

    Raises:
        ValueError: Naming missing, unexpected and mis-shaped keys.
    """
    own = module.state_dict()
    missing = sorted(set(own) - set(state))
    unexpected = sorted(set(state) - set(own))
    wrong = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    problems = [
        f"{label}: {_some(names)}"
        for label, names in (("missing", missing), ("unexpected", unexpected), ("wrong shape", wrong))
        if names
    ]
    if problems:
        raise ValueError(f"{what} does not fit {type(module).__name__}; " + "; ".join(problems))
    module.load_state_dict(dict(state), strict=True)
    logger.debug("%s: loaded %d tensors", what, len(own))
