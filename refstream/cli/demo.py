"""``refstream demo``: the whole way, from a rendered clip through a real video file to scored masks."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from refstream.cli.console import note
from refstream.cli.segment import LoadedModel, Segmentation, segment_video
from refstream.errors import UserError
from refstream.resources import is_embedded
from refstream.synthetic.minirvos import FPS, MiniRVOS
from refstream.video import open_video, write_video

INPUT_CRF = 6  # nearly lossless: the clip's small shapes carry their meaning in colour


def run(args: argparse.Namespace) -> int:
    """Carry out the command; see ``refstream demo --help``."""
    out = args.out or Path("outputs") / "demo"
    if args.video is None:
        return _embedded_clip(args, out)
    if not args.expression:
        raise UserError(
            'say what to look for: --expression "the dog on the left" (make demo: EXPRESSION=...)'
        )
    segment_video(args, out)
    return 0


def _embedded_clip(args: argparse.Namespace, out: Path) -> int:
    """Render, write, read back, segment; score against the truth unless the user asks something else."""
    if args.max_side is not None or args.fps is not None:
        raise UserError("--max-side and --fps go with --video; the embedded clip has its own size and rate")
    clip = MiniRVOS("test", num_clips=args.clip + 1)[args.clip]
    path = write_video(out / "input.mp4", clip.frames, FPS, crf=INPUT_CRF)
    truth = {e.text: clip.target_mask(e) for e in clip.expressions}
    expressions = args.expression or list(truth)
    known = [truth[text] for text in expressions] if all(text in truth for text in expressions) else []
    if not known:
        listed = "; ".join(truth)
        note(
            f"no truth is known for these expressions, so J&F is not measured; known: {listed}",
            quiet=args.quiet,
        )
    loaded = LoadedModel.from_arguments(args)
    if is_embedded(loaded.name):
        loaded = replace(loaded, remark="")  # the clip is what this model knows
    elif loaded.remark:
        note(loaded.remark, quiet=args.quiet)
    with open_video(path) as source:
        Segmentation(loaded, source, expressions, out, args, known).run()
    return 0
