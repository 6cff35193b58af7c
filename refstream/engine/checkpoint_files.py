"""Checkpoint folders that are whole or not there: written by all ranks together, checked before use.

A folder is written under a hidden name, flushed to disk, gets ``manifest.json`` (size and SHA-256 of every
file) and is renamed when complete. A kill at any moment leaves the folders that were there before.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, get_rank
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from refstream.errors import OutputError, UserError
from refstream.files import make_shared, output_error, sync_folder, write_json

logger = logging.getLogger(__name__)

STATE, MANIFEST = "state.json", "manifest.json"
FOLDER = re.compile(r"iter_\d+")


class CheckpointError(UserError):
    """A checkpoint that is damaged, incomplete, or of another run.

    Attributes:
        path: Its folder.
    """

    def __init__(self, path: str | Path, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path, self.message = Path(path), message


def write_folder(target: Path, write: Callable[[Path], None]) -> None:
    """Write a folder whole or not at all; called on all ranks together.

    Args:
        target: Replaced if it is there.
        write: Called on every rank with the hidden folder to write files in.

    Raises:
        OutputError: On every rank, if any could not write; what was there before is intact.
    """
    part = target.with_name(f".{target.name}.part")
    first = get_rank() == 0
    _together(part, lambda: _make_empty(part) if first else None)
    _together(part, lambda: write(part))
    _together(part, lambda: _complete(part, target) if first else None)


def _together(part: Path, action: Callable[[], None]) -> None:
    """Do something on every rank, and go on only if all could; also a barrier."""
    error: OutputError | None = None
    try:
        action()
    except OutputError as problem:
        error = problem
    except (OSError, SafetensorError) as problem:
        error = output_error(part, problem if isinstance(problem, OSError) else OSError(str(problem)))
    failed = torch.tensor([error is not None], dtype=torch.int64)
    all_reduce(failed)
    if failed.item():
        if get_rank() == 0:
            shutil.rmtree(part, ignore_errors=True)
        raise error or OutputError(part, "another rank could not write, see its message")


def _make_empty(part: Path) -> None:
    """A new folder for what is to come; what killed runs left under such names goes."""
    for old in part.parent.glob(".iter_*.part"):
        shutil.rmtree(old)
    part.mkdir(parents=True)


def _complete(part: Path, target: Path) -> None:
    """Add the manifest, then give the folder its name."""
    files = {path.name: _describe(path) for path in sorted(part.iterdir())}
    write_json(part / MANIFEST, {"files": files})
    sync_folder(part)
    if target.exists():  # a damaged one, or of another course of training from an earlier checkpoint
        _remove(target)
    part.rename(target)
    sync_folder(target.parent)


def _remove(folder: Path) -> None:
    """Remove a checkpoint; at no moment is half of it left under its name."""
    hidden = folder.with_name(f".{folder.name}.old.part")
    folder.rename(hidden)
    shutil.rmtree(hidden)


def drop_old(newest: Path, keep: int) -> None:
    """Remove all checkpoints beside ``newest`` but the ``keep`` - 1 written last; called on one rank."""
    others = [folder for folder in checkpoint_folders(newest.parent) if folder != newest]
    for folder in others[keep - 1 :]:
        _remove(folder)


def _describe(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write safetensors, to disk; tensors that are contiguous on the CPU are not copied."""
    save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, path)
    make_shared(path)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def verify(folder: str | Path) -> None:
    """Check that a checkpoint is what was written: every file there, of its size, with its hash.

    Raises:
        CheckpointError: Naming the first file that is not.
    """
    folder = Path(folder)
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        expected = {name: (about["bytes"], about["sha256"]) for name, about in files.items()}
    except OSError as error:
        raise CheckpointError(folder, f"incomplete: there is no {MANIFEST}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(folder, f"damaged: {MANIFEST} is not readable ({error!r})") from error
    if STATE not in expected:
        raise CheckpointError(folder, f"damaged: {MANIFEST} does not list {STATE}")
    for name, (size, digest) in expected.items():
        try:
            found = _describe(folder / name)
        except OSError as error:
            raise CheckpointError(folder, f"incomplete: {name} cannot be read ({error.strerror})") from error
        if found["bytes"] != size:
            raise CheckpointError(folder, f"damaged: {name} has {found['bytes']} bytes, expected {size}")
        if found["sha256"] != digest:
            raise CheckpointError(folder, f"damaged: the contents of {name} are not what was written")


def read_state(folder: Path) -> dict[str, Any]:
    """``state.json`` of a checkpoint."""
    return json.loads((folder / STATE).read_text(encoding="utf-8"))


def checkpoint_folders(work_dir: Path) -> list[Path]:
    """Folders named as checkpoints, the last written first, those that do not say when at the end."""
    found = [path for path in work_dir.glob("iter_*") if path.is_dir() and FOLDER.fullmatch(path.name)]
    return sorted(found, key=lambda folder: (_written(folder) or 0.0, folder.name), reverse=True)


def _written(folder: Path) -> float | None:
    """When a checkpoint was written, in seconds; None if it is too damaged to say."""
    try:
        return float(read_state(folder)["written"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def find_last_good(work_dir: str | Path) -> Path | None:
    """The checkpoint that was written last and is undamaged; those passed over are logged with the reason.

    Args:
        work_dir: Of a run; need not exist.
    """
    work_dir = Path(work_dir)
    for part in sorted(work_dir.glob(".iter_*.part")):
        logger.warning("skipped %s: the run was stopped while writing or removing it", part)
    folders = checkpoint_folders(work_dir)
    for folder in sorted(
        folders, key=lambda folder: _written(folder) is not None
    ):  # to name all that are lost
        try:
            verify(folder)
        except CheckpointError as error:
            logger.warning("skipped %s", error)
        else:
            return folder
    return None
