"""Run an ablation, or go on with it: python tools/ablate.py projects/<method>/configs/ablation.py."""

from __future__ import annotations

import argparse
from pathlib import Path

from refstream.engine.ablation import read_plan, require_models, run_ablation


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path, help="what to compare, see refstream/engine/ablation.py")
    parser.add_argument("--out", type=Path, help="result file; default docs/results/<name>.json")
    args = parser.parse_args()
    try:
        require_models(read_plan(args.config))
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    for row in run_ablation(args.config, out=args.out)["rows"]:
        print(", ".join(f"{k} {v:.2f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))


if __name__ == "__main__":
    main()
