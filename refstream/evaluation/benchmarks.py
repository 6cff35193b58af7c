"""The table of benchmarks: a name, what reads it, how it is scored, how it is submitted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from refstream.data.names import near
from refstream.errors import UserError
from refstream.evaluation.benchmark import MaskBenchmark
from refstream.evaluation.evaluate import Evaluation, Progress
from refstream.evaluation.protocols.base import EvalProtocol
from refstream.evaluation.protocols.davis_official import DavisOfficial
from refstream.evaluation.protocols.families import Families
from refstream.evaluation.protocols.gres import GRES
from refstream.evaluation.protocols.per_expression import PerExpression
from refstream.evaluation.protocols.pictures import Pictures
from refstream.evaluation.protocols.revos import ReVOS
from refstream.evaluation.protocols.sentences import Sentences
from refstream.evaluation.protocols.stability import TemporalStability
from refstream.evaluation.qa import QA_BENCHMARKS
from refstream.evaluation.readers.a2d import A2DBenchmark
from refstream.evaluation.readers.jhmdb import JHMDBBenchmark
from refstream.evaluation.readers.mevis import MeViSBenchmark
from refstream.evaluation.readers.minirvos import MiniRVOSBenchmark
from refstream.evaluation.readers.reason_seg import ReasonSegBenchmark
from refstream.evaluation.readers.ref_davis17 import RefDAVIS17Benchmark
from refstream.evaluation.readers.ref_youtube_vos import RefYouTubeVOSBenchmark
from refstream.evaluation.readers.refcoco import GRefCOCOBenchmark, RefCOCOBenchmark
from refstream.evaluation.readers.revos import ReVOSBenchmark
from refstream.evaluation.results import EvalResult
from refstream.evaluation.stream_tasks import NAME as STREAMS


@dataclass(frozen=True)
class Entry:
    """A row of the table.

    Attributes:
        title: As papers write it.
        reader: Makes the benchmark from ``root``, ``split`` and options of its own.
        protocols: Name -> class; the first is the default.
        root: Where the papers' trees have it; None: it needs no files.
        splits: Official names; the first is the default.
        submission: Form of ``refstream.evaluation.submit``; None: nothing is submitted.
        options: Of the reader, fixed for this row.
    """

    title: str
    reader: Callable[..., MaskBenchmark]
    protocols: Mapping[str, Callable[..., EvalProtocol]]
    root: str | None
    splits: tuple[str, ...]
    submission: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


_VIDEO = {"per-expression": PerExpression, "stability": TemporalStability}
_PICTURES = {"cIoU+gIoU": Pictures}
_UNC = ("val", "testA", "testB")

BENCHMARKS: dict[str, Entry] = {
    "minirvos": Entry(
        "MiniRVOS",
        MiniRVOSBenchmark,
        {"families": Families, "stability": TemporalStability},
        root=None,
        splits=("test", "val", "train"),
    ),
    "ref_davis17": Entry(
        "Ref-DAVIS17",
        RefDAVIS17Benchmark,
        {"per-expression": PerExpression, "davis-official": DavisOfficial, "stability": TemporalStability},
        root="data/video_datas/davis17",
        splits=("valid", "train"),
        submission="videos",
    ),
    "mevis": Entry(
        "MeViS",
        MeViSBenchmark,
        _VIDEO,
        root="data/video_datas/mevis",
        splits=("valid_u", "valid", "test", "train"),
        submission="videos",
    ),
    "mevis_v2": Entry(
        "MeViS v2",
        MeViSBenchmark,
        _VIDEO,
        root="data/video_datas/mevis_v2",
        splits=("valid_u", "valid", "test", "train"),
        submission="videos",
        options={"version": 2},
    ),
    "revos": Entry(
        "ReVOS",
        ReVOSBenchmark,
        {"revos": ReVOS, "stability": TemporalStability},
        root="data/video_datas/revos",
        splits=("valid", "train"),
        submission="videos",
    ),
    "ref_youtube_vos": Entry(
        "Ref-YouTube-VOS",
        RefYouTubeVOSBenchmark,
        _VIDEO,
        root="data/video_datas/rvos",
        splits=("valid", "test", "train"),
        submission="annotations",
    ),
    "refcoco": Entry(
        "RefCOCO", RefCOCOBenchmark, _PICTURES, "data/ref_seg", _UNC, options={"name": "refcoco"}
    ),
    "refcoco+": Entry(
        "RefCOCO+", RefCOCOBenchmark, _PICTURES, "data/ref_seg", _UNC, options={"name": "refcoco+"}
    ),
    "refcocog": Entry(
        "RefCOCOg", RefCOCOBenchmark, _PICTURES, "data/ref_seg", ("val", "test"), options={"name": "refcocog"}
    ),
    "grefcoco": Entry("gRefCOCO", GRefCOCOBenchmark, {"gres": GRES}, "data/ref_seg", _UNC),
    "reason_seg": Entry(
        "ReasonSeg",
        ReasonSegBenchmark,
        {"cIoU+gIoU": partial(Pictures, headline="gIoU")},
        "data/reason_seg",
        ("val", "test", "train"),
    ),
    "a2d": Entry("A2D-Sentences", A2DBenchmark, {"a2d": Sentences}, "data/a2d_sentences", ("test",)),
    "jhmdb": Entry("JHMDB-Sentences", JHMDBBenchmark, {"a2d": Sentences}, "data/jhmdb_sentences", ("test",)),
}


def entry_of(name: str) -> Entry:
    """A row of the table. Raises UserError if there is none of that name."""
    if name not in BENCHMARKS:
        if name in QA_BENCHMARKS:
            raise UserError(f"{name} is answered in words, it has no masks; see docs/benchmarks_qa.md")
        if name == STREAMS:
            raise UserError(f"{name} is answered in words over streams, it has no masks")
        known = sorted({*BENCHMARKS, *QA_BENCHMARKS, STREAMS})
        guess = near(name, known)
        hint = f"did you mean {guess}?" if guess else f"available: {', '.join(known)}"
        raise UserError(f"unknown benchmark {name!r}; {hint}")
    return BENCHMARKS[name]


def load_benchmark(
    name: str, root: str | Path | None = None, split: str | None = None, **options: Any
) -> MaskBenchmark:
    """Open a benchmark.

    Args:
        name: Of the table.
        root: Its folder; None: where the papers' trees have it.
        split: Official name; None: the one that is scored.
        options: Of its reader.

    Raises:
        UserError: If no benchmark or split has this name, files are missing, or an option is impossible.
    """
    entry = entry_of(name)
    split = entry.splits[0] if split is None else split
    if split not in entry.splits:
        raise UserError(f"{name} has no split {split!r}; it has {', '.join(entry.splits)}")
    if entry.root is None:
        if root is not None:
            raise UserError(f"{name} is made on the fly and lies in no folder; leave out --data")
    else:
        options["root"] = entry.root if root is None else root
    if len(entry.splits) > 1:
        options["split"] = split
    return entry.reader(**entry.options, **options)


def make_protocol(name: str, protocol: str | None = None, compat: str | None = None) -> EvalProtocol:
    """A protocol of a benchmark; its first one by default.

    Raises:
        UserError: If it has no protocol of this name, or that one no such compatibility mode.
    """
    entry = entry_of(name)
    protocol = next(iter(entry.protocols)) if protocol is None else protocol
    if protocol not in entry.protocols:
        raise UserError(f"{name} has no protocol {protocol!r}; it has {', '.join(entry.protocols)}")
    make = entry.protocols[protocol]
    return make() if compat is None else make(compat=compat)


def open_benchmark(
    name: str,
    root: str | Path | None = None,
    split: str | None = None,
    *,
    protocol: str | None = None,
    compat: str | None = None,
    **options: Any,
) -> tuple[MaskBenchmark, EvalProtocol]:
    """A benchmark and one of its protocols, which fit each other; see the two functions above."""
    chosen = make_protocol(name, protocol, compat)
    return load_benchmark(name, root, split, **{**chosen.reader_options, **options}), chosen


def run_benchmark(
    name: str,
    model: Any,
    *,
    model_name: str = "",
    floors: bool = False,
    progress: Progress | None = None,
    pipeline: Mapping[str, Any] | None = None,
    **options: Any,
) -> EvalResult:
    """Evaluate a model on a benchmark, in memory.

    Args:
        name: Of the table.
        model: Has ``pipeline()`` and ``segmenter``.
        model_name: For the report.
        floors: Also measure the floors, and the ceiling with true boxes.
        progress: See ``evaluate.Progress``.
        pipeline: Overrides for ``model.pipeline()``.
        options: Of the benchmark, e.g. ``root``, ``split``, ``seed`` and ``num_clips``.
    """
    benchmark, protocol = open_benchmark(name, **options)
    evaluation = Evaluation(model.pipeline(**(pipeline or {})), benchmark, protocol, progress=progress)
    return evaluation.result(model_name, segmenter=model.segmenter if floors else None, floors=floors)
