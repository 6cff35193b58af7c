"""``refstream data``: MiniRVOS on disk, in the layout of Ref-YouTube-VOS."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from refstream.cli.console import note, progress_bar
from refstream.errors import UserError
from refstream.files import write_json, write_png
from refstream.synthetic.minirvos import FPS, MiniRVOS, SyntheticClip
from refstream.video import write_video


def run(args: argparse.Namespace) -> int:
    """Carry out the command; see ``refstream data --help``."""
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise UserError(f"{args.out} exists and is not an empty folder; choose another --out")
    data = MiniRVOS(args.split, args.seed, args.clips, args.frames, args.size)
    videos: dict[str, Any] = {}
    with progress_bar("writing", len(data), quiet=args.quiet) as advance:
        for clip in data:
            videos[clip.id] = _write_clip(args.out, clip)
            advance()
    write_json(args.out / "meta_expressions" / args.split / "meta_expressions.json", {"videos": videos})
    note(f"{len(videos)} clips are in {args.out}", quiet=args.quiet)
    return 0


def _write_clip(root: Path, clip: SyntheticClip) -> dict[str, Any]:
    """Write frames, annotations and the video of one clip; return its entry of meta_expressions.json.

    As in Ref-YouTube-VOS, pixels of annotations are object ids, from 1, and ``obj_id`` names one of them.
    """
    names = [f"{t:05d}" for t in range(len(clip.frames))]
    ids = np.arange(1, len(clip.object_masks) + 1, dtype=np.uint8)
    for t, name in enumerate(names):
        write_png(root / "JPEGImages" / clip.id / f"{name}.png", clip.frames[t], durable=False)
        index = (clip.object_masks[:, t] * ids[:, None, None]).max(axis=0)
        write_png(root / "Annotations" / clip.id / f"{name}.png", index.astype(np.uint8), durable=False)
    write_video(root / "videos" / f"{clip.id}.mp4", clip.frames, FPS, crf=6)
    expressions = {
        str(number): {"exp": e.text, "obj_id": str(e.object_ids[0] + 1), "family": e.family}
        for number, e in enumerate(clip.expressions)
    }
    return {"frames": names, "expressions": expressions}
