"""P@K, the IoUs and mAP against two public copies of the code and COCOeval."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from refstream.data.rle import decode
from refstream.errors import UserError
from refstream.evaluation.metrics.coco_ap import NAMES, ScoredMask, average_precision
from refstream.evaluation.predictions.base import Prediction
from refstream.evaluation.predictions.open import open_predictions
from refstream.evaluation.protocols.sentences import THRESHOLDS, Sentences, smoothed_iou
from refstream.evaluation.score import item_score, score
from tests.evaluation.protocols.given import GOLDEN, Given, Singles, block, load

RUNS = load("a2d", "case.json")["runs"]
PUBLIC = {f"P@{k}": f"P@{k}" for k in THRESHOLDS} | {"Overall IoU": "overall_iou", "Mean IoU": "mean_iou"}
by_run = pytest.mark.parametrize("run", RUNS, ids=[run["name"] for run in RUNS])


def masks_of(run: dict[str, Any]) -> tuple[dict[str, Any], list[ScoredMask]]:
    rows = load("a2d", run["gt"])["annotations"]
    truth = {row["image_id"]: row["segmentation"] for row in rows}
    results = load("a2d", f"predictions/{run['name']}.json")
    return truth, [ScoredMask(row["image_id"], row["segmentation"], row["score"]) for row in results]


def check(figures: dict[str, float], run: dict[str, Any], precisions: tuple[str, ...]) -> None:
    for name in precisions:
        assert figures[name] == pytest.approx(run["coco"][name], abs=1e-12)
    if "error" in run["precision"]:
        return
    for ours, theirs in PUBLIC.items():
        tolerance = 1e-6 if theirs == "mean_iou" else 1e-12
        assert figures[ours] == pytest.approx(run["precision"][theirs], abs=tolerance)


@by_run
def test_golden_precisions(run: dict[str, Any]) -> None:
    precision = average_precision(*masks_of(run))
    for name in NAMES:
        assert precision[name] == pytest.approx(run["coco"][name], abs=1e-12)


@by_run
def test_the_protocol_on_golden(run: dict[str, Any]) -> None:
    """One run has several masks of a sample: all enter the precisions, the best one the IoUs."""
    truth, _ = masks_of(run)
    benchmark, protocol = Singles({name: decode(code) for name, code in truth.items()}), Sentences()
    predictions = open_predictions(GOLDEN / "a2d" / "predictions" / f"{run['name']}.json", benchmark)
    items = score(benchmark, predictions, protocol)
    copied = [item_score(json.loads(json.dumps(asdict(item)))) for item in items]
    overall = protocol.summarize(benchmark, copied)["overall"]
    check({name: value / 100 for name, value in overall.items()}, run, ("mAP", "AP50", "AP75"))
    assert overall["expressions"] == len(truth)
    assert overall["masks with confidence"] == 100


def test_edges_are_those_of_the_public_code() -> None:
    samples = RUNS[-1]["samples"]
    assert len(samples) == 16
    for sample in samples:
        iou = smoothed_iou(sample["intersection"], sample["union"])
        assert iou == sample["iou_float32"]
        assert [k for k in THRESHOLDS if iou > k] == sample["above"]


def test_a_missing_sample_is_empty_for_the_ious() -> None:
    """The public code fails; the others' figures follow from the run with all samples."""
    (all_there,) = (run for run in RUNS if run["name"] == "confidence")
    (one_missing,) = (run for run in RUNS if run["name"] == "one_sample_missing")
    truth, found = masks_of(one_missing)
    (lost,) = set(truth) - {one.image for one in found}
    _, complete = masks_of(all_there)
    (mask,) = (decode(one.mask) for one in complete if one.image == lost)
    inter, union = np.count_nonzero(mask & decode(truth[lost])), np.count_nonzero(mask | decode(truth[lost]))
    benchmark, protocol = Singles({name: decode(code) for name, code in truth.items()}), Sentences()
    given = Given({one.image: decode(one.mask) for one in found})
    items = score(benchmark, given, protocol)
    figures = protocol.summarize(benchmark, items)["overall"]
    expected = all_there["precision"]["mean_iou"] - smoothed_iou(inter, union) / len(truth)
    assert figures["Mean IoU"] / 100 == pytest.approx(expected, abs=1e-6)
    assert [item.id for item in items if item.missing] == [lost]


def test_no_confidence_is_a_constant_and_said() -> None:
    (constant,) = (run for run in RUNS if run["name"] == "constant")
    truth, found = masks_of(constant)
    benchmark, protocol = Singles({name: decode(code) for name, code in truth.items()}), Sentences()
    given = Given({one.image: decode(one.mask) for one in found})
    overall = protocol.summarize(benchmark, score(benchmark, given, protocol))["overall"]
    assert overall["mAP"] == pytest.approx(100 * constant["coco"]["mAP"], abs=1e-10)
    assert overall["masks with confidence"] == 0


def test_nothing_predicted_and_all_right() -> None:
    truth, protocol = Singles({"a": block(10), "b": block(20)}), Sentences()
    nothing = protocol.summarize(truth, score(truth, Given({}), protocol))["overall"]
    assert nothing["mAP"] == nothing["P@0.5"] == nothing["Overall IoU"] == 0
    given = Given({"a": block(10), "b": block(20)})
    perfect = protocol.summarize(truth, score(truth, given, protocol))["overall"]
    assert perfect["mAP"] == pytest.approx(100)
    assert perfect["P@0.9"] == perfect["Overall IoU"] == perfect["Mean IoU"] == 100
    absent = Singles({"a": block(0)})
    assert score(absent, Given({}), protocol)[0].values["IoU"] == 1


def test_bad_confidences_are_refused() -> None:
    given = Given({"a": Prediction(block(10)[None], confidence=np.array([np.nan]))})
    with pytest.raises(UserError, match=r"sample a: the confidence .* nan"):
        score(Singles({"a": block(10)}), given, Sentences())
