"""RefCOCO, RefCOCO+ and RefCOCOg: ``instances.json``, ``refs(unc).p`` or ``refs(umd).p``, and pictures.

Source: lichengunc/refer; the pictures lie in ``coco2014/train2014``, as in the papers' tree. All splits of a
dataset share the files. Pictures are stills of MiniRVOS; every visible object is an annotation with polygons
that rasterise to its exact mask. A ref is an object with the sentences that mean it; its ``file_name`` has an
instance number, as the official one, so names of pictures must come from ``instances.json``. RefCOCO+ forbids
words of place, so it gets no relations.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from refstream.data.layouts.common import CATEGORY, Clips, Tally, read_json
from refstream.data.layouts.polygons import mask_polygons
from refstream.data.pickles import dump_plain_pickle, load_plain_pickle
from refstream.errors import UserError
from refstream.files import write_jpeg, write_json
from refstream.synthetic.minirvos import SyntheticClip

IMAGES = "coco2014/train2014"
CATEGORY_ID = 1


def write_refcoco(clips: Clips, root: Path, split: str) -> Tally:
    """Write stills as a split of RefCOCO: "train", "val", "testA" or "testB"."""
    return _write(clips, root, split, "refs(unc).p", frozenset())


def write_refcoco_plus(clips: Clips, root: Path, split: str) -> Tally:
    """Write stills as a split of RefCOCO+: "train", "val", "testA" or "testB"."""
    return _write(clips, root, split, "refs(unc).p", frozenset({"relation"}))


def write_refcocog(clips: Clips, root: Path, split: str) -> Tally:
    """Write stills as a split of RefCOCOg (UMD): "train", "val" or "test"."""
    return _write(clips, root, split, "refs(umd).p", frozenset())


def _write(clips: Clips, root: Path, split: str, refs_name: str, forbidden: frozenset[str]) -> Tally:
    """Add a split to the tree, whose files hold those written before."""
    refs_path, instances_path = root / refs_name, root / "instances.json"
    refs: list[dict[str, Any]] = load_plain_pickle(refs_path) if refs_path.exists() else []
    if any(ref["split"] == split for ref in refs):
        raise UserError(f"{refs_path} holds the split {split!r} already; choose another folder or split")
    kept = {ref["image_id"] for ref in refs}
    instances = read_json(instances_path, _no_instances())
    for key, image in (("images", "id"), ("annotations", "image_id")):
        instances[key] = [entry for entry in instances[key] if entry[image] in kept]
    tally = Tally()
    for clip in clips:
        sentences = _sentences(clip, forbidden, tally)
        if not sentences:
            continue
        image_id = _next_id(instances["images"])
        name = f"COCO_train2014_{image_id:012d}"
        write_jpeg(root / IMAGES / f"{name}.jpg", clip.frames[0], durable=False)
        height, width = map(int, clip.frames.shape[1:3])
        instances["images"].append(
            {"file_name": f"{name}.jpg", "height": height, "width": width, "id": image_id}
        )
        annotation_ids = _add_annotations(instances["annotations"], clip.object_masks[:, 0], image_id)
        for number, (target, texts) in enumerate(sentences.items(), start=1):
            refs.append(_ref(refs, texts, annotation_ids[target], image_id, split, f"{name}_{number}.jpg"))
        tally.clips += 1
        tally.expressions += sum(map(len, sentences.values()))
    write_json(instances_path, instances, indent=None)
    dump_plain_pickle(refs_path, refs)
    return tally


def _next_id(entries: list[dict[str, Any]]) -> int:
    return 1 + (entries[-1]["id"] if entries else 0)


def _no_instances() -> dict[str, Any]:
    categories = [{"supercategory": CATEGORY, "id": CATEGORY_ID, "name": CATEGORY}]
    info = {"description": "MiniRVOS, a development benchmark", "version": "1.0"}
    return {"info": info, "images": [], "licenses": [], "annotations": [], "categories": categories}


def _sentences(clip: SyntheticClip, forbidden: frozenset[str], tally: Tally) -> dict[int, list[str]]:
    """Object -> the sentences that mean it alone; what cannot be written is counted."""
    texts: dict[int, list[str]] = {}
    for expression in clip.expressions:
        if expression.family in forbidden:
            tally.left_out[f"family {expression.family}"] += 1
            continue
        target = tally.single_target(expression.object_ids)
        if target is None:
            continue
        if not clip.object_masks[target, 0].any():
            tally.left_out["target not visible"] += 1
            continue
        texts.setdefault(target, []).append(expression.text)
    return dict(sorted(texts.items()))


def _add_annotations(annotations: list[dict[str, Any]], masks: np.ndarray, image_id: int) -> dict[int, int]:
    """Add the visible ones of (N, H, W) bool; return object -> annotation id."""
    ids: dict[int, int] = {}
    for target, mask in enumerate(masks):
        if not mask.any():
            continue
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = (columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0])
        ids[target] = _next_id(annotations)
        annotations.append(
            {
                "segmentation": mask_polygons(mask),
                "area": float(mask.sum()),
                "iscrowd": 0,
                "image_id": image_id,
                "bbox": [float(value) for value in box],
                "category_id": CATEGORY_ID,
                "id": ids[target],
            }
        )
    return ids


def _ref(
    refs: list[dict[str, Any]], texts: list[str], ann_id: int, image_id: int, split: str, file_name: str
) -> dict[str, Any]:
    """The entry of an object, numbered after those in ``refs``."""
    first = 1 + refs[-1]["sent_ids"][-1] if refs else 0
    sentences = [
        {"tokens": text.split(), "raw": text, "sent_id": first + i, "sent": text}
        for i, text in enumerate(texts)
    ]
    return {
        "sent_ids": [sentence["sent_id"] for sentence in sentences],
        "file_name": file_name,
        "ann_id": ann_id,
        "ref_id": len(refs),
        "image_id": image_id,
        "split": split,
        "sentences": sentences,
        "category_id": CATEGORY_ID,
    }
