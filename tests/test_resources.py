"""Which model is meant where a folder holds several."""

from __future__ import annotations

from pathlib import Path

import pytest

from refstream import resources
from refstream.errors import UserError
from refstream.resources import DEFAULT_NAME, TINY_FOLDERS, default_model_path, is_embedded, model_folder


def models(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).mkdir()
        (folder / name / "config.json").write_text("{}")
    return folder


def test_the_named_one_of_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models(tmp_path, "a", "b", "c")
    with pytest.raises(UserError, match="several models"):
        model_folder(tmp_path)
    (tmp_path / DEFAULT_NAME).write_text("b\n")
    assert model_folder(tmp_path) == tmp_path / "b"
    assert model_folder(tmp_path / "c") == tmp_path / "c"
    monkeypatch.setattr(resources, "TINY_FOLDERS", (tmp_path / "none", tmp_path))
    assert default_model_path() == tmp_path / "b"
    assert is_embedded(tmp_path / "c")


@pytest.mark.parametrize("name", ["z", "../b", "", "b/.."])
def test_a_wrong_name_is_refused(name: str, tmp_path: Path) -> None:
    inner = tmp_path / "models"
    inner.mkdir()
    models(inner, "a")
    models(tmp_path, "b")
    (inner / DEFAULT_NAME).write_text(name)
    with pytest.raises(UserError, match="must name a model folder"):
        model_folder(inner)


def test_the_embedded_default_is_there() -> None:
    named = [folder for folder in TINY_FOLDERS if (folder / DEFAULT_NAME).is_file()]
    assert named, "pretrained/tiny has no file `default`"
    assert model_folder(named[0]) == default_model_path()
