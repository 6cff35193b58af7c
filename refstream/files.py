"""Files that are there whole or not at all: the one place that writes bytes, JSON and pictures atomically."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from refstream.errors import OutputError


def atomic_write_bytes(path: str | Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file so that it is there whole or not at all.

    Args:
        path: Parents are made; a file already there is replaced.
        data: Its contents.
        durable: Also survive a power cut: fsync the file before renaming, and its folder after.

    Raises:
        OutputError: disk full, no permission, ...; ``path`` is then as it was before.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(part, path)
        if durable:
            sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise output_error(path, error) from error
    except BaseException:  # Ctrl-C between writing and renaming
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """A file to be written piece by piece: give the pieces to the one named; it becomes ``path`` at the end.

    Durable. If the context is left by an error, ``path`` is as it was before.

    Args:
        path: Parents are made; a file already there is replaced.

    Raises:
        OutputError: If something within cannot be written.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
        sync_folder(path.parent)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def atomic_write_text(path: str | Path, text: str, *, durable: bool = True) -> None:
    """``atomic_write_bytes`` for UTF-8 text."""
    atomic_write_bytes(path, text.encode("utf-8"), durable=durable)


def write_json(path: str | Path, content: Any, *, indent: int | None = 2) -> None:
    """Write JSON atomically, indented unless ``indent`` is None; NaN and infinity are refused."""
    atomic_write_text(path, json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False) + "\n")


def write_png(
    path: str | Path, image: np.ndarray, *, palette: bytes | None = None, durable: bool = True
) -> None:
    """Write (H, W) or (H, W, 3) uint8 as PNG, atomically.

    Args:
        path: Parents are made; a file already there is replaced.
        image: Grey or RGB; with a palette, (H, W) indices into it.
        palette: R, G, B of each index, one after another, at most 768 bytes.
        durable: As in ``atomic_write_bytes``.
    """
    picture = Image.fromarray(image)
    if palette is not None:
        picture.putpalette(palette)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", compress_level=1)
    atomic_write_bytes(path, buffer.getvalue(), durable=durable)


def write_jpeg(path: str | Path, image: np.ndarray, *, quality: int = 95, durable: bool = True) -> None:
    """Write (H, W, 3) uint8 RGB as JPEG with full colour resolution (4:4:4), atomically; it is lossy."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=quality, subsampling=0)
    atomic_write_bytes(path, buffer.getvalue(), durable=durable)


def make_shared(path: Path) -> None:
    """Give a file the rights of any new file; some libraries write files that only their owner can read."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)


def sync_folder(folder: Path) -> None:
    """Make a rename durable; folders cannot be opened on every platform."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def output_error(path: Path, error: OSError) -> OutputError:
    """The error to raise for a failed write."""
    return OutputError(
        path, f"cannot be written ({error.strerror or error}); what was written before is intact"
    )
