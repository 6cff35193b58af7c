"""Submission files: a zip of pictures of 0 and 255, one per expression and frame, checked once it is written.

Forms: MeViS wants the folders of videos at the top of the zip (README of henghuiding/MeViS); Ref-YouTube-VOS
wants a single folder ``Annotations`` that holds them (its CodaLab page, by way of ReferFormer, CVPR 2022).
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from refstream.errors import UserError
from refstream.evaluation.benchmark import Altered, EvalExpression, EvalVideo, MaskBenchmark
from refstream.evaluation.predictions.base import Predictions
from refstream.evaluation.predictions.frames import brief
from refstream.evaluation.predictions.inventory import Inventory, inventory
from refstream.files import atomic_file

FORMS = {"videos": "", "annotations": "Annotations/"}
"""Name -> folder of the zip that holds the folders of videos; "": they are at the top."""
REFUSE, EMPTY = "refuse", "empty"
TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say: equal masks give equal bytes
LARGEST_HEADER, MAX_BYTES_PER_PIXEL = 2**16, 8  # of a PNG that is worth decoding
END = b"IEND\xaeB`\x82"  # the last chunk of every PNG; Pillow does not miss it
NUM_DECODED_PROBLEMS = 20
Progress = Callable[[str, int, int], None]
"""Called with what is being done, and the numbers of steps done and in all."""


class Member(NamedTuple):
    """One picture of a submission.

    Attributes:
        name: Inside the zip.
        size: (H, W) of its frame.
    """

    name: str
    size: tuple[int, int]


@dataclass(frozen=True)
class Submission:
    """What was written.

    Attributes:
        path: The zip.
        num_files: Pictures in it.
        num_bytes: Of the zip.
        inventory: What the predictions lacked; those masks are empty.
    """

    path: Path
    num_files: int
    num_bytes: int
    inventory: Inventory


def submission_folder(form: str) -> str:
    """The folder of the zip that holds the videos. Raises UserError if there is no such form."""
    if form not in FORMS:
        raise UserError(f"a submission's form is one of {', '.join(FORMS)}; got {form!r}")
    return FORMS[form]


def write_submission(
    predictions: Predictions,
    benchmark: MaskBenchmark,
    out: str | Path,
    *,
    form: str = "videos",
    missing: str = REFUSE,
    progress: Progress | None = None,
) -> Submission:
    """Write a zip and check it; equal masks give equal bytes. One expression's masks are in memory at a time.

    It has every frame of a video, also where only some of them can be scored here.

    Args:
        predictions: The masks.
        benchmark: Lists what is expected.
        out: The zip; appears whole and checked, or not at all.
        form: Of ``FORMS``.
        missing: "refuse" an incomplete set, or put "empty" masks where there are none.
        progress: See ``Progress``.

    Raises:
        UserError: If predictions are missing and may not be, or do not fit their frames.
        OutputError: If the zip cannot be written; an earlier one at ``out`` is then as it was.
    """
    folder, benchmark = submission_folder(form), _whole(benchmark)
    if missing not in (REFUSE, EMPTY):
        raise UserError(f"missing is {REFUSE} or {EMPTY}, got {missing!r}")
    held = inventory(predictions, benchmark)
    if missing == REFUSE:
        held.require_complete("the submission", "To submit empty masks in place of it, use --missing empty")
    if not held.found.expressions:
        raise UserError(f"no prediction fits {benchmark.name} {benchmark.split}: {held}")
    out = Path(out)
    with atomic_file(out) as part:
        num_files = _write(part, folder, predictions, benchmark, progress)
        problems = check_submission(part, benchmark, form=form, progress=progress)
        if problems:
            raise UserError(f"{out} was not written, as it came out wrong: {'; '.join(problems)}")
    return Submission(out, num_files, out.stat().st_size, held)


def check_submission(
    path: str | Path, benchmark: MaskBenchmark, *, form: str = "videos", progress: Progress | None = None
) -> list[str]:
    """What is wrong with a zip, in words; nothing if a server would take it.

    Every picture is decoded. A folder too much or too little at the top is said once, and the rest is checked
    as if it were right.

    Args:
        path: The zip, of whatever tool.
        benchmark: Lists what is expected.
        form: Of ``FORMS``.
        progress: See ``Progress``.

    Raises:
        UserError: If there is no such file, or it is no zip.
    """
    folder, benchmark = submission_folder(form), _whole(benchmark)
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no file {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            return _problems(archive, benchmark, folder, progress)
    except zipfile.BadZipFile as error:
        raise UserError(f"{path} is not a readable zip ({error}); is it complete?") from error


def _whole(benchmark: MaskBenchmark) -> MaskBenchmark:
    """The benchmark as the server sees it: all frames count."""
    return Altered(benchmark, [replace(video, scored=None) for video in benchmark.videos])


def members(benchmark: MaskBenchmark, folder: str) -> Iterator[Member]:
    """All pictures that a submission must have, in the order in which they are written."""
    for video, size in _videos(benchmark):
        for expression in _expressions(video):
            for frame in sorted(video.frames):
                yield Member(_name(folder, video, expression, frame), size)


def _videos(benchmark: MaskBenchmark) -> Iterator[tuple[EvalVideo, tuple[int, int]]]:
    """Videos by name, with the (H, W) of their frames, from their first picture unless known."""
    for video in sorted(benchmark.videos, key=lambda video: video.id):
        size = video.size
        if size is None:
            image = next(iter(benchmark.images(video)))
            size = (image.shape[0], image.shape[1])
        yield video, size


def _expressions(video: EvalVideo) -> list[EvalExpression]:
    return sorted(video.expressions, key=lambda expression: expression.id)


def _name(folder: str, video: EvalVideo, expression: EvalExpression, frame: str) -> str:
    return f"{folder}{video.id}/{expression.id}/{frame}.png"


def _write(
    path: Path,
    folder: str,
    predictions: Predictions,
    benchmark: MaskBenchmark,
    progress: Progress | None,
) -> int:
    num_files = num_done = 0
    with zipfile.ZipFile(path, "w") as archive:
        for video, size in _videos(benchmark):
            order = sorted(range(len(video.frames)), key=lambda k: video.frames[k])
            for expression in _expressions(video):
                found = predictions.read(video, expression, size)
                masks = np.zeros((len(order), *size), dtype=bool) if found is None else found.masks
                for k in order:
                    name = _name(folder, video, expression, video.frames[k])
                    archive.writestr(_entry(name), _png(masks[k]), zipfile.ZIP_STORED)
                num_files, num_done = num_files + len(order), num_done + 1
                if progress is not None:
                    progress("writing", num_done, benchmark.num_expressions)
    return num_files


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, TIME)
    entry.create_system, entry.external_attr = 3, 0o644 << 16  # Unix, on every system
    return entry


def _png(mask: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def _problems(
    archive: zipfile.ZipFile, benchmark: MaskBenchmark, folder: str, progress: Progress | None
) -> list[str]:
    files = [entry for entry in archive.infolist() if not entry.is_dir()]
    found = {entry.filename: entry for entry in files}
    problems = []
    if len(found) != len(files):
        problems.append(f"{len(files) - len(found)} files are there twice")
    expected = {member.name: member.size for member in members(benchmark, folder)}
    if found and not found.keys() & expected.keys():
        shift, problem = _shift(found, expected, folder)
        if problem:
            problems.append(problem)
            meant = {shift(name): name for name in expected}
            found = {meant.get(name, name): entry for name, entry in found.items()}
    lacking = [name for name in expected if name not in found]
    strange = [name for name in found if name not in expected]
    if lacking:
        problems.append(f"{len(lacking)} of {len(expected)} files are missing: {brief(lacking)}")
    if strange:
        problems.append(f"{len(strange)} files should not be there: {brief(strange)}")
    wrong = []
    there = [name for name in expected if name in found]
    for number, name in enumerate(there):
        if flaw := _flaw(archive, found[name], expected[name]):
            wrong.append(f"{found[name].filename}: {flaw}")
        if progress is not None:
            progress("checking", number + 1, len(there))
    problems += wrong[:NUM_DECODED_PROBLEMS]
    if len(wrong) > NUM_DECODED_PROBLEMS:
        problems.append(f"and {len(wrong) - NUM_DECODED_PROBLEMS} more pictures are wrong")
    return problems


def _shift(
    found: dict[str, zipfile.ZipInfo], expected: dict[str, tuple[int, int]], folder: str
) -> tuple[Callable[[str], str], str]:
    """How a zip with wrong folders at the top calls a member, and what to say of it; "" if they are right."""
    bare = {name.removeprefix(folder) for name in expected}
    for name in found:
        parts = name.split("/")
        for depth in range(len(parts)):
            if "/".join(parts[depth:]) in bare:
                top = "/".join([*parts[:depth], ""]) if depth else ""

                def shift(name: str, top: str = top) -> str:
                    return top + name.removeprefix(folder)

                here = f"they are in {top!r}" if top else "they are at the top"
                wanted = f"in the single folder {folder!r}" if folder else "at the top of the zip"
                return shift, f"the folders of videos must be {wanted}, and {here}"
    return lambda name: name, ""


def _flaw(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, size: tuple[int, int]) -> str:
    """What is wrong with a picture; "" if nothing is."""
    if entry.file_size > MAX_BYTES_PER_PIXEL * size[0] * size[1] + LARGEST_HEADER:
        return f"{entry.file_size} bytes are too many for a mask of {size}"
    try:
        data = archive.read(entry)
        with Image.open(io.BytesIO(data)) as image:
            if image.format != "PNG":
                return f"expected a PNG, got {image.format}"
            if image.mode != "L":
                return f"expected 8-bit grey 0/255, got mode {image.mode}"
            if (image.height, image.width) != size:
                return f"expected the size of its frame, {size}, got {(image.height, image.width)}"
            values = np.asarray(image)
            if not data.endswith(END):
                return "not a readable picture (it does not end as a PNG does)"
    except Exception as error:  # Pillow's plugins and zlib raise anything on corrupt data
        return f"not a readable picture ({type(error).__name__}: {error})"
    return "" if np.isin(values, (0, 255)).all() else f"expected 0 and 255 only, got {_values(values)}"


def _values(picture: np.ndarray) -> str:
    return brief([str(value) for value in np.unique(picture)])
