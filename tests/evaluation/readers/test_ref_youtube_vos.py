"""Ref-YouTube-VOS: valid without test, and truth where masks lie on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from refstream.errors import UserError
from refstream.evaluation.readers.ref_youtube_vos import RefYouTubeVOSBenchmark
from tests.evaluation.golden_trees import SHARED_DATA, write, write_labels

FRAMES = ["00000", "00005", "00010"]
LISTS = "meta_expressions/{}/meta_expressions.json"


def words(*videos: str, objects: bool = False) -> dict[str, Any]:
    """Two expressions of each video, of objects 2 and 1."""
    numbers = {"0": "2", "1": "1"}
    expressions = {
        key: {"exp": f"thing {key}"} | ({"obj_id": number} if objects else {})
        for key, number in numbers.items()
    }
    return {"videos": {video: {"frames": FRAMES, "expressions": expressions} for video in videos}}


def labels(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3, (3, 6, 8)).astype(np.uint8)


def test_the_videos_of_test_are_subtracted(tmp_path: Path) -> None:
    write(tmp_path / LISTS.format("valid"), words("a", "b", "c"))
    write(tmp_path / LISTS.format("test"), words("b"))
    benchmark = RefYouTubeVOSBenchmark(tmp_path)
    assert [video.id for video in benchmark.videos] == ["a", "c"]
    assert benchmark.settings == {"list": "meta_expressions.json without the videos of test", "masks": None}
    assert benchmark.truth(benchmark.videos[0], benchmark.videos[0].expressions[0]) is None
    assert benchmark.videos[0].fps == 6
    assert [v.id for v in RefYouTubeVOSBenchmark(tmp_path, "test").videos] == ["b"]


@pytest.mark.parametrize("folder", ["meta_expressions/valid", "valid"])
def test_the_list_of_the_challenge_is_valid_alone(tmp_path: Path, folder: str) -> None:
    write(tmp_path / LISTS.format("valid"), words("a", "b", "c"))
    write(tmp_path / folder / "meta_expressions_challenge.json", words("c", "a"))
    benchmark = RefYouTubeVOSBenchmark(tmp_path)
    assert [video.id for video in benchmark.videos] == ["c", "a"]
    assert benchmark.settings["list"] == "meta_expressions_challenge.json"


def test_without_the_list_of_test_the_folders_decide_or_it_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / LISTS.format("valid"), words("a", "b"))
    (tmp_path / "valid" / "JPEGImages" / "a").mkdir(parents=True)
    with pytest.raises(UserError, match=r"lists 1 videos, such as b, .*told apart by .*test"):
        RefYouTubeVOSBenchmark(tmp_path)
    named = RefYouTubeVOSBenchmark(tmp_path, expression_file=LISTS.format("valid"))
    assert [video.id for video in named.videos] == ["a", "b"]
    (tmp_path / "valid" / "JPEGImages" / "b").mkdir()
    assert len(RefYouTubeVOSBenchmark(tmp_path).videos) == 2


def test_palette_pictures_score_the_frames_they_annotate(tmp_path: Path) -> None:
    write(tmp_path / "meta_expressions/valid/meta_expressions_challenge.json", words("a", objects=True))
    content = labels()
    write_labels(tmp_path / "valid" / "Annotations" / "a", content[[0, 2]], ["00000", "00010"])
    benchmark = RefYouTubeVOSBenchmark(tmp_path)
    (video,) = benchmark.videos
    assert benchmark.settings["masks"] == "pictures"
    assert video.frames == tuple(FRAMES)
    assert video.scored_frames == ("00000", "00010")
    for expression, number in zip(video.expressions, (2, 1), strict=True):
        assert np.array_equal(benchmark.truth(video, expression), content[[0, 2]] == number)


def test_pictures_of_each_expression_are_read(tmp_path: Path) -> None:
    """As the published masks of valid lie: Annotations/<video>/<expression>/<frame>.png, 0 or 255."""
    write(tmp_path / "valid" / "meta_expressions_challenge.json", words("a", objects=True))
    masks = np.random.default_rng(1).random((2, 3, 6, 8)) < 0.4
    for key, clip in zip("01", masks, strict=True):
        folder = tmp_path / "valid" / "Annotations" / "a" / key
        folder.mkdir(parents=True)
        for frame, mask in zip(FRAMES, clip, strict=True):
            Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"{frame}.png")
    benchmark = RefYouTubeVOSBenchmark(tmp_path)
    (video,) = benchmark.videos
    assert benchmark.settings["masks"] == "pictures by expression"
    assert video.scored is None
    for expression, mask in zip(video.expressions, masks, strict=True):
        assert np.array_equal(benchmark.truth(video, expression), mask)
    (tmp_path / "valid" / "Annotations" / "a" / "1" / "00005.png").unlink()
    with pytest.raises(UserError, match=r"a/1/00005\.png"):
        benchmark.truth(video, video.expressions[1])


def test_words_without_objects_have_no_truth_beside_palette_pictures(tmp_path: Path) -> None:
    write(tmp_path / "valid" / "meta_expressions_challenge.json", words("a"))
    write_labels(tmp_path / "valid" / "Annotations" / "a", labels()[:1], FRAMES[:1])
    benchmark = RefYouTubeVOSBenchmark(tmp_path)
    assert benchmark.settings["masks"] is None
    assert benchmark.videos[0].scored_frames == tuple(FRAMES)  # a submission has them all
    assert benchmark.truth(benchmark.videos[0], benchmark.videos[0].expressions[0]) is None


def test_train_reads_the_dictionary_of_the_papers(tmp_path: Path) -> None:
    write(tmp_path / LISTS.format("train"), words("b", "a", objects=True))
    clips = {"a": labels(1), "b": labels(2)}
    content = {}
    for video in sorted(clips):
        for number in (2, 1):
            content[str(len(content))] = [coded(label == number) for label in clips[video]]
    write(tmp_path / "mask_dict.pkl", content)
    benchmark = RefYouTubeVOSBenchmark(tmp_path, "train")
    assert benchmark.settings["masks"] == "pickle"
    for video in benchmark.videos:
        assert video.size == (6, 8)
        for expression, number in zip(video.expressions, (2, 1), strict=True):
            assert np.array_equal(benchmark.truth(video, expression), clips[video.id] == number)
    none = RefYouTubeVOSBenchmark(tmp_path, "train", masks="none")
    assert none.truth(none.videos[0], none.videos[0].expressions[0]) is None


def coded(mask: np.ndarray) -> dict[str, Any]:
    code = coco.encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(code["size"]), "counts": code["counts"].decode()}


def test_impossible_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="splits valid, test and train"):
        RefYouTubeVOSBenchmark(tmp_path, "val")
    with pytest.raises(UserError, match="auto, pickle, pictures, none"):
        RefYouTubeVOSBenchmark(tmp_path, masks="png")
    with pytest.raises(UserError, match=r"no file meta_expressions/valid/meta_expressions\.json"):
        RefYouTubeVOSBenchmark(tmp_path)


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="needs ../shared/data")
def test_the_real_lists_leave_202_videos_and_834_expressions(tmp_path: Path) -> None:
    """The list of valid names 507 videos; the 202 are known from another project's list of its rows."""
    folder = SHARED_DATA / "refytvos_text"
    everything = json.loads((folder / "onlinerefer_meta_expressions.json").read_text(encoding="utf-8"))[
        "videos"
    ]
    rows = json.loads((folder / "soc_refytvos_valid_samples_metadata.json").read_text(encoding="utf-8"))
    valid = {row[0] for row in rows}
    write(tmp_path / LISTS.format("valid"), {"videos": everything})
    write(
        tmp_path / LISTS.format("test"), {"videos": {k: v for k, v in everything.items() if k not in valid}}
    )
    benchmark = RefYouTubeVOSBenchmark(tmp_path)
    assert (len(everything), len(benchmark.videos), benchmark.num_expressions) == (507, 202, 834)
    asked = {(v.id, e.id, e.text, v.frames) for v in benchmark.videos for e in v.expressions}
    assert asked == {(row[0], row[2]["exp_id"], row[2]["exp"], tuple(row[1])) for row in rows}
    test = RefYouTubeVOSBenchmark(tmp_path, "test")
    assert (len(test.videos), test.num_expressions) == (305, 1262)
