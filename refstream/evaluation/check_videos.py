"""What can be wrong with folders of frames and their masks; every folder is listed, headers are read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from refstream.data import rle
from refstream.data.datasets.clip_masks import CodedMasks
from refstream.data.names import near
from refstream.errors import UserError
from refstream.evaluation.benchmark import EvalVideo
from refstream.evaluation.findings import Findings
from refstream.evaluation.readers.ref_davis17 import NUM_ANNOTATORS, RefDAVIS17Benchmark
from refstream.evaluation.readers.ref_youtube_vos import RefYouTubeVOSBenchmark
from refstream.evaluation.readers.revos import ReVOSBenchmark
from refstream.evaluation.readers.video_files import EXTENSION, LabelPictures, VideoFiles, picture_size
from refstream.images import read_image

MAX_GUESSES = 50
"""Missing names for which a similar one is looked up."""


def check_video_files(benchmark: VideoFiles, findings: Findings, *, all_pictures: bool = False) -> None:
    """Frames, masks and what is special about a benchmark.

    Args:
        benchmark: Open.
        findings: Is filled.
        all_pictures: Also compare every video's dictionary of masks with its pictures, not only the first of
            each object.
    """
    _check_folders(benchmark, findings)
    for video in benchmark.videos:
        _check_order(benchmark, video, findings)
        _check_masks(benchmark, video, findings)
    for picture in (p for p in (getattr(benchmark, "pictures", None), benchmark.masks) if p is not None):
        if isinstance(picture, LabelPictures):
            _check_label_pictures(benchmark, picture, findings)
            break
    if isinstance(benchmark, RefDAVIS17Benchmark):
        _check_davis(benchmark, findings)
    elif isinstance(benchmark, ReVOSBenchmark):
        _check_foreground(benchmark, findings)
    elif isinstance(benchmark, RefYouTubeVOSBenchmark):
        _check_youtube(benchmark, findings)
    absent = sum(bool(e.details.get("no_target")) for video in benchmark.videos for e in video.expressions)
    if absent:
        findings.facts["expressions without a target"] = absent


def _check_folders(benchmark: VideoFiles, findings: Findings) -> None:
    """Folders and frames: missing, misspelt, of several sizes, unreadable, or not listed."""
    root = benchmark.image_folder
    if not root.is_dir():
        findings.add("missing", "folder of frames", str(root))
        return
    expected = {video.id for video in benchmark.videos}
    spare = sorted(set(_folders_below(root, expected)) - expected)
    guesses = 0
    for video in benchmark.videos:
        if not (root / video.id).is_dir():
            guesses += 1
            guess = near(video.id, spare) if guesses <= MAX_GUESSES else None
            if guess:
                text = f"{root / video.id} is not there; is {guess} meant?"
                findings.add("misspelt", "folder of a video", text)
            else:
                findings.add("missing", "folder of a video", str(root / video.id))
            continue
        _check_frames(benchmark, video, findings)
    if spare:
        findings.note("folders of frames that no list names", *spare)


def _folders_below(root: Path, expected: set[str]) -> Iterator[str]:
    """Names of the folders that lie where those expected lie, relative to ``root``."""
    for parent in sorted({name.rpartition("/")[0] for name in expected}):
        place = root / parent
        if place.is_dir():
            inside = (path for path in place.iterdir() if path.is_dir())
            yield from (f"{parent}/{path.name}" if parent else path.name for path in inside)


def _check_frames(benchmark: VideoFiles, video: EvalVideo, findings: Findings) -> None:
    folder = benchmark.image_folder / video.id
    there = set(os.listdir(folder))
    stems = {Path(name).stem: name for name in sorted(there)}
    present: list[Path] = []
    for path in benchmark.frame_paths(video):
        if path.name in there or path.is_file():
            present.append(path)
        elif path.stem in stems:
            findings.add("misspelt", "frame", f"{path} is not there; {stems[path.stem]} is")
        else:
            findings.add("missing", "frame", str(path))
    extra = len({stem for stem, name in stems.items() if name.endswith(EXTENSION)} - set(video.frames))
    if extra:
        findings.note("frames that the list does not name", f"{video.id}: {extra}")
    _check_sizes(video, present, findings)


def _check_sizes(video: EvalVideo, present: list[Path], findings: Findings) -> None:
    """Headers of all frames, and three of them decoded."""
    size, named = video.size, "its masks or its entry"
    sample = {0, len(present) // 2, len(present) - 1}
    for number, path in enumerate(present):
        try:
            found = read_image(path).shape[:2] if number in sample else picture_size(path)
        except UserError as error:
            findings.add("unreadable", "frame", str(error))
            continue
        if size is None:
            size, named = (found[0], found[1]), path.name
        if found != size:
            text = f"{path} is of size {found}, {named} of {size}"
            findings.add("misaligned", "frame of another size", text)


def _check_order(benchmark: VideoFiles, video: EvalVideo, findings: Findings) -> None:
    if isinstance(benchmark.masks, CodedMasks) and benchmark.listed[video.id].frames != video.frames:
        findings.add(
            "misaligned",
            "frames listed out of order: evaluation takes masks in the order of the list, as the official "
            "scorers do, training in the order of names",
            video.id,
        )


def _check_masks(benchmark: VideoFiles, video: EvalVideo, findings: Findings) -> None:
    """Annotations that are not there or of another form, by the index of the masks alone."""
    if benchmark.masks is None:
        return
    listed, never = benchmark.listed[video.id], []
    for expression in video.expressions:
        ids, where = benchmark.annotations[video.id, expression.id], f"{video.id}/{expression.id}"
        if ids is None:
            findings.add("missing", "expression that names no masks, unlike others of the file", where)
            continue
        if problem := benchmark.masks.problem(listed, ids):
            kind = "misaligned" if "masks than" in problem or "sizes" in problem else "missing"
            findings.add(kind, problem.removeprefix("expression with "), f"{where}: {', '.join(ids)}")
        elif isinstance(benchmark.masks, CodedMasks):
            forms = benchmark.masks.table.forms
            never += [where] if ids and not any(forms[i].sizes for i in ids) else []
    if never:
        findings.note("targets that no frame shows", *never)


def _check_label_pictures(benchmark: VideoFiles, pictures: LabelPictures, findings: Findings) -> None:
    """Pictures of object numbers: missing, of another kind or size than the frames."""
    expected = {video.id for video in benchmark.videos}
    spare = [name for name in _folders_below(pictures.folder, expected) if name not in expected]
    for video in benchmark.videos:
        folder = pictures.folder / video.id
        if not folder.is_dir():
            guess = near(video.id, spare)
            kind, text = ("misspelt", f"; is {guess} meant?") if guess else ("missing", "")
            findings.add(kind, "folder of masks", f"{folder}{text}")
            continue
        there = set(os.listdir(folder))
        absent = [frame for frame in video.scored_frames if f"{frame}.png" not in there]
        findings_of = [str(folder / f"{frame}.png") for frame in absent]
        if findings_of:
            findings.add("missing", "picture of masks", *findings_of)
        extra = {name.removesuffix(".png") for name in there if name.endswith(".png")} - set(video.frames)
        if extra:
            text = f"{video.id}: {len(extra)} more masks than frames, such as {min(extra)}.png"
            findings.add("misaligned", "masks without a frame in the list", text)
        _check_label_sizes(
            benchmark, video, [folder / f"{f}.png" for f in video.frames if f"{f}.png" in there], findings
        )


def _check_label_sizes(
    benchmark: VideoFiles, video: EvalVideo, paths: list[Path], findings: Findings
) -> None:
    for path in paths:
        frame = benchmark.image_folder / video.id / f"{path.stem}{EXTENSION}"
        try:
            size = picture_size(path)
            other = picture_size(frame) if frame.is_file() else size
        except UserError as error:
            findings.add("unreadable", "picture of masks", str(error))
            continue
        if size != other:
            findings.add(
                "misaligned", "mask of another size than its frame", f"{path}: {size}, frame {other}"
            )


def _check_davis(benchmark: RefDAVIS17Benchmark, findings: Findings) -> None:
    """Four sentences for each object, which the pictures show where the dictionary has it."""
    objects = 0
    for video in benchmark.videos:
        numbers = [int(e.details["object"]) for e in video.expressions]
        objects += len(set(numbers))
        for number in sorted(set(numbers)):
            if numbers.count(number) != NUM_ANNOTATORS:
                text = f"{video.id}, object {number}: {numbers.count(number)}"
                findings.add("form", f"object without exactly {NUM_ANNOTATORS} sentences", text)
        if benchmark.pictures is not None:
            _check_davis_pictures(benchmark, video, findings)
    findings.facts["objects"] = objects
    if benchmark.pictures is None:
        findings.note("no pictures of masks", "the protocol davis-official cannot be scored")


def _check_davis_pictures(benchmark: RefDAVIS17Benchmark, video: EvalVideo, findings: Findings) -> None:
    assert benchmark.pictures is not None
    listed, first = benchmark.listed[video.id], benchmark.positions(video)[0]
    try:
        labels = benchmark.pictures.labels(listed, [first])[0]
    except UserError as error:
        findings.add("unreadable", "picture of masks", str(error))
        return
    masks = benchmark.masks
    for expression in video.expressions:
        number, where = int(expression.details["object"]), f"{video.id}/{expression.id}"
        shown = labels == number
        if not shown.any():
            findings.note("object that the first frame does not show", where)
        if not isinstance(masks, CodedMasks):
            continue
        code = masks.table[(benchmark.annotations[video.id, expression.id] or ("",))[0]][first]
        coded = np.zeros_like(shown) if code is None else rle.decode(code)
        if coded.shape != shown.shape or not np.array_equal(coded, shown):
            text = f"{where}, frame {listed.frames[first]}, object {number}"
            findings.add("misaligned", "mask that the dictionary and the picture have different", text)


def _check_foreground(benchmark: ReVOSBenchmark, findings: Findings) -> None:
    table = benchmark.foreground_masks
    if table is None:
        findings.note("no mask_dict_foreground.json", "the foreground is rebuilt from the masks")
        return
    for video in benchmark.videos:
        if video.id not in table.forms:
            findings.add("missing", "video in the foreground file", video.id)
        elif table.forms[video.id].num_frames != len(video.frames):
            text = f"{video.id}: {table.forms[video.id].num_frames} for {len(video.frames)} frames"
            findings.add("misaligned", "foreground of another number of frames", text)


def _check_youtube(benchmark: RefYouTubeVOSBenchmark, findings: Findings) -> None:
    findings.facts["list"] = benchmark.settings["list"]
    if benchmark.masks is None:
        findings.note("no masks", "valid and test are scored by the server; there is no local score")
        return
    left = sum(len(video.frames) - len(video.scored_frames) for video in benchmark.videos)
    if left:
        findings.note("frames without a picture of masks are not scored", str(left))
