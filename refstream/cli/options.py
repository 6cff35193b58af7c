"""From options to things: a device, a gate, a model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from refstream.errors import UserError
from refstream.resources import model_folder

GATES = ("omcp", "lagged", "always", "first", "every_k:K", "random:P")


def device_of(args: argparse.Namespace) -> torch.device:
    """The device that ``--device`` means.

    Raises:
        UserError: CUDA is asked for and not there.
    """
    available = torch.cuda.is_available()
    if args.device == "cuda" and not available:
        raise UserError("--device cuda: this PyTorch sees no CUDA device; use --device cpu, or auto")
    return torch.device("cuda" if available and args.device != "cpu" else "cpu")


def dtype_of(args: argparse.Namespace, device: torch.device) -> torch.dtype:
    """The type of weights that ``--dtype`` means on ``device``."""
    if args.dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    dtype: torch.dtype = getattr(torch, args.dtype)
    return dtype


def gate_of(args: argparse.Namespace, own: dict[str, Any] | None) -> dict[str, Any] | None:
    """The gate's config that ``--gate``, ``--tau1`` and ``--tau2`` mean; None: the model's own.

    Args:
        args: With ``gate``, ``tau1``, ``tau2`` and ``seed``.
        own: The gate in the model's config, whose thresholds hold where none are given.

    Raises:
        UserError: unknown gate, or thresholds given to one that has none.
    """
    taus = {name: getattr(args, name) for name in ("tau1", "tau2") if getattr(args, name) is not None}
    if args.gate is None and not taus:
        return None
    name, _, value = (args.gate or "omcp").partition(":")
    if name in ("omcp", "lagged"):
        kind = "ConsistencyGate" if name == "omcp" else "LaggedConsistencyGate"
        base = dict(own) if own is not None and own.get("type") == kind else {"type": kind}
        config = {**base, **taus}
    elif taus:
        raise UserError(f"--tau1 and --tau2 belong to --gate omcp or lagged, not to {args.gate!r}")
    elif name in ("always", "first"):
        config = {"type": "EveryFrameGate" if name == "always" else "FirstFrameGate"}
    elif name == "every_k":
        config = {"type": "EveryKGate", "k": _number(value, int, args.gate)}
    elif name == "random":
        config = {"type": "RandomGate", "probability": _number(value, float, args.gate), "seed": args.seed}
    else:
        raise UserError(f"unknown gate {args.gate!r}; expected one of {', '.join(GATES)}")
    if value and name not in ("every_k", "random"):
        raise UserError(f"gate {name!r} takes no value, got {args.gate!r}")
    return config


def _number(text: str, kind: type, gate: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise UserError(
            f"gate {gate!r}: expected a number after the colon, as in every_k:5 or random:0.3"
        ) from None


def load_model(path: str | Path, device: torch.device, dtype: torch.dtype) -> Any:
    """``refstream.load`` on ``path``, or on the only model folder in it."""
    folder = model_folder(path)
    from refstream.models.loading import load  # seconds of imports: after what can be refused without them

    return load(folder, device=device, dtype=dtype)
