"""A model on a video benchmark: what ``refstream eval`` does, and the files that the papers' script wrote.

python projects/streamingrvos/evaluation/ref_vos_eval.py --model_path M --dataset DAVIS [--submit]

torchrun, ``python -m torch.distributed.launch`` and srun start it on several GPUs, with ``--launcher``.
Options of ``refstream eval`` may follow, such as ``--max-videos`` or ``--device``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from refstream.cli import main as refstream
from refstream.cli.app import USER_ERROR, build_parser
from refstream.cli.console import complain, note
from refstream.cli.evaluate import open_asked
from refstream.errors import UserError
from refstream.evaluation.benchmarks import entry_of
from refstream.evaluation.ledger import FolderLedger
from refstream.evaluation.released import write_released
from refstream.evaluation.run import RunPredictions
from refstream.evaluation.shards import current_shard
from refstream.evaluation.submit import write_submission
from refstream.resources import model_folder

DATASETS = {
    "DAVIS": ("ref_davis17", "valid"),
    "MEVIS_U": ("mevis", "valid_u"),
    "MEVIS": ("mevis", "valid"),
    "REVOS": ("revos", "valid"),
    "REFYTVOS": ("ref_youtube_vos", "valid"),
}
"""The papers' name -> benchmark and split of ``refstream eval``."""
RUN = Path("model/run")


def main(argv: Sequence[str] | None = None) -> int:
    """Run, score where the truth is public, and write; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--model_path", "--model-path", required=True, type=Path, metavar="M")
    parser.add_argument("--dataset", required=True, choices=sorted(DATASETS))
    parser.add_argument("--data_root", "--data-root", metavar="ROOT", help="default: see data/README.md")
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    parser.add_argument("--local-rank", "--local_rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--work_dir", "--work-dir", type=Path, help="default: work_dirs/<model>/<dataset>")
    parser.add_argument(
        "--submit", action="store_true", help="write the zip for the server instead of results.json"
    )
    parser.add_argument("--deepspeed", help="taken as the papers' script takes it; changes nothing")
    args, rest = parser.parse_known_args(argv)
    try:
        return _run(args, rest)
    except UserError as error:
        complain(str(error))
        return USER_ERROR


def _run(args: argparse.Namespace, rest: list[str]) -> int:
    benchmark, split = DATASETS[args.dataset]
    name = model_folder(args.model_path).resolve().name
    out = args.work_dir or Path("work_dirs") / name / args.dataset
    words = ["eval", str(args.model_path), "--benchmark", benchmark, "--split", split, "--out", str(out)]
    words += ["--launcher", args.launcher, *rest]
    words += [] if args.data_root is None else ["--data", args.data_root]
    code = refstream(words)
    if code == 0 and current_shard(args.launcher).rank == 0:
        _write(args, out, words)
    return code


def _write(args: argparse.Namespace, out: Path, words: list[str]) -> None:
    options = build_parser().parse_args(words)
    asked, _ = open_asked(options)
    run = FolderLedger(out / RUN, must_exist=True)
    if args.submit:
        form = entry_of(options.benchmark).submission or "annotations"
        path = write_submission(RunPredictions(run), asked, out / f"{args.dataset}.zip", form=form).path
    else:
        path = write_released(out / "results.json", asked, run)
    note(f"masks are in {path}", quiet=options.quiet)


if __name__ == "__main__":
    sys.exit(main())
