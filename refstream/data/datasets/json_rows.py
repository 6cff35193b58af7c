"""The records of a large JSON list, read from disk one by one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from refstream.errors import UserError

CHUNK = 1 << 24  # bytes read at a time
LONGEST = 8 * CHUNK  # of a record
SEPARATOR = re.compile(r"[ \t\r\n]*(\[[ \t\r\n]*\]|[\[\],])[ \t\r\n]*")
BYTE_ORDER_MARK = "\xef\xbb\xbf"


class JsonRows:
    """A JSON list of objects of which only the place of each is held in memory.

    Scanning reads the file once, record by record. Afterwards a record is read from its place when it is
    asked for, so copies in other processes cost 16 bytes per record and share the file in the system cache.

    Args:
        path: A UTF-8 file that holds one JSON list of objects.

    Raises:
        UserError: If there is no such file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise UserError(f"no file at {path}; see data/README.md for where it belongs")
        self._places = np.zeros((0, 2), dtype=np.int64)

    def scan(self) -> Iterator[Any]:
        """All records in order, whose places are known once the last has been given.

        Raises:
            UserError: If the file is no JSON list, or ends in the middle.
        """
        places: list[int] = []
        for record, start, end in self._records():
            places += (start, end)
            yield record
        self._places = np.array(places, dtype=np.int64).reshape(-1, 2)

    def only(self, kept: np.ndarray) -> JsonRows:
        """The records for which (N,) bool is True."""
        chosen = JsonRows(self.path)
        chosen._places = self._places[kept]
        return chosen

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Any:
        """Record ``index``, as it was scanned. Raises UserError if the file has changed since."""
        start, end = map(int, self._places[index])
        with self.path.open("rb") as file:
            file.seek(start)
            text = file.read(end - start)
        try:
            return json.loads(text)
        except ValueError as error:
            raise UserError(f"{self.path} has changed since it was opened; start again") from error

    def _records(self) -> Iterator[tuple[Any, int, int]]:
        """Record, and its first and last byte (exclusive).

        The file is read as latin1, in which one character is one byte and the signs of JSON are the same, so
        that places are counted right; records with other letters are read again as UTF-8.
        """
        decode = json.JSONDecoder().raw_decode
        with self.path.open(encoding="latin-1", newline="") as file:
            text, base, at, expected = file.read(len(BYTE_ORDER_MARK)), 0, 0, "["
            if text == BYTE_ORDER_MARK:
                text, base = "", len(BYTE_ORDER_MARK)
            while True:
                match = SEPARATOR.match(text, at)
                if match and (match[1] == "]" if expected == "," else match[1].endswith("]")):
                    return
                try:
                    if match is None or match[1] != expected or text[match.end() : match.end() + 1] != "{":
                        raise ValueError(f"expected {expected!r} and an object")
                    record, end = decode(text, match.end())
                except ValueError as error:  # broken, or not yet read to its end
                    more = file.read(CHUNK) if len(text) - at < LONGEST else ""
                    if not more:
                        raise UserError(
                            f"{self.path} is not a JSON list of objects, from byte {base + at} on ({error}); "
                            "is the download complete?"
                        ) from error
                    text, base, at = text[at:] + more, base + at, 0
                    continue
                start, raw = match.end(), text[match.end() : end]
                yield record if raw.isascii() else self._reread(raw, base + start), base + start, base + end
                at, expected = end, ","

    def _reread(self, raw: str, place: int) -> Any:
        try:
            return json.loads(raw.encode("latin-1"))
        except ValueError as error:
            raise UserError(f"{self.path} is not UTF-8 at byte {place} ({error})") from error
