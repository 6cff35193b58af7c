"""Annotate videos for training: ``python -m refstream_projects.streamo.annotation VIDEOS --out raw.json``.

With ``--captioner`` all five tasks are annotated; ``--qa`` takes over questions that are there already. A run
that was cut off goes on where it was when it is started again.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from refstream.cli.console import OUT, complain, note, progress_bar
from refstream.errors import UserError

from ..records import TASKS
from .annotate import AnnotateOptions, annotate_videos, find_videos
from .captioners import captioner_of
from .checks import Limits
from .offline_qa import read_questions
from .tasks import TaskOptions

USER_ERROR, INTERRUPTED = 2, 130


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m refstream_projects.streamo.annotation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("videos", type=Path, help="a video, a folder of frames, or a folder of videos")
    parser.add_argument("--out", type=Path, required=True, help="the raw annotations to write (.json)")
    parser.add_argument(
        "--captioner", help='"rules" (scenes of MiniRVOS), or a folder with an image-text-to-text model'
    )
    parser.add_argument("--qa", type=Path, help="questions to take over (.json, .csv), with start and end")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="default: all five")
    parser.add_argument("--fps", type=float, default=1.0, help="frames per second shown (default: 1)")
    parser.add_argument("--scan-fps", type=float, default=4.0, help="and looked at for changes (default: 4)")
    parser.add_argument("--frames-fps", type=float, help="rate of folders of frames (default: 24)")
    parser.add_argument("--max-side", type=int, default=448, help="of the frames shown (default: 448)")
    parser.add_argument("--change-threshold", type=float, help="in [0, 1] (default: adapts to the video)")
    parser.add_argument("--motion-threshold", type=float, help="in [0, 1] (default: 0.002)")
    parser.add_argument("--min-event", type=float, default=1.0, help="shortest event in s (default: 1)")
    parser.add_argument("--max-frames", type=int, default=16, help="most shown at once (default: 16)")
    parser.add_argument("--max-new-tokens", type=int, default=128, help="longest reply (default: 128)")
    parser.add_argument("--device", default="cpu", help="of the model (default: cpu)")
    parser.add_argument("--seed", type=int, default=0, help="chooses the words of the instructions")
    return parser


def options_of(args: argparse.Namespace) -> AnnotateOptions:
    """The options that the arguments ask for."""
    for name in ("fps", "scan_fps", "frames_fps"):
        value = getattr(args, name)
        if value is not None and not 0 < value <= 100:
            raise UserError(f"--{name.replace('_', '-')} must lie in (0, 100], got {value}")
    return AnnotateOptions(
        tasks=tuple(dict.fromkeys(args.tasks)),
        fps=args.fps,
        scan_fps=args.scan_fps,
        max_side=args.max_side,
        folder_fps=args.frames_fps,
        change_threshold=args.change_threshold,
        motion_threshold=args.motion_threshold,
        how=TaskOptions(limits=Limits(min_s=args.min_event), overview=args.max_frames, seed=args.seed),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code: 2 for what the user can mend."""
    args = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        options = options_of(args)
        videos = find_videos(args.videos)
        questions = read_questions(args.qa) if args.qa else []
        captioner = None
        if args.captioner:
            captioner = captioner_of(args.captioner, args.device, args.max_frames, args.max_new_tokens)
        with progress_bar("annotating", len(videos)) as advance:
            report = annotate_videos(videos, args.out, captioner, options, questions, advance)
    except KeyboardInterrupt:
        complain("interrupted; start again to go on")
        return INTERRUPTED
    except (UserError, ValueError, OSError) as error:
        complain(str(error))
        return USER_ERROR
    counted = ", ".join(f"{count} {task}" for task, count in report["records"].items())
    OUT.print(
        f"{args.out}: {counted} from {report['annotated']} of {report['videos']} videos",
        markup=False,
        soft_wrap=True,
    )
    for kind, entry in report["findings"].items():
        note(f"{entry['count']} x {kind}: {entry['meaning']}")
    for reason, entry in report["left_out"].items():
        note(f"left out: {entry['count']} x {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
