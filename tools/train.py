"""Train a config: python tools/train.py projects/<method>/configs/<name>.py [--cfg-options key=value ...]."""

from __future__ import annotations

import argparse

from mmengine.config import DictAction

from refstream.engine.train import train


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="config file")
    parser.add_argument(
        "--work-dir", help="logs, checkpoints and the export; default work_dirs/<config name>"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from the last checkpoint in the work directory"
    )
    parser.add_argument("--launcher", choices=("none", "pytorch", "slurm", "mpi"), default="none")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, help="dotted keys that replace values")
    args = parser.parse_args()
    train(args.config, args.cfg_options, work_dir=args.work_dir, resume=args.resume, launcher=args.launcher)


if __name__ == "__main__":
    main()
