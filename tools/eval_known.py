"""Both protocols of Ref-DAVIS17 on predictions whose effect is known.

    python tools/eval_known.py ROOT --out FILE

ROOT is a converted Ref-DAVIS17 tree (`refstream data prepare ref_davis17`); no frames are needed. Rows are
the truth itself and the truth spoilt in one way each; PREDICTIONS, in any form that `refstream score` reads,
are added as they are.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from refstream.evaluation.benchmark import MaskBenchmark
from refstream.evaluation.benchmarks import load_benchmark, make_protocol
from refstream.evaluation.known import KnownPredictions, delayed, eroded, shifted, swapped
from refstream.evaluation.predictions.base import Predictions
from refstream.evaluation.predictions.open import open_predictions
from refstream.evaluation.protocols.base import OVERALL
from refstream.evaluation.provenance import provenance
from refstream.evaluation.score import score
from refstream.files import write_json

PROTOCOLS = ("per-expression", "davis-official")


def spoilt(benchmark: MaskBenchmark) -> Iterator[tuple[str, Predictions]]:
    """Names and predictions of the rows."""
    yield "truth", KnownPredictions(benchmark)
    for pixels in (4, 8, 20):
        yield f"shifted by {pixels} px", KnownPredictions(benchmark, shifted(pixels))
    yield "eroded by 5 px", KnownPredictions(benchmark, eroded(5))
    yield "3 frames late", KnownPredictions(benchmark, delayed(3))
    yield "identities swapped", KnownPredictions(benchmark, instead=swapped(benchmark))
    names = [(video.id, e.id) for video in benchmark.videos for e in video.expressions]
    yield "every tenth expression missing", KnownPredictions(benchmark, absent=frozenset(names[::10]))
    first = benchmark.videos[0]
    gone = frozenset((first.id, e.id) for e in first.expressions)
    yield "first video missing", KnownPredictions(benchmark, absent=gone)


def main() -> None:
    """Score every row by both protocols and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path)
    parser.add_argument("--predictions", type=Path, action="append", default=[])
    parser.add_argument("--note", default="", help="what the truth of ROOT really is")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    benchmark = load_benchmark("ref_davis17", args.root)
    sources = [*spoilt(benchmark), *((p.name, open_predictions(p, benchmark)) for p in args.predictions)]
    rows = []
    for name, predictions in sources:
        row: dict[str, object] = {"predictions": name}
        for protocol in (make_protocol("ref_davis17", one) for one in PROTOCOLS):
            items = score(benchmark, predictions, protocol)
            figures = protocol.summarize(benchmark, items)[OVERALL]
            for metric in ("J", "F"):
                row[f"{protocol.name} {metric}"] = figures.get(metric, figures.get(f"{metric}-Mean"))
            row[f"{protocol.name} J&F"] = figures[protocol.headline]
        rows.append(row)
    settings = {"videos": len(benchmark.videos), "expressions": benchmark.num_expressions, "note": args.note}
    command = f"python tools/eval_known.py ROOT --note {args.note!r}"
    write_json(args.out, {**provenance([]), "command": command, "rows": rows, "settings": settings})


if __name__ == "__main__":
    main()
