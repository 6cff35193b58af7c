"""JSON of run-length codes: its forms, and entries that do not fit."""

from __future__ import annotations

import json

import numpy as np
import pytest

from refstream.errors import UserError
from refstream.evaluation.predictions.inventory import inventory
from refstream.evaluation.predictions.open import open_predictions
from refstream.evaluation.predictions.rle_json import CocoResults, JsonByExpression, JsonByVideo
from tests.evaluation.predictions.small import (
    SIZES,
    Small,
    check_all,
    code,
    entries,
    first,
    masks_of,
    write_json,
)


def test_null_is_an_empty_frame_and_an_empty_list_is_nothing(tmp_path):
    content = entries()
    content["set/a"]["0"]["prediction_masks"][1] = None
    content["set/a"]["1"] = {"prediction_masks": []}
    content["b"]["0"] = None
    benchmark = Small()
    predictions = open_predictions(write_json(tmp_path / "p.json", content), benchmark)
    found = predictions.read(*first(benchmark))
    assert found.missing == ()
    assert not found.masks[1].any()
    assert found.masks[0].any()
    held = inventory(predictions, benchmark)
    assert held.missing_videos == ("b",)
    assert held.missing_expressions == (("set/a", "1"),)


def test_frames_of_a_list_go_by_their_names(tmp_path):
    content = entries()
    entry = content["set/a"]["0"]
    entry["prediction_masks"], entry["frames"] = entry["prediction_masks"][2:0:-1], ["00010", "00005"]
    entry["confidence"], entry["no_target"] = [0.25, 0.75], False
    benchmark = Small()
    predictions = open_predictions(write_json(tmp_path / "p.json", content), benchmark)
    found = predictions.read(*first(benchmark))
    assert found.missing == (0,)
    assert np.array_equal(found.masks[1:], masks_of("set/a", "0")[1:])
    assert found.confidence.tolist() == [0.0, 0.75, 0.25]
    assert found.no_target is False
    assert inventory(predictions, benchmark).missing_frames == (("set/a", "0", "00000"),)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"frames": ["00001", "00002", "00003"]},
            "frames are misaligned: video set/a has no frame 00001, 00002",
        ),
        ({"frames": ["00000", "00000", "00005"]}, "a different frame name for each of the 3 masks"),
        ({"frames": None, "prediction_masks": [None] * 4}, "expected 3 masks, one per frame.*got 4"),
        ({"frames": [0, 1, 2]}, "'frames' to be a list of names"),
        ({"prediction_masks": "x"}, "expected a list of RLE or null"),
        ({"prediction_masks": [{"size": [12, 17], "counts": "1"}] * 3}, "frame 00000: the runs of an RLE"),
        ({"prediction_masks": [[None]] * 3}, "frame 00000: an RLE must be a dict"),
        ({"confidence": [1, 2, 3]}, r"confidences must lie in \[0, 1\]"),
        ({"confidence": [1]}, "expected 3 confidences"),
        ({"no_target": 1}, "no_target to be true or false"),
    ],
)
def test_entries_that_do_not_fit_are_refused(change, message, tmp_path):
    content = entries()
    content["set/a"]["0"] |= change
    benchmark = Small()
    path = write_json(tmp_path / "p.json", content)
    with pytest.raises(UserError, match=message) as caught:
        open_predictions(path, benchmark).read(*first(benchmark))
    assert f"{path}, set/a/0" in str(caught.value)


def test_entries_by_expression_alone(tmp_path):
    ids = {"set/a": ("10", "11"), "b": ("12",)}
    benchmark = Small(ids, scored=(0,))
    content = {key: code(masks_of(video, key)[0]) for video, keys in ids.items() for key in keys}
    predictions = open_predictions(write_json(tmp_path / "p.json", content), benchmark)
    assert type(predictions) is JsonByExpression
    check_all(predictions, benchmark)
    content = {key: {"mask": mask, "no_target": key == "11"} for key, mask in content.items()} | {"99": None}
    predictions = open_predictions(write_json(tmp_path / "q.json", content), benchmark)
    check_all(predictions, benchmark)
    video = benchmark.videos[0]
    said = [predictions.read(video, e, SIZES["set/a"]).no_target for e in video.expressions]
    assert said == [False, True]
    assert inventory(predictions, benchmark).extra == ("99",)
    with pytest.raises(UserError, match="ids of small occur in several videos"):
        open_predictions(tmp_path / "q.json", Small())


def test_coco_results_take_the_highest_score_and_of_equals_the_later(tmp_path):
    ids = {"set/a": ("s1", "s2"), "b": ("s3",)}
    benchmark = Small(ids, scored=(0,))
    empty = {v: code(np.zeros(SIZES[v], bool)) for v in SIZES}
    rows = [
        {"image_id": "s1", "segmentation": code(masks_of("set/a", "s1")[0]), "score": 0.9},
        {"image_id": "s1", "segmentation": empty["set/a"], "score": 0.8},
        {"image_id": "s2", "segmentation": empty["set/a"], "score": 0.5},
        {"image_id": "s2", "segmentation": code(masks_of("set/a", "s2")[0]), "score": 0.5},
        {"image_id": "b", "segmentation": code(masks_of("b", "s3")[0]), "score": 0},
    ]
    predictions = open_predictions(write_json(tmp_path / "p.json", rows), benchmark)
    assert type(predictions) is CocoResults
    check_all(predictions, benchmark)
    assert predictions.read(*first(benchmark)).confidence.tolist() == [0.9]
    assert inventory(predictions, benchmark).complete


def test_golden_files_of_pictures_are_recognised(golden):
    benchmark = Small({"set/a": ("10",)}, scored=(0,))
    for name, kind in (
        ("refcoco/predictions.json", JsonByExpression),
        ("grefcoco/predictions.json", JsonByExpression),
        ("a2d/predictions/multi.json", CocoResults),
        ("mevis/predictions.json", JsonByVideo),
        ("revos/predictions.json", JsonByVideo),
        ("davis17_expressions/predictions.json", JsonByVideo),
    ):
        assert type(open_predictions(golden / name, benchmark)) is kind, name


@pytest.mark.parametrize("content", [{}, 5, "x", {"a": {"b": 3}}, [{"image_id": "a"}], [3]])
def test_json_of_no_known_form_is_refused(content, tmp_path):
    path = write_json(tmp_path / "p.json", content)
    with pytest.raises(UserError, match=r"p\.json.*expected"):
        open_predictions(path, Small())


def test_a_folder_of_json_entries_may_hold_lists(tmp_path):
    benchmark = Small()
    path = tmp_path / "set/a/0.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps([code(mask) for mask in masks_of("set/a", "0")]))
    found = open_predictions(tmp_path, benchmark).read(*first(benchmark))
    assert np.array_equal(found.masks, masks_of("set/a", "0"))
