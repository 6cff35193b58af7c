"""A2D-Sentences from each of its sources, and its real sentences."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from refstream.data.datasets.reading import LeftOut
from refstream.errors import UserError
from refstream.evaluation.protocols.sentences import Sentences
from refstream.evaluation.readers.a2d import A2DBenchmark
from refstream.evaluation.readers.a2d_files import read_sentences
from refstream.evaluation.score import score
from tests.evaluation.protocols.given import GOLDEN, Given
from tests.evaluation.readers.sentence_trees import (
    A2D_LIST,
    A2D_MASKS,
    GREYS,
    SHARED,
    SIZE,
    a2d_tree,
)

TEXTS = {f"v_{video}_f_{frame}_i_{instance}": text for text, video, frame, instance in A2D_LIST}
SOURCES = pytest.mark.parametrize(
    ("coded", "stored", "prepared"),
    [(True, False, True), (True, False, False), (False, True, True), (False, True, False)],
)


@SOURCES
def test_samples_and_masks_from_each_source(
    tmp_path: Path, coded: bool, stored: bool, prepared: bool
) -> None:
    root = a2d_tree(tmp_path, coded=coded, stored=stored, prepared=prepared, clips=False)
    benchmark = A2DBenchmark(root)
    found = {e.id: (video, e) for video in benchmark.videos for e in video.expressions}
    assert {name: e.text for name, (_, e) in found.items()} == TEXTS
    assert [video.id for video in benchmark.videos] == ["v_-vid_f_1_f_3", "v_-vid_f_1_f_12", "v_other_f_5"]
    for name, (video, expression) in found.items():
        truth = benchmark.truth(video, expression)
        assert truth.shape == (1, *SIZE)
        np.testing.assert_array_equal(truth[0], A2D_MASKS[name])
        assert video.size == (SIZE if coded else None)
    protocol = Sentences()
    items = score(benchmark, Given(A2D_MASKS), protocol)
    assert sorted(item.id for item in items) == sorted(TEXTS)
    overall = protocol.summarize(benchmark, items)["overall"]
    assert overall["P@0.9"] == overall["Overall IoU"] == 100
    assert overall["mAP"] == pytest.approx(100)


def test_other_masks_are_other_data(tmp_path: Path) -> None:
    root = a2d_tree(tmp_path, coded=False, stored=True, prepared=False, clips=False)
    before = A2DBenchmark(root).fingerprint
    (path,) = root.glob("text_annotations/*/other/00005.h5")
    path.write_bytes(path.read_bytes() + b" ")
    assert A2DBenchmark(root).fingerprint != before


def test_the_row_that_is_dropped_is_named(tmp_path: Path) -> None:
    benchmark = A2DBenchmark(a2d_tree(tmp_path, coded=True, stored=False, prepared=False, clips=False))
    (entry,) = benchmark.settings["left_out"].values()
    assert entry == {"count": 1, "first": ["video -vid_f_1, instance '1 (copy)': a copy"]}


@pytest.mark.parametrize(("window", "firsts"), [(8, [1, 5, 1]), (1, [3, 12, 5]), (None, [1, 1, 1])])
def test_clips_end_with_the_scored_frame(tmp_path: Path, window: int | None, firsts: list[int]) -> None:
    benchmark = A2DBenchmark(a2d_tree(tmp_path, coded=True, stored=False, prepared=False), window)
    for video, first, last in zip(benchmark.videos, firsts, (3, 12, 5), strict=True):
        numbers = range(first, last + 1)
        assert video.frames == tuple(f"{t:05d}" for t in numbers)
        assert video.scored_frames == (f"{last:05d}",)
        images = list(benchmark.images(video))
        assert [round(float(image.mean()) / GREYS) for image in images] == list(numbers)
        assert images[0].shape == (*SIZE, 3)


def test_a_short_clip_is_prolonged_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = a2d_tree(tmp_path, coded=False, stored=False, prepared=True)
    rows = [["late", "other", 17, 1], ["far too late", "other", 40, 1]]
    (root / "a2d_sentences_single_frame_test_annotations.json").write_text(json.dumps(rows))
    benchmark = A2DBenchmark(root, window=5)  # the clip has 14 frames
    with caplog.at_level(logging.WARNING):
        greys = [[round(float(i.mean()) / GREYS) for i in benchmark.images(v)] for v in benchmark.videos]
    assert greys == [[13, 14, 14, 14, 14], [14] * 5]
    assert [len(video.frames) for video in benchmark.videos] == [5, 5]
    assert caplog.text.count("other.mp4 ends with frame 14") == 2


def test_the_golden_truth_is_read(tmp_path: Path) -> None:
    """The public COCO form with sentences beside it, in place of the whole data set."""
    (tmp_path / "text_annotations").mkdir()
    shutil.copy(GOLDEN / "a2d" / "gt.json", tmp_path / "a2d_sentences_test_annotations_in_coco_format.json")
    samples = json.loads((GOLDEN / "a2d" / "case.json").read_text())["samples"]
    parts = [s["image_id"].removeprefix("v_").replace("_f_", "_i_").split("_i_") for s in samples]
    rows = [f"{video},{i},{s['text']}" for (video, _, i), s in zip(parts, samples, strict=True)]
    path = tmp_path / "text_annotations" / "a2d_annotation.txt"
    path.write_text("\n".join(["video_id,instance_id,query", *rows]))
    benchmark = A2DBenchmark(tmp_path)
    texts = {e.id: e.text for video in benchmark.videos for e in video.expressions}
    assert texts == {s["image_id"]: s["text"] for s in samples}
    assert len(texts) == 40
    path.write_text("\n".join(["video_id,instance_id,query", *rows[1:]]))
    with pytest.raises(UserError, match="has no sentence for sample " + samples[0]["image_id"]):
        A2DBenchmark(tmp_path)


def test_files_that_disagree_are_refused(tmp_path: Path) -> None:
    root = a2d_tree(tmp_path, coded=True, stored=True, prepared=True)
    listed = root / "a2d_sentences_single_frame_test_annotations.json"
    listed.write_text(json.dumps(A2D_LIST[1:]))
    with pytest.raises(UserError, match=r"disagree about 1 samples \(v_-vid_f_1_f_3_i_0\)"):
        A2DBenchmark(root)
    listed.write_text(json.dumps([*A2D_LIST, A2D_LIST[0]]))
    with pytest.raises(UserError, match="samples that differ, got 5 with 4 names"):
        A2DBenchmark(root)
    listed.write_text(json.dumps([["a", "b", 0, 1]]))
    with pytest.raises(UserError, match="entry 0: frames count from 1"):
        A2DBenchmark(root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video,instance,text\n", "first row video_id,instance_id,query, got video,instance,text"),
        ("", "got nothing"),
        ("video_id,instance_id,query\na,one,b\n", "line 2: expected the number of an instance, got 'one'"),
        ("video_id,instance_id,query\na,1\n", "line 2: expected video_id,instance_id,query"),
        ("video_id,instance_id,query\na,1,b\na,1,c\n", "line 3: video a has two sentences about instance 1"),
        ("video_id,instance_id,query\n../a,1,b\n", "line 2: expected a name inside the folder"),
    ],
)
def test_bad_rows_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a2d_annotation.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_sentences(path, LeftOut())


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    root = a2d_tree(tmp_path / "a", coded=False, stored=True, prepared=True)
    benchmark = A2DBenchmark(root)
    video = benchmark.videos[2]
    stored = root / "text_annotations" / "a2d_annotation_with_instances" / "other" / "00005.h5"
    stored.write_bytes(b"no HDF5")
    with pytest.raises(UserError, match=r"00005\.h5: expected an HDF5 file"):
        benchmark.truth(video, video.expressions[0])
    stored.unlink()
    with pytest.raises(UserError, match=r"no annotations at .*00005\.h5"):
        benchmark.truth(video, video.expressions[0])
    (root / "Release" / "clips320H" / "other.mp4").unlink()
    with pytest.raises(UserError, match=r"no clip at .*other\.mp4"):
        next(benchmark.images(video))
    with pytest.raises(UserError, match=r"no file Release/videoset\.csv"):
        A2DBenchmark(_without_csv(tmp_path / "b"))
    with pytest.raises(UserError, match="window must be at least 1"):
        A2DBenchmark(root, window=0)


def _without_csv(root: Path) -> Path:
    a2d_tree(root, coded=False, stored=False, prepared=False, clips=False)
    (root / "Release" / "videoset.csv").unlink()
    return root


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data/jhmdb_a2d_text")
def test_the_real_sentences() -> None:
    """6,655 rows, of which one is dropped and named."""
    left_out = LeftOut()
    texts = read_sentences(SHARED / "bcmkc_a2d_annotation.txt", left_out)
    assert len(texts) == 6654
    (entry,) = left_out.report().values()
    assert entry["count"] == 1
    assert entry["first"][0].startswith("video T6bNPuKV-wY, instance '1 (copy)'")
    assert texts["-0cOo0cRVZU", 1] == "Instructor standing on the sideline"
    assert all(text.strip() for text in texts.values())
