"""MeViS: ``<split>/{JPEGImages/<video>/00000.jpg, meta_expressions.json, mask_dict.json}``.

Source: henghuiding/MeViS. An expression names any number of objects; none is the no-target expression of
version 2 (empty ``obj_id`` and ``anno_id``, assumed). The split ``valid`` has neither ids nor masks, as the
official one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from refstream.data.layouts.common import (
    Clips,
    Codes,
    Tally,
    encode_visible,
    frame_names,
    refuse_existing,
    write_frames,
)
from refstream.files import write_json


def write_mevis(clips: Clips, root: Path, split: str) -> Tally:
    """Write clips as a split of MeViS: "train", "valid_u" or "valid"."""
    folder = root / split
    index = folder / "meta_expressions.json"
    refuse_existing(index)
    has_truth = split != "valid"
    tally = Tally()
    videos: dict[str, Any] = {}
    mask_dict: dict[str, Codes] = {}
    for number, clip in enumerate(clips):
        names = frame_names(len(clip.frames))
        write_frames(folder / "JPEGImages" / clip.id, clip.frames, names)
        first = len(mask_dict)
        expressions: dict[str, Any] = {}
        for key, expression in enumerate(clip.expressions):
            expressions[str(key)] = {"exp": expression.text}
            if has_truth:
                objects = [int(i) for i in expression.object_ids]
                expressions[str(key)] |= {"obj_id": objects, "anno_id": [first + i for i in objects]}
        if has_truth:
            for i, masks in enumerate(clip.object_masks):
                mask_dict[str(first + i)] = encode_visible(masks)
        videos[clip.id] = {"expressions": expressions, "vid_id": number, "frames": names}
        tally.clips += 1
        tally.expressions += len(expressions)
    if has_truth:
        write_json(folder / "mask_dict.json", mask_dict, indent=None)
    write_json(index, {"videos": videos}, indent=None)
    return tally
