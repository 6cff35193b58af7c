"""JHMDB-Sentences from its lists and MATLAB files, and its real list."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from refstream.errors import UserError
from refstream.evaluation.protocols.sentences import Sentences
from refstream.evaluation.readers.jhmdb import JHMDBBenchmark, read_puppet, read_samples
from refstream.evaluation.readers.sentence_clips import CocoTruth
from refstream.evaluation.score import score
from tests.evaluation.protocols.given import Given
from tests.evaluation.readers.sentence_trees import GREYS, SHARED, SIZE, coco_form, jhmdb_tree, mask

LIST = "jhmdb_sentences_samples_metadata.json"


@pytest.mark.parametrize("coded", [False, True])
def test_samples_frames_and_masks(tmp_path: Path, coded: bool) -> None:
    benchmark = JHMDBBenchmark(jhmdb_tree(tmp_path, coded=coded), window=3)
    masks = {}
    for video in benchmark.videos:
        (expression,) = video.expressions
        assert expression.id == video.id
        action, t = expression.details["action"], int(video.scored_frames[0])
        assert expression.text == f"one who {action}s"
        assert video.frames == tuple(f"{n:05d}" for n in range(max(1, t - 2), t + 1))
        images = list(benchmark.images(video))
        assert [image[0, 0, 0] // GREYS for image in images] == [int(name) for name in video.frames]
        masks[video.id] = mask(t + (action == "sit"))
        np.testing.assert_array_equal(benchmark.truth(video, expression), masks[video.id][None])
    assert sorted(masks) == [f"v_{name}_f_{t}" for name in ("sit_two", "walk_one") for t in (1, 3, 5)]
    protocol = Sentences()
    overall = protocol.summarize(benchmark, score(benchmark, Given(masks), protocol))["overall"]
    assert overall["P@0.9"] == overall["Mean IoU"] == 100
    assert overall["mAP"] == pytest.approx(100)


def test_other_masks_are_other_data(tmp_path: Path) -> None:
    root = jhmdb_tree(tmp_path)
    before = JHMDBBenchmark(root).fingerprint
    (path,) = root.glob("puppet_mask/walk/*/puppet_mask.mat")
    path.write_bytes(bytes(reversed(path.read_bytes())))
    assert JHMDBBenchmark(root).fingerprint != before


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    root = jhmdb_tree(tmp_path)
    benchmark = JHMDBBenchmark(root)
    video = benchmark.videos[2]
    (root / "Rename_Images" / "walk" / "walk_one" / "00004.png").unlink()
    with pytest.raises(UserError, match=r"00004\.png"):
        list(benchmark.images(video))
    path = root / "puppet_mask" / "walk" / "walk_one" / "puppet_mask.mat"
    savemat(path, {"part_mask": np.zeros((*SIZE, 4), np.uint8)})
    with pytest.raises(UserError, match="has 4 masks; sample v_walk_one_f_5 needs number 5"):
        benchmark.truth(video, video.expressions[0])
    path.unlink()
    with pytest.raises(UserError, match=r"no masks at .*puppet_mask\.mat"):
        JHMDBBenchmark(root).truth(video, video.expressions[0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"mask": np.zeros((3, 3, 3))}, "with the variable part_mask"),
        ({"part_mask": np.zeros((3, 3))}, r"\(H, W, T\) numbers"),
        (b"not a MATLAB file", "with the variable part_mask"),
    ],
)
def test_other_matlab_files_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "puppet_mask.mat"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        savemat(path, content)
    with pytest.raises(UserError, match=message):
        read_puppet(path)


ROW = ["v", "a/Rename_Images/run/v/00002.png", "m", 3, "text"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([ROW, ROW], "samples that differ, got v_v_f_2"),
        ([], "samples that differ, got none"),
        ([ROW[:4]], "entry 0: expected"),
        ([["w", *ROW[1:]]], "entry 0: expected a frame .../<action>/w/00001.png"),
        ([["v", "../v/00002.png", *ROW[2:]]], "expected a frame"),
        ([[*ROW[:3], 1, "text"]], "frame 00002 is not one of 1 to 1"),
        ({}, "expected list"),
    ],
)
def test_other_lists_are_refused(tmp_path: Path, rows: Any, message: str) -> None:
    path = tmp_path / LIST
    path.write_text(json.dumps(rows))
    with pytest.raises(UserError, match=message):
        read_samples(path)


def test_bad_truth_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "truth.json"
    good = coco_form({"a": mask(1), "b": mask(2)})
    path.write_text(json.dumps({**good, "annotations": good["annotations"][:1]}))
    with pytest.raises(UserError, match=r"1 images have no mask \(b\)"):
        CocoTruth(path)
    path.write_text(json.dumps({**good, "annotations": [*good["annotations"], good["annotations"][0]]}))
    with pytest.raises(UserError, match="sample a has a second mask"):
        CocoTruth(path)
    path.write_text(json.dumps({**good, "images": good["images"][1:]}))
    with pytest.raises(UserError, match="sample a is not among its images"):
        CocoTruth(path)
    good["images"][0]["width"] += 1
    path.write_text(json.dumps(good))
    with pytest.raises(UserError, match=r"sample a: mask of size \(32, 48\), image of size \(32, 49\)"):
        CocoTruth(path).mask("a")


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data/jhmdb_a2d_text")
def test_the_real_list(tmp_path: Path) -> None:
    """928 clips of 21 actions, three frames each; without pictures or masks."""
    path = tmp_path / LIST
    path.write_bytes((SHARED / "soc_jhmdb_sentences_samples_metadata.json").read_bytes())
    benchmark = JHMDBBenchmark(tmp_path)
    assert len(benchmark.videos) == benchmark.num_expressions == 2784
    samples = read_samples(path)
    assert set(Counter(sample.video for sample in samples).values()) == {3}
    assert (len({s.video for s in samples}), len({s.action for s in samples})) == (928, 21)
    first = benchmark.videos[1]
    assert first.id == "v_100_pullups_pullup_f_nm_np1_fr_med_1_f_22"
    assert first.frames == tuple(f"{t:05d}" for t in range(15, 23))
    assert first.expressions[0].text == "man in black pulling up"
    with pytest.raises(UserError, match=r"pullup/100_pullups_pullup_f_nm_np1_fr_med_1/00015\.png"):
        list(benchmark.images(first))
