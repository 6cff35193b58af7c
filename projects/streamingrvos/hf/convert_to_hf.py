"""A trained checkpoint as a model folder: what ``refstream convert CONFIG PTH --save-path P`` does.

python projects/streamingrvos/hf/convert_to_hf.py CONFIG PTH --save-path P [--dtype float32] [--layout sa2va]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from refstream.cli import main as refstream


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code. Weights stay float32 unless ``--dtype`` says otherwise."""
    words = list(sys.argv[1:] if argv is None else argv)
    return refstream(["convert", "--dtype", "float32", *words])


if __name__ == "__main__":
    sys.exit(main())
