"""A model on RefCOCO, RefCOCO+ or RefCOCOg: what ``refstream eval`` does, with the papers' arguments.

python projects/streamingrvos/evaluation/refcoco_eval.py --model_path M --dataset refcoco --split testA

torchrun, ``python -m torch.distributed.launch`` and srun start it on several GPUs, with ``--launcher``.
Options of ``refstream eval`` may follow, such as ``--max-videos`` or ``--device``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from refstream.cli import main as refstream
from refstream.cli.app import USER_ERROR
from refstream.cli.console import complain
from refstream.errors import UserError
from refstream.resources import model_folder

DATASETS = {"refcoco": "refcoco", "refcoco_plus": "refcoco+", "refcocog": "refcocog"}
"""The papers' name -> benchmark of ``refstream eval``."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run and score; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--model_path", "--model-path", required=True, type=Path, metavar="M")
    parser.add_argument("--dataset", choices=sorted(DATASETS), default="refcoco")
    parser.add_argument("--split", default="val", help="val, testA or testB; of refcocog val or test")
    parser.add_argument("--data_root", "--data-root", metavar="ROOT", help="default: data/ref_seg")
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    parser.add_argument("--local-rank", "--local_rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument(
        "--work_dir", "--work-dir", type=Path, help="default: work_dirs/<model>/<dataset>_<split>"
    )
    args, rest = parser.parse_known_args(argv)
    try:
        name = model_folder(args.model_path).resolve().name
    except UserError as error:
        complain(str(error))
        return USER_ERROR
    out = args.work_dir or Path("work_dirs") / name / f"{args.dataset}_{args.split}"
    words = ["eval", str(args.model_path), "--benchmark", DATASETS[args.dataset], "--split", args.split]
    words += ["--out", str(out), "--launcher", args.launcher, *rest]
    words += [] if args.data_root is None else ["--data", args.data_root]
    return refstream(words)


if __name__ == "__main__":
    sys.exit(main())
