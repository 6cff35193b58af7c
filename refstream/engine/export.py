"""A model on disk, whole or not at all: a folder is written beside its place and then put there."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from refstream.checkpoints.writing import MAX_SHARD_SIZE
from refstream.files import atomic_write_text
from refstream.models.sa2va import save_sa2va

LAYOUTS = ("refstream", "sa2va")


def replace_folder(folder: Path, write: Callable[[Path], Any]) -> Path:
    """Fill a new folder, then put it in the place of ``folder``.

    Killed while writing, the folder is as it was. Killed between the two renames at the end, the old one is
    ``NAME.previous`` beside it.

    Args:
        folder: What is replaced, if it exists.
        write: Fills the (new, existing) folder that it is given.
    """
    fresh, previous = folder.with_name(f".{folder.name}.partial"), folder.with_name(f"{folder.name}.previous")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    write(fresh)
    if folder.exists():
        shutil.rmtree(previous, ignore_errors=True)
        folder.rename(previous)
    fresh.rename(folder)
    shutil.rmtree(previous, ignore_errors=True)
    return folder


def with_aliases(module: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with all names of what a module holds in several places, where one of them is there."""
    names: dict[int, list[str]] = {}
    for name, value in (
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ):
        names.setdefault(id(value), []).append(name)
    full = dict(state)
    for shared in names.values():
        known = [name for name in shared if name in state]
        if known:
            full.update({name: state[known[0]] for name in shared if name not in state})
    return full


def export_model(
    model: Any,
    folder: str | Path,
    *,
    dtype: torch.dtype | None = None,
    layout: str = "refstream",
    state: Mapping[str, Tensor] | None = None,
    files: Mapping[str, str] | None = None,
    max_shard_size: int | str = MAX_SHARD_SIZE,
) -> Path:
    """Write a ``RefStreamModel``, adapters merged, in the place of what is in ``folder``.

    Args:
        model: Its live weights stay as they are.
        folder: Replaced in one step; what else lies in it goes.
        dtype: Storage type of floating weights; None keeps them.
        layout: ``refstream``, or ``sa2va`` for the keys and the config.json of Sa2VA's released models.
        state: The model's state dict where its weights lie elsewhere (spread over several processes).
        files: Texts to lay beside the weights: name -> content.
        max_shard_size: Larger weights are cut into several files.

    Raises:
        ValueError: For an unknown layout, or a model that does not fit the layout of Sa2VA.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout must be one of {LAYOUTS}, got {layout!r}")
    keys: dict[str, Any] = {"dtype": dtype, "state": state, "max_shard_size": max_shard_size}

    def write(target: Path) -> None:
        if layout == "sa2va":
            save_sa2va(model, target, **keys)
        else:
            model.save(target, **keys)
        for name, content in (files or {}).items():
            atomic_write_text(target / name, content)

    return replace_folder(Path(folder), write)
