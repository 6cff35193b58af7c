"""``refstream bench``: how fast a stream runs, against a re-enactment of the released loop."""

from __future__ import annotations

import argparse
from typing import Any

from rich.table import Table

from refstream.cli.console import OUT, note
from refstream.cli.options import device_of, dtype_of
from refstream.engine.bench import bench_stream, write_result
from refstream.resources import model_folder


def run(args: argparse.Namespace) -> int:
    """Carry out the command; see ``refstream bench --help``."""
    device = device_of(args)
    result = bench_stream(
        "hundredth" if args.model is None else model_folder(args.model),
        device=str(device),
        dtype=dtype_of(args, device),
        size=args.size,
        num_frames=args.frames,
        rounds=args.rounds,
    )
    if args.out is not None:
        write_result(args.out, [0], result)
        note(f"the result is in {args.out}", quiet=args.quiet)
    if not args.quiet:
        OUT.print(_table(result))
    return 0


def _table(result: dict[str, Any]) -> Table:
    ratios = ", ".join(f"{name} {value:.2f}" for name, value in result["ratios"].items())
    table = Table(title="milliseconds per frame (medians)", caption=f"ratios: {ratios}")
    table.add_column("arm")
    for name in ("expressions", "ms", "FPS", "MLLM calls per frame"):
        table.add_column(name, justify="right")
    for row in result["rows"]:
        values = (row["expressions"], row["ms_per_frame"], row["fps"], row["mllm_calls_per_frame"])
        table.add_row(row["arm"], *map(str, values))
    return table
