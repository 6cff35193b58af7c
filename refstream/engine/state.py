"""The state of a training run as tensors and JSON: nested structures, weights, random number generators."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Mapping, MutableMapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def pack(value: Any, tensors: MutableMapping[str, Tensor], name: str) -> Any:
    """Turn a nested structure into JSON, with its tensors moved out.

    Args:
        value: Dictionaries (keys str or int), lists, tuples, tensors, numbers, strings, None.
        tensors: Gets every tensor found, under the path to it.
        name: Where the path begins.

    Returns:
        What ``json`` can write; ``unpack`` turns it back, equal in value and type.

    Raises:
        TypeError: For anything else, naming the path to it.
    """
    if isinstance(value, Tensor):
        tensors[name] = value.detach()
        return {"tensor": name}
    if isinstance(value, Mapping):
        if wrong := [key for key in value if type(key) not in (str, int)]:
            raise TypeError(f"{name} has keys {wrong[:3]}; only strings and integers can be kept")
        return {"dict": [[key, pack(item, tensors, f"{name}.{key}")] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        items = [pack(item, tensors, f"{name}.{i}") for i, item in enumerate(value)]
        return items if isinstance(value, list) else {"tuple": items}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{name} is a {type(value).__name__}; only tensors, numbers and text can be kept")


def unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The structure that ``pack`` was given."""
    if isinstance(value, list):
        return [unpack(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "float":
        return float(content)
    if kind == "tuple":
        return tuple(unpack(item, tensors) for item in content)
    return {key: unpack(item, tensors) for key, item in content}


def capture_rng() -> dict[str, Tensor]:
    """The state of this process's generators: Python, NumPy (global), torch CPU and current CUDA device."""
    version, words, spare = random.getstate()
    numbers: Any = np.random.get_state(legacy=False)
    state = {
        "python": torch.tensor([version, *words]),
        "python_gauss": torch.tensor([spare is not None, spare or 0.0], dtype=torch.float64),
        "numpy": torch.tensor([*numbers["state"]["key"].tolist(), numbers["state"]["pos"]]),
        "numpy_gauss": torch.tensor([numbers["has_gauss"], numbers["gauss"]], dtype=torch.float64),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_rng(state: Mapping[str, Tensor]) -> None:
    """Set this process's generators to what ``capture_rng`` found."""
    version, *words = state["python"].tolist()
    has_spare, spare = state["python_gauss"].tolist()
    random.setstate((version, tuple(words), spare if has_spare else None))
    *keys, position = state["numpy"].tolist()
    has_gauss, gauss = state["numpy_gauss"].tolist()
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), position, int(has_gauss), gauss))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def frozen_names(model: nn.Module) -> set[str]:
    """Names of the parameters that are not trained, all names of a shared one."""
    return {name for name, p in model.named_parameters(remove_duplicate=False) if not p.requires_grad}


def trained_state(model: nn.Module, *, with_frozen: bool = False) -> dict[str, Tensor]:
    """What training changes: trained parameters and buffers, live; shared memory under its first name only.

    Args:
        model: Any module.
        with_frozen: Add the frozen parameters.

    Raises:
        TypeError: If the state dict holds something that is not a tensor.
    """
    left_out = set() if with_frozen else frozen_names(model)
    state: dict[str, Tensor] = {}
    seen: set[tuple[Any, ...]] = set()
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} in the model's state is a {type(value).__name__}, expected a tensor")
        place = (value.data_ptr(), value.shape, value.stride(), value.dtype)
        if name in left_out or (value.numel() and place in seen):
            continue
        seen.add(place)
        state[name] = value
    return state


def frozen_fingerprint(model: nn.Module) -> str:
    """SHA-256 over names, types, shapes and bytes of the frozen parameters, one tensor at a time."""
    digest = hashlib.sha256()
    state = model.state_dict()
    for name in sorted(frozen_names(model)):
        value = state[name].detach().contiguous().cpu()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
