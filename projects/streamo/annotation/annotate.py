"""Videos -> raw annotations: one part per video, kept, so that a run that was cut off can go on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from refstream.data.datasets.reading import LeftOut
from refstream.errors import UserError, VideoError
from refstream.files import write_json
from refstream.images import IMAGE_SUFFIXES
from refstream.stream_records import StreamRecord

from ..records import TASKS, parse_record, raw_row, write_raw
from . import prompts
from .captioners import Captioner
from .checks import KINDS, Finding, count_findings
from .offline_qa import OfflineQuestion, by_video, to_records
from .tasks import INSTRUCTIONS, Annotator, TaskOptions
from .watching import watch

VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".flv"})

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AnnotateOptions:
    """What is annotated, and how videos are read.

    Attributes:
        tasks: Some of ``records.TASKS``.
        fps: Frames per second that a captioner is shown.
        scan_fps: Frames per second in which changes are looked for.
        max_side: Longest side of the frames shown; None keeps their size.
        folder_fps: Rate of folders of frames; None is 24.
        change_threshold: Of ``changes.find_changes``; None adapts to the video.
        motion_threshold: Of ``changes.find_motion``; None is its floor.
        how: Of the tasks.

    Raises:
        UserError: For an unknown task, or none.
    """

    tasks: tuple[str, ...] = TASKS
    fps: float = 1.0
    scan_fps: float = 4.0
    max_side: int | None = 448
    folder_fps: float | None = None
    change_threshold: float | None = None
    motion_threshold: float | None = None
    how: TaskOptions = field(default_factory=TaskOptions)

    def __post_init__(self) -> None:
        if not self.tasks or set(self.tasks) - set(TASKS):
            raise UserError(
                f"tasks must be some of {', '.join(TASKS)}, got {', '.join(self.tasks) or 'none'}"
            )


@dataclass(frozen=True)
class VideoPart:
    """What is known of one video.

    Attributes:
        video: Its name in the records.
        duration_s: Its length.
        records: Its annotations.
        findings: What was mended or left out.
    """

    video: str
    duration_s: float
    records: list[StreamRecord]
    findings: list[Finding]

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "video": self.video,
            "duration_s": self.duration_s,
            "records": [raw_row(record) for record in self.records],
            "findings": [finding.to_json() for finding in self.findings],
        }

    @classmethod
    def from_json(cls, content: dict[str, Any], where: str) -> VideoPart:
        """Read what ``to_json`` wrote. Raises UserError, KeyError or TypeError for anything else."""
        records = [parse_record(row, where) for row in content["records"]]
        findings = [Finding(**row) for row in content["findings"]]
        return cls(content["video"], float(content["duration_s"]), records, findings)


def find_videos(path: str | Path) -> dict[str, Path]:
    """The videos at a path: name in the records -> where it is.

    A file is one video and so is a folder that holds pictures. Any other folder is searched, with all folders
    in it, for video files and for folders of pictures; their names are paths relative to it, with "/".

    Raises:
        UserError: If there is nothing, or no video in it.
    """
    path = Path(path)
    if path.is_file() or (path.is_dir() and _holds_pictures(path)):
        return {path.resolve().name: path}
    if not path.is_dir():
        raise UserError(f"no video or folder at {path}")
    found: dict[str, Path] = {}
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        here = Path(folder)
        if here != path and _holds_pictures(here):
            found[here.relative_to(path).as_posix()] = here
        for name in files:
            if Path(name).suffix.lower() in VIDEO_SUFFIXES and not name.startswith("."):
                found[(here / name).relative_to(path).as_posix()] = here / name
    if not found:
        raise UserError(f"no video in {path}: expected files such as .mp4 or .mkv, or folders of pictures")
    return dict(sorted(found.items()))


def annotate_videos(
    videos: dict[str, Path],
    out: str | Path,
    captioner: Captioner | None,
    options: AnnotateOptions | None = None,
    questions: list[OfflineQuestion] | None = None,
    advance: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """Annotate videos and write raw annotations; what is there from an earlier run is not done again.

    Writes ``out``, a report beside it (``<stem>.report.json``) and a folder of parts (``<name>.parts``): a
    part is used again while the video, the captioner, the options and the questions are the same, also after
    ``out`` was written. A video that cannot be read is named in a warning and in the report; the others go
    on.

    Args:
        videos: Name in the records -> file or folder of frames.
        out: The JSON file to write.
        captioner: Who looks at the videos; None annotates the questions only.
        options: How.
        questions: Offline questions to be taken over.
        advance: Called with the name of each video that is done.

    Returns:
        The report.

    Raises:
        UserError: If there is nothing to do, or nothing came out of it.
    """
    options, out = options or AnnotateOptions(), Path(out)
    if captioner is None and not questions:
        raise UserError("nothing to annotate with: expected a captioner, questions, or both")
    rows, homeless = by_video(questions or [], list(videos))
    left_out = LeftOut()
    for row in homeless:
        left_out.add("question about another video", row.where)
    parts: list[VideoPart] = []
    for name, path in videos.items():
        file = out.with_name(f"{out.name}.parts") / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.json"
        try:
            key = _key(path, captioner, options, rows[name])
            part = _saved(file, key)
            if part is None:
                part = annotate(path, name, captioner, options, rows[name])
                write_json(file, {"key": key, **part.to_json()})
            parts.append(part)
        except VideoError as error:
            log.warning("left out: %s", error)
            left_out.add("video that cannot be read", f"{name}: {error}")
        advance(name)
    records = [record for part in parts for record in part.records]
    left_out.close("annotation", out, len(records))
    report = _report(parts, left_out, len(videos), captioner, options)
    write_raw(out, records)
    write_json(out.with_suffix(".report.json"), report)
    return report


def annotate(
    path: Path,
    name: str,
    captioner: Captioner | None,
    options: AnnotateOptions,
    questions: list[OfflineQuestion],
) -> VideoPart:
    """Annotate one video; see ``annotate_videos``. Raises VideoError if it cannot be read."""
    with watch(
        path,
        name,
        fps=options.fps,
        scan_fps=options.scan_fps,
        max_side=options.max_side,
        folder_fps=options.folder_fps if path.is_dir() else None,
        change_threshold=options.change_threshold,
        motion_threshold=options.motion_threshold,
    ) as video:
        records: list[StreamRecord] = []
        findings: list[Finding] = []
        if captioner is not None:
            annotator = Annotator(video, captioner, options.how)
            for task in options.tasks:
                records += annotator.records(task)
            findings = annotator.findings
        taken, found = to_records(questions, name, video.duration_s, options.how.limits)
        return VideoPart(name, video.duration_s, records + taken, findings + found)


def _holds_pictures(folder: Path) -> bool:
    return any(
        path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") for path in folder.iterdir()
    )


def _key(
    path: Path, captioner: Captioner | None, options: AnnotateOptions, rows: list[OfflineQuestion]
) -> str:
    """Changes whenever a video would be annotated otherwise: the video, who looks, how, and the words."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    try:
        stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    except OSError as error:
        raise VideoError(path, f"cannot be read ({error.strerror})") from error
    words = [prompts.NARRATION, prompts.EVENT, prompts.ACTION, prompts.QUESTION]
    words += [prompts.answer_to("?"), prompts.verify("?")]
    plain_rows = [{**dataclasses.asdict(row), "where": ""} for row in rows]
    who = None if captioner is None else captioner.name
    everything = [stats, who, dataclasses.asdict(options), plain_rows, words, INSTRUCTIONS]
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()


