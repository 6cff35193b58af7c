"""Raw annotations as streaming dialogues, in the published form of Streamo-Instruct.

python -m refstream_projects.streamo.compile RAW.json OUT.json --videos ROOT [--fps 1] [--release-compatible]

The length of each video comes from its header under ``--videos``, else from the record's ``duration``. With
``--release-compatible`` the turns are those of the public converter, its defects included (see ``release``).
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refstream.data.datasets.reading import LeftOut, dataset_root, read_array, relative_path
from refstream.errors import UserError
from refstream.video import open_video

from .clock import StreamClock
from .compiler import chunks, compile_record
from .records import parse_record, parse_time, record_name
from .release import compile_release, release_frame_count
from .states import RELEASE_TOKENS, STATES, parse_reply
from .stream_json import instruct_row, messages, system_prompt, write_rows
from .turn_frames import measure_video

COPIED = ("video_name", "task_type", "source")


@dataclass(frozen=True)
class CompileOptions:
    """How to compile a file.

    Attributes:
        fps: Turns per second.
        videos: Folder of the videos; None: records must have a ``duration``.
        release: Write what the public converter writes.
        max_turns: Cut longer dialogues into pieces of so many turns; None keeps them whole.
        overlap: Turns that a piece repeats of the one before.
        allow_unknown_tasks: Keep tasks that are none of the five.
        default_question: Asked by records without a question.
        skip_bad: Leave records out that cannot be used, and count them; else the first is an error.
        system: System message in place of ours.
        frames_fps: Rate of videos that are folders of frames.
    """

    fps: float = 1.0
    videos: Path | None = None
    release: bool = False
    max_turns: int | None = None
    overlap: int = 0
    allow_unknown_tasks: bool = False
    default_question: str | None = None
    skip_bad: bool = False
    system: str | None = None
    frames_fps: float | None = None


def compile_file(raw: str | Path, out: str | Path, options: CompileOptions) -> dict[str, Any]:
    """Compile a file of raw annotations.

    Returns:
        Counts of ``dialogues``, ``turns`` and of each state; ``left_out`` by reason.

    Raises:
        UserError: If the file or a record cannot be used; names file, record and field.
        OutputError: If the result cannot be written.
    """
    path = Path(raw)
    if not path.is_file():
        raise UserError(f"no file of raw annotations at {path}")
    if options.videos is not None:
        dataset_root(options.videos, "the videos of the records")
    counts, left_out = Counter[str](), LeftOut()

    def rows() -> Iterator[dict[str, Any]]:
        for number, row in enumerate(read_array(path)):
            where = record_name(path, number, row)
            try:
                compiled = (
                    _release_rows(row, where, options) if options.release else _rows(row, where, options)
                )
            except UserError as error:
                if not options.skip_bad:
                    raise
                left_out.add("record that cannot be used", str(error))
                continue
            for result in compiled:
                replies = [m["content"] for m in result["messages"] if m["role"] == "assistant"]
                counts.update(["dialogues"], turns=len(replies))
                counts.update(parse_reply(reply)[0] or "malformed" for reply in replies)
                yield result

    write_rows(out, rows())
    return {**{name: counts[name] for name in ("dialogues", "turns", *STATES)}, "left_out": left_out.report()}


def _rows(row: Any, where: str, options: CompileOptions) -> list[dict[str, Any]]:
    """A record as one dialogue, or as its pieces."""
    record = parse_record(
        row,
        where,
        allow_unknown_tasks=options.allow_unknown_tasks,
        default_question=options.default_question,
    )
    clock, duration = StreamClock(options.fps), record.duration_s
    if options.videos is not None:
        video = options.videos / relative_path(record.video, f"{where}, video_path")
        duration = measure_video(video, frames_fps=options.frames_fps).for_turns(clock)
    if duration is None:
        raise UserError(f"{where}: how long is the video? Give --videos, or a duration in the record")
    dialogue = compile_record(record, clock, duration)
    pieces = chunks(dialogue, options.max_turns, options.overlap) if options.max_turns else [dialogue]
    return [instruct_row(piece, system=options.system) for piece in pieces]


def _release_rows(row: Any, where: str, options: CompileOptions) -> list[dict[str, Any]]:
    """A record as the public converter writes it; only a record without a video is an error."""
    if not isinstance(row, dict) or not isinstance(row.get("video_path"), str):
        raise UserError(f"{where}, video_path: expected a path, got {str(row)[:60]!r}")
    for key in ("question", "response"):
        items = row.get(key) or []
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise UserError(f"{where}, {key}: expected a list of objects, got {str(items)[:60]!r}")
    if options.videos is not None:
        path = options.videos / relative_path(row["video_path"], f"{where}, video_path")
        with open_video(path, fps=options.frames_fps if path.is_dir() else None) as source:
            num_frames, native_fps = source.num_frames, source.fps
        if num_frames is None:
            num_frames = measure_video(path, frames_fps=options.frames_fps).num_frames
        count = release_frame_count(num_frames, native_fps, options.fps)
    elif (duration := parse_time(row.get("duration"), f"{where}, duration")) is not None:
        count = int(duration * options.fps)
    else:
        raise UserError(f"{where}: how long is the video? Give --videos, or a duration in the record")
    if count < 1:
        raise UserError(f"{where}: the video has no frame to sample")
    system = system_prompt(RELEASE_TOKENS) if options.system is None else options.system
    return [
        {
            "messages": messages(compile_release(row, count, options.fps), system),
            "videos": [row["video_path"]],
            **{key: row[key] for key in COPIED if row.get(key)},
        }
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code: 0, or 2 with one line on stderr for what the user can mend."""
    words = _parser().parse_args(argv)
    try:
        system = None if words.system is None else words.system.read_text(encoding="utf-8")
        options = CompileOptions(
            fps=words.fps,
            videos=words.videos,
            release=words.release_compatible,
            max_turns=words.max_turns,
            overlap=words.overlap,
            allow_unknown_tasks=words.allow_unknown_tasks,
            default_question=words.default_question,
            skip_bad=words.skip_bad,
            system=system,
            frames_fps=words.frames_fps,
        )
        report = compile_file(words.raw, words.out, options)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    states = ", ".join(f"{state} {report[state]}" for state in STATES)
    sys.stdout.write(f"{report['dialogues']} dialogues, {report['turns']} turns ({states}) -> {words.out}\n")
    for reason, found in report["left_out"].items():
        sys.stdout.write(f"left out: {found['count']} x {reason}\n")
        sys.stdout.writelines(f"  {name}\n" for name in found["first"])
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m refstream_projects.streamo.compile",
        description="Raw annotations -> streaming dialogues in the published form of Streamo-Instruct.",
    )
    add = parser.add_argument
    add("raw", type=Path, metavar="RAW.json", help="raw annotations")
    add("out", type=Path, metavar="OUT.json", help="where the dialogues go")
    add("--fps", type=float, default=1.0, help="turns per second (1)")
    add("--videos", type=Path, metavar="ROOT", help="folder of the videos; default: the records say how long")
    add("--release-compatible", action="store_true", help="turns of the public converter, defects included")
    add("--max-turns", type=int, help="cut longer dialogues into pieces")
    add("--overlap", type=int, default=0, help="turns that a piece repeats (0)")
    add("--skip-bad", action="store_true", help="leave out and list records that cannot be used")
    add("--allow-unknown-tasks", action="store_true", help="keep tasks that are none of the five")
    add("--default-question", help="asked by records without a question")
    add("--system", type=Path, metavar="FILE", help="a system message of your own")
    add("--frames-fps", type=float, help="rate of videos that are folders of frames (24)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
