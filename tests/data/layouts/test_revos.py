"""ReVOS as written: types, path-like names, foreground masks, and two splits in one tree."""

from __future__ import annotations

import numpy as np

from refstream.data.layouts import write_layout

from .reading import assert_frames, load, truth, union


def read(root, split):
    return (
        load(root / f"meta_expressions_{split}_.json")["videos"],
        load(root / "mask_dict.json"),
        load(root / "mask_dict_foreground.json"),
    )


def test_two_splits_share_masks_and_frames(tmp_path, sources):
    for split, official in (("train", "train"), ("val", "valid")):
        report = write_layout("revos", sources(split), tmp_path)
        assert (report.split, report.clips, report.expressions, report.left_out) == (official, 3, 17, {})
    for split, official in (("train", "train"), ("val", "valid")):
        videos, mask_dict, foreground = read(tmp_path, official)
        assert (len(mask_dict), len(foreground)) == (30, 6)
        for i in range(3):
            clip = sources(split)[i]
            name = f"MiniRVOS/{official}/{clip.id}"
            video = videos[name]
            assert (video["height"], video["width"]) == clip.frames.shape[1:3]
            assert_frames(tmp_path / "JPEGImages" / name, clip, video["frames"])
            for written, said in zip(video["expressions"].values(), clip.expressions, strict=True):
                assert (written["exp"], written["obj_id"]) == (said.text, list(said.object_ids))
                codes = [mask_dict[str(anno_id)] for anno_id in written["anno_id"]]
                assert (union(codes, clip.object_masks.shape[1:]) == truth(clip, said.object_ids)).all()


def test_types(tmp_path, source):
    write_layout("revos", source, tmp_path)
    videos, _, _ = read(tmp_path, "train")
    clip = source[0]
    types = {
        said.family: written["type_id"]
        for said, written in zip(
            clip.expressions, videos[f"MiniRVOS/train/{clip.id}"]["expressions"].values(), strict=True
        )
    }
    assert types == {
        "appearance": 0,
        "multi": 0,
        "motion": 0,
        "occlusion": 0,
        "history": 1,
        "future": 1,
        "relation": 1,
        "absent": 2,
    }


def test_foreground_is_what_any_expression_names(tmp_path, source):
    write_layout("revos", source, tmp_path)
    _, _, foreground = read(tmp_path, "train")
    for i, named in enumerate([(0, 1, 2, 3), (), (0, 1, 3)]):
        clip = source[i]
        entry = foreground[f"MiniRVOS/train/{clip.id}"]
        assert None not in entry["masks_rle"]
        found = union([entry["masks_rle"]], clip.object_masks.shape[1:])
        assert (found == truth(clip, named)).all()
        np.testing.assert_allclose(entry["foreground_ratio"], found.mean(axis=(1, 2)), rtol=0, atol=0)
