"""Ref-SAV: every 4th frame of a real video file, channels of ``masklet``, both kinds of captions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refstream.data.datasets import RefSAVDataset
from refstream.data.datasets.ref_sav import read_masklet
from refstream.data.rle import decode_clip
from refstream.errors import UserError
from refstream.video import write_video
from tests.data.datasets.video_trees import SHARED_DATA, bar, coded, write_json

SIZE = (48, 64)
NUM_FRAMES = 22  # 6 annotated: 0, 4, 8, 12, 16, 20
EMPTY = coded(np.ones(SIZE, bool)) | {"counts": [48 * 64]}


def code(channel: int, frame: int) -> dict[str, Any]:
    """SA-V has a code for every object on every frame; an absent object has an empty one."""
    return EMPTY if channel == 1 and frame < 2 else coded(bar(8 * channel, frame, SIZE))


def captions() -> dict[str, Any]:
    objects = {
        "0": {"formated": "A man in red walks to the left. ", "short_caps": ["a man", "the walker"]},
        "2": {"formated": "A dog beside him.", "short_caps": ["a dog"]},
    }
    path = "sav_000/sav_train/sav_000/sav_000001"
    return {
        "sav_000001": {"video_path": f"{path}.mp4", "anno_path": f"{path}_manual.json", "objects": objects}
    }


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video whose grey value is ten times the frame number."""
    path = tmp_path_factory.mktemp("sav") / "sav_000001.mp4"
    images = [np.full((*SIZE, 3), 10 * i, np.uint8) for i in range(NUM_FRAMES)]
    write_video(path, images, fps=24)
    return path


def write_tree(root: Path, source: Path, videos: dict[str, Any], num_masks: int = 6) -> Path:
    folder = root / "sam_v_full" / "sav_train" / "sav_000"
    folder.mkdir(parents=True)
    (folder / "sav_000001.mp4").write_bytes(source.read_bytes())
    masklet = [[code(channel, frame) for channel in range(3)] for frame in range(num_masks)]
    write_json(folder / "sav_000001_manual.json", {"video_id": "sav_000001", "masklet": masklet})
    write_json(root / "sam_v_final_v3.json", videos)
    return root


def test_every_fourth_frame_goes_with_its_masks(tmp_path: Path, source: Path) -> None:
    data = RefSAVDataset(root=write_tree(tmp_path, source, captions()), num_frames=3, expressions=2)
    seen = set()
    for seed in range(8):
        sample = data.sample(0, np.random.default_rng(seed))
        numbers = [round(float(frame.mean()) / 10) for frame in sample.frames]
        assert all(number % 4 == 0 for number in numbers)
        assert sample.id.endswith("frames " + ",".join(map(str, numbers)))
        for text, masks in zip(sample.expressions, sample.masks, strict=True):
            channel = {"A man in red walks to the left.": 0, "A dog beside him.": 2}[text]
            for number, mask in zip(numbers, masks, strict=True):
                assert np.array_equal(mask, bar(8 * channel, number // 4, SIZE))
        seen |= set(numbers)
    assert seen == {0, 4, 8, 12, 16, 20}


def test_an_absent_object_has_empty_masks(tmp_path: Path, source: Path) -> None:
    videos = captions()
    videos["sav_000001"]["objects"] = {"1": {"formated": "A cat that comes later.", "short_caps": []}}
    data = RefSAVDataset(root=write_tree(tmp_path, source, videos), num_frames=6, sampling="contiguous")
    masks = data.sample(0, np.random.default_rng(0)).masks[0]
    assert masks.any(axis=(1, 2)).tolist() == [False, False, True, True, True, True]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("formated", {"A man in red walks to the left.", "A dog beside him."}),
        ("short", {"a man", "the walker", "a dog"}),
        ("both", {"A man in red walks to the left.", "a man", "the walker", "A dog beside him.", "a dog"}),
    ],
)
def test_captions_of_the_kind_asked_for(tmp_path: Path, source: Path, kind: str, expected: set[str]) -> None:
    data = RefSAVDataset(root=write_tree(tmp_path, source, captions()), num_frames=1, captions=kind)
    drawn = {data.sample(0, np.random.default_rng(seed)).expressions[0] for seed in range(40)}
    assert drawn == expected
    assert data.report()["expressions"] == len(expected)


