"""J, F, A and R of predictions on ReVOS:
``python tools/eval/eval_revos.py --pred_path work_dirs/M/REVOS/results.json``.

The arguments are those of the public scripts (VISA, Sa2VA, StreamingRVOS). A and R are 0/1 arithmetic, and
what is missing scores 0 and is listed; --compat visa, visa-0-1 or sa2va gives the figures of those scripts.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from refstream.cli import paper_scripts
from refstream.evaluation.protocols.pieces import counted
from refstream.evaluation.protocols.revos import OTHER, REASONING, REFERRING, ReVOS
from refstream.evaluation.readers.revos import ReVOSBenchmark
from refstream.evaluation.results import EvalResult

ROOT = Path("data/video_datas/revos")
FLAGS = ("--pred_path", "--visa_pred_path")
ROWS = {REFERRING: "referring", REASONING: "reason", "overall": "overall"}
METRICS = {"J": "J", "F": "F", "A": "A", "R": "R", "J&F": "JF"}
TYPES = {REFERRING: 0, REASONING: 1, OTHER: 2}


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """See ``--help``."""
    parser = paper_scripts.parser_of(__doc__ or "", FLAGS)
    for name, default in (
        ("exp_path", "meta_expressions_valid_.json"),
        ("mask_path", "mask_dict.json"),
        ("foreground_mask_path", "mask_dict_foreground.json"),
    ):
        parser.add_argument(f"--{name}", f"--visa_{name}", type=Path, default=ROOT / default)
    parser.add_argument("--save_json_name", type=Path, default=Path("revos_valid.json"))
    parser.add_argument("--save_csv_name", type=Path, default=Path("revos_valid.csv"))
    return parser.parse_args(argv)


def evaluate(args: argparse.Namespace) -> None:
    """Score, print and save."""
    path = paper_scripts.predictions_of(args, "REVOS")
    benchmark = ReVOSBenchmark(
        args.exp_path.resolve().parent,
        expression_file=args.exp_path.name,
        mask_file=str(args.mask_path.resolve()),
        foreground_file=str(args.foreground_mask_path.resolve()),
    )
    result = paper_scripts.score_predictions(path, benchmark, ReVOS(args.compat), args)
    paper_scripts.save_table(rows(result), path, args.save_csv_name)
    paper_scripts.save_figures(figures(result), path, args.save_json_name)


def figures(result: EvalResult) -> dict[str, dict[str, float]]:
    """As the public scripts name them; a type without expressions is left out."""
    return {
        name: {METRICS[metric]: result.summary[row][metric] for metric in METRICS}
        for row, name in ROWS.items()
        if "J" in result.summary.get(row, {})
    }


def rows(result: EvalResult) -> list[dict[str, Any]]:
    """One per expression, in percent, rounded to 2 decimals."""
    return [
        {
            "video_name": item.video,
            "exp_id": item.id,
            "exp": item.text,
            "videxp": f"{item.video}_{item.id}",
            **{METRICS[m]: round(100 * item.values[m], 2) for m in ("J", "F", "J&F", "A", "R")},
            "type_id": TYPES[item.group],
        }
        for item in counted(result.items)
    ]


def main(argv: list[str] | None = None) -> int:
    """0, or 2 for bad input."""
    args = parse_arguments(argv)
    return paper_scripts.guarded("eval_revos", lambda: evaluate(args))


if __name__ == "__main__":
    sys.exit(main())
