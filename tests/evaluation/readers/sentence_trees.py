"""Made-up trees of A2D-Sentences and JHMDB-Sentences in the official layouts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image
from scipy.io import savemat

from refstream.data.rle import encode
from refstream.video_writer import write_video

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data" / "jhmdb_a2d_text"
SIZE = (32, 48)
GREYS = 8  # a frame's number times this is its grey


def mask(number: int) -> np.ndarray:
    """(H, W) bool, another one for each number; not symmetric."""
    result = np.zeros(SIZE, dtype=bool)
    result[2 + number : 9 + number, 3 : 20 + number] = True
    return result


def coco_form(masks: dict[str, np.ndarray]) -> dict[str, Any]:
    """The public form of the truth."""
    return {
        "categories": [{"id": 1, "name": "dummy_class"}],
        "images": [{"id": name, "height": SIZE[0], "width": SIZE[1]} for name in masks],
        "annotations": [
            {"id": i, "image_id": name, "category_id": 1, "segmentation": encode(one), "iscrowd": 0}
            for i, (name, one) in enumerate(masks.items(), start=1)
        ],
    }


# Video -> frame -> instances in the order of the file; instance i in frame f has mask number i + f % 7.
A2D = {"-vid_f_1": {3: [0, 2], 12: [0]}, "other": {5: [1]}, "train": {1: [0]}, "missed": {1: [0]}}
A2D_ROWS = [
    ("-vid_f_1", "0", "the dog, running"),
    ("-vid_f_1", "2", "a cat"),
    ("-vid_f_1", "1 (copy)", "a copy"),
    ("-vid_f_1", "7", "described but never annotated"),
    ("other", "1", "a ball"),
    ("train", "0", "of the training part"),
]
A2D_MASKS = {
    "v_-vid_f_1_f_3_i_0": mask(3),
    "v_-vid_f_1_f_12_i_0": mask(5),
    "v_-vid_f_1_f_3_i_2": mask(5),
    "v_other_f_5_i_1": mask(6),
}
A2D_LIST = [
    ["the dog, running", "-vid_f_1", 3, 0],
    ["the dog, running", "-vid_f_1", 12, 0],
    ["a cat", "-vid_f_1", 3, 2],
    ["a ball", "other", 5, 1],
]


def a2d_tree(root: Path, *, coded: bool, stored: bool, prepared: bool, clips: bool = True) -> Path:
    """A tree with some of: the COCO form of the truth, the h5 files, the list of samples, the clips."""
    (root / "text_annotations").mkdir(parents=True)
    (root / "Release" / "clips320H").mkdir(parents=True)
    rows = "".join(f'{video},{i},"{text}"\n' for video, i, text in A2D_ROWS)
    (root / "text_annotations" / "a2d_annotation.txt").write_text("video_id,instance_id,query\n" + rows)
    (root / "text_annotations" / "a2d_missed_videos.txt").write_text("missed\n")
    parts = {"-vid_f_1": 1, "other": 1, "missed": 1, "train": 0}
    rows = "".join(f"{video},12,0:0,0:4,32,48,12,3,{part}\n" for video, part in parts.items())
    (root / "Release" / "videoset.csv").write_text(rows)
    if coded:
        path = root / "a2d_sentences_test_annotations_in_coco_format.json"
        path.write_text(json.dumps(coco_form(A2D_MASKS)))
    if prepared:
        (root / "a2d_sentences_single_frame_test_annotations.json").write_text(json.dumps(A2D_LIST))
    if stored:
        write_h5(root / "text_annotations" / "a2d_annotation_with_instances")
    if clips:
        for video in ("-vid_f_1", "other"):
            greys = (np.full((*SIZE, 3), GREYS * t, np.uint8) for t in range(1, 15))
            write_video(root / "Release" / "clips320H" / f"{video}.mp4", greys, fps=24)
    return root


def write_h5(folder: Path) -> None:
    for video, frames in A2D.items():
        for frame, instances in frames.items():
            (folder / video).mkdir(parents=True, exist_ok=True)
            masks = np.stack([mask(i + frame % 7).T for i in instances]).astype(np.uint8)
            with h5py.File(folder / video / f"{frame:05d}.h5", "w") as file:
                file["instance"] = np.array(instances)
                file["reMask"] = masks if len(instances) > 1 else masks[0]


def jhmdb_tree(root: Path, *, coded: bool = False) -> Path:
    """Two clips of 6 frames, masks for 5 of them; frame t of clip c has the mask of number t + c."""
    rows, masks = [], {}
    for c, (video, action) in enumerate((("walk_one", "walk"), ("sit_two", "sit"))):
        frames, place = root / "Rename_Images" / action / video, root / "puppet_mask" / action / video
        frames.mkdir(parents=True)
        place.mkdir(parents=True)
        for t in range(1, 7):
            Image.fromarray(np.full((*SIZE, 3), GREYS * t, np.uint8)).save(frames / f"{t:05d}.png")
        stack = np.stack([mask(t + c) for t in range(1, 6)], axis=-1).astype(np.uint8)
        savemat(place / "puppet_mask.mat", {"part_mask": stack})
        for t in (1, 3, 5):
            elsewhere = f"/somebody/else/Rename_Images/{action}/{video}/{t:05d}.png"
            rows.append(
                [video, elsewhere, f"/somebody/else/{video}/puppet_mask.mat", 5, f"one who {action}s"]
            )
            masks[f"v_{video}_f_{t}"] = mask(t + c)
    (root / "jhmdb_sentences_samples_metadata.json").write_text(json.dumps(rows))
    if coded:
        path = root / "jhmdb_sentences_gt_annotations_in_coco_format.json"
        path.write_text(json.dumps(coco_form(masks)))
    return root
