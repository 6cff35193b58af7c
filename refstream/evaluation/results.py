"""What an evaluation found: typed, written as JSON in one piece, shown as a table."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from refstream.evaluation.provenance import provenance
from refstream.files import write_json

LEARNED_MARGIN = 20.0  # J&F above shuffled expressions, from which on a group counts as learned


@dataclass(frozen=True)
class Score:
    """Means in [0, 100] over ``count`` expressions."""

    j: float
    f: float
    count: int

    @property
    def j_and_f(self) -> float:
        """Mean of J and F."""
        return (self.j + self.f) / 2


@dataclass(frozen=True)
class Scores:
    """Scores of one kind of run.

    Attributes:
        overall: Weighted mean of the groups.
        groups: By group (family of expressions).
        held_out: Over all expressions whose targets are like nothing in training; None without such.
    """

    overall: Score
    groups: dict[str, Score]
    held_out: Score | None = None


@dataclass(frozen=True)
class Speed:
    """What the model's run cost.

    Attributes:
        fps: Frames of a stream per second, all its expressions together.
        mllm_calls_per_frame: Per expression, in [0, 1].
        latency_ms_p50: Median time of a frame.
        latency_ms_p95: 95th percentile of it.
        expressions_per_stream: Mean number of expressions that shared a stream.
    """

    fps: float
    mllm_calls_per_frame: float
    latency_ms_p50: float
    latency_ms_p95: float
    expressions_per_stream: float


@dataclass(frozen=True)
class EvaluationResult:
    """The outcome of one evaluation.

    Attributes:
        benchmark: Its registered name.
        model: As the caller named it.
        settings: The benchmark's: seed, number of clips, ...
        num_clips: Clips scored.
        scores: The model's.
        speed: The model's.
        floors: By name; empty if none were measured.
        ceiling: With true boxes as prompts; None if not measured.
    """

    benchmark: str
    model: str
    settings: dict[str, Any]
    num_clips: int
    scores: Scores
    speed: Speed
    floors: dict[str, Scores]
    ceiling: Scores | None = None

    @property
    def j_and_f(self) -> float:
        """Overall J&F of the model, in [0, 100]."""
        return self.scores.overall.j_and_f

    def learned(self) -> dict[str, bool]:
        """By group, whether the model is 20 J&F above shuffled expressions; empty without that floor."""
        shuffled = self.floors.get("shuffled")
        if shuffled is None:
            return {}
        return {
            group: score.j_and_f >= shuffled.groups[group].j_and_f + LEARNED_MARGIN
            for group, score in self.scores.groups.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """All of it, JSON-serialisable, with where it comes from; every score also says its ``j_and_f``."""
        seed = self.settings.get("seed")
        return {
            **provenance([] if seed is None else [seed]),
            "rows": self.rows(),
            "benchmark": self.benchmark,
            "model": self.model,
            "settings": self.settings,
            "num_clips": self.num_clips,
            "j_and_f": self.j_and_f,
            "scores": _scores_dict(self.scores),
            "speed": asdict(self.speed),
            "floors": {name: _scores_dict(scores) for name, scores in self.floors.items()},
            "ceiling": None if self.ceiling is None else _scores_dict(self.ceiling),
            "learned": self.learned(),
        }

    def save(self, path: str | Path) -> Path:
        """Write it as JSON; an interrupted write leaves the old file as it was."""
        write_json(path, self.to_dict())
        return Path(path)

    def runs(self) -> list[tuple[str, Scores]]:
        """The model, its floors and its ceiling, by name."""
        ceiling = [] if self.ceiling is None else [("oracle box", self.ceiling)]
        return [("model", self.scores), *self.floors.items(), *ceiling]

    def rows(self) -> list[dict[str, Any]]:
        """One flat row per run: J, F, J&F, then J&F by group and on held-out targets."""
        return [
            {
                "run": name,
                "J": scores.overall.j,
                "F": scores.overall.f,
                "J&F": scores.overall.j_and_f,
                **{group: score.j_and_f for group, score in scores.groups.items()},
                "held out": None if scores.held_out is None else scores.held_out.j_and_f,
            }
            for name, scores in self.runs()
        ]

    def table(self) -> Table:
        """A table for ``rich``: one row per run, one column per group."""
        groups = list(self.scores.groups)
        title = f"{self.benchmark}: J&F of {self.model or 'the model'} on {self.num_clips} clips"
        speed = self.speed
        caption = (
            f"{speed.fps:.1f} FPS with {speed.expressions_per_stream:.1f} expressions a stream, "
            f"{speed.mllm_calls_per_frame:.2f} MLLM calls a frame, "
            f"latency {speed.latency_ms_p50:.0f} ms (p50), {speed.latency_ms_p95:.0f} ms (p95)"
        )
        table = Table(title=title, caption=caption)
        table.add_column("run")
        for column in ("J", "F", "J&F", *groups, "held out"):
            table.add_column(column, justify="right")
        for row in self.rows():
            name, *values = row.values()
            table.add_row(name, *("-" if value is None else f"{value:.1f}" for value in values))
        return table


def _scores_dict(scores: Scores) -> dict[str, Any]:
    return {
        "overall": _score_dict(scores.overall),
        "groups": {group: _score_dict(score) for group, score in scores.groups.items()},
        "held_out": None if scores.held_out is None else _score_dict(scores.held_out),
    }


def _score_dict(score: Score) -> dict[str, float]:
    return {"j": score.j, "f": score.f, "j_and_f": score.j_and_f, "count": score.count}
