"""Did a stream speak at the right time: events that were said against events that were due.

Two lists of (time, text) are matched one to one, in two rounds. The first takes pairs within the tolerance
(``delta_s``, 1 s by default): as many as possible and, among all ways to do that, one with the least sum of
|delay|. These are the hits. The second takes what is left within ``reach_s``: said for something that was
due, but too early or too late. What then remains was missed, or was said for nothing (extra):

    hits + early + late + missed = number due        precision = hits / number said
    hits + early + late + extra = number said        recall = hits / number due
                                                      F1 = 2 hits / (number said + number due)

Where nothing was due and nothing was said, all three are 1; a share of nothing is otherwise 0. A delay is the
time when it was said minus the time when it was due; its percentiles are over all pairs of both rounds, hits
alone would never show more than the tolerance.

There is no published protocol behind this: tolerance and reach are assumed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment

DELTA_S, REACH_S = 1.0, 5.0
EPSILON_S = 1e-6
"""Times of frames are rounded: a delay of exactly the tolerance is within it."""
SameText = Callable[[str, str], bool]
"""Of what was said and what was due: whether it says that."""
SPAN = re.compile(r"<?\s*(\d+(?:\.\d+)?)\s*s\s*(?:-|to)\s*(\d+(?:\.\d+)?)\s*s\s*>?")


@dataclass(frozen=True)
class Timed:
    """Something that was said, or was due, at a time.

    Attributes:
        time_s: Seconds from the start of the video, finite.
        text: The words.
    """

    time_s: float
    text: str = ""

    def __post_init__(self) -> None:
        if not math.isfinite(self.time_s):
            raise ValueError(f"an event's time must be finite, got {self.time_s}")


@dataclass(frozen=True)
class Pair:
    """Something said for something due, by their places in the two lists; ``hit``: within the tolerance."""

    said: int
    due: int
    delay_s: float
    hit: bool


@dataclass
class Timing:
    """Counts of one or of many streams; they add up with ``+``.

    Attributes:
        due, said: How many events there were.
        hits: Pairs within the tolerance.
        early, late: Pairs beyond it, within reach.
        right: Hits whose words are right too; as many as ``hits`` if words were not compared.
        delays_s: Of all pairs.
    """

    due: int = 0
    said: int = 0
    hits: int = 0
    early: int = 0
    late: int = 0
    right: int = 0
    delays_s: list[float] = field(default_factory=list)

    def __add__(self, other: Timing) -> Timing:
        return Timing(
            self.due + other.due,
            self.said + other.said,
            self.hits + other.hits,
            self.early + other.early,
            self.late + other.late,
            self.right + other.right,
            [*self.delays_s, *other.delays_s],
        )

    @property
    def missed(self) -> int:
        """Due, and nothing was said for it."""
        return self.due - self.hits - self.early - self.late

    @property
    def extra(self) -> int:
        """Said, and nothing was due for it."""
        return self.said - self.hits - self.early - self.late

    @property
    def precision(self) -> float:
        """In [0, 1]."""
        return self._share(self.hits, self.said)

    @property
    def recall(self) -> float:
        """In [0, 1]."""
        return self._share(self.hits, self.due)

    @property
    def f1(self) -> float:
        """In [0, 1]."""
        return self._share(2 * self.hits, self.said + self.due)

    @property
    def f1_text(self) -> float:
        """F1 in [0, 1] where a hit with wrong words is none."""
        return self._share(2 * self.right, self.said + self.due)

    @property
    def text_accuracy(self) -> float | None:
        """Share of the hits with the right words, in [0, 1]; None without hits."""
        return self.right / self.hits if self.hits else None

    def delay_s(self, percentile: float) -> float | None:
        """A percentile of the delays in seconds, negative for early; None without pairs."""
        return float(np.percentile(self.delays_s, percentile)) if self.delays_s else None

    def figures(self) -> dict[str, float]:
        """For tables: shares in percent, counts as they are, delays in seconds; what is undefined is absent.

        Keys: f1, f1_text, precision, recall, text_accuracy, due, said, hits, early, late, missed, extra,
        delay_p50_s, delay_p95_s.
        """
        found: dict[str, float | None] = {
            "f1": 100 * self.f1,
            "f1_text": 100 * self.f1_text,
            "precision": 100 * self.precision,
            "recall": 100 * self.recall,
            "text_accuracy": None if self.text_accuracy is None else 100 * self.text_accuracy,
        }
        for name in ("due", "said", "hits", "early", "late", "missed", "extra"):
            found[name] = float(getattr(self, name))
        found |= {"delay_p50_s": self.delay_s(50), "delay_p95_s": self.delay_s(95)}
        return {name: value for name, value in found.items() if value is not None}

    def _share(self, part: int, whole: int) -> float:
        if not whole:
            return 1.0 if not self.due and not self.said else 0.0
        return part / whole


def match_events(
    said: Sequence[Timed], due: Sequence[Timed], *, delta_s: float = DELTA_S, reach_s: float = REACH_S
) -> list[Pair]:
    """Match by time alone; see the module.

    Args:
        said: In any order.
        due: In any order.
        delta_s: Largest |delay| of a hit, included.
        reach_s: Largest |delay| of any pair, included.

    Returns:
        The pairs, in the order of ``due``.

    Raises:
        ValueError: If the tolerance is negative or above the reach.
    """
    if not 0 <= delta_s <= reach_s < math.inf:
        raise ValueError(f"expected 0 <= delta_s <= reach_s, got {delta_s} and {reach_s}")
    delays = np.array([[one.time_s - other.time_s for other in due] for one in said], dtype=np.float64)
    delays = delays.reshape(len(said), len(due))
    hits = _assign(delays, np.ones_like(delays, dtype=bool), delta_s)
    free = np.ones_like(delays, dtype=bool)
    for row, column in hits:
        free[row, :] = free[:, column] = False
    others = _assign(delays, free, reach_s)
    pairs = [Pair(row, column, float(delays[row, column]), True) for row, column in hits]
    pairs += [Pair(row, column, float(delays[row, column]), False) for row, column in others]
    return sorted(pairs, key=lambda pair: pair.due)


def timing(
    said: Sequence[Timed],
    due: Sequence[Timed],
    *,
    delta_s: float = DELTA_S,
    reach_s: float = REACH_S,
    same: SameText | None = None,
) -> Timing:
    """Match and count.

    Args:
        said, due, delta_s, reach_s: See ``match_events``.
        same: Compares the words of a hit; None: words are not compared.
    """
    pairs = match_events(said, due, delta_s=delta_s, reach_s=reach_s)
    hits = [pair for pair in pairs if pair.hit]
    right = hits if same is None else [p for p in hits if same(said[p.said].text, due[p.due].text)]
    beyond = [pair.delay_s for pair in pairs if not pair.hit]
    return Timing(
        due=len(due),
        said=len(said),
        hits=len(hits),
        early=sum(delay < 0 for delay in beyond),
        late=sum(delay > 0 for delay in beyond),
        right=len(right),
        delays_s=[pair.delay_s for pair in pairs],
    )


def plain(text: str) -> str:
    """Words for comparing: small letters, single spaces, without marks at the ends."""
    return " ".join(text.lower().split()).strip(" .,;:!?\"'`*")


def same_words(said: str, due: str) -> bool:
    """Whether two texts are the same but for case, spaces and marks at the ends."""
    return plain(said) == plain(due)


def span_of(text: str) -> tuple[float, float] | None:
    """The one span in seconds that a text states, as "<3s-6s>" or "3s to 6s"; None if none or several."""
    found = SPAN.findall(text)
    if len(found) != 1:
        return None
    start, end = (float(value) for value in found[0])
    return (start, end) if start <= end else None


def span_iou(said: str, due: str) -> float | None:
    """Overlap of two stated spans over their union, in [0, 1]: 0 if the first states none; None if the truth
    states none."""
    truth, told = span_of(due), span_of(said)
    if truth is None:
        return None
    if told is None:
        return 0.0
    overlap = max(0.0, min(truth[1], told[1]) - max(truth[0], told[0]))
    union = (truth[1] - truth[0]) + (told[1] - told[0]) - overlap
    return overlap / union if union else float(truth == told)


def total(parts: Iterable[Timing]) -> Timing:
    """The sum of some counts."""
    return sum(parts, Timing())


def _assign(delays: np.ndarray, allowed: np.ndarray, limit_s: float) -> list[tuple[int, int]]:
    """Most pairs, then least sum of |delay|, among the allowed ones within a limit."""
    cost = np.abs(delays)
    allowed = allowed & (cost <= limit_s + EPSILON_S)
    if not allowed.any():
        return []
    # A pair that is not allowed costs more than all allowed ones together: as few as can be are taken.
    dear = (limit_s + 1) * (min(cost.shape) + 1)
    rows, columns = linear_sum_assignment(np.where(allowed, cost, dear))
    return [(int(r), int(c)) for r, c in zip(rows, columns, strict=True) if allowed[r, c]]
