"""Mask dictionaries: ``{annotation id: [COCO RLE or null, one per sorted frame]}``, as JSON or pickle.

The files are large (MeViS: 411 MB) and every loading process holds one. So of a JSON file only the places of
its annotations are held; one is parsed when it is asked for, and processes share the pages of the file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refstream.data.lazy_json import LazyJson, Span
from refstream.data.pickles import load_plain_pickle
from refstream.data.rle import RLE
from refstream.errors import UserError

Codes = list[RLE | None]


@dataclass(frozen=True)
class Form:
    """What an annotation consists of: its number of frames and the (H, W) of its codes."""

    num_frames: int
    sizes: frozenset[tuple[int, ...]]


class MaskTable(ABC):
    """Codes by annotation id.

    Attributes:
        path: The file.
        forms: Annotation id -> form, of all annotations.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.forms: dict[str, Form] = {}

    @abstractmethod
    def __getitem__(self, name: str) -> Codes:
        """One code or None per frame."""

    def _form(self, name: str, codes: Any) -> Form:
        if not isinstance(codes, list) or not all(code is None or isinstance(code, dict) for code in codes):
            raise UserError(
                f"{self.path}, annotation {name}: expected a list of RLE or null, got {str(codes)[:60]!r}"
            )
        return Form(len(codes), frozenset(tuple(code.get("size", ())) for code in codes if code is not None))


class PickledMasks(MaskTable):
    """A mask dictionary in a pickle. Raises UserError if it holds anything else."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        content = load_plain_pickle(path)
        if not isinstance(content, dict):
            raise UserError(f"{path}: expected a dict of annotation ids, got a {type(content).__name__}")
        self._codes: dict[str, Codes] = {str(name): codes for name, codes in content.items()}
        self.forms = {name: self._form(name, codes) for name, codes in self._codes.items()}

    def __getitem__(self, name: str) -> Codes:
        return self._codes[name]


class JsonMasks(MaskTable):
    """A mask dictionary in a JSON file, which must not change. Raises UserError if it holds anything else."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._file = LazyJson(path)
        self._spans: dict[str, Span] = {}
        kind = self._file.kind(self._file.root)
        if kind != "object":
            raise UserError(
                f"{path}: expected an object {{annotation id: [RLE or null per frame]}}, got {kind}"
            )
        for name, span in self._file.items(self._file.root):
            self.forms[name], self._spans[name] = self._form(name, self._file.value(span)), span

    def __getitem__(self, name: str) -> Codes:
        codes: Codes = self._file.value(self._spans[name])
        return codes


def open_mask_table(path: Path) -> MaskTable:
    """Open a mask dictionary, ``.json`` or ``.pkl``.

    Raises:
        UserError: If the file is not of that form.
    """
    if path.suffix == ".json":
        return JsonMasks(path)
    if path.suffix == ".pkl":
        return PickledMasks(path)
    raise UserError(f"a mask dictionary must end in .json or .pkl, got {path}")
