"""Files are there whole or not at all."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest
from PIL import Image

from refstream import files
from refstream.errors import OutputError
from refstream.files import (
    atomic_file,
    atomic_write_bytes,
    atomic_write_text,
    write_jpeg,
    write_json,
    write_png,
)


def no_space(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_atomic_write_replaces_and_leaves_no_trace(tmp_path):
    path = tmp_path / "new" / "a.txt"
    atomic_write_text(path, "one")
    atomic_write_text(path, "zwölf")
    assert path.read_text(encoding="utf-8") == "zwölf"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_a_file_in_pieces_is_whole_or_not_there(tmp_path, monkeypatch):
    path = tmp_path / "new" / "a.txt"
    with atomic_file(path) as part:
        part.write_text("one")
    context = atomic_file(path)
    context.__enter__().write_text("half")
    assert not context.__exit__(KeyError, KeyError(), None)
    monkeypatch.setattr(files.os, "replace", no_space)
    with pytest.raises(OutputError, match=r"a\.txt: cannot be written"), atomic_file(path) as part:
        part.write_text("two")
    assert path.read_text() == "one"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_full_disk_keeps_the_old_file(tmp_path, monkeypatch, broken):
    path = tmp_path / "a.txt"
    atomic_write_text(path, "old")
    monkeypatch.setattr(files.os, broken, no_space)
    with pytest.raises(OutputError, match=r"a\.txt: cannot be written \(No space left") as caught:
        atomic_write_bytes(path, b"new")
    assert caught.value.path == path
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_interrupt_while_writing_leaves_no_trace(tmp_path, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        atomic_write_text(tmp_path / "a.txt", "new")
    assert not list(tmp_path.iterdir())


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="cannot be written"):
        atomic_write_text(tmp_path / "out" / "a.txt", "x")


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not list(tmp_path.iterdir())


def test_json_in_one_line(tmp_path):
    write_json(tmp_path / "a.json", {"x": [1, None]}, indent=None)
    assert (tmp_path / "a.json").read_text() == '{"x": [1, null]}\n'


def test_png_with_a_palette_keeps_the_indices(tmp_path):
    indices = np.arange(6, dtype=np.uint8).reshape(2, 3)
    write_png(tmp_path / "a.png", indices, palette=bytes(range(18)))
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == "P"
        assert np.array(picture).tolist() == indices.tolist()
        assert np.array(picture.convert("RGB"))[1, 2].tolist() == [15, 16, 17]


def test_jpeg_keeps_full_colour_resolution(tmp_path):
    image = np.zeros((16, 16, 3), dtype=np.uint8)
    image[:, ::2, 0] = 255  # one column red, one black: at half the colour resolution both come out alike
    write_jpeg(tmp_path / "a.jpg", image)
    with Image.open(tmp_path / "a.jpg") as picture:
        assert (picture.format, picture.mode) == ("JPEG", "RGB")
        assert np.abs(np.array(picture).astype(int) - image).max() < 40
