"""Large JSON lists: records are found where they are, without loading the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refstream.data.datasets import json_rows
from refstream.data.datasets.json_rows import JsonRows
from refstream.errors import UserError

RECORDS = [
    {},
    {"a": "é漢😀", "b": [1, {"c": None}]},
    {"quote": '\\"}], [{', "escape": "\u0001\n"},
    {"long": "x" * 300, "ü": "]"},
]


@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 20])
@pytest.mark.parametrize("style", [{}, dict(indent=2), dict(ensure_ascii=False), dict(separators=(",", ":"))])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf", b"\r\n\t "])
def test_records_are_found_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, style: dict[str, Any], start: bytes
) -> None:
    monkeypatch.setattr(json_rows, "CHUNK", chunk)
    monkeypatch.setattr(json_rows, "LONGEST", 4000)
    path = tmp_path / "list.json"
    path.write_bytes(start + json.dumps(RECORDS, **style).encode() + b"\n")
    rows = JsonRows(path)
    assert list(rows.scan()) == RECORDS
    assert [rows[i] for i in range(len(rows))] == RECORDS
    some = rows.only(np.array([False, True, False, True]))
    assert [some[i] for i in range(len(some))] == RECORDS[1::2]


@pytest.mark.parametrize("content", ["[]", " [ ] \n"])
def test_an_empty_list_has_no_records(tmp_path: Path, content: str) -> None:
    path = tmp_path / "list.json"
    path.write_text(content)
    assert list(JsonRows(path).scan()) == []


@pytest.mark.parametrize(
    "content",
    [
        *(
            b"",
            b"{}",
            b'{"id": 1}\n{"id": 2}',
            b'[{"id": 1}',
            b'[{"id": 1}, ',
            b'[{"id": 1}, {"id"',
            b"[1, 2]",
        ),
        *(
            b'[{"id": 1} {"id": 2}]',
            b"[,]",
            b'[{"a": "\xff"}]',
            b"version https://git-lfs.github.com/spec/v1",
        ),
    ],
)
def test_files_of_another_form_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "list.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"list\.json is not"):
        list(JsonRows(path).scan())


def test_a_file_that_changed_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text(json.dumps(RECORDS))
    rows = JsonRows(path)
    list(rows.scan())
    path.write_text(json.dumps(RECORDS)[5:])
    with pytest.raises(UserError, match="has changed"):
        [rows[i] for i in range(len(rows))]
