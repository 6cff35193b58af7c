"""The table of benchmarks: a name, and what makes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from refstream.errors import UserError
from refstream.evaluation.minirvos import MiniRVOSBenchmark
from refstream.evaluation.results import EvaluationResult
from refstream.evaluation.runner import Benchmark, Progress, evaluate

BENCHMARKS: dict[str, Callable[..., Benchmark]] = {
    "minirvos": MiniRVOSBenchmark,
}


def load_benchmark(name: str, **options: Any) -> Benchmark:
    """Make a benchmark; ``options`` are those of its class.

    Raises:
        UserError: If no benchmark has this name, or an option has an impossible value.
    """
    if name not in BENCHMARKS:
        raise UserError(f"unknown benchmark {name!r}; available: {', '.join(sorted(BENCHMARKS))}")
    try:
        return BENCHMARKS[name](**options)
    except ValueError as error:
        raise UserError(f"benchmark {name!r}: {error}") from error


def run_benchmark(
    name: str,
    model: Any,
    *,
    model_name: str = "",
    floors: bool = False,
    out: str | Path | None = None,
    progress: Progress | None = None,
    pipeline: dict[str, Any] | None = None,
    **options: Any,
) -> EvaluationResult:
    """Evaluate a model on a benchmark by name.

    Args:
        name: A key of ``BENCHMARKS``.
        model: Has ``pipeline()`` and ``segmenter``.
        model_name: For the report.
        floors: Also measure the floors, and the ceiling with true boxes.
        out: File to write the result to, as JSON.
        progress: Called with the numbers of clips done and in all.
        pipeline: Overrides for ``model.pipeline()``.
        options: Of the benchmark, e.g. ``seed`` and ``num_clips``.
    """
    result = evaluate(
        model.pipeline(**(pipeline or {})),
        load_benchmark(name, **options),
        model_name=model_name,
        floors=floors,
        segmenter=model.segmenter if floors else None,
        progress=progress,
    )
    if out is not None:
        result.save(out)
    return result
