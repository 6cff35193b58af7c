"""``refstream data``: MiniRVOS in official layouts, checks of datasets, and files that downloads lack."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from refstream.cli.console import OUT, note, progress_bar
from refstream.files import write_json

if TYPE_CHECKING:
    from refstream.synthetic.streams import SyntheticStream

TO_MEND = 1
"""Exit code of a check that found something."""


def run(args: argparse.Namespace) -> int:
    """Carry out the command; see ``refstream data --help``."""
    commands = {"minirvos": _minirvos, "streams": _streams, "check": _check, "prepare": _prepare}
    return commands[args.what](args)


def _minirvos(args: argparse.Namespace) -> int:
    from refstream.data.layouts import write_layout
    from refstream.synthetic.minirvos import MiniRVOS

    source = MiniRVOS(args.split, args.seed, args.clips, args.frames, args.size, world=args.world)
    with progress_bar("writing", len(source), quiet=args.quiet) as advance:
        report = write_layout(args.layout, source, args.out, split=args.layout_split, progress=advance)
    left_out = ", ".join(f"{count} left out ({reason})" for reason, count in report.left_out.items())
    counts = f"{report.clips} clips and {report.expressions} expressions are in {report.root}"
    note("; ".join(filter(None, [f"{report.layout} {report.split}: {counts}", left_out])), quiet=args.quiet)
    return 0


def _streams(args: argparse.Namespace) -> int:
    from refstream.synthetic.stream_writers import write_ovo
    from refstream.synthetic.streams import MiniStreams

    source = MiniStreams(args.split, args.seed, args.streams, duration_s=args.seconds, size=args.size)
    with progress_bar("writing", len(source), quiet=args.quiet) as advance:

        def rendered() -> Iterator[SyntheticStream]:
            for number in range(len(source)):
                yield source.stream(number)
                advance()

        report = write_ovo(args.out, rendered(), seed=args.seed)
    points = ", ".join(f"{task} {count}" for task, count in sorted(report.points.items()))
    note(f"{report.videos} videos are in {report.root}; asked: {points}", quiet=args.quiet)
    return 0


def _check(args: argparse.Namespace) -> int:
    from refstream.evaluation.check import check_dataset

    with progress_bar("checking", None, quiet=args.quiet) as advance:
        report = check_dataset(
            args.name,
            args.root,
            args.split,
            all_pictures=args.all_pictures,
            subset=args.subset,
            progress=advance,
        )
    if args.out is not None:
        write_json(args.out, report.to_json())
    if not args.quiet:
        for line in report.lines():
            OUT.print(line, markup=False, highlight=False, soft_wrap=True)
    return 0 if report.clean else TO_MEND


def _prepare(args: argparse.Namespace) -> int:
    from refstream.data.prepare import prepare_mask_dict, prepare_revos_foreground
    from refstream.data.prepare_davis17 import prepare_ref_davis17

    with progress_bar("preparing", None, quiet=args.quiet) as advance:
        if args.target == "ref_davis17":
            prepared = prepare_ref_davis17(
                args.davis,
                args.texts,
                args.out,
                args.split,
                copy=args.copy,
                annotations=args.annotations,
                progress=advance,
            )
        elif args.target == "mask_dict":
            split = args.split or ("valid" if args.layout == "davis17" else "train")
            prepared = prepare_mask_dict(
                args.root, args.layout, split, args.out, overwrite=args.overwrite, progress=advance
            )
        else:
            prepared = prepare_revos_foreground(
                args.root, args.out, overwrite=args.overwrite, progress=advance
            )
    for problem, where in prepared.notes.items():
        note(f"{len(where)} x {problem}, such as {where[0]}", quiet=args.quiet)
    counts = ", ".join(f"{count} {what}" for what, count in prepared.counts.items())
    note(f"{prepared.path}: {counts}", quiet=args.quiet)
    return 0
