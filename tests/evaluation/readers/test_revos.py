"""ReVOS: types, instance sums, and the foreground, shipped or rebuilt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from refstream.data.rle import decode_clip
from refstream.errors import UserError
from refstream.evaluation.metrics.jf import region_similarity
from refstream.evaluation.readers.revos import ReVOSBenchmark
from tests.evaluation.golden_trees import load, revos_tree, write


def test_sums_and_foreground_give_the_official_a_and_r(tmp_path: Path) -> None:
    """All in 8 bits, as the public scorer does it, which wraps where instances overlap."""
    benchmark = ReVOSBenchmark(revos_tree(tmp_path))
    run = next(r for r in load("revos", "case.json")["runs"] if r["name"] == "complete")
    predictions, wraps, scored = load("revos", "predictions.json"), 0, 0
    for video in benchmark.videos:
        foreground = benchmark.foreground(video)
        assert (foreground.dtype, foreground.shape) == (np.dtype(bool), (len(video.frames), *video.size))
        for expression in video.expressions:
            official = run["per_expression"][f"{video.id}_{expression.id}"]
            target = benchmark.instance_sum(video, expression)
            assert target.dtype == np.uint8
            assert target.max() == official["largest_target_value"]
            masks = decode_clip(predictions[video.id][expression.id]["prediction_masks"]).astype(np.uint8)
            penalty = ((np.uint8(1) - target) * masks).sum(axis=(1, 2), dtype=np.float64)
            robustness = np.maximum(0, 1 - penalty / (foreground.sum(axis=(1, 2)) + 1e-6)).mean()
            scores = official["rle_0_1"]
            assert (target == masks).mean(axis=(1, 2)).mean() == pytest.approx(scores["A"], abs=1e-12)
            assert robustness == pytest.approx(scores["R"], abs=1e-12)
            truth = benchmark.truth(video, expression)
            assert np.array_equal(truth, target > 0)
            assert region_similarity(truth, masks > 0).mean() == pytest.approx(scores["J"], abs=1e-12)
            wraps, scored = wraps + official["wraps"], scored + 1
    assert scored == 13
    assert wraps > 0


def test_a_missing_foreground_is_rebuilt_exactly_and_said(tmp_path: Path) -> None:
    shipped = ReVOSBenchmark(revos_tree(tmp_path / "a"))
    rebuilt = ReVOSBenchmark(revos_tree(tmp_path / "b", foreground=False))
    assert shipped.settings == {"foreground": "mask_dict_foreground.json"}
    assert rebuilt.settings == {"foreground": "rebuilt"}
    for one, two in zip(shipped.videos, rebuilt.videos, strict=True):
        assert np.array_equal(shipped.foreground(one), rebuilt.foreground(two))


def test_groups_are_types_and_names_of_videos_are_paths(tmp_path: Path) -> None:
    benchmark = ReVOSBenchmark(revos_tree(tmp_path, frames=True))
    first = benchmark.videos[0]
    assert first.id == "set_a/v_001"
    assert first.size == (64, 90)
    assert [e.group for e in first.expressions] == [
        "referring",
        "referring",
        "reasoning",
        "referring",
        "other",
    ]
    assert first.expressions[2].details == {"type_id": 1, "anno_id": [0, 1], "obj_id": [0, 1]}
    assert [image.shape for image in benchmark.images(first)] == [(64, 90, 3)] * 5


def test_a_foreground_that_is_a_plain_list_is_read(tmp_path: Path) -> None:
    root = revos_tree(tmp_path)
    before = ReVOSBenchmark(root)
    expected = [before.foreground(video) for video in before.videos]
    content = {
        video: entry["masks_rle"] for video, entry in load("revos", "mask_dict_foreground.json").items()
    }
    write(root / "mask_dict_foreground.json", content)
    after = ReVOSBenchmark(root)
    for video, foreground in zip(after.videos, expected, strict=True):
        assert np.array_equal(after.foreground(video), foreground)


def test_a_foreground_that_does_not_fit_names_its_video(tmp_path: Path) -> None:
    root = revos_tree(tmp_path)
    content = load("revos", "mask_dict_foreground.json")
    content["set_a/v_001"]["masks_rle"].pop()
    content["b_video"]["masks_rle"][0] = content["set_a/v_001"]["masks_rle"][0]
    del content["set_c/gone"]
    write(root / "mask_dict_foreground.json", content)
    benchmark = ReVOSBenchmark(root)
    wrong = {
        "set_a/v_001": "4 masks for 5 frames",
        "b_video": r"'b_video': .*\(64, 90\)",
        "set_c/gone": "lacks video",
    }
    for video in benchmark.videos:
        if video.id in wrong:
            with pytest.raises(UserError, match=wrong[video.id]):
                benchmark.foreground(video)


def test_masks_of_another_size_than_stated_are_refused(tmp_path: Path) -> None:
    root = revos_tree(tmp_path)
    videos = load("revos", "meta_expressions_valid_.json")["videos"]
    videos["b_video"]["height"] = 121
    write(root / "meta_expressions_valid_.json", {"videos": videos})
    benchmark = ReVOSBenchmark(root)
    video = next(v for v in benchmark.videos if v.id == "b_video")
    with pytest.raises(UserError, match="'b_video', expression '0': expression with masks of several sizes"):
        benchmark.truth(video, video.expressions[0])


@pytest.mark.parametrize(("kind", "message"), [(None, "'type_id': expected int"), (7, "among .*got 7")])
def test_types_of_another_form_are_refused(tmp_path: Path, kind, message: str) -> None:
    root = revos_tree(tmp_path)
    videos = load("revos", "meta_expressions_valid_.json")["videos"]
    videos["b_video"]["expressions"]["1"]["type_id"] = kind
    write(root / "meta_expressions_valid_.json", {"videos": videos})
    with pytest.raises(UserError, match=message):
        ReVOSBenchmark(root)
