"""Measure J and F against the public DAVIS-2017 code: speed, memory, scaling, and equality.

    git clone https://github.com/davisvideochallenge/davis2017-evaluation
    python tools/bench_eval.py speed --official davis2017-evaluation [--masks TRUTH RESULT]
    python tools/bench_eval.py parity --official davis2017-evaluation [--masks TRUTH RESULT]

TRUTH and RESULT are folders of ``<video>/<frame>.png`` with object numbers, such as two of the results that
come with the DAVIS code. Without --official, the variable REFSTREAM_OFFICIAL_DAVIS names the clone.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

from refstream.errors import UserError
from refstream.evaluation.metrics import bench
from refstream.evaluation.metrics.mask_pairs import (
    DAVIS_SIZE,
    MaskPair,
    blob_pairs,
    fuzz_pairs,
    labelled_frames,
)
from refstream.evaluation.metrics.official import SOURCE, load_official
from refstream.evaluation.metrics.parity import compare_with_golden, compare_with_official
from refstream.evaluation.provenance import provenance
from refstream.files import write_json

STEP = 16
GOLDEN = Path("tests") / "golden" / "davis"


def speed(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of ``eval_speed.json``."""
    official = load_official(args.official)
    blobs = list(blob_pairs(args.pairs, args.seed))
    rows = [bench.compare_speed("synthetic blobs", blobs, official, args.rounds)]
    if args.masks:
        rows.append(bench.compare_speed("real masks, foreground", _real(args.masks), official, args.rounds))
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    rows += [bench.torch_speed(blobs, device, args.rounds) for device in devices]
    rows += bench.scaling(args.processes, 100 * args.pairs, args.seed)
    return rows + bench.memory(args.expressions, args.frames, args.seed)


def parity(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of ``eval_parity.json``."""
    official = load_official(args.official)
    rows = [compare_with_golden(args.golden)]
    seed = f"seed {args.seed}"
    fuzz, blobs = fuzz_pairs(args.fuzz, args.seed), blob_pairs(args.pairs, args.seed)
    rows.append(compare_with_official("random masks, 1 x 1 to 200 x 300", fuzz, official, seed))
    rows.append(compare_with_official("synthetic blobs, 480 x 854", blobs, official, seed))
    if args.masks:
        names = " as truth, ".join(folder.name for folder in args.masks)
        for what, objects in (("foreground", False), ("each object", True)):
            pairs = labelled_frames(*args.masks, objects=objects)
            rows.append(compare_with_official(f"real masks, {what}", pairs, official, f"{names} as result"))
    return rows


def _real(folders: list[Path]) -> list[MaskPair]:
    """Foreground pairs at 480 x 854 of every 16th frame."""
    pairs = [p for p in labelled_frames(*folders, every=STEP) if p.gt.shape == DAVIS_SIZE]
    if not pairs:
        raise UserError(f"no pair of {DAVIS_SIZE[0]} x {DAVIS_SIZE[1]} in {folders[0]} and {folders[1]}")
    return pairs


def main() -> int:
    """Read the command line, measure, write the result."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("what", choices=["speed", "parity"])
    parser.add_argument("--official", type=Path, help=f"clone of {SOURCE}")
    parser.add_argument("--masks", type=Path, nargs=2, metavar=("TRUTH", "RESULT"), help="real masks")
    parser.add_argument("--out", type=Path, help="result file; default docs/results/eval_<what>.json")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pairs", type=int, default=40, help="synthetic pairs (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="times each pair is scored (%(default)s)")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="for the scaling")
    parser.add_argument("--expressions", type=int, default=244, help="for the memory (%(default)s)")
    parser.add_argument("--frames", type=int, default=67, help="of each expression (%(default)s)")
    parser.add_argument("--fuzz", type=int, default=3000, help="random pairs for the parity (%(default)s)")
    parser.add_argument("--golden", type=Path, default=GOLDEN, help="golden case (%(default)s)")
    args = parser.parse_args()
    try:
        rows = speed(args) if args.what == "speed" else parity(args)
        out = args.out or Path("docs") / "results" / f"eval_{args.what}.json"
        command = " ".join(["python", "tools/bench_eval.py", *sys.argv[1:]])
        write_json(out, {**provenance([args.seed]), "command": command, "official": SOURCE, "rows": rows})
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    for row in rows:
        print(", ".join(f"{name} {value}" for name, value in row.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
