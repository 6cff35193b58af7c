"""Ref-YouTube-VOS: counted keys in text order, the same masks from pictures, real lists of words."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from refstream.data.datasets import RefYouTubeVOSDataset
from refstream.data.datasets.reading import read_object
from refstream.data.datasets.ref_youtube_vos import counted_annotations
from refstream.errors import UserError
from tests.data.datasets.video_trees import (
    SHARED_DATA,
    bar,
    frame_names,
    numbers_of,
    write_frames,
    write_json,
)

FRAMES = frame_names(4, 5)
FIRST, SECOND = "003234408d", "0043f083b5"


def videos_of() -> dict[str, Any]:
    """Twelve expressions of three objects, as text order ("10" before "2") matters, and a second video."""
    first = {str(i): {"exp": f"expression {i}", "obj_id": str(1 + i // 4)} for i in range(12)}
    return {
        SECOND: {"frames": FRAMES, "expressions": {"0": {"exp": "the other", "obj_id": "2"}}},
        FIRST: {"frames": FRAMES, "expressions": first},
    }


def object_mask(video: str, number: int, frame: int) -> np.ndarray:
    return bar(4 * number - (video == SECOND), frame)


def coded_bytes(mask: np.ndarray) -> dict[str, Any] | None:
    """COCO RLE as VISA pickles it: counts as bytes."""
    from pycocotools import mask as coco

    return coco.encode(np.asfortranarray(mask, np.uint8)) if mask.any() else None


def mask_dict(videos: dict[str, Any], key=str) -> dict[str, list[Any]]:
    """Keys count over sorted videos and their expression ids sorted by ``key``: as text is right."""
    counted: dict[str, list[Any]] = {}
    for video in sorted(videos):
        for exp_id in sorted(videos[video]["expressions"], key=key):
            number = int(videos[video]["expressions"][exp_id]["obj_id"])
            counted[str(len(counted))] = [coded_bytes(object_mask(video, number, f)) for f in range(4)]
    return counted


def write_tree(root: Path, videos: dict[str, Any]) -> Path:
    for video in videos:
        write_frames(root / "train" / "JPEGImages" / video, FRAMES)
        folder = root / "train" / "Annotations" / video
        folder.mkdir(parents=True)
        for frame, name in enumerate(FRAMES):
            labels = np.zeros((12, 16), np.uint8)
            for number in (1, 2, 3):
                labels[object_mask(video, number, frame)] = number
            image = Image.fromarray(labels, mode="P")
            image.putpalette([0, 0, 0, 236, 95, 103, 249, 145, 87, 250, 200, 99])
            image.save(folder / f"{name}.png")
    write_json(root / "meta_expressions" / "train" / "meta_expressions.json", {"videos": videos})
    (root / "mask_dict.pkl").write_bytes(pickle.dumps(mask_dict(videos)))
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_tree(tmp_path, videos_of())


@pytest.mark.parametrize("mask_file", ["mask_dict.pkl", None])
def test_each_expression_gets_the_masks_of_its_object(tree: Path, mask_file: str | None) -> None:
    data = RefYouTubeVOSDataset(root=tree, num_frames=4, expressions=12, mask_file=mask_file)
    words = set()
    for index in range(2):
        sample = data.sample(index, np.random.default_rng(0))
        video = data.videos[index].video.name
        for text, masks in zip(sample.expressions, sample.masks, strict=True):
            number = 2 if video == SECOND else 1 + int(text.split()[1]) // 4
            for frame, mask in zip(numbers_of(sample.frames), masks, strict=True):
                assert np.array_equal(mask, object_mask(video, number, frame)), text
        words |= set(sample.expressions)
    assert len(words) == 13


def test_annotations_are_counted_over_text_order() -> None:
    counted = counted_annotations(videos_of())
    in_order = sorted(counted, key=lambda name: int(counted[name]))
    keys = [key for video, key in in_order if video == FIRST]
    assert keys == ["0", "1", "10", "11", *"23456789"]
    assert in_order[-1] == (SECOND, "0")


def test_a_dictionary_counted_in_numeric_order_is_refused(tree: Path) -> None:
    (tree / "mask_dict.pkl").write_bytes(pickle.dumps(mask_dict(videos_of(), key=int)))
    with pytest.raises(UserError, match=f"video {FIRST}, object 1, have different masks"):
        RefYouTubeVOSDataset(root=tree)


def test_a_dictionary_of_other_expressions_is_refused(tree: Path) -> None:
    videos = videos_of()
    del videos[SECOND]
    (tree / "mask_dict.pkl").write_bytes(pickle.dumps(mask_dict(videos)))
    with pytest.raises(UserError, match="holds 12 annotations, expected one for each of the 13 expressions"):
        RefYouTubeVOSDataset(root=tree)


def test_a_missing_dictionary_names_the_other_way(tree: Path) -> None:
    (tree / "mask_dict.pkl").unlink()
    with pytest.raises(UserError, match=r"no file mask_dict\.pkl .*set mask_file=None"):
        RefYouTubeVOSDataset(root=tree)


def test_a_dictionary_that_runs_code_is_refused(tree: Path) -> None:
    (tree / "mask_dict.pkl").write_bytes(b"cposix\nsystem\n(S'true'\ntR.")
    with pytest.raises(UserError, match=r"mask_dict\.pkl is damaged or holds more than plain data"):
        RefYouTubeVOSDataset(root=tree)


def test_frames_without_a_picture_of_masks_are_counted(tree: Path) -> None:
    (tree / "train" / "Annotations" / FIRST / "00010.png").unlink()
    shutil.rmtree(tree / "train" / "Annotations" / SECOND)
    data = RefYouTubeVOSDataset(root=tree, mask_file=None, num_frames=3, sampling="contiguous")
    left_out = data.report()["left_out"]
    assert left_out["frame without annotations"]["count"] == 5
    assert left_out["video without usable frames"] == {"count": 1, "first": [SECOND]}
    assert numbers_of(data.sample(0, np.random.default_rng(0)).frames) == [0, 1, 3]


@pytest.mark.parametrize("number", ["0", "255", "-1", "cat"])
def test_impossible_object_numbers_are_counted(tmp_path: Path, number: str) -> None:
    videos = videos_of()
    tree = write_tree(tmp_path, videos)
    videos[SECOND]["expressions"]["0"]["obj_id"] = number
    write_json(tree / "meta_expressions" / "train" / "meta_expressions.json", {"videos": videos})
    left_out = RefYouTubeVOSDataset(root=tree, mask_file=None).report()["left_out"]
    assert left_out["expression whose object number is not in 1..254"]["first"] == [f"{SECOND}/0"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda image: image.convert("RGB"), "expected a palette PNG of object numbers .* got mode RGB"),
        (lambda image: image.resize((8, 6), 0), r"is of size \(6, 8\), its frame of \(12, 16\)"),
    ],
)
def test_pictures_of_masks_of_another_form_are_refused(tree: Path, change, message: str) -> None:
    for path in (tree / "train" / "Annotations" / SECOND).iterdir():
        with Image.open(path) as image:
            change(image).save(path)
    data = RefYouTubeVOSDataset(root=tree, mask_file=None)
    with pytest.raises(UserError, match=message):
        data.sample(0, np.random.default_rng(0))


def test_valid_has_no_objects_and_cannot_be_trained_on(tree: Path) -> None:
    videos = videos_of()
    for video in videos.values():
        for expression in video["expressions"].values():
            del expression["obj_id"]
    write_json(tree / "meta_expressions" / "train" / "meta_expressions.json", {"videos": videos})
    with pytest.raises(UserError, match="13 x expression without annotation ids"):
        RefYouTubeVOSDataset(root=tree, mask_file=None)


def test_real_lists_of_words_are_counted() -> None:
    path = SHARED_DATA / "refytvos_text" / "onlinerefer_meta_expressions.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    videos = read_object(path)["videos"]
    counted = counted_annotations(videos)
    assert (len(videos), len(counted)) == (507, 2096)
    assert list(videos) == sorted(videos)  # so that the released readers count as we do


def test_real_pictures_and_words(tmp_path: Path) -> None:
    real = SHARED_DATA / "refdavis17_oneobject"
    if not real.is_dir():
        pytest.skip(f"no {real}")
    data = RefYouTubeVOSDataset(
        root=real,
        expression_file="meta_expressions/valid/meta_expressions.json",
        mask_file=None,
        image_folder="valid/JPEGImages",
        annotation_folder="valid/Annotations",
        num_frames=2,
        expressions=4,
    )
    report = data.report()
    assert (report["videos"], report["expressions"], report["left_out"]) == (9, 36, {})
    sample = data.sample(0, np.random.default_rng(0))
    assert sample.frames.shape[1] == 480
    assert len(sample.expressions) == 4
    name = data.videos[0].video.name
    frame = sample.id.split("frames ")[1].split(",")[0]
    with Image.open(real / "valid" / "Annotations" / name / f"{frame}.png") as image:
        assert np.array_equal(sample.masks[0, 0], np.asarray(image) == 1)
    assert sample.masks[0, 0].any()
