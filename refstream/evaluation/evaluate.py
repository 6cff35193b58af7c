"""A model on a benchmark, from frames to figures: run, floors, scores, result."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from refstream.errors import UserError
from refstream.evaluation.benchmark import MaskBenchmark
from refstream.evaluation.floors import (
    CEILING,
    NEUTRAL,
    Blank,
    Exchanged,
    Largest,
    OracleBoxes,
    mismatched,
    neutral,
)
from refstream.evaluation.ledger import FolderLedger, Ledger, MemoryLedger
from refstream.evaluation.predictions.base import Predictions
from refstream.evaluation.protocols.base import OVERALL, EvalProtocol, ItemScore, Summary
from refstream.evaluation.protocols.stability import TemporalStability
from refstream.evaluation.results import EvalResult, Speed
from refstream.evaluation.run import PER_STREAM, RunPredictions, item_name, plan, run_model
from refstream.evaluation.score import collect, score
from refstream.evaluation.shards import ONE, Shard
from refstream.evaluation.workers import ITEM_TIMEOUT_S
from refstream.models.protocols import Segmenter, StreamPipeline

log = logging.getLogger(__name__)
Progress = Callable[[str, int, int], None]
"""Called with what is being done, and the numbers of steps done and in all."""
MODEL, SHUFFLED, SCORES = "model", "shuffled", "scores"


class Evaluation:
    """One evaluation, in memory or in a folder where it can be resumed.

    In the folder: ``model/run`` (masks, by expression), ``model/costs`` (speed, by stream) and
    ``model/scores_PROTOCOL-TRUTH`` (by video), and the same for each floor. Masks do not depend on the truth:
    where that was mended they are kept, and scored anew.

    Args:
        pipeline: A method's pipeline, of ``model.pipeline()``.
        benchmark: What to run it on.
        protocol: How to score it.
        folder: Where it lies; None keeps it in memory.
        key: What the masks depend on besides the data: model, options; JSON-serialisable.
        per_stream: Most expressions in one session.
        shard: The part of this process.
        progress: See ``Progress``.
        jobs: Processes that score; 0: this one alone. See ``score``.
        item_timeout: Seconds for scoring one video, with ``jobs``.

    Raises:
        UserError: If the folder holds an evaluation of something else.
    """

    def __init__(
        self,
        pipeline: StreamPipeline,
        benchmark: MaskBenchmark,
        protocol: EvalProtocol,
        *,
        folder: Path | None = None,
        key: Mapping[str, Any] | None = None,
        per_stream: int = PER_STREAM,
        shard: Shard = ONE,
        progress: Progress | None = None,
        jobs: int = 0,
        item_timeout: float = ITEM_TIMEOUT_S,
    ) -> None:
        if folder is None and shard.world > 1:
            raise UserError("several processes can only share an evaluation that has a folder")
        if not benchmark.videos:
            raise UserError(f"benchmark {benchmark.name!r} {benchmark.split!r} has no videos to run on")
        self.pipeline, self.benchmark, self.protocol = pipeline, benchmark, protocol
        self.folder, self.per_stream, self.shard = folder, per_stream, shard
        self.key = {
            **(key or {}),
            "per_stream": per_stream,
            "benchmark": f"{benchmark.name} {benchmark.split}",
            "data": benchmark.asked,
            "settings": {  # in ``data`` too; here so that a difference can be told in words
                "videos": len(benchmark.videos),
                "expressions": benchmark.num_expressions,
                **benchmark.settings,
            },
        }
        self._progress, self._jobs, self._item_timeout = progress, jobs, item_timeout
        self._ledgers: dict[tuple[str, str], Ledger] = {}

    def run(self, name: str, benchmark: MaskBenchmark) -> RunPredictions:
        """Run the model on the benchmark or an alteration of it; wait for the other processes."""
        masks = self._ledger(name, "run")
        costs = self._ledger(name, "costs")
        run_model(
            self.pipeline,
            benchmark,
            masks,
            costs,
            per_stream=self.per_stream,
            shard=self.shard,
            progress=self._told(f"{name}: running"),
        )
        jobs = plan(benchmark, self.per_stream)
        items = {item_name(job.video, e) for job in jobs for e in job.expressions}
        self.shard.wait(masks, items, f"{name}: running")
        self.shard.wait(costs, {job.name for job in jobs}, f"{name}: running")
        return RunPredictions(masks)

    def score(
        self,
        name: str,
        predictions: Predictions,
        protocol: EvalProtocol | None = None,
        *,
        jobs: int | None = None,
    ) -> list[ItemScore]:
        """Score predictions, by default as the evaluation's protocol has it; wait for the other processes.

        Predictions that hold a model cannot go to other processes and want 0 ``jobs``.
        """
        protocol = self.protocol if protocol is None else protocol
        kind = "_".join([SCORES, protocol.name, *([protocol.compat] if protocol.compat else [])])
        ledger = self._ledger(name, kind, protocol=protocol.name, compat=protocol.compat)
        score(
            self.benchmark,
            predictions,
            protocol,
            ledger,
            shard=self.shard,
            progress=self._told(f"{name}: scoring"),
            jobs=self._jobs if jobs is None else jobs,
            item_timeout=self._item_timeout,
        )
        self.shard.wait(ledger, {video.id for video in self.benchmark.videos}, f"{name}: scoring")
        return collect(self.benchmark, ledger)

    def speed(self) -> Speed | None:
        """What the model's run cost; None if there was none."""
        return Speed.of(self._ledger(MODEL, "costs"))

    def floors(self, model: RunPredictions) -> dict[str, Summary]:
        """Figures of what needs no understanding.

        shuffled: the masks for another expression, of the same video if one there means another target;
            left out where some expression has no such other, as in a benchmark of one video.
        empty: the masks for "the object".
        blank: the masks on constant grey frames, with the true expressions.
        largest: the true mask of the video's largest object; no model.
        """
        strangers, taken = mismatched(self.benchmark)
        runs: dict[str, Predictions] = {}
        if len(taken) == self.benchmark.num_expressions:
            sources: list[Predictions] = [model]
            if strangers.videos:
                sources.append(self.run(SHUFFLED, strangers))
            runs[SHUFFLED] = Exchanged(sources, taken)
        else:
            log.warning("no floor 'shuffled': one video, and nothing in it means another target")
        neutral_run = self.run("empty", neutral(self.benchmark))
        runs |= {
            "empty": Exchanged([neutral_run], NEUTRAL),
            "blank": self.run("blank", Blank(self.benchmark)),
            "largest": Largest(self.benchmark),
        }
        return {name: self.summarize(self.score(name, source)) for name, source in runs.items()}

    def ceiling(self, segmenter: Segmenter) -> Summary:
        """Figures of the segmenter with true boxes as prompts."""
        return self.summarize(self.score(CEILING, OracleBoxes(self.benchmark, segmenter), jobs=0))

    def stability(self, model: Predictions) -> dict[str, float] | None:
        """How steady the masks are; None for pictures."""
        if all(len(video.scored_frames) < 2 for video in self.benchmark.videos):
            return None
        protocol = TemporalStability()
        return protocol.summarize(self.benchmark, self.score(MODEL, model, protocol))[OVERALL]

    def summarize(self, items: list[ItemScore]) -> Summary:
        """The protocol's figures."""
        return self.protocol.summarize(self.benchmark, items)

    def result(self, subject: str, *, segmenter: Segmenter | None = None, floors: bool = False) -> EvalResult:
        """All of it.

        Args:
            subject: What the model is called in the result.
            segmenter: The model's own; given, the ceiling is measured.
            floors: Also measure the floors (the model runs about two more times).
        """
        model = self.run(MODEL, self.benchmark)
        items = self.score(MODEL, model)
        return EvalResult(
            benchmark=self.benchmark.name,
            split=self.benchmark.split,
            protocol=self.protocol.name,
            compat=self.protocol.compat,
            headline=self.protocol.headline,
            subject=subject,
            settings=self.benchmark.settings,
            summary=self.summarize(items),
            items=items,
            expected={"videos": len(self.benchmark.videos), "expressions": self.benchmark.num_expressions},
            floors=self.floors(model) if floors else {},
            ceilings={} if segmenter is None else {CEILING: self.ceiling(segmenter)},
            speed=self.speed(),
            stability=self.stability(model),
        )

    def _ledger(self, name: str, kind: str, **key: Any) -> Ledger:
        if kind.startswith(SCORES) or name == SHUFFLED:  # depend on the truth
            truth = self.benchmark.fingerprint
            kind, key = f"{kind}-{truth[:8]}", {**key, "truth": truth}
        if (name, kind) not in self._ledgers:
            if self.folder is None:
                self._ledgers[name, kind] = MemoryLedger()
            else:
                folder = self.folder / name.replace(" ", "_") / kind
                self._ledgers[name, kind] = FolderLedger(folder, {**self.key, **key})
        return self._ledgers[name, kind]

    def _told(self, what: str) -> Callable[[int, int], None] | None:
        told = self._progress
        return None if told is None else lambda done, total: told(what, done, total)