def test_a_path_without_the_doubled_folder_works_too(tmp_path: Path, source: Path) -> None:
    videos = json.loads(json.dumps(captions()).replace("sav_000/sav_train", "sav_train"))
    assert len(RefSAVDataset(root=write_tree(tmp_path, source, videos))) == 1


def test_what_cannot_be_used_is_counted(tmp_path: Path, source: Path) -> None:
    videos = captions()
    good = videos["sav_000001"]
    videos["sav_000001"]["objects"]["5"] = {"formated": "", "short_caps": None}
    videos["no_video"] = {**good, "video_path": "sav_train/sav_000/gone.mp4"}
    videos["no_masks"] = {**good, "anno_path": "elsewhere/gone.json"}
    videos["no_words"] = {**good, "objects": {}}
    report = RefSAVDataset(root=write_tree(tmp_path, source, videos)).report()
    assert report["videos"] == 1
    assert report["left_out"] == {
        "object without captions": {"count": 3, "first": ["sav_000001/5", "no_video/5", "no_masks/5"]},
        "video without its file": {"count": 1, "first": ["no_video"]},
        "video without its masklets": {"count": 1, "first": ["no_masks"]},
        "video without captioned objects": {"count": 1, "first": ["no_words"]},
    }


def test_a_video_and_masks_that_do_not_fit_are_refused(tmp_path: Path, source: Path) -> None:
    data = RefSAVDataset(root=write_tree(tmp_path, source, captions(), num_masks=7))
    with pytest.raises(UserError, match="has 22 frames, of which every 4th makes 6, but 7 are annotated"):
        data.sample(0, np.random.default_rng(0))


def test_an_object_that_is_not_annotated_is_refused(tmp_path: Path, source: Path) -> None:
    videos = captions()
    videos["sav_000001"]["objects"] = {"3": {"formated": "Nobody.", "short_caps": []}}
    data = RefSAVDataset(root=write_tree(tmp_path, source, videos))
    with pytest.raises(UserError, match=r"object 3 does not fit sav_000001\.mp4"):
        data.sample(0, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda video: video.pop("video_path"), "key 'video_path': expected str, got 'None'"),
        (lambda video: video.update(objects=[1]), "'objects': expected dict"),
        (lambda video: video["objects"].update(man={}), "object 'man': expected a number"),
        (lambda video: video.update(anno_path="../x.json"), "a name inside the folder, got '../x.json'"),
    ],
)
def test_files_of_another_form_are_refused(tmp_path: Path, source: Path, change, message: str) -> None:
    videos = captions()
    change(videos["sav_000001"])
    with pytest.raises(UserError, match=message):
        RefSAVDataset(root=write_tree(tmp_path, source, videos))


def test_missing_parts_are_named(tmp_path: Path, source: Path) -> None:
    tree = write_tree(tmp_path, source, captions())
    (tree / "sam_v_final_v3.json").rename(tree / "Ref-SAV.json")
    with pytest.raises(UserError, match=r"published as Ref-SAV\.json: rename it, or set expression_file"):
        RefSAVDataset(root=tree)
    assert len(RefSAVDataset(root=tree, expression_file="Ref-SAV.json")) == 1
    with pytest.raises(UserError, match=r"no dataset folder at .*nowhere"):
        RefSAVDataset(root=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="captions must be one of formated, short, both, got 'long'"):
        RefSAVDataset(root=tree, captions="long")


@pytest.mark.parametrize(("kind", "num_objects"), [("manual", 5), ("auto", 9)])
def test_real_masklets(kind: str, num_objects: int) -> None:
    path = SHARED_DATA / "sav_example" / f"sav_000001_{kind}.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    masklet = read_masklet(path)
    written = json.loads(path.read_text())
    assert len(masklet) == 121 == -(-int(written["video_frame_count"]) // 4)
    assert {len(codes) for codes in masklet} == {num_objects}
    size = (int(written["video_height"]), int(written["video_width"]))
    if kind == "manual":  # its areas are stated, as means over the frames that show the object
        for channel, area in enumerate(written["masklet_size_abs"]):
            masks = decode_clip([codes[channel] for codes in masklet], size)
            assert masks.sum() / masks.any(axis=(1, 2)).sum() == pytest.approx(area)
