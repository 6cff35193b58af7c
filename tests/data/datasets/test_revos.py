"""ReVOS: names of videos that are paths, overlapping masks, types of expressions, the two image folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refstream.data.datasets import ReVOSDataset
from refstream.errors import UserError
from tests.data.datasets.video_trees import (
    SIZE,
    bar,
    bars,
    frame_names,
    numbers_of,
    write_frames,
    write_json,
)

VIDEO = "TAO/frames/train/YFCC100M/v_f69ebe5b73.v2"


def revos() -> dict[str, Any]:
    """One video with an expression of each type, as ReVOS has them."""
    expressions = {
        "0": {"exp": "the left car", "obj_id": [1], "anno_id": [31], "type_id": 0, "height": 12},
        "1": {"exp": "Which cars collide?", "obj_id": [1, 2], "anno_id": [31, 32], "type_id": 1},
        "2": {"exp": "something else", "obj_id": [2], "anno_id": [32], "type_id": 2},
    }
    height, width = SIZE
    video = {"vid_id": 5, "frames": frame_names(6), "height": height, "width": width}
    return {VIDEO: {**video, "expressions": expressions}}


def write_tree(root: Path, videos: dict[str, Any], image_folder: str = "JPEGImages") -> Path:
    for name, video in videos.items():
        write_frames(root / image_folder / name, video["frames"])
    write_json(root / "meta_expressions_train_.json", {"videos": videos})
    # two bars that share a column: object 2 overlaps object 1
    write_json(root / "mask_dict.json", {"31": bars(2, 6), "32": bars(4, 6)})
    return root


@pytest.mark.parametrize("image_folder", ["JPEGImages", ""])
def test_overlapping_objects_of_a_path_like_video_are_united(tmp_path: Path, image_folder: str) -> None:
    data = ReVOSDataset(root=write_tree(tmp_path, revos(), image_folder), types=[1], num_frames=3)
    sample = data.sample(0, np.random.default_rng(1))
    assert sample.expressions == ["Which cars collide?"]
    for number, mask in zip(numbers_of(sample.frames), sample.masks[0], strict=True):
        assert np.array_equal(mask, bar(2, number) | bar(4, number))
    assert VIDEO in sample.id


def test_types_are_counted_and_can_be_chosen(tmp_path: Path) -> None:
    tree = write_tree(tmp_path, revos())
    report = ReVOSDataset(root=tree).report()
    assert report["types"] == {"referring": 1, "reasoning": 1, "other": 1}
    assert report["left_out"] == {}
    report = ReVOSDataset(root=tree, types=(0, 1)).report()
    assert report["types"] == {"referring": 1, "reasoning": 1}
    assert report["left_out"] == {"expression of a type not asked for": {"count": 1, "first": [f"{VIDEO}/2"]}}
    with pytest.raises(ValueError, match=r"types must be among \[0, 1, 2\], got \[3\]"):
        ReVOSDataset(root=tree, types=[3])


def test_masks_must_have_the_size_that_the_video_states(tmp_path: Path) -> None:
    videos = revos()
    videos[VIDEO]["height"] += 1
    with pytest.raises(UserError, match="3 x expression with masks of several sizes"):
        ReVOSDataset(root=write_tree(tmp_path, videos))


def test_an_expression_without_its_type_is_refused(tmp_path: Path) -> None:
    videos = revos()
    del videos[VIDEO]["expressions"]["1"]["type_id"]
    with pytest.raises(UserError, match="v2/1, key 'type_id': expected int, got 'None'"):
        ReVOSDataset(root=write_tree(tmp_path, videos))


def test_a_missing_root_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected JPEGImages.*meta_expressions_train_\.json"):
        ReVOSDataset(root=tmp_path / "revos")
