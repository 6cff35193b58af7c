"""Ref-DAVIS17 as wjn922/ReferFormer converts it, with the original texts and the masks of the MLLM papers.

``<split>/{JPEGImages/<video>/00000.jpg, Annotations/<video>/00000.png, meta.json, mask_dict.pkl}``,
``meta_expressions/<split>/meta_expressions.json`` and the four files of ``davis_text_annotations``. Each
described object has exactly four sentences, of two annotators who each saw the first frame and then the whole
video: expression 4 k + a is sentence a of the k-th object. An object of MiniRVOS has fewer, so its sentences
are repeated in turn. Labels run from 1 over the described objects, which are all in the first frame, as the
DAVIS evaluator wants it; other objects are background.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from refstream.data.layouts.common import (
    CATEGORY,
    Clips,
    Codes,
    Tally,
    encode_visible,
    frame_names,
    refuse_existing,
    running_mask_dict,
    write_frames,
    write_labels,
)
from refstream.data.pickles import dump_plain_pickle
from refstream.files import atomic_write_bytes, write_json
from refstream.synthetic.minirvos import SyntheticClip

ANNOTATORS = (
    ("Davis17_annot1.txt", "utf-8"),
    ("Davis17_annot1_full_video.txt", "utf-8"),
    ("Davis17_annot2.txt", "latin-1"),
    ("Davis17_annot2_full_video.txt", "latin-1"),
)
"""File and encoding of sentence a of every object."""


def write_ref_davis17(clips: Clips, root: Path, split: str) -> Tally:
    """Write clips as a split of Ref-DAVIS17, "train" or "valid"."""
    folder = root / split
    index = root / "meta_expressions" / split / "meta_expressions.json"
    refuse_existing(index)
    tally = Tally()
    videos: dict[str, Any] = {}
    objects: dict[str, Any] = {}
    codes: dict[str, dict[str, Codes]] = {}
    for clip in clips:
        sentences = _sentences(clip, tally)
        if not sentences:
            continue
        names = frame_names(len(clip.frames))
        masks = clip.object_masks[list(sentences)]
        write_frames(folder / "JPEGImages" / clip.id, clip.frames, names)
        write_labels(folder / "Annotations" / clip.id, masks, names)
        per_object = [encode_visible(mask) for mask in masks]
        expressions = {
            str(len(ANNOTATORS) * k + a): {"exp": texts[a % len(texts)], "obj_id": str(k + 1)}
            for k, texts in enumerate(sentences.values())
            for a in range(len(ANNOTATORS))
        }
        videos[clip.id] = {"frames": names, "expressions": expressions}
        objects[clip.id] = {"objects": {str(k + 1): {"category": CATEGORY} for k in range(len(masks))}}
        codes[clip.id] = {key: per_object[int(key) // len(ANNOTATORS)] for key in expressions}
        tally.clips += 1
        tally.expressions += len(expressions)
    videos = dict(sorted(videos.items()))
    write_json(folder / "meta.json", {"videos": objects})
    dump_plain_pickle(folder / "mask_dict.pkl", running_mask_dict(codes))
    _append_texts(root / "davis_text_annotations", videos)
    write_json(index, {"videos": videos}, indent=None)
    return tally


def _sentences(clip: SyntheticClip, tally: Tally) -> dict[int, list[str]]:
    """Object -> one to four sentences, by object; what cannot be written is counted."""
    texts: dict[int, list[str]] = {}
    for expression in clip.expressions:
        target = tally.single_target(expression.object_ids)
        if target is None:
            continue
        if not clip.object_masks[target, 0].any():
            tally.left_out["target not in the first frame"] += 1
        elif len(texts.setdefault(target, [])) == len(ANNOTATORS):
            tally.left_out["more than four sentences for an object"] += 1
        else:
            texts[target].append(expression.text)
    return dict(sorted(texts.items()))


def _append_texts(folder: Path, videos: dict[str, Any]) -> None:
    """Add ``video object "sentence"`` lines to the four original files, which hold all splits."""
    for a, (name, encoding) in enumerate(ANNOTATORS):
        path = folder / name
        before = path.read_text(encoding=encoding).splitlines(keepends=True) if path.exists() else []
        others = [line for line in before if line.split(maxsplit=1)[0] not in videos]
        lines = [
            f'{video} {entry["obj_id"]} "{entry["exp"]}"\n'
            for video, record in videos.items()
            for key, entry in record["expressions"].items()
            if int(key) % len(ANNOTATORS) == a
        ]
        atomic_write_bytes(path, "".join(others + lines).encode(encoding))