def _saved(file: Path, key: str) -> VideoPart | None:
    """The part that an earlier run has written for the same key."""
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["key"] == key:
            return VideoPart.from_json(content, str(file))
        log.info("%s: annotated with other options before; done again", content["video"])
    except (ValueError, KeyError, TypeError) as error:
        log.warning("%s cannot be used (%s: %s); its video is done again", file, type(error).__name__, error)
    return None


def _report(
    parts: list[VideoPart],
    left_out: LeftOut,
    num_videos: int,
    captioner: Captioner | None,
    options: AnnotateOptions,
) -> dict[str, Any]:
    findings = [finding for part in parts for finding in part.findings]
    records = [record for part in parts for record in part.records]
    return {
        "videos": num_videos,
        "annotated": len(parts),
        "hours": sum(part.duration_s for part in parts) / 3600,
        "captioner": None if captioner is None else captioner.name,
        "options": dataclasses.asdict(options),
        "records": dict(sorted(Counter(record.task for record in records).items())),
        "answers": dict(sorted(Counter(r.task for r in records for _ in r.answers).items())),
        "left_out": left_out.report(),
        "findings": {
            kind: {"count": count, "meaning": KINDS[kind]} for kind, count in count_findings(findings).items()
        },
        "per_video": [
            {
                "video": part.video,
                "duration_s": part.duration_s,
                "records": len(part.records),
                "findings": [finding.to_json() for finding in part.findings],
            }
            for part in parts
        ],
    }
