"""Saved predictions, of whatever form, from a path to figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import refstream
from refstream.errors import UserError
from refstream.evaluation.benchmark import MaskBenchmark
from refstream.evaluation.ledger import FolderLedger, Ledger, MemoryLedger
from refstream.evaluation.predictions.base import Predictions
from refstream.evaluation.predictions.inventory import Inventory, inventory
from refstream.evaluation.predictions.open import open_predictions
from refstream.evaluation.protocols.base import EvalProtocol
from refstream.evaluation.results import EvalResult
from refstream.evaluation.score import collect, score
from refstream.evaluation.shards import ONE, Shard
from refstream.evaluation.workers import ITEM_TIMEOUT_S

REFUSE, SCORE = "refuse", "score"
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SavedScores:
    """What came of it.

    Attributes:
        result: The figures.
        inventory: Expected and found; what is missing has the score that the protocol gives it.
        predictions: The masks.
    """

    result: EvalResult
    inventory: Inventory
    predictions: Predictions


def score_saved(
    path: str | Path,
    benchmark: MaskBenchmark,
    protocol: EvalProtocol,
    *,
    missing: str = REFUSE,
    folder: Path | None = None,
    shard: Shard = ONE,
    jobs: int = 0,
    item_timeout: float = ITEM_TIMEOUT_S,
    progress: Progress | None = None,
) -> SavedScores:
    """Score predictions.

    Args:
        path: See ``open_predictions``.
        benchmark: The truth.
        protocol: How.
        missing: "refuse" an incomplete set, or "score" it as the protocol says.
        folder: Where finished videos lie, in ``predictions/scores_PROTOCOL``, so that a run that was killed
            goes on; None: nowhere.
        shard: The part of this process; with several, within ``Shard.beating``.
        jobs: Processes that score; 0: this one alone. See ``score``.
        item_timeout: Seconds for one video, with ``jobs``.
        progress: Called with the numbers of videos done and in all.

    Raises:
        UserError: If the truth is not public; if predictions are missing and may not be, nothing fits the
            benchmark, or something does not fit; if ``folder`` holds scores of something else.
    """
    if missing not in (REFUSE, SCORE):
        raise UserError(f"missing is {REFUSE} or {SCORE}, got {missing!r}")
    if folder is None and shard.world > 1:
        raise UserError("several processes can only share scores that lie in a folder")
    if benchmark.hidden:
        raise UserError(
            f"the truth of {benchmark.name} {benchmark.split} is not public, so nothing can be scored here; "
            "`refstream submit` writes what the server takes, --split names another split"
        )
    predictions = open_predictions(path, benchmark)
    held = inventory(predictions, benchmark)
    if not held.found.expressions:
        raise UserError(f"nothing in {path} fits {benchmark.name} {benchmark.split}: {held}")
    if missing == REFUSE:
        held.require_complete(str(path), "To score it as the protocol says, use --missing score")
    ledger = _ledger(folder, benchmark, protocol, predictions, held)
    score(
        benchmark,
        predictions,
        protocol,
        ledger,
        shard=shard,
        progress=progress,
        jobs=jobs,
        item_timeout=item_timeout,
    )
    shard.wait(ledger, {video.id for video in benchmark.videos}, "scoring")
    items = collect(benchmark, ledger)
    result = EvalResult(
        benchmark=benchmark.name,
        split=benchmark.split,
        protocol=protocol.name,
        compat=protocol.compat,
        headline=protocol.headline,
        subject=Path(path).as_posix(),
        settings=benchmark.settings,
        summary=protocol.summarize(benchmark, items),
        items=items,
        expected={"videos": len(benchmark.videos), "expressions": benchmark.num_expressions},
    )
    return SavedScores(result, held, predictions)


def _ledger(
    folder: Path | None,
    benchmark: MaskBenchmark,
    protocol: EvalProtocol,
    predictions: Predictions,
    held: Inventory,
) -> Ledger:
    if folder is None:
        return MemoryLedger()
    key = {
        "data": benchmark.fingerprint,
        "predictions": predictions.fingerprint,
        "found": str(held.found),  # a run that has gone on keeps its fingerprint
        "protocol": protocol.name,
        "compat": protocol.compat,
        "refstream": refstream.__version__,
    }
    name = "_".join(["scores", protocol.name, *([protocol.compat] if protocol.compat else [])])
    return FolderLedger(folder / "predictions" / name, key)
