"""A small OVO-Bench that follows the label laws of the public file, where that lies, and helpers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from refstream.evaluation.qa import QA_BENCHMARKS
from refstream.evaluation.qa.base import QABenchmark
from refstream.evaluation.qa.ovo import OVOBench

ANNOTATIONS = (
    Path(__file__).resolve().parents[4] / "shared/data/streaming_text/ovo_bench/data/ovo_bench_new.json"
)
RECORDS: list[dict[str, Any]] = [
    {
        "id": 5,
        "task": "EPM",
        "video": "a/one.mp4",
        "realtime": 4.5,
        "question": "Who came?",
        "answer": "a cat",
        "options": ["a dog", "a cat", "nobody"],
        "gt": 1,
    },
    {
        "id": 6,
        "task": "STU",
        "video": "a/one.mp4",
        "realtime": 2,
        "question": "Where is it?",
        "answer": "left",
        "options": ["left", "right"],
        "gt": 0,
    },
    {
        "id": 7,
        "task": "REC",
        "video": "b.mp4",
        "activity": "jump",
        "start_times": [1, 4],
        "end_times": [2, 6],
        "test_info": [
            {"realtime": 1.5, "count": 0},
            {"realtime": 2, "count": 1},
            {"realtime": 9.0, "count": 2},
        ],
    },
    {
        "id": 8,
        "task": "SSR",
        "video": "b.mp4",
        "tutorial": "Tea",
        "all_steps": ["boil", "pour"],
        "start_time": [1, 5],
        "end_time": [4, 8],
        "test_info": [
            {"realtime": 2, "step": "boil", "type": 1},
            {"realtime": 4, "step": "pour", "type": 0},
            {"realtime": 8, "step": "pour", "type": 1},
            {"realtime": 9, "step": "pour", "type": 0},
        ],
    },
    {
        "id": 9,
        "task": "CRR",
        "video": "b.mp4",
        "question": "What falls?",
        "answer": "a cup",
        "ask_time": 3,
        "clue_time": 6,
        "test_info": [{"realtime": 3, "type": 0}, {"realtime": 5, "type": 0}, {"realtime": 6, "type": 1}],
    },
]


@pytest.fixture
def ovo_file(tmp_path: Path) -> Path:
    """Five records with twelve query points."""
    path = tmp_path / "ovo_bench_new.json"
    path.write_text(json.dumps(RECORDS))
    return path


@pytest.fixture
def ovo(ovo_file: Path) -> OVOBench:
    return OVOBench(ovo_file.parent)


@pytest.fixture(scope="session")
def real_ovo() -> OVOBench:
    """The public annotations."""
    if not ANNOTATIONS.is_file():
        pytest.skip(f"the annotations of OVO-Bench are not at {ANNOTATIONS}")
    return OVOBench(anno_path=ANNOTATIONS)


@pytest.fixture
def write_parquet() -> Callable[[Path, list[dict[str, Any]]], None]:
    """Rows to a Parquet file."""

    def write(path: Path, rows: list[dict[str, Any]]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)

    return write


@pytest.fixture
def correct() -> Callable[[str, QABenchmark, str, Any], list[float]]:
    """What the official and the strict scorer say of an answer."""

    def marks(name: str, benchmark: QABenchmark, question: str, answer: Any) -> list[float]:
        scorers = (QA_BENCHMARKS[name].scorer(kind) for kind in ("official", "strict"))
        return [scorer.mark(benchmark.by_id[question], answer).correct for scorer in scorers]

    return marks
