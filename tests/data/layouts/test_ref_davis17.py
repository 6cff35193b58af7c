"""Ref-DAVIS17 as written: four sentences per object, labels, text files, and the order of mask_dict.pkl."""

from __future__ import annotations

import re

import numpy as np
import pytest

from refstream.data.layouts import write_layout

from .conftest import LEAVES, PARTS, RING
from .reading import REAL, assert_frames, form, labels, load, load_pickle, truth, union

TEXTS = ("annot1", "annot1_full_video", "annot2", "annot2_full_video")


@pytest.fixture
def root(tmp_path, source):
    report = write_layout("ref_davis17", source, tmp_path, split="valid")
    assert (report.clips, report.expressions) == (2, 4 * 4)
    assert report.left_out == {
        "several targets": 2,
        "no target": 2,
        "target not in the first frame": 1,
        "more than four sentences for an object": 2,
    }
    return tmp_path


def test_four_sentences_per_object(root):
    videos = load(root / "meta_expressions" / "valid" / "meta_expressions.json")["videos"]
    assert list(videos) == ["train_clip_b", "train_clip_c"]  # sorted, as their masks are counted
    expressions = videos["train_clip_b"]["expressions"]
    assert list(expressions) == [str(i) for i in range(12)]
    assert [e["obj_id"] for e in expressions.values()] == ["1"] * 4 + ["2"] * 4 + ["3"] * 4
    said = [e["exp"] for e in expressions.values()]
    assert said[:4] == ["the ring", "what was red at first", "round 0", "round 1"]
    assert said[4:8] == ["what will leave"] * 4
    assert said[8:] == ["the dotted one", "left of the ring", "dots", "many dots"]


def test_pictures(root, source):
    clip = source[0]
    assert_frames(root / "valid" / "JPEGImages" / clip.id, clip, ["00000", "00001", "00002"])
    names, found = labels(root / "valid" / "Annotations" / clip.id)
    assert names == ["00000.png", "00001.png", "00002.png"]
    for label, target in enumerate((RING, LEAVES, PARTS), start=1):
        assert (found == label).tolist() == truth(clip, (target,)).tolist()
    assert found.max() == 3
    assert found[0].max() == 3  # the evaluator counts objects in the first frame
    objects = load(root / "valid" / "meta.json")["videos"][clip.id]["objects"]
    assert objects == {str(i): {"category": "object"} for i in (1, 2, 3)}


def test_masks_are_counted_over_ids_sorted_as_text(root, source):
    mask_dict = load_pickle(root / "valid" / "mask_dict.pkl")
    videos = load(root / "meta_expressions" / "valid" / "meta_expressions.json")["videos"]
    clips = {source[i].id: source[i] for i in range(3)}
    described = {"train_clip_b": (RING, LEAVES, PARTS), "train_clip_c": (RING,)}
    count = 0
    for video in sorted(videos):
        for key in sorted(videos[video]["expressions"]):
            target = described[video][int(videos[video]["expressions"][key]["obj_id"]) - 1]
            found = union([mask_dict[str(count)]], clips[video].object_masks.shape[1:])
            assert (found == truth(clips[video], (target,))).all(), (video, key)
            count += 1
    assert set(mask_dict) == {str(i) for i in range(count)}


def test_text_files(root):
    videos = load(root / "meta_expressions" / "valid" / "meta_expressions.json")["videos"]
    for a, name in enumerate(TEXTS):
        encoding = "latin-1" if "annot2" in name else "utf-8"
        text = (root / "davis_text_annotations" / f"Davis17_{name}.txt").read_text(encoding=encoding)
        expected = [
            (video, record["expressions"][str(key)]["obj_id"], record["expressions"][str(key)]["exp"])
            for video, record in videos.items()
            for key in range(a, len(record["expressions"]), 4)
        ]
        assert [re.fullmatch(r'(\S+) (\d+) "(.*)"', line).groups() for line in text.splitlines()] == expected


def test_text_files_hold_all_splits(root, sources):
    before = (root / "davis_text_annotations" / "Davis17_annot1.txt").read_bytes()
    write_layout("ref_davis17", sources("test"), root, split="train")
    after = (root / "davis_text_annotations" / "Davis17_annot1.txt").read_bytes()
    assert after.startswith(before)
    assert after.count(b"test_clip_b") == 3


@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data")
def test_form_of_the_real_files(root):
    index = "meta_expressions/valid/meta_expressions.json"
    real = load(REAL / "refdavis17_text" / index)["videos"]
    ours = load(root / index)["videos"]
    entry = real["bike-packing"]["expressions"]["0"]
    for video in ours.values():
        assert set(video) == set(real["bike-packing"])
        assert all(form(e) == form(entry) for e in video["expressions"].values())
        assert video["frames"] == real["bike-packing"]["frames"][: len(video["frames"])]
    for video in real.values():  # the real ones obey the same rule
        assert [e["obj_id"] for e in video["expressions"].values()] == [
            str(i // 4 + 1) for i in range(len(video["expressions"]))
        ]
    line = re.compile(r'\S+ \d+ ".*"')
    for name in TEXTS:
        path = REAL / "refdavis17_text" / "regenerated_val_txt" / f"Davis17_{name}_VALONLY.txt"
        real_lines = path.read_text(encoding="latin-1").splitlines()
        ours_lines = (
            (root / "davis_text_annotations" / f"Davis17_{name}.txt")
            .read_text(encoding="latin-1")
            .splitlines()
        )
        assert all(line.fullmatch(text) for text in [*real_lines, *ours_lines])


@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data")
def test_palette_of_the_real_annotations():
    from PIL import Image

    from refstream.data.layouts.common import label_palette

    ours = np.frombuffer(label_palette(), dtype=np.uint8).reshape(256, 3)
    with Image.open(
        next(iter(sorted((REAL / "refdavis17_oneobject").glob("valid/Annotations/camel/*"))))
    ) as real:
        assert real.mode == "P"
        palette = np.array(real.getpalette()).reshape(-1, 3)
    assert ours[:2].tolist() == palette[:2].tolist()
    cutie = REAL / "vos_samples" / "cutie"
    pictures = [path for path in sorted(cutie.rglob("*.png")) if Image.open(path).mode == "P"]
    assert pictures
    with Image.open(pictures[0]) as real:
        palette = np.array(real.getpalette()).reshape(-1, 3)
        used = np.unique(np.array(real))
    assert ours[used].tolist() == palette[used].tolist()
