"""``refstream bench``: how fast a stream runs, against a re-enactment of the released loop."""

from __future__ import annotations

import argparse
from typing import Any

from rich.table import Table

from refstream.cli.console import OUT, note
from refstream.cli.options import device_of, dtype_of
from refstream.engine.bench import bench_stream, write_result
from refstream.engine.bench_real import bench_real
from refstream.errors import UserError
from refstream.resources import model_folder


def run(args: argparse.Namespace) -> int:
    """Carry out the command; see ``refstream bench --help``."""
    result = measure(args)
    if args.out is not None:
        write_result(args.out, [0], result)
        note(f"the result is in {args.out}", quiet=args.quiet)
    if not args.quiet:
        OUT.print(_table(result))
    return 0


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """``stream``: a model against the released loop; ``real``: random weights of real size.

    Raises:
        UserError: an option belongs to the other one.
    """
    device = device_of(args)
    keys: dict[str, Any] = {
        "device": device,
        "dtype": dtype_of(args, device),
        "size": args.size,
        "num_frames": args.frames,
        "rounds": args.rounds,
    }
    if args.what == "real":
        if args.model is not None:
            raise UserError(
                "bench real draws random weights; to measure a model folder use bench stream --model"
            )
        return bench_real(args.random_init or "internvl2_5-1b+sam2.1-large", **keys)
    if args.random_init is not None:
        raise UserError("--random-init goes with `refstream bench real`")
    return bench_stream("hundredth" if args.model is None else model_folder(args.model), **keys)


def _table(result: dict[str, Any]) -> Table:
    """One row per arm; figures that are tables themselves are left to the file."""
    rows = result["rows"]
    columns = [key for key, value in rows[0].items() if not isinstance(value, dict)]
    ratios = ", ".join(f"{name} {value:.2f}" for name, value in result.get("ratios", {}).items())
    table = Table(title="medians", caption=f"ratios: {ratios}" if ratios else None)
    for name in columns:
        table.add_column(
            name.replace("_", " "), justify="left" if isinstance(rows[0][name], str) else "right"
        )
    for row in rows:
        table.add_row(*("-" if row[name] is None else str(row[name]) for name in columns))
    return table
