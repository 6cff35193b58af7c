"""``refstream score``: saved predictions against the truth."""

from __future__ import annotations

import argparse
from pathlib import Path

from refstream.cli import answers
from refstream.cli.console import note
from refstream.cli.evaluate import Steps
from refstream.cli.tables import show, show_published
from refstream.errors import UserError
from refstream.evaluation.benchmarks import open_benchmark
from refstream.evaluation.folder import RANKS, REPORT, clear, write_results
from refstream.evaluation.qa import QA_BENCHMARKS
from refstream.evaluation.saved import score_saved
from refstream.evaluation.score import usual_jobs
from refstream.evaluation.shards import current_shard

DEFAULT_OUT = Path("outputs/score")
PLAIN = frozenset({"results", "Annotations", "predictions", ""})
"""Names that say nothing of the model; the folder above says more."""


def run(args: argparse.Namespace) -> int:
    """Carry out the command; see ``refstream score --help``."""
    if args.benchmark in QA_BENCHMARKS:
        return answers.score(args)
    shard = current_shard(args.launcher)
    quiet = args.quiet or shard.rank > 0
    benchmark, protocol = open_benchmark(
        args.benchmark, args.data, args.split, protocol=args.protocol, compat=args.compat
    )
    out: Path = args.out or DEFAULT_OUT / f"{name_of(args.predictions)}-{args.benchmark}-{benchmark.split}"
    if out.is_file() or out.suffix == ".json":
        raise UserError(f"--out {out} is to be a folder, not a file")
    with (
        shard.beating(out / RANKS, first=(lambda: clear(out)) if args.fresh else None) as mine,
        Steps(quiet) as steps,
    ):
        scored = score_saved(
            args.predictions,
            benchmark,
            protocol,
            missing=args.missing,
            folder=out,
            shard=mine,
            jobs=usual_jobs(benchmark, mine) if args.jobs is None else args.jobs,
            item_timeout=args.item_timeout,
            progress=lambda done, total: steps("scoring", done, total),
        )
        if mine.rank == 0:
            write_results(out, scored.result, benchmark, scored.predictions, show_published=args.published)
    if not quiet:
        note(f"expected {scored.inventory.expected}; found {scored.inventory.found}")
        for line in scored.inventory.lines():
            note(line)
        show(scored.result.table(), scored.result.table(by_metric=True))
        if args.published:
            show_published(benchmark.name, benchmark.split)
        note(f"all of it is in {out}; open {out / REPORT}")
    return 0


def name_of(predictions: Path) -> str:
    """What to call a set of predictions in file names: the first name from the end that says something."""
    path = predictions.resolve()
    names = (part.stem if part == path and path.is_file() else part.name for part in (path, *path.parents))
    return next((name for name in names if name not in PLAIN), "predictions")
