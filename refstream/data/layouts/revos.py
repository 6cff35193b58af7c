"""ReVOS: ``JPEGImages/<video>/``, ``meta_expressions_<split>_.json``, ``mask_dict{,_foreground}.json``.

Source: cilinyan/ReVOS-api and the evaluator in cilinyan/VISA. All splits share the frames and the two mask
files; the name of a video is a path. ``type_id`` is 0 for a referring, 1 for a reasoning expression and 2 for
one whose target does not exist (2 and its empty lists: assumed; the evaluator reports it nowhere).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from refstream.data import rle
from refstream.data.layouts.common import (
    Clips,
    Codes,
    Tally,
    encode_visible,
    frame_names,
    read_json,
    refuse_existing,
    write_frames,
)
from refstream.files import write_json
from refstream.synthetic.minirvos import SyntheticClip, SyntheticExpression

REASONING = frozenset({"history", "future", "relation"})
"""Families of MiniRVOS that need more than a look at one object; the others are referring."""


def write_revos(clips: Clips, root: Path, split: str) -> Tally:
    """Write clips as a split of ReVOS, "train" or "valid"; the masks of the other split stay in the files."""
    index = root / f"meta_expressions_{split}_.json"
    refuse_existing(index)
    mask_path, foreground_path = root / "mask_dict.json", root / "mask_dict_foreground.json"
    mask_dict: dict[str, Codes] = read_json(mask_path, {})
    foreground: dict[str, Any] = read_json(foreground_path, {})
    tally = Tally()
    videos: dict[str, Any] = {}
    first = 1 + max(map(int, mask_dict), default=-1)
    for number, clip in enumerate(clips):
        video = f"MiniRVOS/{split}/{clip.id}"
        names = frame_names(len(clip.frames))
        write_frames(root / "JPEGImages" / video, clip.frames, names)
        for i, masks in enumerate(clip.object_masks):
            mask_dict[str(first + i)] = encode_visible(masks)
        foreground[video] = _foreground(clip)
        height, width = clip.frames.shape[1:3]
        expressions = {str(key): _expression(e, first) for key, e in enumerate(clip.expressions)}
        videos[video] = {
            "expressions": expressions,
            "vid_id": number,
            "frames": names,
            "height": int(height),
            "width": int(width),
        }
        tally.clips += 1
        tally.expressions += len(expressions)
        first += len(clip.object_masks)
    write_json(mask_path, mask_dict, indent=None)
    write_json(foreground_path, foreground, indent=None)
    write_json(index, {"videos": videos}, indent=None)
    return tally


def _expression(expression: SyntheticExpression, first: int) -> dict[str, Any]:
    """The entry of an expression; ``first`` is the annotation id of the clip's first object."""
    objects = [int(i) for i in expression.object_ids]
    return {
        "exp": expression.text,
        "obj_id": objects,
        "anno_id": [first + i for i in objects],
        "type_id": int(expression.family in REASONING) if objects else 2,
    }


def _foreground(clip: SyntheticClip) -> dict[str, Any]:
    """The union of all objects that any expression of the clip means, and its share of each frame."""
    named = sorted({i for expression in clip.expressions for i in expression.object_ids})
    union = np.logical_or.reduce(clip.object_masks[named], axis=0)  # of no object: all False
    return {"masks_rle": rle.encode_clip(union), "foreground_ratio": [float(mask.mean()) for mask in union]}
