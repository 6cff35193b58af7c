"""Trees of files of predictions: finding them, telling one set from another."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

JUNK = frozenset({"Thumbs.db", "desktop.ini", "__MACOSX"})
"""What systems leave behind; so are names that begin with a dot."""


def is_junk(name: str) -> bool:
    """Whether a name is no part of any prediction."""
    return name.startswith(".") or name in JUNK


def walk(root: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Folders below ``root`` as (relative path with "/", names of folders, names of files), sorted."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not is_junk(name))
        here = Path(folder).relative_to(root).as_posix()
        yield ("" if here == "." else here), folders, sorted(name for name in files if not is_junk(name))


def fingerprint(paths: Iterable[Path], root: Path) -> str:
    """SHA-256 over the names of files below ``root``, their sizes and times of change.

    Contents are not read. A copy that does not keep the times counts as another set.
    """
    digest = hashlib.sha256()
    for path in paths:
        state = path.stat()
        digest.update(repr((path.relative_to(root).as_posix(), state.st_size, state.st_mtime_ns)).encode())
    return digest.hexdigest()


def tree_fingerprint(root: Path) -> str:
    """``fingerprint`` of all files below ``root``."""
    return fingerprint((root / folder / name for folder, _, files in walk(root) for name in files), root)
