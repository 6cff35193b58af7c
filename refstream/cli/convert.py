"""``refstream convert``: released weights as a RefStream folder."""

from __future__ import annotations

import argparse

import torch

from refstream.cli.console import note
from refstream.cli.options import load_model
from refstream.errors import UserError


def run(args: argparse.Namespace) -> int:
    """Carry out the command; see ``refstream convert --help``."""
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise UserError(f"{args.out} exists and is not an empty folder; choose another")
    model = load_model(args.model, torch.device("cpu"), torch.float32)
    model.save(args.out, dtype=getattr(torch, args.dtype))
    note(f"the model is in {args.out}", quiet=args.quiet)
    return 0
