"""Put the tiny model in its place, with the page that says how it was made.

python tools/tiny_card.py FOLDER
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

import refstream

# In order; stages with a bar between them run side by side.
STAGES = """tiny_sam2 tiny_sam2_fine | tiny_vision tiny_vision_fine ; tiny_language ; tiny_plain ;
    tiny_plain_fine ; tiny_plain_clips ; tiny_plain_clips_fine ; tiny_sam2_world | tiny_vision_world ;
    tiny_align ; tiny_stage1 ; tiny_stage2"""
ORDER = [[side.split() for side in step.split("|")] for step in STAGES.split(";")]
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
    names = [name for step in ORDER for side in step for name in side]
    model = refstream.load(Path("work_dirs") / names[-1] / "export")
    model.save(args.folder, dtype=torch.float16)
    rows: list[str] = []
    minutes: dict[str, float] = {}
    with (args.folder / "log.jsonl").open("w", encoding="utf-8") as log:
        for stage in names:
            lines = [
                json.loads(line)
                for line in (Path("work_dirs") / stage / "log.jsonl").read_text().splitlines()
            ]
            log.writelines(json.dumps({"stage": stage, **line}) + "\n" for line in lines)
            last = [line for line in lines if "seconds" in line][-1]
            minutes[stage] = last["seconds"] / 60
            rows.append(row(stage, last, minutes[stage]))
    total = sum(max(sum(minutes[name] for name in side) for side in step) for step in ORDER)
    page = PAGE.format(rows="\n".join(rows), minutes=total)
    (args.folder / "README.md").write_text(page, encoding="utf-8")


def row(stage: str, last: dict[str, float], minutes: float) -> str:
    """One row of the table, from a stage's last line."""
    shown = {k: v for k, v in last.items() if k.startswith("loss_") or k == "iou"}
    values = ", ".join(f"{name.removeprefix('loss_')} {value:.3f}" for name, value in shown.items())
    return f"| `{stage}` | {last['iter']} | {minutes:.1f} | {values} |"


if __name__ == "__main__":
    main()
