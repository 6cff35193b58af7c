"""Mask dictionaries: ``{annotation id: [COCO RLE or null, one per sorted frame]}``, as JSON or pickle.

The files are large (MeViS: 411 MB) and every loading process holds one. So the text of a JSON file is kept as
text, in which an annotation is parsed when it is asked for: forked worker processes share the text, while of
parsed objects each would soon hold a copy, as counting references writes to them.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refstream.data.pickles import load_plain_pickle
from refstream.data.rle import RLE
from refstream.errors import UserError

Codes = list[RLE | None]
_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"\s*")


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
    """A mask dictionary in a JSON file. Raises UserError if it holds anything else."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._spans: dict[str, tuple[int, int]] = {}
        try:
            self._text = path.read_text(encoding="utf-8")
            for name, codes, span in self._entries():
                self.forms[name], self._spans[name] = self._form(name, codes), span
        except UserError:
            raise
        except (ValueError, IndexError) as error:
            raise UserError(
                f"{path} is not a JSON object {{annotation id: [RLE or null per frame]}} ({error}); "
                "is the download complete?"
            ) from error

    def __getitem__(self, name: str) -> Codes:
        start, end = self._spans[name]
        codes: Codes = json.loads(self._text[start:end])
        return codes

    def _entries(self) -> Iterator[tuple[str, Any, tuple[int, int]]]:
        """Yield (annotation id, codes, (first character, end)) without holding more than one."""
        text, position = self._text, self._after("{", self._after("", 0))
        while text[position] != "}":
            name, position = _DECODER.raw_decode(text, position)
            start = self._after(":", self._after("", position))
            codes, end = _DECODER.raw_decode(text, start)
            yield str(name), codes, (start, end)
            position = self._after("", end)
            if text[position] != "}":
                position = self._after(",", position)

    def _after(self, mark: str, position: int) -> int:
        """The first position behind ``mark`` and white space."""
        if not self._text.startswith(mark, position):
            found = self._text[position : position + 1]
            raise ValueError(f"expected {mark!r} at character {position}, got {found!r}")
        match = _SPACE.match(self._text, position + len(mark))
        return match.end() if match else position


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
