"""J&F of predictions on Ref-DAVIS17, every expression alone:
``python tools/eval/eval_davis.py --pred_path work_dirs/M/DAVIS/results.json``.

The arguments are those of the public scripts (VISA, Sa2VA, StreamingRVOS). What is missing scores 0 and is
listed; --compat mevis or sa2va leaves out what those scripts leave out. For the protocol of DAVIS itself:
``refstream score PREDICTIONS --benchmark ref_davis17 --protocol davis-official``.
"""

import argparse
import sys
from pathlib import Path

from refstream.cli import paper_scripts
from refstream.evaluation.protocols.per_expression import PerExpression
from refstream.evaluation.readers.ref_davis17 import RefDAVIS17Benchmark

ROOT = Path("data/video_datas/davis17")
FLAGS = ("--pred_path", "--mevis_pred_path")


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """See ``--help``."""
    parser = paper_scripts.parser_of(__doc__ or "", FLAGS)
    words = ROOT / "meta_expressions" / "valid" / "meta_expressions.json"
    parser.add_argument("--mevis_exp_path", type=Path, default=words)
    parser.add_argument("--mevis_mask_path", type=Path, default=ROOT / "valid" / "mask_dict.pkl")
    parser.add_argument("--save_name", type=Path, default=Path("davis17_val.json"))
    return parser.parse_args(argv)


def evaluate(args: argparse.Namespace) -> None:
    """Score, print and save."""
    path = paper_scripts.predictions_of(args, "DAVIS")
    benchmark = RefDAVIS17Benchmark(
        args.mevis_exp_path.resolve().parent,
        masks="pickle",
        expression_file=args.mevis_exp_path.name,
        mask_file=str(args.mevis_mask_path.resolve()),
    )
    result = paper_scripts.score_predictions(path, benchmark, PerExpression(args.compat), args)
    paper_scripts.save_figures(paper_scripts.j_and_f(result), path, args.save_name)


def main(argv: list[str] | None = None) -> int:
    """0, or 2 for bad input."""
    args = parse_arguments(argv)
    return paper_scripts.guarded("eval_davis", lambda: evaluate(args))


if __name__ == "__main__":
    sys.exit(main())
