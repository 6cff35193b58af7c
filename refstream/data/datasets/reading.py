"""What the readers of official files share: finding them, refusing wrong forms, counting what is left out."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np

from refstream.errors import UserError
from refstream.images import read_image

log = logging.getLogger(__name__)
T = TypeVar("T")

NUM_EXAMPLES = 5
"""How many names a report gives of each kind of thing left out."""


class LeftOut:
    """Counts what a dataset does not use, with the first names of each kind."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._examples: dict[str, list[str]] = {}

    def add(self, reason: str, name: str) -> None:
        """Count one thing called ``name``."""
        self._counts[reason] = self._counts.get(reason, 0) + 1
        examples = self._examples.setdefault(reason, [])
        if len(examples) < NUM_EXAMPLES:
            examples.append(name)

    def report(self) -> dict[str, dict[str, Any]]:
        """Reason -> {"count": int, "first": names}."""
        return {
            reason: {"count": count, "first": list(self._examples[reason])}
            for reason, count in self._counts.items()
        }

    def __str__(self) -> str:
        return "; ".join(
            f"{count} x {reason} ({', '.join(names)}{', ...' if count > len(names) else ''})"
            for (reason, count), names in zip(self._counts.items(), self._examples.values(), strict=True)
        )

    def close(self, dataset: str, root: Path, num_left: int) -> None:
        """Log what was left out once everything is counted.

        Raises:
            UserError: If nothing is left to train on.
        """
        if not num_left:
            raise UserError(f"{dataset} at {root}: no video can be used: {self or 'the list is empty'}")
        if self._counts:
            log.warning("%s at %s leaves out: %s", dataset, root, self)

    def __bool__(self) -> bool:
        return bool(self._counts)


def dataset_root(root: str | Path, tree: str) -> Path:
    """The folder of a dataset.

    Raises:
        UserError: If it is not there; names the ``tree`` expected in it.
    """
    path = Path(root)
    if not path.is_dir():
        raise UserError(f"no dataset folder at {path}; expected {tree} in it (see data/README.md)")
    return path


def dataset_file(root: Path, name: str, hint: str = "see data/README.md") -> Path:
    """A file of a dataset. Raises UserError if it is not there."""
    path = root / name
    if not path.is_file():
        raise UserError(f"no file {name} in {root}; {hint}")
    return path


def read_object(path: Path) -> dict[str, Any]:
    """A JSON file that holds one object. Raises UserError for anything else."""
    return expect(_read_json(path), dict, f"{path}")


def read_array(path: Path) -> list[Any]:
    """A JSON file that holds one array. Raises UserError for anything else."""
    return expect(_read_json(path), list, f"{path}")


def _read_json(path: Path) -> object:
    try:
        content: object = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}); is the download complete?") from error
    return content


def expect(value: object, kind: type[T], where: str) -> T:
    """``value`` if it is of the ``kind`` expected, else a UserError that says where it stands."""
    if not isinstance(value, kind):
        raise UserError(f"{where}: expected {kind.__name__}, got {str(value)[:60]!r}")
    return value


def relative_path(name: object, where: str) -> str:
    """A name or path inside a folder, with "/" as separator. Raises UserError if it leaves the folder."""
    text = expect(name, str, where)
    path = PurePosixPath(text)
    if not path.parts or path.is_absolute() or ".." in path.parts:
        raise UserError(f"{where}: expected a name inside the folder, got {text!r}")
    return text


def read_clip(paths: Iterable[Path]) -> np.ndarray:
    """Picture files -> (T, H, W, 3) uint8 RGB; a file named several times is read once.

    Raises:
        UserError: If a file cannot be read, or the sizes differ.
    """
    paths = list(paths)
    images = {path: read_image(path) for path in dict.fromkeys(paths)}
    size = images[paths[0]].shape[:2]
    for path, image in images.items():
        if image.shape[:2] != size:
            raise UserError(
                f"{path} is of size {image.shape[:2]}, {paths[0].name} of the same video of {size}"
            )
    return np.stack([images[path] for path in paths])


class FolderListings:
    """Tells which files exist with one look per folder, however many files are asked for."""

    def __init__(self) -> None:
        self._names: dict[Path, frozenset[str]] = {}

    def __contains__(self, path: Path) -> bool:
        return path.name in self.names(path.parent)

    def names(self, folder: Path) -> frozenset[str]:
        """Names in a folder, none if it does not exist."""
        if folder not in self._names:
            self._names[folder] = frozenset(os.listdir(folder)) if folder.is_dir() else frozenset()
        return self._names[folder]
