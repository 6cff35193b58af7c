"""Is a dataset fit to be evaluated on? What is missing, misaligned, misspelt, unreadable or of another size.

Everything found is reported, not only the first: a run of hours should not be what discovers it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import refstream.data.datasets  # noqa: F401  registers the training datasets
from refstream.data.names import near
from refstream.errors import UserError
from refstream.evaluation.benchmark import EvalVideo, MaskBenchmark
from refstream.evaluation.benchmarks import BENCHMARKS, entry_of, load_benchmark
from refstream.evaluation.check_videos import check_video_files
from refstream.evaluation.findings import CheckReport, Findings
from refstream.evaluation.official_counts import official_counts
from refstream.evaluation.readers.video_files import VideoFiles
from refstream.registry import DATASETS

NUM_TRUTHS = 20
"""Videos, evenly spaced, whose masks are decoded unless all are asked for."""
Advance = Callable[[], object]


def check_dataset(
    name: str,
    root: str | Path | None = None,
    split: str | None = None,
    *,
    all_pictures: bool = False,
    subset: bool = False,
    progress: Advance | None = None,
    **options: Any,
) -> CheckReport:
    """Check a benchmark, or the tree of a training dataset.

    Args:
        name: Of the table of benchmarks, or of a registered training dataset such as "MeViSDataset".
        root: Its folder; None: where the papers' trees have it.
        split: Official name; None: the one that is scored. Training datasets have none.
        all_pictures: Decode every picture and mask, not only a sample of them.
        subset: It is meant to be smaller than the official one: counts are not held against it.
        progress: Called after each video.
        options: Of the reader.

    Raises:
        UserError: If there is no benchmark or dataset of that name, or no such split.
    """
    if name not in BENCHMARKS and name in DATASETS.module_dict:
        return check_training(name, root, split, **options)
    if name not in BENCHMARKS:
        known = sorted(BENCHMARKS) + sorted(DATASETS.module_dict)
        guess = near(name, known)
        hint = f"did you mean {guess}?" if guess else f"available: {', '.join(known)}"
        raise UserError(f"no benchmark or dataset is called {name!r}; {hint}")
    entry = entry_of(name)
    if split is not None and split not in entry.splits:
        raise UserError(f"{name} has no split {split!r}; it has {', '.join(entry.splits)}")
    place = Path(root) if root is not None else Path(entry.root or ".")
    findings = Findings()
    try:
        benchmark = load_benchmark(name, root=root, split=split, **options)
    except UserError as error:
        _cannot_open(findings, place, error)
        return findings.report(name, split or entry.splits[0], place)
    return check_benchmark(
        benchmark, place, findings, all_pictures=all_pictures, subset=subset, progress=progress
    )


def check_benchmark(
    benchmark: MaskBenchmark,
    root: Path,
    findings: Findings | None = None,
    *,
    all_pictures: bool = False,
    subset: bool = False,
    progress: Advance | None = None,
) -> CheckReport:
    """Check a benchmark that is open; see ``check_dataset``."""
    findings = Findings() if findings is None else findings
    _check_words(benchmark, findings)
    if isinstance(benchmark, VideoFiles):
        check_video_files(benchmark, findings, all_pictures=all_pictures)
    spaced = max(1, -(-len(benchmark.videos) // NUM_TRUTHS))
    for number, video in enumerate(benchmark.videos):
        if all_pictures or number % spaced == 0:
            _check_truth(benchmark, video, findings)
            if all_pictures or not isinstance(benchmark, VideoFiles):
                _check_pictures(benchmark, video, findings)
        if progress is not None:
            progress()
    if not subset:
        _check_counts(benchmark, findings)
    return findings.report(benchmark.name, benchmark.split, root)


def check_training(
    name: str, root: str | Path | None = None, split: str | None = None, **options: Any
) -> CheckReport:
    """Open a training dataset and report what it would leave out.

    Raises:
        UserError: If it does not lie in one folder.
    """
    kind: Any = DATASETS.get(name)
    takes = inspect.signature(kind).parameters
    if "root" not in takes or not hasattr(kind, "report"):
        raise UserError(f"{name} is not read from one folder, so it cannot be checked here")
    options = dict(options) | ({} if root is None else {"root": root})
    if split is not None:
        if "split" not in takes:
            raise UserError(f"{name} has no splits; leave out --split and name the split's folder")
        options["split"] = split
    place = Path(str(options.get("root", takes["root"].default)))
    findings = Findings()
    try:
        report = kind(**options).report()
    except UserError as error:
        _cannot_open(findings, place, error)
        return findings.report(name, split or "train", place)
    for reason, entry in report.pop("left_out").items():
        findings.add("left out", reason, *entry["first"], count=entry["count"])
    findings.facts = {key: value for key, value in report.items() if key not in ("dataset", "root")}
    return findings.report(name, split or "train", place)


def _cannot_open(findings: Findings, place: Path, error: UserError) -> None:
    """Say why it cannot be opened, and what lies there in place of what was expected."""
    findings.add("missing" if str(error).startswith("no ") else "form", "it cannot be opened", str(error))
    if place.is_dir():
        names = sorted(path.name for path in place.iterdir())
        findings.note("what lies in the folder", ", ".join(names[:20]) + (", ..." if len(names) > 20 else ""))
        return
    siblings = (
        [path.name for path in place.parent.iterdir() if path.is_dir()] if place.parent.is_dir() else []
    )
    if guess := near(place.name, siblings):
        findings.add(
            "misspelt", "a folder has another name", f"{place} is not there, but {guess} is beside it"
        )


def _check_words(benchmark: MaskBenchmark, findings: Findings) -> None:
    """Numbers of things, and expressions without words or twice."""
    ids: set[str] = set()
    for video in benchmark.videos:
        if video.id in ids:
            findings.add("form", "video listed twice", video.id)
        ids.add(video.id)
        if not video.expressions:
            findings.add("missing", "video without expressions", video.id)
        keys = [expression.id for expression in video.expressions]
        for key in sorted({key for key in keys if keys.count(key) > 1}):
            findings.add("form", "expression listed twice", f"{video.id}/{key}")
        for expression in video.expressions:
            if not expression.text.strip():
                findings.add("missing", "expression without words", f"{video.id}/{expression.id}")
    groups: dict[str, int] = {}
    for video in benchmark.videos:
        for expression in video.expressions:
            groups[expression.group] = groups.get(expression.group, 0) + 1
    findings.facts |= {
        "videos": len(benchmark.videos),
        "expressions": benchmark.num_expressions,
        "frames": sum(len(video.frames) for video in benchmark.videos),
    }
    if set(groups) != {""}:
        findings.facts["groups"] = groups


def _check_truth(benchmark: MaskBenchmark, video: EvalVideo, findings: Findings) -> None:
    """Decode the masks of a video, one after the other."""
    for expression in video.expressions:
        try:
            truth = benchmark.truth(video, expression)
        except UserError as error:
            findings.add("masks", "masks that cannot be used", str(error))
            continue
        if truth is None:
            findings.facts["truth"] = "not public"
            return
        if truth.shape[0] != len(video.scored_frames):
            found = f"{truth.shape[0]} masks for {len(video.scored_frames)} frames"
            findings.add("misaligned", "masks that do not fit the frames", f"{video.id}: {found}")
        if video.size is not None and truth.shape[1:] != video.size:
            found = f"masks {truth.shape[1:]}, video {video.size}"
            findings.add("misaligned", "masks of another size than the video", f"{video.id}: {found}")


def _check_pictures(benchmark: MaskBenchmark, video: EvalVideo, findings: Findings) -> None:
    """Decode all frames of a video."""
    count = 0
    try:
        for _ in benchmark.images(video):
            count += 1
    except UserError as error:
        findings.add("unreadable", "frame that cannot be read", str(error))
        return
    if count != len(video.frames):
        findings.add(
            "misaligned", "another number of frames", f"{video.id}: {count}, not {len(video.frames)}"
        )


def _check_counts(benchmark: MaskBenchmark, findings: Findings) -> None:
    """Hold the sizes against the official ones; where those are assumed, a difference is a note."""
    official = official_counts(benchmark.name, benchmark.split)
    if official is None:
        findings.note("official counts", f"none are known for {benchmark.name} {benchmark.split}")
        return
    for what, count in official.counts.items():
        found = findings.facts.get(what)
        assumed = ", assumed" if official.assumed else ""
        findings.counts.append(
            {"what": what, "found": found, "official": count, "source": official.source + assumed}
        )
        if found == count:
            continue
        text = f"{found} {what}, officially {count} ({official.source}{assumed})"
        if official.assumed:
            findings.note("another size than the official split", text)
        else:
            findings.add("count", "another size than the official split", text)
