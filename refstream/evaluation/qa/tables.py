"""Rows of question files: JSON, JSONL or Parquet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from refstream.data.datasets.reading import expect
from refstream.errors import UserError

Row = dict[str, Any]


def read_rows(path: Path) -> list[Row]:
    """A list of objects from a ``.json``, ``.jsonl`` or ``.parquet`` file.

    Raises:
        UserError: If the file is missing, broken or holds something else, or Parquet cannot be read here.
    """
    if not path.is_file():
        raise UserError(f"no file {path}; see docs/benchmarks_qa.md for where it belongs")
    if path.suffix == ".parquet":
        rows = _parquet(path)
    else:
        text = path.read_text(encoding="utf-8")
        try:
            lines = path.suffix == ".jsonl"
            rows = (
                [json.loads(line) for line in text.splitlines() if line.strip()]
                if lines
                else json.loads(text)
            )
        except ValueError as error:
            raise UserError(f"{path} is not valid JSON ({error}); is the download complete?") from error
    rows = expect(rows, list, f"{path}")
    return [expect(row, dict, f"{path}, entry {number}") for number, row in enumerate(rows)]


def first_file(root: Path, *patterns: str) -> Path:
    """The first file under a folder that fits one of the patterns, tried in order.

    Raises:
        UserError: If none fits; names what was tried.
    """
    for pattern in patterns:
        found = sorted(path for path in root.glob(pattern) if path.is_file())
        if found:
            return found[0]
    raise UserError(
        f"none of {', '.join(patterns)} in {root}; get the files of the benchmark from its authors and see "
        "docs/benchmarks_qa.md for where they belong"
    )


def take(row: Row, key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """A value of a row. Raises UserError if it is not there or of another type (a bool is no number)."""
    value = row.get(key)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        names = kind.__name__ if isinstance(kind, type) else " or ".join(k.__name__ for k in kind)
        got = f"{str(value)[:60]!r}" if key in row else "nothing"
        raise UserError(f"{where}: expected {key!r} to be {names}, got {got}")
    return value


def strings(row: Row, key: str, where: str, *, least: int = 2) -> tuple[str, ...]:
    """A list of at least ``least`` strings of a row. Raises UserError for anything else."""
    values = take(row, key, list, where)
    if len(values) < least or not all(isinstance(value, str) for value in values):
        raise UserError(f"{where}: expected {key!r} to be {least} or more texts, got {str(values)[:60]!r}")
    return tuple(values)


def _parquet(path: Path) -> list[Row]:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise UserError(
            f"reading {path} needs pyarrow: pip install pyarrow, or give the questions as JSON"
        ) from error
    try:
        rows: list[Row] = parquet.read_table(path).to_pylist()
    except (OSError, ValueError) as error:  # pyarrow's errors are both
        raise UserError(f"{path} is no readable Parquet file ({error}); is the download complete?") from error
    return rows
