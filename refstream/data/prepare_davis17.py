"""Ref-DAVIS17 in the layout of wjn922/ReferFormer, from the original DAVIS-2017 and the four text files.

Sources: DAVIS-2017 Unsupervised trainval 480p, and the texts of Khoreva et al., ACCV 2018: two
annotators who each saw the first frame and then the whole video. Lines are ``video object "sentence"``.
Expression 4 k + a is the sentence of file a for the k-th object.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from refstream.data.datasets.reading import dataset_file, dataset_root, expect, read_object, relative_path
from refstream.data.layouts.common import Codes, refuse_existing, running_mask_dict
from refstream.data.layouts.ref_davis17 import ANNOTATORS
from refstream.data.names import near
from refstream.data.pickles import dump_plain_pickle
from refstream.data.prepare import Advance, Prepared, codes_of_expressions
from refstream.errors import UserError
from refstream.files import write_json

MISSPELT = {"clasic-car": "classic-car", "dog-scale": "dogs-scale", "motor-bike": "motorbike"}
"""Names in the original texts -> names of the videos."""
IMAGE_SETS = {"train": "train.txt", "valid": "val.txt"}
Sentences = dict[str, dict[int, dict[int, str]]]
"""Video -> object -> number of the text file -> sentence."""


def prepare_ref_davis17(
    davis: str | Path,
    texts: str | Path,
    out: str | Path,
    split: str = "valid",
    *,
    copy: bool = False,
    annotations: str = "Annotations_unsupervised",
    progress: Advance | None = None,
) -> Prepared:
    """Build a split of Ref-DAVIS17.

    Writes ``<split>/{JPEGImages,Annotations}/<video>``, ``<split>/mask_dict.pkl``, ``<split>/meta.json`` if
    DAVIS comes with ``davis_semantics.json``, and last ``meta_expressions/<split>/meta_expressions.json``.

    Args:
        davis: Folder DAVIS: ``JPEGImages/480p``, ``Annotations_unsupervised/480p``, ``ImageSets/2017``.
        texts: Folder ``davis_text_annotations`` with the four files.
        out: Folder to write; may hold the other split.
        split: "valid" or "train".
        copy: Copy frames and pictures of masks; otherwise the folders are linked.
        annotations: Folder of the pictures of masks; the semi-supervised ones have other objects.
        progress: Called after each video.

    Raises:
        UserError: If files are missing, do not match each other, or the split is there already.
    """
    if split not in IMAGE_SETS:
        raise UserError(f"Ref-DAVIS17 has the splits {', '.join(IMAGE_SETS)}, got {split!r}")
    source = dataset_root(davis, f"JPEGImages/480p, {annotations}/480p and ImageSets/2017")
    index = Path(out) / "meta_expressions" / split / "meta_expressions.json"
    refuse_existing(index)
    prepared = Prepared(Path(out))
    names = _image_set(source, split)
    both = all((source / "ImageSets" / "2017" / file).is_file() for file in IMAGE_SETS.values())
    known = {video for name in IMAGE_SETS for video in _image_set(source, name)} if both else None
    sentences = read_sentences(Path(texts), known, prepared)
    absent = [video for video in names if video not in sentences]
    if absent:
        raise UserError(f"{texts} has no sentences for {len(absent)} videos of {split}, such as {absent[0]}")
    videos: dict[str, Any] = {}
    codes: dict[str, dict[str, Codes]] = {}
    for video in names:
        folders = _folders(source, annotations, video)
        videos[video] = {
            "expressions": _expressions(video, sentences),
            "frames": _frames(video, *folders.values()),
        }
        codes[video] = codes_of_expressions(folders["Annotations"].parent, video, videos[video], prepared)
        for name, folder in folders.items():
            _place(folder, Path(out) / split / name / video, copy=copy)
        if progress is not None:
            progress()
    _write_meta(source, Path(out) / split / "meta.json", videos)
    dump_plain_pickle(Path(out) / split / "mask_dict.pkl", running_mask_dict(codes))
    write_json(index, {"videos": videos}, indent=None)
    prepared.counts = {
        "videos": len(videos),
        "objects": sum(len(sentences[video]) for video in videos),
        "expressions": sum(len(record["expressions"]) for record in videos.values()),
    }
    return prepared


def read_sentences(folder: Path, known: set[str] | None, prepared: Prepared) -> Sentences:
    """The four text files.

    Args:
        folder: Holds them.
        known: Names of all videos that there are; None if not all are known: any name is let pass.
        prepared: Gets notes of sentences without quotation marks.

    Raises:
        UserError: If a line has another form, names no video, or repeats another.
    """
    dataset_root(folder, "the four text files Davis17_annot*.txt")
    sentences: Sentences = {}
    for a, (name, encoding) in enumerate(ANNOTATORS):
        path = dataset_file(folder, name, "the texts are those of Khoreva et al.; see docs/data.md")
        try:
            lines = path.read_text(encoding=encoding).splitlines()
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is not in {encoding}, as the original is ({error})") from error
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            video, label, text = _parse(line, where)
            if known is not None and video not in known:
                guess = near(video, known)
                hint = f"is {guess} meant?" if guess else "it is in no list of ImageSets/2017"
                raise UserError(f"{where}: there is no video {video!r}; {hint}")
            by_file = sentences.setdefault(video, {}).setdefault(label, {})
            if a in by_file:
                raise UserError(f"{where}: object {label} of {video} has a sentence already")
            if not (len(text) > 1 and text[0] == text[-1] == '"'):
                prepared.note("sentence without quotation marks", where)
            by_file[a] = text.removeprefix('"').removesuffix('"')
    return sentences


def _parse(line: str, where: str) -> tuple[str, int, str]:
    """(video, object, quoted sentence); white space becomes one blank, as in the published conversion."""
    words = line.split()
    if len(words) < 3 or not words[1].isdecimal():
        raise UserError(f'{where}: expected video object "sentence", got {line.strip()[:80]!r}')
    return MISSPELT.get(words[0], words[0]), int(words[1]), " ".join(words[2:])


def _image_set(source: Path, split: str) -> list[str]:
    path = dataset_file(source / "ImageSets" / "2017", IMAGE_SETS[split], "expected DAVIS-2017 trainval")
    names = path.read_text(encoding="utf-8").split()
    if not names:
        raise UserError(f"{path} lists no videos")
    return [relative_path(name, str(path)) for name in names]


def _expressions(video: str, sentences: Sentences) -> dict[str, dict[str, str]]:
    expressions: dict[str, dict[str, str]] = {}
    for label, by_file in sorted(sentences[video].items()):
        absent = [name for a, (name, _) in enumerate(ANNOTATORS) if a not in by_file]
        if absent:
            raise UserError(f"{', '.join(absent)} has no sentence for object {label} of {video}")
        for a in range(len(ANNOTATORS)):
            expressions[str(len(expressions))] = {"exp": by_file[a], "obj_id": str(label)}
    return expressions


def _folders(source: Path, annotations: str, video: str) -> dict[str, Path]:
    """Name in the new layout -> folder of a video in DAVIS."""
    folders = {}
    for name, kind in (("JPEGImages", "JPEGImages"), ("Annotations", annotations)):
        parent = dataset_root(source / kind / "480p", "a folder per video")
        if not (parent / video).is_dir():
            guess = near(video, [path.name for path in parent.iterdir()])
            raise UserError(f"no folder {parent / video}" + (f"; is {guess} meant?" if guess else ""))
        folders[name] = parent / video
    return folders


def _frames(video: str, images: Path, masks: Path) -> list[str]:
    """Names of the frames. Raises UserError unless each has a picture of masks, and the reverse."""
    frames = {path.stem for path in images.glob("*.jpg")}
    pictures = {path.stem for path in masks.glob("*.png")}
    if not frames or frames != pictures:
        odd = sorted(frames ^ pictures)
        found = f"such as {odd[0]}" if odd else "as there are none"
        raise UserError(f"{images} and {masks} do not hold the same frames of {video}, {found}")
    return sorted(frames)


def _place(source: Path, target: Path, *, copy: bool) -> None:
    """Link or copy a folder; one that is there already stays."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_symlink() and not target.exists():
        target.unlink()  # its target is gone
    if target.exists():
        if sorted(os.listdir(target)) != sorted(os.listdir(source)):
            raise UserError(f"{target} exists and holds other files than {source}; remove it")
    elif copy:
        part = target.with_name(f".{target.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(source, part)
        part.rename(target)
    else:
        target.symlink_to(source.resolve(), target_is_directory=True)


def _write_meta(source: Path, path: Path, videos: Mapping[str, Any]) -> None:
    """``meta.json``: the categories of the objects, for training code that wants them; not without them."""
    semantics = source / "davis_semantics.json"
    if not semantics.is_file():
        return
    categories = read_object(semantics)
    content = {}
    for video in videos:
        objects = expect(categories.get(video), dict, f"{semantics}, video {video!r}")
        content[video] = {"objects": {key: {"category": value} for key, value in objects.items()}}
    write_json(path, {"videos": content}, indent=None)
