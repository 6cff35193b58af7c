"""Ref-YouTube-VOS: ``<split>/JPEGImages``, ``train/Annotations`` and ``meta_expressions/<split>/``.

Frames are named by every fifth number, as the official ones. Train has palette PNGs whose labels are object
ids, ``train/meta.json``, and ``mask_dict.pkl``, the masks of the MLLM papers (its keys are a running number).
Valid and test have words only, and the expressions file of valid also lists the videos of test, whose frames
lie elsewhere: readers must subtract them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from refstream.data.layouts.common import (
    CATEGORY,
    Clips,
    Codes,
    Tally,
    encode_visible,
    frame_names,
    read_json,
    refuse_existing,
    running_mask_dict,
    write_frames,
    write_labels,
)
from refstream.data.pickles import dump_plain_pickle
from refstream.files import write_json
from refstream.synthetic.minirvos import SyntheticClip

FRAME_STEP = 5


def write_ref_youtube_vos(clips: Clips, root: Path, split: str) -> Tally:
    """Write clips as a split of Ref-YouTube-VOS: "train", "valid" or "test"."""
    index = _index(root, split)
    refuse_existing(index)
    tally = Tally()
    videos: dict[str, Any] = {}
    objects: dict[str, Any] = {}
    codes: dict[str, dict[str, Codes]] = {}
    for clip in clips:
        names = frame_names(len(clip.frames), FRAME_STEP)
        targets = [(e.text, tally.single_target(e.object_ids)) for e in clip.expressions]
        kept = [(text, target) for text, target in targets if target is not None]
        if not kept:
            continue
        write_frames(root / split / "JPEGImages" / clip.id, clip.frames, names)
        expressions = {str(key): {"exp": text} for key, (text, _) in enumerate(kept)}
        if split == "train":
            write_labels(root / split / "Annotations" / clip.id, clip.object_masks, names)
            objects[clip.id] = {"objects": _objects(clip, names)}
            for key, (_, target) in enumerate(kept):
                expressions[str(key)]["obj_id"] = str(target + 1)
            codes[clip.id] = {str(k): encode_visible(clip.object_masks[i]) for k, (_, i) in enumerate(kept)}
        videos[clip.id] = {"expressions": expressions, "frames": names}
        tally.clips += 1
        tally.expressions += len(expressions)
    if split == "train":
        write_json(root / "train" / "meta.json", {"videos": objects})
        dump_plain_pickle(root / "mask_dict.pkl", running_mask_dict(codes))
    if split == "valid":
        videos |= read_json(_index(root, "test"), {"videos": {}})["videos"]
    elif split == "test" and (valid := _index(root, "valid")).exists():
        _write_index(valid, read_json(valid, {})["videos"] | videos)
    _write_index(index, videos)
    return tally


def _index(root: Path, split: str) -> Path:
    return root / "meta_expressions" / split / "meta_expressions.json"


def _write_index(path: Path, videos: dict[str, Any]) -> None:
    write_json(path, {"videos": dict(sorted(videos.items()))}, indent=None)


def _objects(clip: SyntheticClip, names: list[str]) -> dict[str, Any]:
    """Object id -> category and the frames that show it."""
    visible = np.asarray(clip.object_masks.any(axis=(2, 3)))
    return {
        str(number): {"category": CATEGORY, "frames": [n for n, seen in zip(names, row, strict=True) if seen]}
        for number, row in enumerate(visible, start=1)
    }
