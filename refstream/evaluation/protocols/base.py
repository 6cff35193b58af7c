"""What a protocol is: how one video is scored, and how the scores become the table's figures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from refstream.evaluation.benchmark import EvalVideo, MaskBenchmark
from refstream.evaluation.predictions.base import Predictions

Summary = dict[str, dict[str, float]]
"""Group -> metric -> value; metrics in percent unless their docs say so. "overall" comes first."""
OVERALL = "overall"


@dataclass(frozen=True)
class ItemScore:
    """The score of one expression (or of one object, where a protocol scores objects).

    Attributes:
        video: Id of the video.
        id: Of the expression, or of the object.
        text: The words; "" for an object.
        group: As the expression's.
        values: Metric -> value, means over frames, in [0, 1] unless the protocol's docs say otherwise.
        frames: Metric -> one value per scored frame, for curves over time; may be empty.
        missing: Names of the scored frames without a prediction; all of them if there was none at all.
        details: What ``summarize`` needs besides; JSON-serialisable.
    """

    video: str
    id: str
    text: str
    group: str
    values: dict[str, float]
    frames: dict[str, list[float]] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)


class EvalProtocol(ABC):
    """A way of scoring. Stateless, so that videos can be scored in any process and any order.

    Attributes:
        name: As in the table of benchmarks and in results.
        headline: The metric of the group "overall" that a paper would quote.
        compat: Name of the public code whose known defects are reproduced; None: none (the default).
        reader_options: What the benchmark's reader must be told, for the protocol to be what it says.
    """

    name: str
    headline: str
    compat: str | None = None
    reader_options: Mapping[str, Any] = {}

    @abstractmethod
    def score_video(
        self, benchmark: MaskBenchmark, video: EvalVideo, predictions: Predictions
    ) -> list[ItemScore]:
        """Score one video. Deterministic.

        Raises:
            UserError: If a prediction does not fit; names the file.
        """

    @abstractmethod
    def summarize(self, benchmark: MaskBenchmark, items: Sequence[ItemScore]) -> Summary:
        """The figures of the table; ``items`` come in the benchmark's order."""
