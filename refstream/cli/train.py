"""``refstream train``: the same as ``tools/train.py``."""

from __future__ import annotations

import argparse
import os

from mmengine.config import DictAction

from refstream.cli.console import OUT, note
from refstream.engine.dry_run import dry_run
from refstream.engine.train import prepare, train
from refstream.engine.xtuner_train import train_with_xtuner


def run(args: argparse.Namespace) -> int:
    """Carry out the command; see ``refstream train --help``."""
    reader = argparse.ArgumentParser(prog="refstream train")
    reader.add_argument("--cfg-options", nargs="+", action=DictAction)
    words = [] if args.cfg_options is None else ["--cfg-options", *args.cfg_options]
    overrides = reader.parse_args(words).cfg_options
    first = os.environ.get("RANK", "0") == "0"
    if args.dry_run:
        processes = int(os.environ.get("WORLD_SIZE", "1"))  # set by torchrun
        found = dry_run(prepare(args.config, overrides, args.deepspeed), processes=processes)
        if first:
            found.show(OUT)
        return 0
    folder = (train_with_xtuner if args.xtuner else train)(
        args.config,
        overrides,
        work_dir=args.work_dir,
        resume=args.resume,
        launcher=args.launcher,
        strategy=args.deepspeed,
    )
    note(f"logs and weights are in {folder}", quiet=not first)
    return 0
