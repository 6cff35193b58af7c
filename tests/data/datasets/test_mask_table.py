"""Mask dictionaries: the same entries as a plain JSON or pickle reader gives, whatever the spacing."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from refstream.data.datasets.mask_table import open_mask_table
from refstream.errors import UserError

ENTRIES = {
    "0": [{"size": [4, 6], "counts": 'a\\Y4<Qj"{}[]:,5'}, None],  # whatever JSON escapes or uses as a mark
    "10": [],
    "2": [None, {"counts": [3, 4, 17], "size": [4, 6]}],
}


@pytest.mark.parametrize("indent", [None, 0, 3])
def test_json_entries_are_those_of_the_file(tmp_path: Path, indent: int | None) -> None:
    path = tmp_path / "mask_dict.json"
    path.write_text("\n " + json.dumps(ENTRIES, indent=indent) + "\n", encoding="utf-8")
    table = open_mask_table(path)
    assert {name: table[name] for name in table.forms} == ENTRIES


@pytest.mark.parametrize("suffix", ["json", "pkl"])
def test_forms_tell_lengths_and_sizes(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mask_dict.{suffix}"
    path.write_bytes(json.dumps(ENTRIES).encode() if suffix == "json" else pickle.dumps(ENTRIES))
    forms = open_mask_table(path).forms
    assert {name: form.num_frames for name, form in forms.items()} == {"0": 2, "10": 0, "2": 2}
    assert {name: set(form.sizes) for name, form in forms.items()} == {
        "0": {(4, 6)},
        "10": set(),
        "2": {(4, 6)},
    }


def test_pickled_ids_may_be_numbers(tmp_path: Path) -> None:
    path = tmp_path / "mask_dict.pkl"
    path.write_bytes(pickle.dumps({7: [None]}))
    assert open_mask_table(path)["7"] == [None]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("mask_dict.pkl", pickle.dumps([1]), "expected a dict of annotation ids, got a list"),
        ("mask_dict.pkl", pickle.dumps({"1": "x"}), "annotation 1: expected a list of RLE or null"),
        ("mask_dict.json", b'{"1" [null]}', "at byte 1 of 12 .* expected a key"),
        ("mask_dict.json", b'{"1": [null] "2": []}', "at byte 13 of 21 .* expected ','"),
        ("mask_dict.json", b"\xff\xfe", "expected an object .* got scalar"),
        ("mask_dict.txt", b"{}", r"must end in \.json or \.pkl"),
    ],
)
def test_other_forms_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        open_mask_table(tmp_path / name)
