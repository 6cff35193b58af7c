"""Write the report: gather what it shows, fill the template, put it down in one piece."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from refstream.evaluation.benchmark import MaskBenchmark
from refstream.evaluation.curve import GateCurve
from refstream.evaluation.predictions.base import Predictions
from refstream.evaluation.protocols.base import ItemScore
from refstream.evaluation.provenance import provenance
from refstream.evaluation.published import PublishedRow, published
from refstream.evaluation.report import figures
from refstream.evaluation.report.cases import Picture, choose, render
from refstream.evaluation.report.svg import STYLE
from refstream.evaluation.results import EvalResult
from refstream.files import atomic_write_text

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class ShownCase:
    """A case as the template wants it: the pictures with what is written below each."""

    item: ItemScore
    kind: str
    score: str
    pictures: Sequence[tuple[Picture, str]]
    problem: str
    chart: Markup | None


def write_report(
    path: str | Path,
    result: EvalResult,
    benchmark: MaskBenchmark,
    predictions: Predictions | None,
    *,
    num_cases: int = 6,
    show_published: bool = False,
    curve: GateCurve | None = None,
) -> Path:
    """Write one HTML file that opens without a server or a network.

    Args:
        path: Parents are made; a file already there is replaced.
        result: What was found.
        benchmark: What was asked; pictures and truth of the chosen cases alone are read.
        predictions: The masks that were scored; None: no pictures.
        num_cases: At most so many expressions as pictures, half of them the best and half the worst.
        show_published: Set the figures of papers beside, marked as such.
        curve: The model's accuracy against its speed, see ``gate_curve``.

    Raises:
        UserError: If masks do not fit.
        OutputError: If the file cannot be written.
    """
    page = render_page(result, benchmark, predictions, num_cases, show_published, curve)
    atomic_write_text(path, page)
    return Path(path)


def render_page(
    result: EvalResult,
    benchmark: MaskBenchmark,
    predictions: Predictions | None,
    num_cases: int = 6,
    show_published: bool = False,
    curve: GateCurve | None = None,
) -> str:
    """The text of the page; see ``write_report``."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    metric = figures.item_metric(result)
    over_time = figures.frame_metric(result.items)
    missing, num_missing = figures.missing_lines(result)
    return environment.get_template("report.html.j2").render(
        chart_style=Markup(STYLE),
        result=result,
        subject=result.subject or "the model",
        facts=_facts(result),
        headline=figures.headline_figures(result),
        runs=figures.runs_table(result),
        groups=figures.groups_chart(result),
        has_floors=bool(result.floors or result.ceilings),
        metric=metric,
        distribution=figures.distribution_chart(result, metric),
        frame_metric=over_time,
        over_time=None if over_time is None else figures.over_time_chart(result.items, over_time),
        cases=_cases(result, benchmark, predictions, num_cases, metric, over_time),
        videos=figures.videos_table(result, metric),
        missing=missing,
        num_missing=num_missing,
        speed=figures.speed_figures(result),
        curve=None if curve is None else curve.chart().markup(),
        curve_table=None if curve is None else curve_table(curve),
        published=_published_table(result) if show_published else None,
        settings=json.dumps(dict(result.settings), indent=2, ensure_ascii=False, default=str),
    )


def curve_table(curve: GateCurve) -> figures.TableData:
    """A row per gate."""
    columns = [
        "gate",
        "MLLM calls per frame",
        "FPS",
        curve.headline,
        "encoding, ms a frame",
        "rest, ms a frame",
    ]
    rows: list[list[figures.Cell]] = []
    for point in curve.points:
        values = [(point.calls_per_frame, 3), (point.fps, 1), (point.score, 1)]
        values += [(point.encode_ms, 1), (point.replay_ms, 1)]
        cells: list[figures.Cell] = [(figures.number(value, digits), value) for value, digits in values]
        rows.append([(point.label, point.label), *cells])
    return figures.TableData(columns, rows)


def _facts(result: EvalResult) -> list[tuple[str, str]]:
    """What was evaluated, and with what."""
    seed = result.settings.get("seed")
    source: dict[str, Any] = provenance([] if seed is None else [seed])
    machine = ", ".join(f"{k} {v}" for k, v in source["machine"].items() if v is not None)
    facts = [
        ("model", result.subject or "the model"),
        ("benchmark", f"{result.benchmark}, split {result.split}"),
        ("protocol", result.protocol + (f", as {result.compat} does it" if result.compat else "")),
        ("scored", ", ".join(f"{count:,} {what}" for what, count in result.expected.items())),
        ("command", source["command"]),
        ("commit", source["commit"]),
        ("machine", machine),
    ]
    if result.settings.get("note"):
        facts.insert(4, ("note", str(result.settings["note"])))
    return facts


def _cases(
    result: EvalResult,
    benchmark: MaskBenchmark,
    predictions: Predictions | None,
    num_cases: int,
    metric: str | None,
    over_time: str | None,
) -> list[ShownCase]:
    if predictions is None or metric is None:
        return []
    shown = []
    best, worst = choose(result.items, metric, num_cases)
    for kind, items in (("best", best), ("worst", worst)):
        for item in items:
            case = render(benchmark, predictions, item)
            if case is None:
                continue
            positions = [picture.position for picture in case.pictures]
            chart = figures.item_chart(item, over_time, positions) if over_time and kind == "worst" else None
            pictures = [(picture, _below(picture, item, over_time)) for picture in case.pictures]
            score = f"{metric} {figures.number(100 * item.values[metric])}"
            shown.append(ShownCase(item, kind, score, pictures, case.problem, chart))
    return shown


def _below(picture: Picture, item: ItemScore, over_time: str | None) -> str:
    """What is written below a picture."""
    values = item.frames.get(over_time, []) if over_time else []
    words = f"frame {picture.frame}"
    if picture.position < len(values):
        words += f" · {over_time} {100 * values[picture.position]:.0f}"
    return words if picture.predicted else words + " · no prediction"


def _published_table(result: EvalResult) -> figures.TableData:
    """The papers' rows, in the metrics that they have."""
    rows: list[PublishedRow] = published(result.benchmark, result.split, result.protocol)
    metrics = list(dict.fromkeys(metric for row in rows for metric in row.values))
    cells: list[list[figures.Cell]] = []
    for row in rows:
        values: list[figures.Cell] = [
            (figures.number(row.values.get(name)), row.values.get(name, -1.0)) for name in metrics
        ]
        note = ("doubtful. " if row.doubtful else "") + row.note
        texts: list[figures.Cell] = [(text, text) for text in (row.method, row.backbone, row.source, note)]
        cells.append([*texts[:2], *values, *texts[2:]])
    return figures.TableData(["method", "backbone", *metrics, "source", "note"], cells)
