"""Put the tiny model in its place, with the page that says how it was made.

python tools/tiny_card.py FOLDER [--minutes N]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

import refstream

STAGES = (
    *("tiny_sam2", "tiny_sam2_fine", "tiny_vision", "tiny_vision_fine"),
    *("tiny_language", "tiny_stage1", "tiny_stage1_fine", "tiny_stage2", "tiny_stage2_fine"),
)
PAGE = """# The tiny model

Trained from nothing on MiniRVOS (`make tiny`), seed 0, CPU, float32; stored in float16. It knows coloured
shapes only and is there to try RefStream out, end to end, in seconds. Nothing of it is a result on real data.

| Stage | Iterations | Minutes | Last losses and IoU of the training batches |
|---|---|---|---|
{rows}

All stages: {minutes}. `log.jsonl` has the curves of every stage; `probe_...` are mean IoUs on single frames
of the validation split, by family of expressions, and with shuffled expressions.
"""


def main() -> None:
    """Copy the last export and write log and page beside it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=int, help="wall time of all stages together")
    args = parser.parse_args()
    model = refstream.load(Path("work_dirs") / STAGES[-1] / "export")
    model.save(args.folder, dtype=torch.float16)
    rows = []
    with (args.folder / "log.jsonl").open("w", encoding="utf-8") as log:
        for stage in STAGES:
            lines = [
                json.loads(line)
                for line in (Path("work_dirs") / stage / "log.jsonl").read_text().splitlines()
            ]
            log.writelines(json.dumps({"stage": stage, **line}) + "\n" for line in lines)
            rows.append(row(stage, lines))
    minutes = "time not taken" if args.minutes is None else f"{args.minutes} minutes"
    page = PAGE.format(rows="\n".join(rows), minutes=minutes)
    (args.folder / "README.md").write_text(page, encoding="utf-8")


def row(stage: str, lines: list[dict[str, float]]) -> str:
    """One row of the table."""
    last = [line for line in lines if "seconds" in line][-1]
    shown = {k: v for k, v in last.items() if k.startswith("loss_") or k == "iou"}
    values = ", ".join(f"{name.removeprefix('loss_')} {value:.3f}" for name, value in shown.items())
    return f"| `{stage}` | {last['iter']} | {last['seconds'] / 60:.1f} | {values} |"


if __name__ == "__main__":
    main()
