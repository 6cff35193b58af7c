"""Files that people need and downloads lack: dictionaries of masks, and the foreground of ReVOS."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from refstream.data import rle
from refstream.data.datasets.clip_masks import read_labels
from refstream.data.datasets.mask_table import MaskTable, open_mask_table
from refstream.data.datasets.reading import dataset_file, dataset_root, expect, read_object, relative_path
from refstream.data.datasets.video_expressions import listed_annotations
from refstream.data.layouts.common import Codes, encode_visible, running_mask_dict
from refstream.data.pickles import dump_plain_pickle
from refstream.errors import UserError
from refstream.files import write_json

Advance = Callable[[], object]
MASK_DICTS = {
    "davis17": {"valid": "valid/mask_dict.pkl", "train": "train/mask_dict.pkl"},
    "rvos": {"train": "mask_dict.pkl", "valid": "valid/mask_dict.pkl", "test": "test/mask_dict.pkl"},
}
"""Layout -> split -> where the papers' code looks for the dictionary of masks."""


@dataclass
class Prepared:
    """What was made.

    Attributes:
        path: The file or folder.
        counts: What was written -> how many.
        notes: What was odd: problem -> where.
    """

    path: Path
    counts: dict[str, int] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)

    def note(self, problem: str, where: str) -> None:
        """Remember something odd."""
        self.notes.setdefault(problem, []).append(where)


def prepare_mask_dict(
    root: str | Path,
    layout: str,
    split: str,
    out: str | Path | None = None,
    *,
    expression_file: str | None = None,
    annotation_folder: str | None = None,
    overwrite: bool = False,
    progress: Advance | None = None,
) -> Prepared:
    """Write the dictionary of masks of Ref-DAVIS17 or Ref-YouTube-VOS from its pictures of object numbers.

    Its keys are a running number over the sorted videos and their expression ids sorted as text; a frame
    without the object is None.

    Args:
        root: Folder of the dataset.
        layout: "davis17" or "rvos".
        split: Official name.
        out: File ending in ``.pkl`` or ``.json``; by default where the papers' code looks (``MASK_DICTS``).
        expression_file: Inside ``root``; by default ``meta_expressions/<split>/meta_expressions.json``.
        annotation_folder: Inside ``root``; by default ``<split>/Annotations``.
        overwrite: Replace a file that is there.
        progress: Called after each video.

    Raises:
        UserError: If a file is missing or of another form, or ``out`` is there already.
    """
    if layout not in MASK_DICTS or split not in MASK_DICTS[layout]:
        known = "; ".join(f"{name}: {', '.join(splits)}" for name, splits in MASK_DICTS.items())
        raise UserError(f"expected a layout and one of its splits ({known}), got {layout!r}, {split!r}")
    folder = dataset_root(root, "meta_expressions and Annotations")
    path = folder / MASK_DICTS[layout][split] if out is None else Path(out)
    _refuse(path, overwrite, (".pkl", ".json"))
    list_path = dataset_file(folder, expression_file or f"meta_expressions/{split}/meta_expressions.json")
    pictures = dataset_root(
        folder / (annotation_folder or f"{split}/Annotations"), "<video>/<frame>.png of object numbers"
    )
    prepared = Prepared(path)
    codes = {}
    for video, record in _records(list_path):
        codes[video] = codes_of_expressions(pictures, video, record, prepared)
        if progress is not None:
            progress()
    content = running_mask_dict(codes)
    prepared.counts = {"videos": len(codes), "expressions": len(content)}
    if path.suffix == ".json":
        write_json(path, content, indent=None)
    else:
        dump_plain_pickle(path, content)
    return prepared


def codes_of_expressions(
    pictures: Path, video: str, record: Mapping[str, Any], prepared: Prepared
) -> dict[str, Codes]:
    """Expression id -> one code or None per frame, from the pictures of a video.

    Args:
        pictures: Holds a folder per video.
        video: Its name.
        record: Its entry of the expressions file, with ``frames`` and ``expressions``.
        prepared: Gets notes of frames without a picture, and of objects that no frame shows.

    Raises:
        UserError: If an expression names no object, or the pictures are of several sizes.
    """
    where = f"video {video!r}"
    frames = [
        relative_path(f, f"{where}, a frame") for f in expect(record.get("frames"), list, f"{where}, frames")
    ]
    labels: list[np.ndarray | None] = []
    for frame in frames:
        path = pictures / video / f"{frame}.png"
        labels.append(read_labels(path) if path.is_file() else None)
        if labels[-1] is None:
            prepared.note("frame without a picture of masks", str(path))
    sizes = {label.shape for label in labels if label is not None}
    if len(sizes) > 1:
        raise UserError(f"masks in {pictures / video} are of several sizes: {sorted(sizes)}")
    by_object: dict[int, Codes] = {}
    result = {}
    for key, entry in expect(record.get("expressions"), dict, f"{where}, key 'expressions'").items():
        number = str(expect(entry, dict, f"{where}, expression {key}").get("obj_id"))
        if not number.isdecimal() or not 0 < int(number) < 255:
            raise UserError(f"{where}, expression {key}: expected an obj_id in 1..254, got {number!r}")
        if int(number) not in by_object:
            by_object[int(number)] = _codes(labels, int(number))
            if not any(by_object[int(number)]):
                prepared.note("object that no frame shows", f"{video}, object {number}")
        result[key] = by_object[int(number)]
    return result


