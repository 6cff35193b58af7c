"""Put a method's tiny model in its place, with the page that says how it was made.

python tools/tiny_card.py METHOD
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

import refstream

RECALLS = ("recall_silence", "recall_standby", "recall_response")
# By method: where its runs lie in work_dirs, its stages in order (a bar parts those that run side by side),
# and what was there before.
CHAINS = {
    "streamingrvos": (
        "",
        """tiny_sam2 tiny_sam2_fine | tiny_vision tiny_vision_fine ; tiny_language ; tiny_plain ;
        tiny_plain_fine ; tiny_plain_clips ; tiny_plain_clips_fine ; tiny_sam2_world | tiny_vision_world ;
        tiny_align ; tiny_stage1 ; tiny_stage2""",
        "nothing",
    ),
    "virst": (
        "virst",
        "tiny_memory ; tiny_memory_fit ; tiny_stage1 ; tiny_stage2 ; tiny_stage3",
        "`tiny_align`, see `../streamingrvos`",
    ),
    "streamo": (
        "streamo",
        "tiny_stills ; tiny ; tiny_longer",
        "the MLLM of `tiny_align`, see `../streamingrvos`",
    ),
    "spot": (
        "spot",
        "tiny_sam2 ; tiny_stills ; tiny",
        "the MLLM of `tiny_align` (`../streamingrvos`) and the segmenter of `tiny_memory_fit` (`../virst`)",
    ),
}
PAGE = """# The tiny model: {method}

Trained from {start} on MiniRVOS, seed 0, on CPU cores in float32; stored in float16. It knows coloured
shapes only and is there to try RefStream out, end to end, in seconds. Nothing of it is a result on real data.

    bash tools/make_tiny.sh {method}        # each stage by tools/train.py, configs in projects/{method}

| Stage | Iterations | Minutes | Last losses, and IoU or recall, of the training batches |
|---|---|---|---|
{rows}

Training took {minutes:.0f} minutes. `log.jsonl` has the curves of every stage; `probe_...` are mean IoUs on
single frames of the validation split, by family of expressions, and with shuffled expressions.

What the held-out pairs of shape and colour test: no expression and no unchanged frame of training has them.
The vision tower, however, learned shapes on frames whose colour channels were mixed at random, so it has seen
such pixels, without their colour words.
"""


def main() -> None:
    """Copy the last export and write log and page beside it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("method", choices=sorted(CHAINS))
    parser.add_argument("--out", type=Path, help="default: pretrained/tiny/METHOD")
    args = parser.parse_args()
    runs, stages, start = CHAINS[args.method]
    folder, work_dir = args.out or Path("pretrained/tiny") / args.method, Path("work_dirs") / runs
    order = [[side.split() for side in step.split("|")] for step in stages.split(";")]
    names = [name for step in order for side in step for name in side]
    model = refstream.load(work_dir / names[-1] / "export")
    model.save(folder, dtype=torch.float16)
    rows: list[str] = []
    minutes: dict[str, float] = {}
    with (folder / "log.jsonl").open("w", encoding="utf-8") as log:
        for stage in names:
            lines = [json.loads(line) for line in (work_dir / stage / "log.jsonl").read_text().splitlines()]
            log.writelines(json.dumps({"stage": stage, **line}) + "\n" for line in lines)
            last = [line for line in lines if "seconds" in line][-1]
            minutes[stage] = last["seconds"] / 60
            rows.append(row(stage, last, minutes[stage]))
    total = sum(max(sum(minutes[name] for name in side) for side in step) for step in order)
    page = PAGE.format(method=args.method, start=start, rows="\n".join(rows), minutes=total)
    (folder / "README.md").write_text(page, encoding="utf-8")


def row(stage: str, last: dict[str, float], minutes: float) -> str:
    """One row of the table, from a stage's last line."""
    wanted = ("iou", "box_iou", "point_accuracy", *RECALLS)
    shown = {k: v for k, v in last.items() if (k.startswith("loss_") or k in wanted) and v is not None}
    values = ", ".join(f"{name.removeprefix('loss_')} {value:.3f}" for name, value in shown.items())
    return f"| `{stage}` | {last['iter']} | {minutes:.1f} | {values} |"


if __name__ == "__main__":
    main()
