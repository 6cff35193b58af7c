"""J&F of predictions on Ref-YouTube-VOS, where its masks lie on disk (those of valid are with the server):
``python tools/eval/eval_refytvos.py --pred_path work_dirs/M/REFYTVOS/results.json --split train``.

To be called local: nobody has confirmed that the server's rule is the same. What is missing scores 0 and is
listed. For the server: ``refstream submit PREDICTIONS --benchmark ref_youtube_vos``.
"""

import argparse
import sys
from pathlib import Path

from refstream.cli import paper_scripts
from refstream.evaluation.protocols.per_expression import PerExpression
from refstream.evaluation.readers.ref_youtube_vos import RefYouTubeVOSBenchmark

ROOT = Path("data/video_datas/rvos")
FLAGS = ("--pred_path", "--mevis_pred_path")


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """See ``--help``."""
    parser = paper_scripts.parser_of(__doc__ or "", FLAGS)
    parser.add_argument("--root", type=Path, default=ROOT, help="default: %(default)s")
    parser.add_argument("--split", choices=["valid", "test", "train"], default="valid")
    parser.add_argument("--exp_path", type=Path, help="default: the official list of the split")
    parser.add_argument("--mask_path", type=Path, help="mask_dict.pkl; default: what the root has")
    parser.add_argument("--save_name", type=Path, default=Path("refytvos_local.json"))
    return parser.parse_args(argv)


def evaluate(args: argparse.Namespace) -> None:
    """Score, print and save."""
    path = paper_scripts.predictions_of(args, "REFYTVOS")
    benchmark = RefYouTubeVOSBenchmark(
        args.root,
        args.split,
        expression_file=None if args.exp_path is None else str(args.exp_path.resolve()),
        mask_file=None if args.mask_path is None else str(args.mask_path.resolve()),
    )
    result = paper_scripts.score_predictions(path, benchmark, PerExpression(args.compat), args)
    paper_scripts.save_figures(paper_scripts.j_and_f(result), path, args.save_name)


def main(argv: list[str] | None = None) -> int:
    """0, or 2 for bad input."""
    args = parse_arguments(argv)
    return paper_scripts.guarded("eval_refytvos", lambda: evaluate(args))


if __name__ == "__main__":
    sys.exit(main())
