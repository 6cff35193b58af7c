"""The live model on a benchmark every so often, its best state kept."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, ClassVar

import torch
from mmengine.dist import broadcast_object_list
from mmengine.hooks import Hook

from refstream.engine.convert import rebuild
from refstream.engine.hooks.common import aside, training_model, write_line
from refstream.engine.hooks.export import export_live
from refstream.engine.strategies import consolidated_state, needs_uniform_calls
from refstream.evaluation.benchmarks import load_benchmark, run_benchmark
from refstream.evaluation.protocols.base import OVERALL
from refstream.evaluation.results import EvalResult
from refstream.registry import HOOKS

BEST, SCORE = "best", "score.json"


@HOOKS.register_module()
class BenchmarkHook(Hook):
    """Evaluate the live model through its streaming pipeline; keep the best.

    Writes ``eval`` (overall), ``eval_<group>`` and ``eval_calls_per_frame`` (how often the MLLM looked) to
    ``log.jsonl``. The best state so far lies in ``best`` in the work directory, a RefStream folder with
    ``score.json``; a resumed run knows its score. Training is the same to the last bit with and without this
    hook: module modes and random generators are put back.

    The first process evaluates and the others wait. Where a strategy divides the parameters (ZeRO-3, FSDP),
    it evaluates a whole copy of the model.

    Args:
        interval: Iterations between two evaluations; the last iteration is evaluated as well.
        benchmark: A name of ``refstream.evaluation.benchmarks``.
        clips: How many.
        metric: ``j_and_f``, ``j`` or ``f``, overall: higher is better.
        keep_best: Export the best state.
        dtype: Storage type of the export, "float32", "float16" or "bfloat16".
        pipeline: Overrides for the model's pipeline, such as a ``gate``.
        options: Of the benchmark (``split``, ``seed``, ``num_frames``).

    Raises:
        ValueError: For an unknown metric or a non-positive interval.
        UserError: For an unknown benchmark, or impossible options of it.
    """

    priority = "LOW"
    METRICS: ClassVar[dict[str, str]] = {"j_and_f": "J&F", "j": "J", "f": "F"}

    def __init__(
        self,
        interval: int = 1000,
        benchmark: str = "minirvos",
        clips: int = 20,
        metric: str = "j_and_f",
        keep_best: bool = True,
        dtype: str = "float32",
        pipeline: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        if metric not in self.METRICS:
            raise ValueError(f"metric must be one of {tuple(self.METRICS)}, got {metric!r}")
        if interval < 1:
            raise ValueError(f"interval must be at least 1, got {interval}")
        self.interval, self.benchmark, self.metric = interval, benchmark, metric
        self.keep_best, self.dtype = keep_best, getattr(torch, dtype)
        self.pipeline, self.options = pipeline, {"num_clips": clips, **options}
        load_benchmark(benchmark, **self.options)  # fail before training, not in the middle of it
        self.best = -math.inf

    def state_dict(self) -> dict[str, float]:
        """The best score so far, for a run that is resumed."""
        return {"best": self.best}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on from what ``state_dict`` said."""
        self.best = state["best"]

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Evaluate if it is time; all processes take part."""
        last = runner.iter + 1 == runner.max_iters
        if not last and not self.every_n_train_iters(runner, self.interval):
            return
        with aside(training_model(runner)):
            score = self._score(runner)
        if score > self.best:
            self.best = score
            if self.keep_best:
                page = {"score": score, "metric": self.metric, "iter": runner.iter + 1}
                page |= {"benchmark": self.benchmark, "options": self.options}
                export_live(
                    runner,
                    Path(runner.work_dir) / BEST,
                    self.dtype,
                    {SCORE: json.dumps(page, indent=2) + "\n"},
                )

    def _score(self, runner: Any) -> float:
        """Evaluate on the first process, tell all; the others wait here."""
        divided = needs_uniform_calls(runner.cfg)
        state = consolidated_state(runner) if divided else {}
        score = [0.0]
        if runner.rank == 0:
            training = training_model(runner)
            if divided:
                training = rebuild(runner.cfg, state, training.model.mllm.device)
            result = run_benchmark(self.benchmark, training.model, pipeline=self.pipeline, **self.options)
            score = [result.value(self.METRICS[self.metric])]
            self._log(runner, result)
        broadcast_object_list(score)
        return score[0]

    def _log(self, runner: Any, result: EvalResult) -> None:
        metric = self.METRICS[self.metric]
        values = {
            "eval" if group == OVERALL else f"eval_{group.replace(' ', '_')}": round(figures[metric], 3)
            for group, figures in result.summary.items()
        }
        if result.speed is not None:
            values["eval_calls_per_frame"] = round(result.speed.mllm_calls_per_frame, 4)
        words = "  ".join(f"{name}: {value:g}" for name, value in values.items())
        runner.logger.info(f"{self.benchmark} {self.metric} {words}")
        line = {"iter": runner.iter + 1, "benchmark": self.benchmark, "metric": self.metric, **values}
        write_line(runner, line)
