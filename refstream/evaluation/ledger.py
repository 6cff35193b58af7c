"""One file per finished item: what makes a run resumable.

A folder holds ``key.json`` (what produces the items: model, data, options) and ``items/<item>.json``. Each
file appears whole or not at all, so after any kill the finished items are exactly the files that are there.
Nothing waits for the disk: a power cut costs what the system had not yet written, and what it left torn is
dropped when the folder is opened again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, unquote

from refstream.errors import UserError
from refstream.files import atomic_write_text, output_error, write_json

END = b"}\n"  # of every record
log = logging.getLogger(__name__)
MAX_NAME = 180  # file systems allow 255 bytes; the writer adds some of its own
MAX_LISTED = 4  # of what differs between two runs
Record = dict[str, Any]


class Ledger(Protocol):
    """Records by the name of an item."""

    def done(self) -> set[str]:
        """Items that are finished."""
        ...

    def read(self, item: str) -> Record | None:
        """The record of an item, None if it is not finished."""
        ...

    def write(self, item: str, record: Mapping[str, Any]) -> None:
        """Finish an item."""
        ...


class MemoryLedger:
    """A ledger of this process alone."""

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}

    def done(self) -> set[str]:
        return set(self._records)

    def read(self, item: str) -> Record | None:
        return self._records.get(item)

    def write(self, item: str, record: Mapping[str, Any]) -> None:
        self._records[item] = dict(record)


class FolderLedger:
    """A ledger on disk, shared by all processes of a run.

    Args:
        folder: Made if missing.
        key: What the items depend on; JSON-serialisable. A folder that was begun with another key is refused.
        must_exist: Open an earlier run for reading; ``key`` is then not compared.

    Raises:
        UserError: If the folder holds items of another key, or is no ledger.
    """

    def __init__(
        self, folder: str | Path, key: Mapping[str, Any] | None = None, *, must_exist: bool = False
    ) -> None:
        self.folder = Path(folder)
        path = self.folder / "key.json"
        if must_exist:
            if not path.is_file():
                raise UserError(f"{self.folder} is no folder of a run: it has no key.json")
            self.key: dict[str, Any] = _read_key(path)
            return
        self.key = json.loads(json.dumps(dict(key or {}), sort_keys=True))
        try:
            (self.folder / "items").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(self.folder, error) from error
        if path.is_file():
            found = _read_key(path)
            if found != self.key:
                listed = list(_differences(found, self.key))
                more = f"; and {len(listed) - MAX_LISTED} more" if len(listed) > MAX_LISTED else ""
                differences = "; ".join(listed[:MAX_LISTED]) + more
                raise UserError(
                    f"{self.folder} holds results of another run: {differences}; choose another --out, or "
                    "begin anew with --fresh"
                )
            self._drop_torn()
        else:
            write_json(path, self.key)

    def done(self) -> set[str]:
        names = (name for name in os.listdir(self.folder / "items") if name.endswith(".json"))
        return {self._item(name) for name in names if not name.startswith(".")}

    def read(self, item: str) -> Record | None:
        path = self.path(item)
        if not path.is_file():
            return None
        record: Record = json.loads(path.read_text(encoding="utf-8"))
        return record

    def write(self, item: str, record: Mapping[str, Any]) -> None:
        """Raises OutputError if the disk is full; what was written before is intact."""
        text = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"
        atomic_write_text(self.path(item), text, durable=False)

    def path(self, item: str) -> Path:
        """The file of an item."""
        name = quote(item, safe="").replace("~", "%7E")
        name = f"%2E{name[1:]}" if name.startswith(".") else name
        if len(name) > MAX_NAME:
            name = f"{name[:100]}~{hashlib.sha256(item.encode()).hexdigest()}"
        return self.folder / "items" / f"{name}.json"

    def _drop_torn(self) -> None:
        for path in (self.folder / "items").glob("[!.]*.json"):
            with suppress(FileNotFoundError), open(path, "rb") as file:  # another process may be faster
                file.seek(max(0, os.fstat(file.fileno()).st_size - len(END)))
                if file.read() != END:
                    log.warning("%s is incomplete, as after a power cut; it is made again", path)
                    path.unlink()

    def _item(self, name: str) -> str:
        stem = name.removesuffix(".json")
        if "~" in stem:  # cut: the whole name is in the record
            record = json.loads((self.folder / "items" / name).read_text(encoding="utf-8"))
            return str(record["item"])
        return unquote(stem)


def _read_key(path: Path) -> dict[str, Any]:
    try:
        key = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(
            f"{path} cannot be read ({error}); choose another --out, or begin anew with --fresh"
        ) from error
    return key if isinstance(key, dict) else {}


def _differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What differs between two keys, in words."""
    for name in sorted(was.keys() | now.keys()):
        before, after = was.get(name), now.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _differences(before, after)
        elif before != after:
            yield f"{name} = {_short(before)} then, {_short(after)} now"


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return f"contents {text[:8]}" if re.fullmatch("[0-9a-f]{64}", text) else text[:60]
