"""The folder that an evaluation leaves behind: what is in it, and how it is cleared."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from refstream.evaluation.benchmark import MaskBenchmark
from refstream.evaluation.curve import GateCurve
from refstream.evaluation.predictions.base import Predictions
from refstream.evaluation.report.html import write_report
from refstream.evaluation.results import EvalResult
from refstream.files import output_error, write_json

RESULT, ITEMS, SPEED, REPORT = "result.json", "items.csv", "speed.json", "report.html"
CURVE, CURVE_CHART = "curve.json", "curve.svg"
RANKS = "ranks"
"""Signs of life, see ``heartbeat``."""


def write_results(
    folder: str | Path,
    result: EvalResult,
    benchmark: MaskBenchmark,
    predictions: Predictions | None = None,
    *,
    show_published: bool = False,
    curve: GateCurve | None = None,
) -> None:
    """Write result.json and items.csv, the same in every run of the same thing, speed.json and report.html.

    Args:
        folder: Made if missing.
        result: What was found.
        benchmark: What was asked.
        predictions: The masks, for the report's pictures.
        show_published: Set the papers' figures beside, in the report.
        curve: For the report.

    Raises:
        OutputError: If a file cannot be written.
    """
    folder = Path(folder)
    write_json(folder / RESULT, result.to_dict())
    result.save_csv(folder / ITEMS)
    if result.speed is not None:
        write_json(folder / SPEED, asdict(result.speed))
    write_report(folder / REPORT, result, benchmark, predictions, show_published=show_published, curve=curve)


def clear(folder: str | Path) -> None:
    """Remove an earlier evaluation from its folder, and nothing else that may lie there.

    Raises:
        OutputError: If a file cannot be removed.
    """
    folder = Path(folder)
    try:
        for name in (RESULT, ITEMS, SPEED, REPORT, CURVE, CURVE_CHART):
            (folder / name).unlink(missing_ok=True)
        for path in folder.glob(f"{RANKS}/*.json"):
            path.unlink(missing_ok=True)
        _remove_if_empty(folder / RANKS)
        for key in [*folder.glob("*/key.json"), *folder.glob("*/*/key.json")]:
            _remove_ledger(key.parent)
            _remove_if_empty(key.parent.parent)
    except OSError as error:
        raise output_error(folder, error) from error


def _remove_ledger(folder: Path) -> None:
    """The items go first: a key without items does no harm, items without their key would be taken over."""
    if not (folder / "items").is_dir():
        return
    for pattern in ("*.json", ".*.part"):
        for path in (folder / "items").glob(pattern):
            path.unlink(missing_ok=True)
    _remove_if_empty(folder / "items")
    (folder / "key.json").unlink(missing_ok=True)
    _remove_if_empty(folder)


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
