"""MeViS: clips from the true form of its files, and every trap of such files counted or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from refstream.data.datasets import MeViSDataset
from refstream.errors import UserError
from refstream.registry import DATASETS
from tests.data.datasets.video_trees import (
    bar,
    bars,
    mevis_videos,
    numbers_of,
    write_frames,
    write_json,
    write_mevis_tree,
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_mevis_tree(tmp_path / "train", *mevis_videos())


def test_words_frames_and_masks_belong_together(tree: Path) -> None:
    data = MeViSDataset(root=tree, num_frames=4, expressions=2)
    assert len(data) == 2
    seen = set()
    for seed in range(12):
        sample = data.sample(0, np.random.default_rng(seed))
        assert sample.frames.shape == (4, 12, 16, 3)
        numbers = numbers_of(sample.frames)
        assert numbers == sorted(numbers)
        for text, masks in zip(sample.expressions, sample.masks, strict=True):
            for number, mask in zip(numbers, masks, strict=True):
                first = bar(2, number) if number % 2 else np.zeros_like(bar(2, number))
                expected = first if text == "The bird. Flying left" else first | bar(4, number)
                assert np.array_equal(mask, expected)
        seen |= set(numbers)
    assert seen == set(range(8))


def test_the_generator_alone_decides(tree: Path) -> None:
    first, second = (
        MeViSDataset(root=tree, num_frames=3).sample(0, np.random.default_rng(5)) for _ in range(2)
    )
    assert first.id == second.id
    assert np.array_equal(first.masks, second.masks)
    assert first.id.startswith("MeViSDataset 0a1B.x: expressions ")


def test_fewer_expressions_than_asked_are_given_once(tree: Path) -> None:
    sample = MeViSDataset(root=tree, expressions=9).sample(0, np.random.default_rng(0))
    assert sorted(sample.expressions) == ["The bird. Flying left", "two birds that meet"]
    assert sample.masks.shape == (2, 5, 12, 16)


def test_a_short_video_repeats_frames(tree: Path) -> None:
    sample = MeViSDataset(root=tree, sampling="contiguous").sample(1, np.random.default_rng(0))
    assert numbers_of(sample.frames) == [0, 1, 2, 2, 2]


def test_built_from_a_config(tree: Path) -> None:
    data = DATASETS.build({"type": "MeViSDataset", "root": str(tree), "num_frames": 2})
    assert data.report() == {
        "dataset": "MeViSDataset",
        "root": str(tree),
        "videos": 2,
        "expressions": 3,
        "frames": 11,
        "left_out": {},
    }


def test_an_expression_without_a_target_is_kept_on_request(tmp_path: Path) -> None:
    videos, masks = mevis_videos()
    videos["ffff"]["expressions"] = {"0": {"exp": "a dog", "obj_id": [], "anno_id": []}}
    tree = write_mevis_tree(tmp_path, videos, masks)
    assert len(MeViSDataset(root=tree)) == 1
    sample = MeViSDataset(root=tree, keep_absent=True).sample(1, np.random.default_rng(0))
    assert sample.expressions == ["a dog"]
    assert not sample.masks.any()


def break_expression(key: str, **values: object):
    def change(videos, masks, tree):
        videos["ffff"]["expressions"][key] = {"exp": "the cat", "obj_id": [0], "anno_id": [9]} | values

    return change


def drop_key(videos, masks, tree):
    del videos["ffff"]["expressions"]["0"]["anno_id"]


def replace_masks(codes):
    def change(videos, masks, tree):
        masks["9"] = codes

    return change


@pytest.mark.parametrize(
    ("change", "reason", "name"),
    [
        (break_expression("0", exp="  "), "expression without words", "ffff/0"),
        (break_expression("0", anno_id=[]), "expression without a target", "ffff/0"),
        (break_expression("0", anno_id=[77]), "expression whose annotation has no masks", "ffff/0"),
        (drop_key, "expression without annotation ids", "ffff/0"),
        (replace_masks(bars(0, 2)), "expression with fewer masks than the video has frames", "ffff/0"),
        (replace_masks(bars(0, 4)), "expression with more masks than the video has frames", "ffff/0"),
        (
            replace_masks([*bars(0, 2), *bars(0, 1, (6, 8))]),
            "expression with masks of several sizes",
            "ffff/0",
        ),
    ],
)
def test_unusable_expressions_are_counted_and_their_video_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change, reason: str, name: str
) -> None:
    videos, masks = mevis_videos()
    change(videos, masks, tmp_path)
    data = MeViSDataset(root=write_mevis_tree(tmp_path, videos, masks))
    assert len(data) == 1
    assert data.report()["left_out"] == {
        reason: {"count": 1, "first": [name]},
        "video without usable expressions": {"count": 1, "first": ["ffff"]},
    }
    assert reason in caplog.text


def test_a_missing_video_folder_is_counted(tree: Path) -> None:
    (tree / "JPEGImages" / "0a1B.x").rename(tree / "JPEGImages" / "0A1B.x")
    data = MeViSDataset(root=tree)
    assert data.report()["left_out"] == {"video without its folder": {"count": 1, "first": ["0a1B.x"]}}
    assert data.sample(0, np.random.default_rng(0)).expressions == ["the cat"]


def test_missing_frames_are_counted_and_never_drawn_and_masks_stay_aligned(tree: Path) -> None:
    for name in ("00000", "00003"):
        (tree / "JPEGImages" / "0a1B.x" / f"{name}.jpg").unlink()
    data = MeViSDataset(root=tree, num_frames=6, sampling="contiguous", expressions=2)
    left_out = data.report()["left_out"]
    assert left_out == {"frame without its picture": {"count": 2, "first": ["0a1B.x/00000", "0a1B.x/00003"]}}
    sample = data.sample(0, np.random.default_rng(0))
    assert numbers_of(sample.frames) == [1, 2, 4, 5, 6, 7]
    both = sample.masks[sample.expressions.index("two birds that meet")]
    assert [int(mask[:, 6].sum()) for mask in both] == [2, 3, 5, 6, 7, 8]


def test_a_video_without_any_of_its_frames_is_left_out(tree: Path) -> None:
    for path in (tree / "JPEGImages" / "ffff").iterdir():
        path.unlink()
    left_out = MeViSDataset(root=tree).report()["left_out"]
    assert left_out["frame without its picture"]["count"] == 3
    assert left_out["video without usable frames"] == {"count": 1, "first": ["ffff"]}


def test_the_report_names_the_first_of_many(tree: Path) -> None:
    for path in (tree / "JPEGImages" / "0a1B.x").iterdir():
        path.unlink()
    missing = MeViSDataset(root=tree).report()["left_out"]["frame without its picture"]
    assert missing == {"count": 8, "first": [f"0a1B.x/{i:05d}" for i in range(5)]}


def test_a_mask_of_another_size_than_the_picture_is_refused(tmp_path: Path) -> None:
    tree = write_mevis_tree(tmp_path, *mevis_videos(), sizes={"ffff": (24, 32)})
    with pytest.raises(UserError, match=r"annotation 9 do not fit video ffff, whose frames are \(24, 32\)"):
        MeViSDataset(root=tree).sample(1, np.random.default_rng(0))


def test_frames_of_several_sizes_are_refused(tree: Path) -> None:
    write_frames(tree / "JPEGImages" / "ffff", ["00002"], (6, 8))
    data = MeViSDataset(root=tree, num_frames=3, sampling="contiguous")
    with pytest.raises(UserError, match=r"00002\.jpg is of size \(6, 8\), 00000\.jpg .* of \(12, 16\)"):
        data.sample(1, np.random.default_rng(0))


def test_a_damaged_picture_is_named(tree: Path) -> None:
    for path in (tree / "JPEGImages" / "ffff").iterdir():
        path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UserError, match=r"ffff/0000\d.jpg: not a readable picture"):
        MeViSDataset(root=tree).sample(1, np.random.default_rng(0))


def test_nothing_usable_is_an_error(tree: Path) -> None:
    videos, _ = mevis_videos()
    for video in videos.values():
        for expression in video["expressions"].values():
            del expression["anno_id"], expression["obj_id"]
    write_json(tree / "meta_expressions.json", {"videos": videos})
    with pytest.raises(UserError, match="no video can be used: 3 x expression without annotation ids"):
        MeViSDataset(root=tree)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("meta_expressions.json", "[1]", "expected dict"),
        ("meta_expressions.json", '{"videos": ', "is not valid JSON .* download complete"),
        ("meta_expressions.json", '{"vids": {}}', "key 'videos': expected dict, got 'None'"),
        ("meta_expressions.json", '{"videos": {"a": []}}', "video 'a': expected dict"),
        ("meta_expressions.json", '{"videos": {"a": {"frames": {}}}}', "'frames': expected list"),
        ("meta_expressions.json", '{"videos": {"../a": {"frames": []}}}', "a name inside the folder"),
        ("meta_expressions.json", '{"videos": {"a": {"frames": ["/etc/x"]}}}', "a name inside the folder"),
        ("meta_expressions.json", '{"videos": {"a": {"frames": ["0", "0"]}}}', "a frame is listed twice"),
        ("mask_dict.json", "[]", "expected an object .* got array"),
        ("mask_dict.json", '{"7": [null', "is the file complete"),
        ("mask_dict.json", '{"7": {"size": [1, 2]}}', "annotation 7: expected a list of RLE or null"),
    ],
)
def test_files_of_another_form_are_refused(tree: Path, file: str, content: str, message: str) -> None:
    (tree / file).write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        MeViSDataset(root=tree)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("meta_expressions.json", "no file meta_expressions.json in .*data/README.md"),
        ("mask_dict.json", "no file mask_dict.json in .*valid and test have no masks"),
        ("JPEGImages", "no dataset folder at .*JPEGImages; expected a folder of frames per video"),
    ],
)
def test_missing_parts_are_named(tree: Path, missing: str, message: str) -> None:
    (tree / missing).rename(tree / "elsewhere")
    with pytest.raises(UserError, match=message):
        MeViSDataset(root=tree)


def test_a_missing_root_says_what_is_expected() -> None:
    with pytest.raises(
        UserError, match=r"no dataset folder at data/video_datas/mevis/nowhere.*mask_dict\.json"
    ):
        MeViSDataset(root="data/video_datas/mevis/nowhere")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_frames": 0}, "num_frames = 0"),
        ({"sampling": "even"}, "got 'even'"),
        ({"expressions": 0}, "expressions = 0"),
    ],
)
def test_impossible_settings_are_refused(tree: Path, wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MeViSDataset(root=tree, **wrong)
