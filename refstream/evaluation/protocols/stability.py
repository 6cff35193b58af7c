"""How steady masks are over time, as a protocol of its own beside J&F: see ``metrics.stability``."""

from __future__ import annotations

from collections.abc import Sequence

from refstream.evaluation.benchmark import EvalVideo, MaskBenchmark
from refstream.evaluation.metrics.stability import temporal_stability
from refstream.evaluation.predictions.base import Predictions
from refstream.evaluation.protocols.base import OVERALL, EvalProtocol, ItemScore, Summary
from refstream.evaluation.protocols.pieces import read_masks, true_masks


class TemporalStability(EvalProtocol):
    """Means over the expressions for which a figure is defined; not in percent, see ``Stability``.

    Expressions without any prediction, and clips of one frame, have no figures.
    """

    name = "stability"
    headline = "compensated_iou"

    def score_video(
        self, benchmark: MaskBenchmark, video: EvalVideo, predictions: Predictions
    ) -> list[ItemScore]:
        scores = []
        for expression in video.expressions:
            truth = true_masks(benchmark, video, expression)
            found = read_masks(predictions, video, expression, (truth.shape[1], truth.shape[2]))
            values = {}
            if found is not None:
                values = temporal_stability(found.masks, truth, found.prompts).known()
            scores.append(ItemScore(video.id, expression.id, expression.text, expression.group, values))
        return scores

    def summarize(self, benchmark: MaskBenchmark, items: Sequence[ItemScore]) -> Summary:
        known = list(dict.fromkeys(name for item in items for name in item.values))
        means = {}
        for name in known:
            values = [item.values[name] for item in items if name in item.values]
            means[name] = sum(values) / len(values)
        return {OVERALL: means}
