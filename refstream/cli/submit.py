"""``refstream submit``: predictions as the zip that a benchmark's server takes."""

from __future__ import annotations

import argparse
from pathlib import Path

from refstream.cli.console import OUT, note
from refstream.cli.evaluate import Steps
from refstream.cli.score import name_of
from refstream.errors import UserError
from refstream.evaluation.benchmark import MaskBenchmark
from refstream.evaluation.benchmarks import entry_of, load_benchmark
from refstream.evaluation.predictions.open import open_predictions
from refstream.evaluation.submit import check_submission, write_submission

DEFAULT_OUT = Path("outputs/submit")
DEFAULT_FORM = "videos"
WRONG = 1
"""Exit code when a zip is not as it has to be."""


def run(args: argparse.Namespace) -> int:
    """Carry out the command; see ``refstream submit --help``."""
    if (args.predictions is None) == (args.check is None):
        raise UserError("expected either PREDICTIONS to write a zip of, or --check FILE")
    form = entry_of(args.benchmark).submission or DEFAULT_FORM
    benchmark = load_benchmark(args.benchmark, root=args.data, split=args.split)
    if args.check is not None:
        return _check(args, benchmark, form)
    out: Path = args.out or (
        DEFAULT_OUT / f"{name_of(args.predictions)}-{args.benchmark}-{benchmark.split}.zip"
    )
    if out.is_dir() or out.suffix != ".zip":
        raise UserError(f"--out must be a file that ends in .zip, got {out}")
    predictions = open_predictions(args.predictions, benchmark)
    with Steps(args.quiet) as steps:
        done = write_submission(
            predictions,
            benchmark,
            out,
            form=form,
            missing=args.missing,
            progress=steps,
        )
    for line in done.inventory.lines():
        note(line, quiet=args.quiet)
    note(
        f"{done.path}: {done.num_files} pictures of {benchmark.name} {benchmark.split}, "
        f"{done.num_bytes / 1e6:.1f} MB, checked",
        quiet=args.quiet,
    )
    return 0


def _check(args: argparse.Namespace, benchmark: MaskBenchmark, form: str) -> int:
    with Steps(args.quiet) as steps:
        problems = check_submission(args.check, benchmark, form=form, progress=steps)
    for problem in problems:
        OUT.print(problem, markup=False, highlight=False, soft_wrap=True)
    if problems:
        return WRONG
    note(f"{args.check} is as {benchmark.name} {benchmark.split} wants it", quiet=args.quiet)
    return 0
