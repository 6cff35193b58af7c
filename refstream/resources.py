"""Where the files that come with RefStream are: in a checkout, or inside the installed package."""

from __future__ import annotations

from pathlib import Path

from refstream.errors import UserError

_PACKAGE = Path(__file__).resolve().parent
TINY_FOLDERS = (_PACKAGE.parent / "pretrained" / "tiny", _PACKAGE / "pretrained" / "tiny")
"""Candidates for the embedded weights: of a checkout, of an installation."""
DEFAULT_NAME = "default"
"""File beside several models that holds the folder's name of the one to take."""
DEFAULT_TEXT_NAME = "default_text"
"""The same for a model that answers in words."""


def model_folder(path: str | Path) -> Path:
    """The folder that holds config.json: ``path`` itself, or the one in it.

    Of several, the file ``default`` beside them names the one.

    Raises:
        UserError: there is none, or there are several to choose from.
    """
    path = Path(path)
    if (path / "config.json").is_file():
        return path
    if not path.is_dir():
        raise UserError(f"no model folder at {path}; expected a folder with config.json")
    if (path / DEFAULT_NAME).is_file():
        return _named_in(path / DEFAULT_NAME)
    inside = sorted(file.parent for file in path.glob("*/config.json"))
    if len(inside) == 1:
        return inside[0]
    if inside:
        names = ", ".join(str(folder) for folder in inside)
        raise UserError(f"{path} holds several models; choose one of {names}, or name it in {DEFAULT_NAME}")
    raise UserError(f"{path} is not a model folder: it has no config.json")


def default_model_path(answers: str = "masks") -> Path:
    """The embedded tiny model.

    Args:
        answers: "masks", or "text" for the one that answers in words.

    Raises:
        UserError: it is not there, as in a checkout before ``make tiny``.
    """
    for folder in TINY_FOLDERS:
        if answers == "masks" and any(folder.glob("*/config.json")):
            return model_folder(folder)
        if answers == "text" and (folder / DEFAULT_TEXT_NAME).is_file():
            return _named_in(folder / DEFAULT_TEXT_NAME)
    what = "embedded model" if answers == "masks" else "embedded model that answers in words"
    raise UserError(
        f"the {what} is missing (looked in {TINY_FOLDERS[0]}); rebuild it with `make tiny`, or name a model "
        "folder with --model"
    )


def _named_in(file: Path) -> Path:
    """The model folder beside ``file`` that it names."""
    chosen = file.parent / file.read_text(encoding="utf-8").strip()
    if chosen.parent != file.parent or not (chosen / "config.json").is_file():
        raise UserError(f"{file} must name a model folder beside it, got {chosen.name!r}")
    return chosen


def is_embedded(path: str | Path) -> bool:
    """Whether ``path`` lies in the folder of the embedded weights."""
    resolved = Path(path).resolve()
    return any(folder == resolved or folder in resolved.parents for folder in TINY_FOLDERS)
