"""MeViS: unions, no-target expressions, versions, splits without masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco

from refstream.errors import UserError
from refstream.evaluation.metrics.jf import contour_accuracy, region_similarity
from refstream.evaluation.readers.mevis import MeViSBenchmark
from tests.evaluation.golden_trees import load, mevis_tree, write


def test_truth_gives_the_official_scores_of_every_expression(tmp_path: Path) -> None:
    benchmark = MeViSBenchmark(mevis_tree(tmp_path))
    run, predictions = load("mevis", "case.json")["runs"][0], load("mevis", "predictions.json")
    assert benchmark.num_expressions == run["expressions"]
    scored = 0
    for video in benchmark.videos:
        for expression in video.expressions if video.id in predictions else ():
            truth = benchmark.truth(video, expression)
            codes = predictions[video.id][expression.id]["prediction_masks"]
            masks = np.stack([coco.decode(code) > 0 for code in codes])
            official = run["per_expression"][f"{video.id}_{expression.id}"]
            assert region_similarity(truth, masks).mean() == pytest.approx(official["J"], abs=1e-12)
            assert contour_accuracy(truth, masks).mean() == pytest.approx(official["F"], abs=1e-12)
            scored += 1
    assert scored == 25


def test_no_target_expressions_are_kept_with_empty_masks(tmp_path: Path) -> None:
    benchmark = MeViSBenchmark(mevis_tree(tmp_path))
    video = next(v for v in benchmark.videos if v.id == "f00d5a")
    absent = next(e for e in video.expressions if e.id == "5")
    assert absent.details == {"anno_id": [], "obj_id": [], "no_target": True}
    truth = benchmark.truth(video, absent)
    assert truth.shape == (6, 96, 128)
    assert not truth.any()
    assert [e.details["no_target"] for e in video.expressions] == [False] * 5 + [True]
    assert [masks.shape for masks in benchmark.objects(video)] == [(6, 96, 128)] * 3


def test_frames_are_shown_in_order_and_masks_follow_the_list(tmp_path: Path) -> None:
    """The official scorer takes the mask at the position of a frame in the list, not at that of its name."""
    straight, root = MeViSBenchmark(mevis_tree(tmp_path / "straight")), mevis_tree(tmp_path / "turned")
    videos, masks = load("mevis", "meta_expressions.json")["videos"], load("mevis", "mask_dict.json")
    videos["0a1b2c"]["frames"].reverse()
    for name in ("103", "104", "105"):
        masks[name].reverse()
    write(root / "valid_u" / "meta_expressions.json", {"videos": videos})
    write(root / "valid_u" / "mask_dict.json", masks)
    turned = MeViSBenchmark(root)
    for one, two in zip(straight.videos, turned.videos, strict=True):
        assert one.frames == two.frames
        for expression in one.expressions:
            assert np.array_equal(straight.truth(one, expression), turned.truth(two, expression))


def test_other_masks_of_the_same_length_are_other_data(tmp_path: Path) -> None:
    root = mevis_tree(tmp_path)
    path = root / "valid_u" / "mask_dict.json"
    before, text = MeViSBenchmark(root).fingerprint, path.read_text()
    path.write_text(text)
    assert MeViSBenchmark(root).fingerprint == before
    path.write_text(text.replace('"103"', '"tmp"').replace('"104"', '"103"').replace('"tmp"', '"104"'))
    assert path.stat().st_size == len(text)
    assert MeViSBenchmark(root).fingerprint != before


def test_what_is_asked_does_not_depend_on_the_masks(tmp_path: Path) -> None:
    root = mevis_tree(tmp_path)
    path = root / "valid_u" / "mask_dict.json"
    before, text = MeViSBenchmark(root), path.read_text()
    path.write_text(text.replace('"103"', '"tmp"').replace('"104"', '"103"').replace('"tmp"', '"104"'))
    assert MeViSBenchmark(root).asked == before.asked
    path = root / "valid_u" / "meta_expressions.json"
    path.write_text(path.read_text().replace('"exp": "', '"exp": "not ', 1))
    assert MeViSBenchmark(root).asked != before.asked


def test_a_missing_frame_says_which_are_there(tmp_path: Path) -> None:
    root = mevis_tree(tmp_path, frames=True)
    benchmark = MeViSBenchmark(root)
    video = benchmark.videos[0]
    paths = benchmark.frame_paths(video)
    for number in reversed(range(len(paths))):  # numbered from 1
        paths[number].rename(paths[number].with_name(f"{number + 1:05d}.jpg"))
    there = f"there are {len(paths)}: 00001.jpg, .*{len(paths):05d}.jpg"
    with pytest.raises(UserError, match=f"no frame .*{paths[0].name} .{there}"):
        list(benchmark.images(video))
    for path in paths[0].parent.iterdir():
        path.unlink()
    paths[0].parent.rmdir()
    with pytest.raises(UserError, match=r"no frame .* .there is no folder "):
        list(benchmark.images(video))


def test_valid_has_words_only(tmp_path: Path) -> None:
    videos = load("mevis", "meta_expressions.json")["videos"]
    for video in videos.values():
        for entry in video["expressions"].values():
            del entry["anno_id"], entry["obj_id"]
    write(tmp_path / "valid" / "meta_expressions.json", {"videos": videos})
    benchmark = MeViSBenchmark(tmp_path, "valid")
    assert benchmark.num_expressions == 28
    for video in benchmark.videos:
        assert all(benchmark.truth(video, expression) is None for expression in video.expressions)
        assert not list(benchmark.objects(video))


@pytest.mark.parametrize("name", ["meta_expressions_v2.json", "meta_expressions_v2_release.json"])
def test_version_2_has_files_of_its_own(tmp_path: Path, name: str) -> None:
    root = mevis_tree(tmp_path)
    with pytest.raises(UserError, match=r"no file meta_expressions_v2\.json .*version 2"):
        MeViSBenchmark(root, version=2)
    (root / "valid_u" / "meta_expressions.json").rename(root / "valid_u" / name)
    benchmark = MeViSBenchmark(root, version=2)
    assert benchmark.settings == {"version": 2}
    assert benchmark.name == "mevis_v2"  # its figures are not those of version 1
    assert benchmark.path.name == name
    with pytest.raises(UserError, match=r"no file meta_expressions\.json"):
        MeViSBenchmark(root)


def test_masks_that_do_not_fit_are_an_error_that_names_the_place(tmp_path: Path) -> None:
    root = mevis_tree(tmp_path)
    masks = load("mevis", "mask_dict.json")
    masks["100"].pop()
    masks["103"][1] = masks["106"][0]
    del masks["109"]
    write(root / "valid_u" / "mask_dict.json", masks)
    benchmark = MeViSBenchmark(root)
    wrong = {
        "f00d5a": "fewer masks than the video has frames",
        "0a1b2c": "several sizes",
        "beef01": "no masks",
    }
    for video in benchmark.videos:
        if video.id in wrong:
            with pytest.raises(UserError, match=rf"'{video.id}', expression '0': .*{wrong[video.id]}"):
                benchmark.truth(video, video.expressions[0])


def test_unknown_splits_and_versions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="train, valid_u, valid, test and the versions 1 and 2"):
        MeViSBenchmark(tmp_path, "val")
    with pytest.raises(UserError, match="versions 1 and 2; got 'valid_u', 3"):
        MeViSBenchmark(tmp_path, version=3)
    with pytest.raises(UserError, match=r"no dataset folder at .*valid_u"):
        MeViSBenchmark(tmp_path)


def test_one_expression_without_ids_among_others_is_an_error(tmp_path: Path) -> None:
    root = mevis_tree(tmp_path)
    videos = load("mevis", "meta_expressions.json")["videos"]
    del videos["beef01"]["expressions"]["1"]["anno_id"]
    write(root / "valid_u" / "meta_expressions.json", {"videos": videos})
    benchmark = MeViSBenchmark(root)
    video = next(v for v in benchmark.videos if v.id == "beef01")
    with pytest.raises(UserError, match="expression '1' names no masks, unlike others"):
        benchmark.truth(video, video.expressions[1])
