"""Put the tiny model in its place, with the page that says how it was made.

python tools/tiny_card.py FOLDER
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

import refstream

SIDE_BY_SIDE = (("tiny_sam2", "tiny_sam2_fine"), ("tiny_vision", "tiny_vision_fine"))
AFTER = ("tiny_language", "tiny_stage1", "tiny_stage1_fine", "tiny_stage2", "tiny_stage2_fine")
STAGES = (*SIDE_BY_SIDE[0], *SIDE_BY_SIDE[1], *AFTER)
PAGE = """# The tiny model

Trained from nothing on MiniRVOS, seed 0, on two CPU cores in float32; stored in float16. It knows coloured
shapes only and is there to try RefStream out, end to end, in seconds. Nothing of it is a result on real data.

    make tiny        # tools/make_tiny.sh: each stage by tools/train.py, configs in projects/streamingrvos

| Stage | Iterations | Minutes | Last losses and IoU of the training batches |
|---|---|---|---|
{rows}

Training took {minutes:.0f} minutes (the segmenter's first stages and the vision tower's run side by side).
`log.jsonl` has the curves of every stage; `probe_...` are mean IoUs on single frames of the validation split,
by family of expressions, and with shuffled expressions.

What the held-out pairs of shape and colour test: no expression and no unchanged frame of training has them.
The vision tower, however, learned shapes on frames whose colour channels were mixed at random, so it has seen
such pixels, without their colour words.
"""


def main() -> None:
    """Copy the last export and write log and page beside it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    model = refstream.load(Path("work_dirs") / STAGES[-1] / "export")
    model.save(args.folder, dtype=torch.float16)
    rows: list[str] = []
    minutes: dict[str, float] = {}
    with (args.folder / "log.jsonl").open("w", encoding="utf-8") as log:
        for stage in STAGES:
            lines = [
                json.loads(line)
                for line in (Path("work_dirs") / stage / "log.jsonl").read_text().splitlines()
            ]
            log.writelines(json.dumps({"stage": stage, **line}) + "\n" for line in lines)
            last = [line for line in lines if "seconds" in line][-1]
            minutes[stage] = last["seconds"] / 60
            rows.append(row(stage, last, minutes[stage]))
    first = max(sum(minutes[stage] for stage in stages) for stages in SIDE_BY_SIDE)
    page = PAGE.format(rows="\n".join(rows), minutes=first + sum(minutes[stage] for stage in AFTER))
    (args.folder / "README.md").write_text(page, encoding="utf-8")


def row(stage: str, last: dict[str, float], minutes: float) -> str:
    """One row of the table, from a stage's last line."""
    shown = {k: v for k, v in last.items() if k.startswith("loss_") or k == "iou"}
    values = ", ".join(f"{name.removeprefix('loss_')} {value:.3f}" for name, value in shown.items())
    return f"| `{stage}` | {last['iter']} | {minutes:.1f} | {values} |"


if __name__ == "__main__":
    main()
