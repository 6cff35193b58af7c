"""J&F of predictions on MeViS valid_u:
``python tools/eval/eval_mevis.py --pred_path work_dirs/M/MEVIS_U/results.json``.

The arguments are those of the public scripts (MeViS, Sa2VA, StreamingRVOS). What is missing scores 0 and is
listed; --compat mevis or sa2va leaves out what those scripts leave out.
"""

import argparse
import sys
from pathlib import Path

from refstream.cli import paper_scripts
from refstream.evaluation.protocols.per_expression import PerExpression
from refstream.evaluation.readers.mevis import MeViSBenchmark

ROOT = Path("data/video_datas/mevis")
FLAGS = ("--pred_path", "--mevis_pred_path")


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """See ``--help``."""
    parser = paper_scripts.parser_of(__doc__ or "", FLAGS)
    folder = ROOT / "valid_u"
    parser.add_argument("--mevis_exp_path", type=Path, default=folder / "meta_expressions.json")
    parser.add_argument("--mevis_mask_path", type=Path, default=folder / "mask_dict.json")
    parser.add_argument("--save_name", type=Path, default=Path("mevis_valu.json"))
    return parser.parse_args(argv)


def evaluate(args: argparse.Namespace) -> None:
    """Score, print and save."""
    path = paper_scripts.predictions_of(args, "MEVIS_U")
    folder = args.mevis_exp_path.resolve().parent
    benchmark = MeViSBenchmark(
        folder.parent,
        folder=folder.name,
        expression_file=args.mevis_exp_path.name,
        mask_file=str(args.mevis_mask_path.resolve()),
    )
    result = paper_scripts.score_predictions(path, benchmark, PerExpression(args.compat), args)
    paper_scripts.save_figures(paper_scripts.j_and_f(result), path, args.save_name)


def main(argv: list[str] | None = None) -> int:
    """0, or 2 for bad input."""
    args = parse_arguments(argv)
    return paper_scripts.guarded("eval_mevis", lambda: evaluate(args))


if __name__ == "__main__":
    sys.exit(main())
