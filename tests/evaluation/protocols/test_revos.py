"""J, F, A, R of ReVOS, against the PNG script (VISA) and the RLE scripts."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from refstream.errors import UserError
from refstream.evaluation.benchmark import Altered, EvalVideo
from refstream.evaluation.protocols.base import ItemScore, Summary
from refstream.evaluation.protocols.revos import (
    ReVOS,
    accuracy_and_robustness,
    accuracy_and_robustness_8bit,
)
from refstream.evaluation.readers.revos import ReVOSBenchmark
from refstream.evaluation.score import item_score
from tests.evaluation.protocols.golden import (
    GOLDEN,
    CodedBenchmark,
    CodedPredictions,
    load,
    mevis,
    revos,
    runs,
)

RUNS = {run["name"]: run for run in runs("revos")}
COLUMNS = {"png_0_255": "visa", "png_0_1": "visa-0-1", "rle_0_1": "sa2va"}
ROWS = {"referring": "referring", "reason": "reasoning", "overall": "overall"}


def benchmark_of(name: str) -> CodedBenchmark:
    benchmark = revos()
    if name == "no_reasoning":
        benchmark.videos = [
            EvalVideo(v.id, v.frames, tuple(e for e in v.expressions if e.group != "reasoning"))
            for v in benchmark.videos
        ]
    return benchmark


def scored(name: str, compat: str | None) -> tuple[dict[str, ItemScore], Summary]:
    benchmark, protocol = benchmark_of(name), ReVOS(compat)
    predictions = CodedPredictions(load("revos", "predictions.json"), RUNS[name]["edits"])
    items = [i for video in benchmark.videos for i in protocol.score_video(benchmark, video, predictions)]
    items = [item_score(json.loads(json.dumps(asdict(item)))) for item in items]
    return {f"{item.video}_{item.id}": item for item in items}, protocol.summarize(benchmark, items)


def same(summary: Summary, expected: dict[str, dict[str, Any]], suffix: str = "") -> None:
    """Undefined figures of the script are those that we leave out."""
    names = {"J": "J", "F": "F", "A": f"A{suffix}", "R": f"R{suffix}", "JF": "J&F"}
    for theirs, ours in ROWS.items():
        for metric, value in expected[theirs].items():
            got = summary.get(ours, {}).get(names[metric], math.nan)
            assert got == pytest.approx(float(value), abs=1e-10, nan_ok=True), (ours, metric)


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("name", RUNS)
def test_equals_the_public_scripts(name: str, column: str) -> None:
    expected = RUNS[name][column]
    items, summary = scored(name, COLUMNS[column])
    same(summary, expected["results"])
    left_out = sorted(key for key, item in items.items() if "left_out" in item.details)
    assert left_out == sorted(key for key, _ in expected["left_out"])
    assert len(items) - len(left_out) == expected["scored"]
    if column == "png_0_255":
        same(summary, expected["results"], "_visa255")


def test_equals_the_public_scripts_expression_by_expression() -> None:
    clean, _ = scored("complete", None)
    rle, _ = scored("complete", "sa2va")
    expected = RUNS["complete"]["per_expression"]
    assert clean.keys() == expected.keys()
    assert sum(entry["wraps"] for entry in expected.values()) >= 3
    for key, entry in expected.items():
        ours, theirs = clean[key], entry["png_0_255"]
        for metric in ("J", "F"):
            assert ours.values[metric] == pytest.approx(theirs[metric], abs=1e-12)
        for metric in ("A", "R"):
            assert ours.values[f"{metric}_visa255"] == pytest.approx(theirs[metric], abs=1e-12)
            assert ours.frames[f"{metric}_visa255"] == pytest.approx(
                entry[f"png_0_255_{metric}_per_frame"], abs=1e-12
            )
            assert ours.values[metric] == pytest.approx(entry["own_clean"][metric], abs=1e-12)
            assert rle[key].values[metric] == pytest.approx(entry["rle_0_1"][metric], abs=1e-12)
            assert rle[key].frames[metric] == pytest.approx(entry[f"rle_0_1_{metric}_per_frame"], abs=1e-12)


def test_clean_figures_of_a_type_are_means_of_rounded_expressions() -> None:
    _, summary = scored("complete", None)
    kinds = {0: "referring", 1: "reasoning", 2: "other"}
    entries = RUNS["complete"]["per_expression"]
    for type_id, group in kinds.items():
        clean = [entry["own_clean"] for entry in entries.values() if entry["type_id"] == type_id]
        for metric in ("A", "R"):
            expected = np.mean([round(100 * one[metric], 2) for one in clean])
            assert summary[group][metric] == pytest.approx(expected, abs=1e-10)
        assert summary[group]["expressions"] == len(clean)
    for metric in ("J", "F", "A", "R", "J&F", "R_visa255"):
        both = (summary["referring"][metric] + summary["reasoning"][metric]) / 2
        assert summary["overall"][metric] == pytest.approx(both, abs=1e-12)
    assert summary["overall"]["expressions"] == 11  # of 13: "other" is not in it
    assert list(summary) == ["overall", "referring", "reasoning", "other"]


@pytest.mark.parametrize("name", ["base", "expression_missing"])
def test_a_missing_expression_scores_zero_in_every_metric(name: str) -> None:
    items, summary = scored(name, None)
    key = "set_c/gone_0" if name == "base" else "b_video_1"
    assert set(items[key].values.values()) == {0.0}
    assert items[key].missing == ("00000", "00001", "00002", "00003")
    expected = RUNS[name]["png_0_255"]["results"]  # the PNG script gives zeros here, too
    for theirs, ours in ROWS.items():
        for metric in ("J", "F"):
            assert summary[ours][metric] == pytest.approx(expected[theirs][metric], abs=1e-10)


def test_a_missing_frame_scores_zero_in_every_metric_and_the_others_count() -> None:
    items, _ = scored("frame_missing", None)
    whole, _ = scored("complete", None)
    ((_, video, expression, position),) = RUNS["frame_missing"]["edits"]
    item, before = items[f"{video}_{expression}"], whole[f"{video}_{expression}"]
    assert item.missing == (f"{position:05d}",)
    assert set(item.frames) == {"J", "F", "A", "R", "A_visa255", "R_visa255"}
    for metric, values in item.frames.items():
        assert values == [0.0 if i == position else v for i, v in enumerate(before.frames[metric])]
        assert item.values[metric] == pytest.approx(sum(values) / len(values), abs=1e-15)
    assert before.frames["A"][position] > 0


def test_masks_of_another_size_are_an_error() -> None:
    with pytest.raises(UserError, match="b_video, 0: masks are not of size"):
        scored("smaller_masks", None)


def test_8_bit_arithmetic_wraps() -> None:
    instances = np.array([[[0, 0, 1, 1, 2, 3]]], dtype=np.uint8)
    result = np.array([[[False, True, False, True, True, True]]])
    foreground = np.array([[[True] * 6]])
    accuracy, robustness = accuracy_and_robustness_8bit(instances, result, foreground, 255)
    # background 0 == 0 only; penalties: 1*255, 0, (1-2=255)*255 = 1, (1-3=254)*255 = 2 in 8 bits
    assert accuracy.tolist() == [1 / 6]
    assert robustness.tolist() == [0.0]
    assert 255 + 1 + 2 > 6
    accuracy, robustness = accuracy_and_robustness_8bit(
        instances[..., 2:], result[..., 2:], foreground[..., 2:], 255
    )
    assert accuracy.tolist() == [0.0]
    assert robustness == pytest.approx([1 - 3 / (4 + 1e-6)], abs=1e-15)
    accuracy, robustness = accuracy_and_robustness_8bit(
        instances[..., :4], result[..., :4], foreground[..., :4], 1
    )
    assert accuracy.tolist() == [0.5]
    assert robustness == pytest.approx([1 - 1 / (4 + 1e-6)], abs=1e-15)


@pytest.mark.parametrize(("result", "expected"), [(False, 1.0), (True, 0.0)])
def test_robustness_of_a_frame_without_foreground(result: bool, expected: float) -> None:
    nothing = np.zeros((1, 2, 3), dtype=bool)
    answer = nothing.copy()
    answer[0, 1, 1] = result
    accuracy, robustness = accuracy_and_robustness(nothing, answer, nothing)
    assert robustness.tolist() == [expected]
    assert accuracy.tolist() == [1 - result / 6]


def test_a_type_without_expressions_has_no_row_and_makes_no_overall() -> None:
    _, summary = scored("no_reasoning", None)
    assert list(summary) == ["overall", "referring", "other"]
    assert summary["overall"] == {"expressions": 8.0}


def test_a_subset_is_scored_alike() -> None:
    benchmark, protocol = revos(), ReVOS()
    predictions = CodedPredictions(load("revos", "predictions.json"))
    video = benchmark.videos[2]
    subset = benchmark.subset([video.id])
    assert isinstance(subset, Altered)
    assert protocol.score_video(subset, subset.videos[0], predictions) == protocol.score_video(
        benchmark, video, predictions
    )


def test_the_reader_of_the_format_gives_the_same_items() -> None:
    reader, by_hand, protocol = ReVOSBenchmark(GOLDEN / "revos"), revos(), ReVOS()
    predictions = CodedPredictions(load("revos", "predictions.json"))
    assert [video.id for video in reader.videos] == [video.id for video in by_hand.videos]
    for ours, theirs in zip(reader.videos, by_hand.videos, strict=True):
        assert protocol.score_video(reader, ours, predictions) == protocol.score_video(
            by_hand, theirs, predictions
        )


def test_types_that_nobody_knows_are_an_error() -> None:
    benchmark = mevis()
    predictions = CodedPredictions(load("mevis", "predictions.json"))
    benchmark.foreground = lambda video: np.zeros((len(video.frames), 2, 2), dtype=bool)  # type: ignore[method-assign]
    with pytest.raises(UserError, match="knows the types referring, reasoning, other, got ''"):
        ReVOS().score_video(benchmark, benchmark.videos[0], predictions)


def test_an_unknown_mode_names_the_choices() -> None:
    with pytest.raises(UserError, match="choose one of sa2va, visa, visa-0-1"):
        ReVOS("mevis")
