"""What a stream costs against its length, for one model run in several ways.

    python tools/bench_length.py MODEL --lengths 32 128 512 \\
        --arm "offline" --arm "online online=True anchors.type=every_k anchors.k=8" --out FILE
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from mmengine.config import DictAction

from refstream.engine.bench_length import bench_length
from refstream.evaluation.provenance import provenance
from refstream.files import write_json


def arm(text: str) -> tuple[str, dict[str, Any]]:
    """NAME KEY=VALUE ...; dots in keys nest."""
    name, *pairs = text.split()
    keys: dict[str, Any] = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        *outer, last = key.split(".")
        inner = keys
        for part in outer:
            inner = inner.setdefault(part, {})
        inner[last] = DictAction._parse_iterable(value)
    return name.replace("_", " "), keys


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--lengths", type=int, nargs="+", default=[32, 128, 512])
    parser.add_argument("--arm", action="append", required=True, type=arm, help="NAME KEY=VALUE ...")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    result = bench_length(args.model, dict(args.arm), args.lengths, device=args.device, rounds=args.rounds)
    write_json(args.out, {**provenance([0]), "command": " ".join(["python", *sys.argv]), **result})
    for row in result["rows"]:
        print(", ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
