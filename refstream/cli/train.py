"""``refstream train``: the same as ``tools/train.py``."""

from __future__ import annotations

import argparse

from mmengine.config import DictAction

from refstream.cli.console import note
from refstream.engine.train import train


def run(args: argparse.Namespace) -> int:
    """Carry out the command; see ``refstream train --help``."""
    reader = argparse.ArgumentParser(prog="refstream train")
    reader.add_argument("--cfg-options", nargs="+", action=DictAction)
    words = [] if args.cfg_options is None else ["--cfg-options", *args.cfg_options]
    overrides = reader.parse_args(words).cfg_options
    folder = train(args.config, overrides, work_dir=args.work_dir, resume=args.resume, launcher=args.launcher)
    note(f"logs and weights are in {folder}")
    return 0
