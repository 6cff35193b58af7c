"""Ref-YouTube-VOS as written: labels, words without truth, and valid listing test."""

from __future__ import annotations

import pytest

from refstream.data.layouts import write_layout

from .reading import REAL, assert_frames, form, labels, load, load_pickle, truth, union

NAMES = ["00000", "00005", "00010"]


def index(root, split):
    return load(root / "meta_expressions" / split / "meta_expressions.json")["videos"]


def test_train(tmp_path, source):
    report = write_layout("ref_youtube_vos", source, tmp_path)
    assert (report.split, report.clips, report.expressions) == ("train", 2, 13)
    assert report.left_out == {"several targets": 2, "no target": 2}
    videos = index(tmp_path, "train")
    mask_dict = load_pickle(tmp_path / "mask_dict.pkl")
    meta = load(tmp_path / "train" / "meta.json")["videos"]
    assert list(videos) == ["train_clip_b", "train_clip_c"]
    clips = {source[i].id: source[i] for i in range(3)}
    count = 0
    for name in sorted(videos):
        clip, video = clips[name], videos[name]
        assert video["frames"] == NAMES
        assert_frames(tmp_path / "train" / "JPEGImages" / name, clip, NAMES)
        found_names, found = labels(tmp_path / "train" / "Annotations" / name)
        assert found_names == [f"{frame}.png" for frame in NAMES]
        said = {e.text: e.object_ids for e in clip.expressions}
        assert list(video["expressions"]) == [str(i) for i in range(len(video["expressions"]))]
        for key in sorted(video["expressions"]):
            written = video["expressions"][key]
            expected = truth(clip, said[written["exp"]])
            assert ((found == int(written["obj_id"])) == expected).all()
            assert (union([mask_dict[str(count)]], found.shape) == expected).all(), (name, key)
            count += 1
        for number, entry in meta[name]["objects"].items():
            seen = (found == int(number)).any(axis=(1, 2))
            assert entry == {
                "category": "object",
                "frames": [n for n, s in zip(NAMES, seen, strict=True) if s],
            }
    assert set(mask_dict) == {str(i) for i in range(count)}
    assert count == 13  # more than ten in one video, so that sorting as text matters


@pytest.mark.parametrize("order", [("val", "test"), ("test", "val")])
def test_valid_lists_the_videos_of_test(tmp_path, sources, order):
    for split in order:
        write_layout("ref_youtube_vos", sources(split), tmp_path)
    both, test = index(tmp_path, "valid"), index(tmp_path, "test")
    assert sorted(test) == ["test_clip_b", "test_clip_c"]
    assert sorted(both.keys() - test.keys()) == ["val_clip_b", "val_clip_c"]
    assert all(both[name] == test[name] for name in test)
    for split, official in (("val", "valid"), ("test", "test")):
        assert [path.name for path in (tmp_path / official).iterdir()] == ["JPEGImages"]
        folders = sorted(path.name for path in (tmp_path / official / "JPEGImages").iterdir())
        assert folders == [f"{split}_clip_b", f"{split}_clip_c"]


@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data")
def test_form_of_the_real_files(tmp_path, sources):
    write_layout("ref_youtube_vos", sources("val"), tmp_path)
    real = load(REAL / "refytvos_text" / "onlinerefer_meta_expressions.json")["videos"]["0062f687f1"]
    for video in index(tmp_path, "valid").values():
        assert form(video["frames"]) == form(real["frames"])
        assert video["frames"] == real["frames"][: len(video["frames"])]
        assert list(video) == list(real)
        assert all(form(e) == form(real["expressions"]["0"]) for e in video["expressions"].values())
