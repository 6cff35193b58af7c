"""What the scripts of ``tools/eval`` share: the arguments of the papers' scripts, over ``score_saved``."""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from refstream.cli.app import USER_ERROR
from refstream.cli.arguments import add_jobs
from refstream.cli.console import OUT, complain, note
from refstream.cli.evaluate import Steps
from refstream.errors import UserError
from refstream.evaluation.benchmark import MaskBenchmark
from refstream.evaluation.protocols.base import EvalProtocol
from refstream.evaluation.results import EvalResult
from refstream.evaluation.saved import SCORE, score_saved
from refstream.evaluation.score import usual_jobs
from refstream.files import atomic_write_text, write_json

WORK_DIRS = Path("work_dirs")


def parser_of(doc: str, flags: Sequence[str]) -> argparse.ArgumentParser:
    """A parser with what all scripts take.

    Args:
        doc: The script's docstring.
        flags: Names that the predictions go by in public scripts, beside a bare argument.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "predictions", type=Path, nargs="?", metavar="PREDICTIONS", help="file of RLE, or folder"
    )
    parser.add_argument(
        *flags, dest="pred_path", type=Path, metavar="PREDICTIONS", help="the same, as public scripts have it"
    )
    parser.add_argument("--compat", metavar="C", help="reproduce known defects of public code; default: none")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no notes")
    add_jobs(parser)
    return parser


def predictions_of(args: argparse.Namespace, dataset: str) -> Path:
    """Where the predictions are: as said, or the only ones in ``work_dirs/<model>/<dataset>``.

    Raises:
        UserError: If nothing was said and there are none, or several.
    """
    said = [path for path in (args.predictions, args.pred_path) if path is not None]
    if len(said) > 1:
        raise UserError(f"predictions were named twice: {said[0]} and {said[1]}")
    if said:
        return Path(said[0])
    there = sorted(path for path in WORK_DIRS.glob(f"*/{dataset}") if path.is_dir())
    if len(there) != 1:
        found = ", ".join(path.as_posix() for path in there) or "none"
        raise UserError(
            f"name the predictions, such as {WORK_DIRS}/<model>/{dataset}/results.json; found {found}"
        )
    return there[0]


def score_predictions(
    path: Path, benchmark: MaskBenchmark, protocol: EvalProtocol, args: argparse.Namespace
) -> EvalResult:
    """Score what is there; what is missing scores as the protocol says, and is listed on stderr."""
    with Steps(args.quiet) as steps:
        scored = score_saved(
            path,
            benchmark,
            protocol,
            missing=SCORE,
            jobs=usual_jobs(benchmark) if args.jobs is None else args.jobs,
            item_timeout=args.item_timeout,
            progress=lambda done, total: steps("scoring", done, total),
        )
    for line in scored.inventory.lines():
        note(line, quiet=args.quiet)
    return scored.result


def j_and_f(result: EvalResult) -> dict[str, float]:
    """J, F and J&F in percent, rounded to 2 decimals: the figures of the public scripts."""
    return {name: round(result.value(name), 2) for name in ("J", "F", "J&F")}


def save_figures(figures: Mapping[str, Any], predictions: Path, name: Path) -> None:
    """Print figures as JSON and write them to a file; see ``place``."""
    OUT.print(json.dumps(figures, indent=4), markup=False, highlight=False)
    write_json(place(predictions, name), figures, indent=4)


def save_table(rows: Sequence[Mapping[str, Any]], predictions: Path, name: Path) -> None:
    """Write rows as CSV; see ``place``."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write_text(place(predictions, name), text.getvalue())


def place(predictions: Path, name: Path) -> Path:
    """A bare name lies beside a file of predictions; all else is a path, as in the public scripts."""
    return predictions.parent / name if predictions.is_file() and name == Path(name.name) else name


def guarded(script: str, work: Callable[[], None]) -> int:
    """Do it; 0, or 2 after one line on stderr if the user has to mend something."""
    try:
        work()
    except UserError as error:
        complain(f"{script}: {error}")
        return USER_ERROR
    return 0
