"""JSON files too large to hold: values are found by their place in the file and parsed when asked for.

The file is mapped, not read: processes share its pages, and the system drops those that nobody uses. So it
must stay as it is while it is open; a change is an error.
"""

from __future__ import annotations

import json
import mmap
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from refstream.errors import UserError

Span = tuple[int, int]
"""First byte of a value, and the first behind it."""
_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_MARK = re.compile(_STRING + rb"|[\[\]{}]", re.DOTALL)
_KEY = re.compile(rb"[ \t\r\n]*(" + _STRING + rb")[ \t\r\n]*:[ \t\r\n]*", re.DOTALL)
_SCALAR = re.compile(_STRING + rb"|[-+.\w]+", re.DOTALL)
_SPACE = re.compile(rb"[ \t\r\n]*")
_OPEN, _CLOSE = b"[{", b"]}"


class LazyJson:
    """A JSON file, UTF-8, of which single values are read. Survives pickling and forking.

    Args:
        path: The file.
        state: Of the file when its places were found: size, time of change, number; None: as it is now.

    Raises:
        UserError: If it cannot be opened, is empty, or is in another state.
    """

    def __init__(self, path: Path, state: tuple[int, ...] | None = None) -> None:
        self.path = path
        try:
            self._state = self._now() if state is None else state
            self._check_state()
            with open(path, "rb") as file:
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except UserError:
            raise
        except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
            raise UserError(f"{path} cannot be read as JSON ({error}); is the file complete?") from error

    def __reduce__(self) -> tuple[type[LazyJson], tuple[Path, tuple[int, ...]]]:
        return type(self), (self.path, self._state)

    @property
    def root(self) -> Span:
        """The whole file's value; what stands behind its end is looked at when its items are."""
        return self._space(0), len(self._bytes)

    def kind(self, span: Span) -> str:
        """What a value is: "object", "array" or "scalar"."""
        first = self._bytes[span[0] : span[0] + 1]
        return {b"{": "object", b"[": "array"}.get(first, "scalar")

    def value(self, span: Span) -> Any:
        """Parse a value. Raises UserError if it is not valid JSON, or the file has changed."""
        self._check_state()
        return self._parsed(span)

    def _parsed(self, span: Span) -> Any:
        try:
            return json.loads(self._bytes[slice(*span)])
        except ValueError as error:
            raise self._broken(span[0], str(error)) from error

    def items(self, span: Span) -> Iterator[tuple[str, Span]]:
        """The keys of an object with the places of their values, which are not parsed.

        Raises:
            UserError: If it is no object, ends early, or has a key twice.
        """
        position = self._opened(span, b"{")
        seen: set[str] = set()
        while not self._closed(position, b"}"):
            match = _KEY.match(self._bytes, position)
            if match is None:
                raise self._broken(position, "expected a key")
            key = self._parsed(match.span(1))
            if key in seen:
                raise self._broken(position, f"the key {key!r} occurs twice")
            seen.add(key)
            end = self._end(match.end())
            yield key, (match.end(), end)
            position = self._next(end, b"}")
        self._check_tail(span, position + 1)

    def elements(self, span: Span) -> Iterator[Span]:
        """The places of an array's elements. Raises UserError if it is no array, or ends early."""
        position = self._opened(span, b"[")
        while not self._closed(position, b"]"):
            end = self._end(position)
            yield position, end
            position = self._next(end, b"]")
        self._check_tail(span, position + 1)

    def _now(self) -> tuple[int, ...]:
        state = os.stat(self.path)
        return state.st_size, state.st_mtime_ns, state.st_ino

    def _check_state(self) -> None:
        try:
            same = self._now() == self._state
        except FileNotFoundError:
            same = False
        if not same:
            raise UserError(
                f"{self.path} was changed while it was being read; begin again once it is finished"
            )

    def _end(self, start: int) -> int:
        """The first byte behind the value at ``start``."""
        if self._bytes[start : start + 1] not in (b"{", b"["):
            match = _SCALAR.match(self._bytes, start)
            if match is None:
                raise self._broken(start, "expected a value")
            return match.end()
        depth = 0
        for match in _MARK.finditer(self._bytes, start):
            mark = self._bytes[match.start()]
            if mark in _OPEN:
                depth += 1
            elif mark in _CLOSE:
                depth -= 1
                if depth == 0:
                    return match.end()
        raise self._broken(start, "the value that begins here does not end")

    def _opened(self, span: Span, mark: bytes) -> int:
        if self._bytes[span[0] : span[0] + 1] != mark:
            raise self._broken(span[0], f"expected {'an object' if mark == b'{' else 'an array'}")
        return self._space(span[0] + 1)

    def _closed(self, position: int, mark: bytes) -> bool:
        return self._bytes[position : position + 1] == mark

    def _next(self, end: int, close: bytes) -> int:
        """The next item, or the closing mark."""
        position = self._space(end)
        if self._closed(position, close):
            return position
        if not self._closed(position, b","):
            raise self._broken(position, f"expected ',' or {close.decode()!r}")
        position = self._space(position + 1)
        if self._closed(position, close):
            raise self._broken(position, "nothing follows the comma")
        return position

    def _check_tail(self, span: Span, end: int) -> None:
        if self._space(end) < span[1]:
            raise self._broken(end, "something follows the end")

    def _space(self, position: int) -> int:
        match = _SPACE.match(self._bytes, position)
        return match.end() if match else position

    def _broken(self, position: int, problem: str) -> UserError:
        found = bytes(self._bytes[position : position + 20])
        return UserError(
            f"{self.path} is not valid JSON, at byte {position} of {len(self._bytes)} ({found!r}): "
            f"{problem}; is the file complete?"
        )
