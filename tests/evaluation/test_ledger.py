from __future__ import annotations

import pytest

from refstream.errors import OutputError, UserError
from refstream.evaluation.ledger import FolderLedger, MemoryLedger

NAMES = ["a", "set/video_0", "..", "x" * 300, "y" * 300, "é 中 %2F", ".hidden", "tilde~name"]


def test_any_name_can_be_an_item(tmp_path):
    for ledger in (MemoryLedger(), FolderLedger(tmp_path)):
        assert ledger.done() == set()
        for number, name in enumerate(NAMES):
            ledger.write(name, {"item": name, "number": number})
        assert ledger.done() == set(NAMES)
        assert [ledger.read(name)["number"] for name in NAMES] == list(range(len(NAMES)))
        assert ledger.read("none") is None
    assert {path.parent for path in tmp_path.rglob("*.json")} == {tmp_path, tmp_path / "items"}


def test_unfinished_files_do_not_count(tmp_path):
    ledger = FolderLedger(tmp_path)
    ledger.write("a", {"item": "a"})
    (tmp_path / "items" / ".b.json.77.part").write_text("{")
    assert ledger.done() == {"a"}


def test_another_key_is_refused(tmp_path):
    FolderLedger(tmp_path, {"model": "a", "size": (1, 2)})
    FolderLedger(tmp_path, {"size": [1, 2], "model": "a"})
    with pytest.raises(UserError, match="another run: model = a then, b now; choose another --out"):
        FolderLedger(tmp_path, {"model": "b", "size": (1, 2)})
    assert FolderLedger(tmp_path, must_exist=True).key == {"model": "a", "size": [1, 2]}


def test_what_differs_is_said_in_words(tmp_path):
    FolderLedger(tmp_path, {"data": "0" * 64, "benchmark": {"clips": 6, "seed": 0}})
    with pytest.raises(
        UserError, match="run: clips = 6 then, 4 now; data = contents 00000000 then, contents 1"
    ):
        FolderLedger(tmp_path, {"data": "1" * 64, "benchmark": {"clips": 4, "seed": 0}})
    with pytest.raises(UserError, match=r"e = none then, 0 now; and 1 more; choose another"):
        FolderLedger(tmp_path, {"data": "0" * 64, **dict.fromkeys("cdef", 0)})
    (tmp_path / "key.json").write_text('{"data": ')
    for options in ({}, {"must_exist": True}):
        with pytest.raises(UserError, match=r"key.json cannot be read .* begin anew with --fresh"):
            FolderLedger(tmp_path, **options)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file/run: cannot be written"):
        FolderLedger(tmp_path / "file" / "run")


def test_numbers_that_json_cannot_say_are_refused(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        FolderLedger(tmp_path).write("a", {"value": float("nan")})
    assert FolderLedger(tmp_path).done() == set()
