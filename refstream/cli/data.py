"""``refstream data``: MiniRVOS on disk, in the layout of an official dataset."""

from __future__ import annotations

import argparse

from refstream.cli.console import note, progress_bar
from refstream.data.layouts import write_layout
from refstream.synthetic.minirvos import MiniRVOS


def run(args: argparse.Namespace) -> int:
    """Carry out the command; see ``refstream data --help``."""
    source = MiniRVOS(args.split, args.seed, args.clips, args.frames, args.size, world=args.world)
    with progress_bar("writing", len(source), quiet=args.quiet) as advance:
        report = write_layout(args.layout, source, args.out, split=args.layout_split, progress=advance)
    left_out = ", ".join(f"{count} left out ({reason})" for reason, count in report.left_out.items())
    counts = f"{report.clips} clips and {report.expressions} expressions are in {report.root}"
    note("; ".join(filter(None, [f"{report.layout} {report.split}: {counts}", left_out])), quiet=args.quiet)
    return 0
