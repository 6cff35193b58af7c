"""Accuracy against speed, over thresholds of the gate that decides when the MLLM must look.

The image encoders do not depend on the gate. So each frame goes through each of them once, and every setting
of the gate is then replayed on the same features: the same pipeline, the same session, the same masks as in a
run of its own. A setting is charged for the parts that it asked for, and for no others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from refstream.errors import UserError
from refstream.evaluation.benchmark import MaskBenchmark
from refstream.evaluation.protocols.base import OVERALL, EvalProtocol, ItemScore
from refstream.evaluation.provenance import provenance
from refstream.evaluation.replay import Bill, replay_video
from refstream.evaluation.report.charts import Dot, scatter
from refstream.evaluation.report.svg import Canvas
from refstream.evaluation.run import PER_STREAM, RunPredictions, StreamCost, stream_events
from refstream.files import atomic_write_text, write_json
from refstream.models.protocols import StreamPipeline

Gate = Mapping[str, Any]
ALWAYS: Gate = {"type": "EveryFrameGate"}
FIRST: Gate = {"type": "FirstFrameGate"}
OWN_TYPES = ("ConsistencyGate", "LaggedConsistencyGate")
WARM_UP_FRAMES = 3
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class CurvePoint:
    """One setting of the gate.

    Attributes:
        gate: Its config.
        label: The same in a few letters.
        calls_per_frame: MLLM calls per frame and expression, in [0, 1].
        fps: Frames of a stream per second, all its expressions together.
        score: The protocol's headline.
        overall: All figures of "overall".
        encode_ms: Time per frame in the image encoders, of the parts that this setting asked for.
        replay_ms: Time per frame in all the rest.
    """

    gate: dict[str, Any]
    label: str
    calls_per_frame: float
    fps: float
    score: float
    overall: dict[str, float]
    encode_ms: float
    replay_ms: float


@dataclass(frozen=True)
class GateCurve:
    """The points of one model on one benchmark, in the order of the gates."""

    benchmark: str
    split: str
    protocol: str
    headline: str
    subject: str
    settings: Mapping[str, Any]
    num_frames: int
    points: Sequence[CurvePoint]

    def chart(self) -> Canvas:
        """The points, labelled, joined in the order of their calls."""
        dots = [
            Dot(
                point.fps,
                point.score,
                f"{point.label} ({point.calls_per_frame:.2f})",
                f"{point.label}: {self.headline} {point.score:.1f} at {point.fps:.1f} FPS, "
                f"{point.calls_per_frame:.3f} MLLM calls a frame",
            )
            for point in sorted(self.points, key=lambda point: point.calls_per_frame)
        ]
        title = f"{self.headline} against frames per second on {self.benchmark} {self.split}"
        return scatter(dots, "frames per second; in brackets, MLLM calls per frame", self.headline, title)

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable, with where it comes from."""
        seed = self.settings.get("seed")
        return {
            **provenance([] if seed is None else [seed]),
            "rows": [asdict(point) for point in self.points],
            "benchmark": self.benchmark,
            "split": self.split,
            "protocol": self.protocol,
            "headline": self.headline,
            "model": self.subject,
            "settings": dict(self.settings),
            "num_frames": self.num_frames,
        }

    def save(self, path: str | Path) -> Path:
        """Write JSON, and the chart beside it with the ending ``.svg``; both atomically."""
        path = Path(path)
        write_json(path, self.to_dict())
        atomic_write_text(path.with_suffix(".svg"), self.chart().document())
        return path


def curve_gates(own: Gate | None, text: str) -> list[dict[str, Any]]:
    """The gates of a curve: always, the thresholds that ``text`` means, and first only.

    Args:
        own: The gate in the model's config. If it compares with thresholds, its kind is kept, and the second
            threshold where only the first one is varied; else the gate is a ``ConsistencyGate``.
        text: ``tau1/tau2`` pairs with commas between, such as "0.9/0.4,0.7/0.1"; or a number K, for K values
            of tau1 evenly between 0 and 1.

    Raises:
        UserError: If it is neither, or a threshold is outside [0, 1].
    """
    base = dict(own) if own is not None and own.get("type") in OWN_TYPES else {"type": OWN_TYPES[0]}
    pairs: list[tuple[float, float | None]]
    if re.fullmatch(r"\s*\d+\s*", text):
        count = int(text)
        if not 1 <= count <= 100:
            raise UserError(f"a curve has 1 to 100 thresholds, got {count}")
        pairs = [(round(1 - k / (count + 1), 4), None) for k in range(1, count + 1)]
    else:
        pairs = [_pair(part, text) for part in text.split(",")]
    gates = [{**base, "tau1": a, **({} if b is None else {"tau2": b})} for a, b in pairs]
    return [dict(ALWAYS), *(g for i, g in enumerate(gates) if g not in gates[:i]), dict(FIRST)]


