"""J&F by family of expressions, the families weighed as the benchmark says: the protocol of MiniRVOS."""

from __future__ import annotations

from collections.abc import Sequence

from refstream.evaluation.benchmark import EvalVideo, MaskBenchmark
from refstream.evaluation.predictions.base import Predictions
from refstream.evaluation.protocols.base import OVERALL, EvalProtocol, ItemScore, Summary
from refstream.evaluation.protocols.per_expression import PerExpression

HELD_OUT = "held out"


class Families(EvalProtocol):
    """Mean J and F over frames, then over the expressions of a family, then over families by weight.

    The group "held out" holds the expressions whose targets are like nothing in training.
    """

    name = "families"
    headline = "J&F"

    def __init__(self) -> None:
        self._each = PerExpression()

    def score_video(
        self, benchmark: MaskBenchmark, video: EvalVideo, predictions: Predictions
    ) -> list[ItemScore]:
        return self._each.score_video(benchmark, video, predictions)

    def summarize(self, benchmark: MaskBenchmark, items: Sequence[ItemScore]) -> Summary:
        held_out = {
            (video.id, e.id) for video in benchmark.videos for e in video.expressions if e.details["held_out"]
        }
        groups = {
            family: _means(members)
            for family in benchmark.weights
            if (members := [item for item in items if item.group == family])
        }
        total = sum(benchmark.weights[family] for family in groups)
        overall = {
            metric: sum(benchmark.weights[f] * values[metric] for f, values in groups.items()) / total
            for metric in ("J", "F", "J&F")
        }
        summary = {OVERALL: {**overall, "expressions": float(len(items))}, **groups}
        if members := [item for item in items if (item.video, item.id) in held_out]:
            summary[HELD_OUT] = _means(members)
        return summary


def _means(items: Sequence[ItemScore]) -> dict[str, float]:
    j = 100 * sum(item.values["J"] for item in items) / len(items)
    f = 100 * sum(item.values["F"] for item in items) / len(items)
    return {"J": j, "F": f, "J&F": (j + f) / 2, "expressions": float(len(items))}