def prepare_revos_foreground(
    root: str | Path,
    out: str | Path | None = None,
    *,
    mask_file: str = "mask_dict.json",
    expression_files: Sequence[str] | None = None,
    overwrite: bool = False,
    progress: Advance | None = None,
) -> Prepared:
    """Write ``mask_dict_foreground.json``: per video the union of all instances that an expression names.

    Args:
        root: Folder of ReVOS.
        out: By default ``mask_dict_foreground.json`` in ``root``.
        mask_file: Inside ``root``.
        expression_files: Inside ``root``; by default those of train and valid that are there.
        overwrite: Replace a file that is there.
        progress: Called after each video.

    Raises:
        UserError: If a file is missing or of another form, or ``out`` is there already.
    """
    folder = dataset_root(root, "meta_expressions_valid_.json and mask_dict.json")
    path = folder / "mask_dict_foreground.json" if out is None else Path(out)
    _refuse(path, overwrite, (".json",))
    if expression_files is None:
        splits = [f"meta_expressions_{split}_.json" for split in ("train", "valid")]
        expression_files = [name for name in splits if (folder / name).is_file()] or splits[1:]
    lists = [dataset_file(folder, name) for name in expression_files]
    table = open_mask_table(dataset_file(folder, mask_file))
    content: dict[str, Any] = {}
    for list_path in lists:
        for video, record in _records(list_path):
            content[video] = _foreground(table, video, record, f"{list_path}, video {video!r}")
            if progress is not None:
                progress()
    write_json(path, content, indent=None)
    return Prepared(path, {"videos": len(content)})


def _foreground(table: MaskTable, video: str, record: Mapping[str, Any], where: str) -> dict[str, Any]:
    frames = expect(record.get("frames"), list, f"{where}, key 'frames'")
    named: set[str] = set()
    for key, entry in expect(record.get("expressions"), dict, f"{where}, key 'expressions'").items():
        here = f"{where}, expression {key}"
        named |= {str(i) for i in listed_annotations(expect(entry, dict, here), here) or ()}
    for name in sorted(named):
        form = table.forms.get(name)
        if form is None or form.num_frames != len(frames):
            found = "none" if form is None else str(form.num_frames)
            raise UserError(f"{where}: annotation {name} needs {len(frames)} masks, {table.path} has {found}")
    size = _size(record, {size for name in named for size in table.forms[name].sizes}, where)
    union = np.zeros((len(frames), *size), dtype=bool)
    for name in sorted(named):
        try:
            union |= rle.decode_clip(table[name], size)
        except ValueError as error:
            raise UserError(f"{where}, annotation {name} of {table.path}: {error}") from error
    return {"masks_rle": rle.encode_clip(union), "foreground_ratio": [float(mask.mean()) for mask in union]}


def _size(record: Mapping[str, Any], sizes: set[tuple[int, ...]], where: str) -> tuple[int, int]:
    height, width = record.get("height"), record.get("width")
    if isinstance(height, int) and isinstance(width, int):
        return height, width
    if len(sizes) == 1:
        height, width = next(iter(sizes))
        return height, width
    raise UserError(f"{where}: expected height and width, or masks of one size; got sizes {sorted(sizes)}")


def _codes(labels: Sequence[np.ndarray | None], number: int) -> Codes:
    there = [label for label in labels if label is not None]
    codes = iter(encode_visible(np.stack(there) == number) if there else ())
    return [None if label is None else next(codes) for label in labels]


def _records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    videos = expect(read_object(path).get("videos"), dict, f"{path}, key 'videos'")
    for video, record in videos.items():
        where = f"{path}, video {video!r}"
        yield relative_path(video, where), expect(record, dict, where)


def _refuse(path: Path, overwrite: bool, suffixes: tuple[str, ...]) -> None:
    if path.suffix not in suffixes:
        raise UserError(f"the file to write must end in {' or '.join(suffixes)}, got {path}")
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists; choose another file, or allow it to be overwritten")
