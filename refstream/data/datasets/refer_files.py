"""The files of the RefCOCO family as lichengunc/refer has them, read for training and for evaluation alike.

A dataset is a folder with ``instances.json`` in COCO's form and a list of refs: a pickle made by Python 2
(RefCOCO, RefCOCO+, RefCOCOg) or JSON (gRefCOCO). Nothing is judged here beyond the form of the files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from refstream.data.datasets.reading import expect, read_object
from refstream.data.pickles import load_plain_pickle
from refstream.errors import UserError

FOLDERS = {
    "refcoco": "refcoco",
    "refcoco_plus": "refcoco+",
    "refcoco+": "refcoco+",
    "refcocog": "refcocog",
}
SPLIT_BY = {"refcoco": "unc", "refcoco+": "unc", "refcocog": "umd"}
Entries = dict[int, dict[str, Any]]
"""Entries of ``instances.json`` by id."""


def folder_of(name: str) -> str:
    """The folder of a dataset of the family. Raises UserError for another name."""
    if name not in FOLDERS:
        raise UserError(f"name must be one of {sorted(FOLDERS)}, got {name!r}")
    return FOLDERS[name]


def refs_of_split(path: Path, split: str, ann_kind: type = int) -> list[dict[str, Any]]:
    """The refs of a split, in the order of the file.

    Args:
        path: ``refs(unc).p`` and the like, or ``.json``.
        split: As the refs have it.
        ann_kind: Of ``ann_id``: int, or list for gRefCOCO.

    Raises:
        UserError: If the file is of another form, or there is no such split.
    """
    content = load_plain_pickle(path) if path.suffix == ".p" else _read_json(path)
    refs: list[dict[str, Any]] = expect(content, list, f"{path}")
    for i, ref in enumerate(refs):
        expect(ref, dict, f"{path}, entry {i}")
        for key, kind in (("ref_id", int), ("ann_id", ann_kind), ("image_id", int), ("split", str)):
            expect(ref.get(key), kind, f"{path}, entry {i}, {key}")
        expect(ref.get("sentences"), list, f"{path}, entry {i}, sentences")
    found = [ref for ref in refs if ref["split"] == split]
    if not found:
        raise UserError(f"{path} has no split {split!r}; it has {sorted({ref['split'] for ref in refs})}")
    return found


def read_instances(path: Path, image_ids: set[int], ann_ids: set[int]) -> tuple[Entries, Entries]:
    """Images and annotations of ``instances.json``, by id, less what is not asked for.

    Raises:
        UserError: If the file, or an entry asked for, is of another form.
    """
    content = read_object(path)
    needed: dict[str, tuple[set[int], dict[str, Any]]] = {
        "images": (image_ids, {"file_name": str, "height": int, "width": int}),
        "annotations": (ann_ids, {"image_id": int, "segmentation": (list, dict)}),
    }
    found: dict[str, Entries] = {}
    for key, (ids, fields) in needed.items():
        entries = expect(content.get(key), list, f"{path}: {key}")
        rows = (expect(entry, dict, f"{path}: {key}") for entry in entries)
        found[key] = {row["id"]: row for row in rows if row.get("id") in ids}
        for entry in found[key].values():
            for name, kind in fields.items():
                if not isinstance(entry.get(name), kind):
                    raise UserError(f"{path}: {key} {entry['id']} has no proper {name!r}")
    return found["images"], found["annotations"]


def image_folder(root: Path, folder: Path, images: str) -> Path:
    """Where the pictures lie: in the dataset's own folder, or beside the datasets.

    Raises:
        UserError: If they lie in neither.
    """
    places = [folder / images, root / images]
    for place in places:
        if place.is_dir():
            return place
    raise UserError(f"no pictures at {places[0]} nor at {places[1]}; COCO's train2014 belongs there")


def words(sentence: Any) -> str:
    """The words of a sentence with single spaces; UTF-8 that Python 2 stored as bytes is read as such."""
    text = sentence.get("sent") if isinstance(sentence, Mapping) else None
    if not isinstance(text, str):
        return ""
    if not text.isascii():
        with suppress(UnicodeError):  # it was text all along
            text = text.encode("latin1").decode("utf-8")
    return " ".join(text.split())


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}); is the download complete?") from error