def gate_label(gate: Gate) -> str:
    """A gate in a few letters."""
    kind = str(gate.get("type", "gate"))
    names = {ALWAYS["type"]: "always", FIRST["type"]: "first"}
    if kind in OWN_TYPES:
        taus = [gate[name] for name in ("tau1", "tau2") if name in gate]
        return "/".join(f"{tau:g}" for tau in taus) or "own"
    rest = [f"{value:g}" for key, value in gate.items() if key != "type" and isinstance(value, int | float)]
    return " ".join([names.get(kind, kind.removesuffix("Gate")), *rest])


def gate_curve(
    model: Any,
    benchmark: MaskBenchmark,
    gates: Sequence[Gate],
    protocol: EvalProtocol,
    *,
    model_name: str = "",
    per_stream: int = PER_STREAM,
    pipeline: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> GateCurve:
    """Measure a model under several gates, its image encoders running once per frame.

    In memory at a time: the features of one video, the masks of one video and gate, and the scores.

    Args:
        model: Has ``pipeline(gate=...)``.
        benchmark: With public truth.
        gates: Configs of gates, see ``curve_gates``.
        protocol: How to score.
        model_name: For the report.
        per_stream: Most expressions in one session.
        pipeline: More overrides for ``model.pipeline()``.
        progress: Called with the numbers of videos done and in all.

    Raises:
        UserError: If there are no gates or videos, or the model's method has no gate or features of its own.
    """
    if not gates or not benchmark.videos:
        raise UserError(f"a curve needs gates and videos, got {len(gates)} and {len(benchmark.videos)}")
    pipelines = [_gated(model, gate, pipeline or {}) for gate in gates]
    tallies = [_Tally() for _ in gates]
    _warm_up(pipelines[0], benchmark)
    for number, video in enumerate(benchmark.videos):
        outcomes = replay_video(pipelines, benchmark, video.id, per_stream)
        for tally, (masks, bill) in zip(tallies, outcomes, strict=True):
            tally.bill.add(bill)
            tally.items.extend(protocol.score_video(benchmark, video, RunPredictions(masks)))
        if progress is not None:
            progress(number + 1, len(benchmark.videos))
    points = [tally.point(gate, protocol, benchmark) for tally, gate in zip(tallies, gates, strict=True)]
    return GateCurve(
        benchmark=benchmark.name,
        split=benchmark.split,
        protocol=protocol.name,
        headline=protocol.headline,
        subject=model_name,
        settings=benchmark.settings,
        num_frames=tallies[0].bill.num_frames,
        points=points,
    )


@dataclass
class _Tally:
    """What one gate cost and scored, over videos."""

    bill: Bill = field(default_factory=Bill)
    items: list[ItemScore] = field(default_factory=list)

    def point(self, gate: Gate, protocol: EvalProtocol, benchmark: MaskBenchmark) -> CurvePoint:
        bill, overall = self.bill, protocol.summarize(benchmark, self.items)[OVERALL]
        if protocol.headline not in overall:
            raise UserError(
                f"{benchmark.name} {benchmark.split}: no item could be scored, so there is no curve"
            )
        seconds = bill.replay_s + bill.encode_s
        frames = max(1, bill.num_frames)
        return CurvePoint(
            gate=dict(gate),
            label=gate_label(gate),
            calls_per_frame=bill.num_calls / max(1, bill.num_events),
            fps=bill.num_frames / seconds if seconds else 0.0,
            score=overall[protocol.headline],
            overall=dict(overall),
            encode_ms=1000 * bill.encode_s / frames,
            replay_ms=1000 * bill.replay_s / frames,
        )


def _gated(model: Any, gate: Gate, pipeline: Mapping[str, Any]) -> StreamPipeline:
    try:
        built: StreamPipeline = model.pipeline(**{**pipeline, "gate": dict(gate)})
    except TypeError as error:
        raise UserError(f"the model's method cannot be run with gate {dict(gate)}: {error}") from error
    return built


def _warm_up(pipeline: StreamPipeline, benchmark: MaskBenchmark) -> None:
    """A few frames that are not counted: the first ones pay for much that comes only once."""
    video = benchmark.videos[0]
    texts = [expression.text for expression in video.expressions[:1]]
    for _ in stream_events(
        pipeline, islice(benchmark.images(video), WARM_UP_FRAMES), texts, video.fps, StreamCost()
    ):
        pass


def _pair(part: str, text: str) -> tuple[float, float]:
    try:
        first, second = (float(word) for word in part.split("/"))
    except ValueError:
        raise UserError(
            f"the curve {text!r} has {part.strip()!r}; expected pairs of thresholds such as "
            "0.9/0.4,0.7/0.1, or how many there should be"
        ) from None
    if not (0 <= first <= 1 and 0 <= second <= 1):
        raise UserError(f"thresholds lie in [0, 1], got {part.strip()!r}")
    return first, second
