"""``refstream convert``: released or trained weights as a folder that inference loads."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from refstream.cli.console import note
from refstream.cli.options import load_model
from refstream.errors import UserError


def run(args: argparse.Namespace) -> int:
    """Carry out the command; see ``refstream convert --help``."""
    dtype = getattr(torch, args.dtype)
    if args.model.suffix == ".py":
        _trained(args, dtype)
    else:
        _released(args, dtype)
    note(f"the model is in {args.save_path or args.out}", quiet=args.quiet)
    return 0


def _released(args: argparse.Namespace, dtype: torch.dtype) -> None:
    """A model folder as another."""
    if args.results or args.licence:
        raise UserError("--results and --licence go on the page of a trained model: give CONFIG.py PTH")
    out: Path | None = args.save_path or args.out
    if out is None:
        raise UserError("say where to: refstream convert MODEL OUT")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not an empty folder; choose another")
    model = load_model(args.model, torch.device("cpu"), torch.float32)
    if args.layout == "sa2va":
        from refstream.models.sa2va import save_sa2va

        save_sa2va(model, out, dtype=dtype)
    else:
        model.save(out, dtype=dtype)


def _trained(args: argparse.Namespace, dtype: torch.dtype) -> None:
    """A config and its checkpoint as a model folder."""
    if args.out is None or args.save_path is None:
        raise UserError(
            "a config needs its checkpoint and a folder: refstream convert CONFIG.py PTH --save-path P"
        )
    from refstream.engine.config import load_config
    from refstream.engine.convert import convert

    report = convert(
        load_config(args.model),
        args.out,
        args.save_path,
        dtype=dtype,
        layout=args.layout,
        config_name=args.model.as_posix(),
        results=read_results(args.results),
        licence=args.licence,
    )
    note(str(report), quiet=args.quiet)


def read_results(path: Path | None) -> dict[str, object] | None:
    """What ``refstream eval --publish`` wrote; None for None.

    Raises:
        UserError: If it is no such file.
    """
    if path is None:
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error})") from error
    if not isinstance(content, dict) or not content.get("rows"):
        raise UserError(f"{path} has no rows; expected what `refstream eval --publish` writes")
    return content
