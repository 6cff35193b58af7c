"""J&F of every expression alone, against the public scripts of MeViS and of Ref-DAVIS17."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from refstream.errors import UserError
from refstream.evaluation.benchmark import EvalExpression, EvalVideo, MaskBenchmark
from refstream.evaluation.predictions.base import Prediction, Predictions
from refstream.evaluation.protocols.base import ItemScore, Summary
from refstream.evaluation.protocols.per_expression import PerExpression
from refstream.evaluation.score import item_score
from tests.evaluation.protocols.golden import CodedPredictions, davis17, load, mevis, runs

MEVIS_RUNS = {run["name"]: run for run in runs("mevis")}


def scored(
    benchmark: MaskBenchmark, predictions: Predictions, compat: str | None = None
) -> tuple[dict[str, ItemScore], Summary]:
    protocol = PerExpression(compat)
    items = [i for video in benchmark.videos for i in protocol.score_video(benchmark, video, predictions)]
    return {f"{item.video}_{item.id}": item for item in items}, protocol.summarize(benchmark, items)


def mevis_predictions(edits: Sequence[Any] = ()) -> CodedPredictions:
    return CodedPredictions(load("mevis", "predictions.json"), edits)


@pytest.mark.parametrize("name", MEVIS_RUNS)
def test_equals_the_script_of_mevis_with_its_defects(name: str) -> None:
    run = MEVIS_RUNS[name]
    items, summary = scored(mevis(), mevis_predictions(run["edits"]), "mevis")
    left_out = sorted(key for key, item in items.items() if "left_out" in item.details)
    assert left_out == sorted(key for key, _ in run["left_out"])
    assert summary["overall"]["expressions"] == run["scored"]
    assert summary["overall"]["J"] == pytest.approx(100 * run["official"]["J"], abs=1e-10)
    assert summary["overall"]["F"] == pytest.approx(100 * run["official"]["F"], abs=1e-10)
    assert summary["overall"]["J&F"] == pytest.approx(100 * run["official"]["JF"], abs=1e-10)


def test_equals_the_script_of_mevis_expression_by_expression() -> None:
    run = MEVIS_RUNS["base"]
    items, summary = scored(mevis(), mevis_predictions())
    assert items.keys() == run["per_expression"].keys()
    for key, expected in run["per_expression"].items():
        assert items[key].values["J"] == pytest.approx(expected["J"], abs=1e-12)
        assert items[key].values["F"] == pytest.approx(expected["F"], abs=1e-12)
    assert summary["overall"]["J&F"] == pytest.approx(100 * run["official"]["JF"], abs=1e-10)


def test_a_missing_expression_scores_zero() -> None:
    run = MEVIS_RUNS["expression_folder_missing"]
    items, summary = scored(mevis(), mevis_predictions(run["edits"]))
    assert summary["overall"]["expressions"] == run["expressions"]
    for metric in ("J", "F"):
        expected = run["own_left_out_as_zero"][metric]
        assert summary["overall"][metric] == pytest.approx(100 * expected, abs=1e-10)
    assert items["f00d5a_2"].missing == ("00000", "00001", "00002", "00003", "00004", "00005")


@pytest.mark.parametrize("name", ["frame_missing", "first_frame_missing"])
def test_a_missing_frame_scores_zero_and_the_others_count(name: str) -> None:
    run = MEVIS_RUNS[name]
    ((_, video, expression, position),) = run["edits"]
    items, summary = scored(mevis(), mevis_predictions(run["edits"]))
    whole, _ = scored(mevis(), mevis_predictions())
    cut, item = whole[f"{video}_{expression}"], items[f"{video}_{expression}"]
    assert item.missing == (f"{position:05d}",)
    for metric in ("J", "F"):
        frames = [0.0 if i == position else value for i, value in enumerate(cut.frames[metric])]
        assert item.frames[metric] == frames
        assert item.values[metric] == pytest.approx(sum(frames) / len(frames), abs=1e-15)
        others = sum(
            v[metric] for k, v in MEVIS_RUNS["base"]["per_expression"].items() if whole[k] is not cut
        )
        expected = 100 * (others + item.values[metric]) / run["expressions"]
        assert summary["overall"][metric] == pytest.approx(expected, abs=1e-10)


def test_masks_of_another_size_are_an_error() -> None:
    edits = MEVIS_RUNS["smaller_masks"]["edits"]
    with pytest.raises(UserError, match=r"c0ffee, 0: masks are not of size \(48, 64\)"):
        scored(mevis(), mevis_predictions(edits))


def test_the_rle_scripts_leave_a_missing_video_out() -> None:
    run = MEVIS_RUNS["base"]
    items, summary = scored(mevis(), mevis_predictions(), "sa2va")
    present = [v for k, v in run["per_expression"].items() if not k.startswith("absent")]
    assert sorted(k for k, i in items.items() if "left_out" in i.details) == [
        "absent_0",
        "absent_1",
        "absent_2",
    ]
    assert summary["overall"]["J"] == pytest.approx(100 * np.mean([v["J"] for v in present]), abs=1e-10)


def test_equals_the_scripts_of_ref_davis17() -> None:
    case = load("davis17_expressions", "case.json")
    predictions = CodedPredictions(load("davis17_expressions", "predictions.json"))
    items, summary = scored(davis17(), predictions)
    assert summary["overall"]["expressions"] == case["expressions"]
    for key, expected in case["per_expression"].items():
        assert items[key].values["J"] == pytest.approx(expected["J"], abs=1e-12)
        assert items[key].values["F"] == pytest.approx(expected["F"], abs=1e-12)
    for metric, expected in case["exact"].items():
        assert summary["overall"][metric] == pytest.approx(100 * expected, abs=1e-10)
    assert {m: round(summary["overall"][m], 2) for m in ("J", "F", "J&F")} == case["results"]
    for annotator, expected in enumerate(case["own_per_annotator"]):
        row = summary[f"annotator {annotator}"]
        assert row["J"] == pytest.approx(100 * expected["J"], abs=1e-10)
        assert row["F"] == pytest.approx(100 * expected["F"], abs=1e-10)
        assert row["expressions"] == 10
    assert list(summary) == ["overall", *(f"annotator {a}" for a in range(4))]


def test_masks_numbered_in_another_order_give_the_figures_of_the_trap() -> None:
    expected = load("davis17_expressions", "case.json")["wrong_orders"]["expressions sorted as numbers"]
    predictions = CodedPredictions(load("davis17_expressions", "predictions.json"))
    _, summary = scored(davis17(numbered_by=int), predictions)
    assert {m: round(summary["overall"][m], 2) for m in expected} == expected


SQUARE = np.zeros((2, 12, 16), dtype=bool)
SQUARE[:, 3:8, 4:9] = True
NOTHING = np.zeros_like(SQUARE)


class Small(MaskBenchmark):
    name, split = "small", "test"

    def __init__(self, truths: dict[str, np.ndarray | None]) -> None:
        expressions = tuple(EvalExpression(key, key) for key in truths)
        self.videos = [EvalVideo("v", ("a", "skipped", "b"), expressions, scored=(0, 2))]
        self.truths, self.settings = truths, {}

    def images(self, video: EvalVideo) -> Any:
        raise NotImplementedError

    def truth(self, video: EvalVideo, expression: EvalExpression) -> np.ndarray | None:
        return self.truths[expression.id]


class Given:
    fingerprint = "given"

    def __init__(self, answers: dict[str, Prediction | None]) -> None:
        self.answers = answers

    def read(self, video: EvalVideo, expression: EvalExpression, size: tuple[int, int]) -> Prediction | None:
        return self.answers[expression.id]


def test_no_target_accuracies_count_what_is_missing_as_wrong() -> None:
    half = np.stack([NOTHING[0], SQUARE[1]])
    cases = {  # truth, answer
        "absent, empty": (NOTHING, Prediction(NOTHING)),
        "absent, one frame set": (NOTHING, Prediction(half)),
        "absent, one frame missing": (NOTHING, Prediction(NOTHING, missing=(1,))),
        "absent, missing": (NOTHING, None),
        "there, found": (SQUARE, Prediction(SQUARE)),
        "there, found once": (SQUARE, Prediction(half)),
        "there for a frame, denied": (half, Prediction(NOTHING)),
        "there, missing": (SQUARE, None),
        "there, found once, else missing": (SQUARE, Prediction(half, missing=(0,))),
    }
    benchmark = Small({key: truth for key, (truth, _) in cases.items()})
    items, summary = scored(benchmark, Given({key: answer for key, (_, answer) in cases.items()}))
    assert summary["overall"]["N-acc"] == pytest.approx(100 * 1 / 4)
    assert summary["overall"]["T-acc"] == pytest.approx(100 * 3 / 5)
    j = {key.removeprefix("v_"): item.values["J"] for key, item in items.items()}
    assert j["absent, empty"] == 1.0
    assert j["absent, one frame set"] == j["absent, one frame missing"] == 0.5
    assert j["absent, missing"] == 0.0
    assert items["v_absent, one frame missing"].missing == ("b",)
    assert items["v_there, missing"].missing == ("a", "b")


def test_no_target_accuracies_are_not_given_where_all_targets_are_there() -> None:
    _, summary = scored(Small({"a": SQUARE}), Given({"a": Prediction(SQUARE)}))
    assert summary == {"overall": {"J": 100.0, "F": 100.0, "J&F": 100.0, "expressions": 1.0}}


def test_all_targets_absent_gives_no_t_acc() -> None:
    _, summary = scored(Small({"a": NOTHING}), Given({"a": Prediction(NOTHING)}))
    assert summary["overall"]["N-acc"] == 100.0
    assert "T-acc" not in summary["overall"]


def test_scores_survive_json_and_are_the_same_for_a_subset() -> None:
    benchmark = mevis()
    items, _ = scored(benchmark, mevis_predictions())
    again = {key: item_score(json.loads(json.dumps(asdict(item)))) for key, item in items.items()}
    assert again == items
    some, _ = scored(benchmark.subset(["c0ffee"]), mevis_predictions())
    assert some == {key: item for key, item in items.items() if item.video == "c0ffee"}


def test_nothing_to_average_gives_no_figures() -> None:
    benchmark = Small({"a": SQUARE})
    assert PerExpression().summarize(benchmark, []) == {"overall": {"expressions": 0.0}}
    items, summary = scored(benchmark, Given({"a": None}), "sa2va")
    assert summary == {"overall": {"expressions": 0.0}}
    assert items["v_a"].details["left_out"] == "no prediction"


def test_truth_that_is_not_public_is_an_error() -> None:
    with pytest.raises(UserError, match="small test are not public"):
        scored(Small({"a": None}), Given({"a": None}))


def test_predictions_of_another_shape_are_an_error() -> None:
    short = replace(Prediction(SQUARE), masks=SQUARE[:1])
    with pytest.raises(UserError, match=r"video v, expression a: expected masks \(2, 12, 16\) bool"):
        scored(Small({"a": SQUARE}), Given({"a": short}))
    with pytest.raises(UserError, match="with 2 frames, got"):
        scored(Small({"a": SQUARE[:1]}), Given({"a": Prediction(SQUARE)}))


def test_an_unknown_mode_names_the_choices() -> None:
    with pytest.raises(UserError, match="'official'; choose one of mevis, sa2va"):
        PerExpression("official")
