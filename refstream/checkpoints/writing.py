"""Writing of weights as safetensors: one file, or shards with an index, each complete or not there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from torch import Tensor

from refstream.checkpoints.safe import INDEX_NAME, SINGLE_NAME
from refstream.files import make_shared, write_json

MAX_SHARD_SIZE = "5GB"


def save_state(
    state: Mapping[str, Tensor],
    folder: str | Path,
    *,
    dtype: torch.dtype | None = None,
    max_shard_size: int | str = MAX_SHARD_SIZE,
) -> list[Path]:
    """Write ``model.safetensors``, or ``model-00001-of-00002.safetensors``, ... and their index.

    Weights of the other form that lie in the folder are removed, so that ``load_state`` reads these.

    Args:
        state: Name -> tensor, on any device; tensors may share memory.
        folder: Created if missing.
        dtype: Storage type of floating tensors; None keeps each as it is.
        max_shard_size: Of a file, in bytes or as "5GB"; one tensor is never cut.

    Returns:
        The files with weights.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    stored = {name: _storable(value, dtype) for name, value in state.items()}
    plan = split_torch_state_dict_into_shards(stored, max_shard_size=max_shard_size)
    files = []
    for name, keys in plan.filename_to_tensors.items():
        partial = folder / f"{name}.partial"
        save_file({key: stored[key] for key in keys}, partial, metadata={"format": "pt"})
        make_shared(partial)
        files.append(partial.replace(folder / name))
    if plan.is_sharded:
        write_json(folder / INDEX_NAME, {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename})
    wanted = {file.name for file in files} | ({INDEX_NAME} if plan.is_sharded else set())
    for old in (*folder.glob("model-*-of-*.safetensors"), folder / SINGLE_NAME, folder / INDEX_NAME):
        if old.name not in wanted:
            old.unlink(missing_ok=True)
    return files


def _storable(value: Tensor, dtype: torch.dtype | None) -> Tensor:
    """A copy on the CPU of its own, contiguous memory; floating values in ``dtype``."""
    wanted = dtype if dtype is not None and value.is_floating_point() else value.dtype
    return value.detach().to("cpu", wanted, copy=True).contiguous()
