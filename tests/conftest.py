"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of the golden cases: ``REFSTREAM_GOLDEN`` or ``tests/golden``."""
    folder = Path(os.environ.get("REFSTREAM_GOLDEN") or ROOT / "tests" / "golden")
    if not folder.is_dir():
        raise FileNotFoundError(f"golden cases not found at {folder}; set REFSTREAM_GOLDEN to their folder")
    return folder


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)
