"""``refstream eval``: a model on a benchmark."""

from __future__ import annotations

import argparse

from refstream.cli.console import OUT, progress_bar
from refstream.cli.options import device_of, dtype_of, gate_of, load_model
from refstream.evaluation.benchmarks import run_benchmark


def run(args: argparse.Namespace) -> int:
    """Carry out the command; see ``refstream eval --help``."""
    device = device_of(args)
    model = load_model(args.model, device, dtype_of(args, device))
    gate = gate_of(args, model.config.pipeline.get("gate"))
    with progress_bar("evaluating", args.clips, quiet=args.quiet) as advance:
        result = run_benchmark(
            args.benchmark,
            model,
            model_name=args.model.as_posix(),
            floors=args.floors,
            out=args.out,
            progress=lambda done, total: advance(),
            pipeline={} if gate is None else {"gate": gate},
            seed=args.seed,
            num_clips=args.clips,
            num_frames=args.frames,
        )
    if not args.quiet:
        OUT.print(result.table())
    return 0
