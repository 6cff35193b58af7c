"""A run's masks as one file of the form that the MLLM line of video referring released: ``results.json``.

``{video: {expression id: {"index", "video_id", "exp_id", "text_prediction", "frames", "exp",
"prediction_masks"}}}`` with a COCO RLE for every frame, also an empty one. ``text_prediction`` is "": the
answer is given, not generated.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from refstream.data import rle
from refstream.errors import UserError
from refstream.evaluation.benchmark import MaskBenchmark
from refstream.evaluation.ledger import Ledger, Record
from refstream.evaluation.run import item_name
from refstream.files import atomic_file


def write_released(path: str | Path, benchmark: MaskBenchmark, run: Ledger) -> Path:
    """Write the masks of all expressions, one in memory at a time; the file appears whole or not at all.

    Args:
        path: Parents are made.
        benchmark: What was run.
        run: Its ledger of masks, see ``run_model``.

    Raises:
        UserError: If the run is incomplete.
        OutputError: If the file cannot be written; an earlier one is then as it was.
    """
    with atomic_file(path) as part, open(part, "w", encoding="utf-8") as file:
        file.writelines(_pieces(benchmark, run))
    return Path(path)


def _pieces(benchmark: MaskBenchmark, run: Ledger) -> Iterator[str]:
    index = 0
    yield "{"
    for number, video in enumerate(benchmark.videos):
        yield f"{', ' if number else ''}{json.dumps(video.id)}: {{"
        for place, expression in enumerate(video.expressions):
            item = item_name(video, expression)
            record = run.read(item)
            if record is None:
                raise UserError(f"{item} is not in the run; is it complete?")
            entry = json.dumps(_entry(record, index), ensure_ascii=False)
            yield f"{', ' if place else ''}{json.dumps(expression.id)}: {entry}"
            index += 1
        yield "}"
    yield "}\n"


def _entry(record: Record, index: int) -> dict[str, Any]:
    empty = rle.encode(np.zeros(tuple(record["size"]), dtype=bool))
    return {
        "index": index,
        "video_id": record["video"],
        "exp_id": record["expression"],
        "text_prediction": "",
        "frames": record["frames"],
        "exp": record["text"],
        "prediction_masks": [empty if code is None else code for code in record["masks"]],
    }
