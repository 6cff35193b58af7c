"""Where a published figure comes from: command, commit, seeds, machine."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch


def provenance(seeds: Sequence[int]) -> dict[str, Any]:
    """The head of every file under ``docs/results``; JSON-serialisable."""
    return {
        "command": " ".join(["refstream", *sys.argv[1:]]),
        "commit": commit(),
        "seeds": list(seeds),
        "machine": machine(),
    }


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def commit() -> str:
    """The commit of the checkout, with a plus if files differ from it, or "unknown" outside one."""
    git = ["git", "-C", str(Path(__file__).resolve().parent)]
    done = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return "unknown"
    changed = subprocess.run(
        [*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() + ("+" if changed.stdout.strip() else "")
