"""Ref-DAVIS17 merged by annotator, against the DAVIS-2017 evaluation code."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refstream.errors import UserError
from refstream.evaluation.benchmark import EvalExpression, EvalVideo, MaskBenchmark
from refstream.evaluation.predictions.base import Prediction, Predictions
from refstream.evaluation.protocols.base import ItemScore, Summary
from refstream.evaluation.protocols.davis_official import DavisOfficial
from refstream.evaluation.protocols.label_maps import LabelMapFolder, LabelMaps, merge_scores
from refstream.evaluation.score import item_score
from tests.evaluation.protocols.golden import load, mevis
from tests.evaluation.protocols.labelled import CASE, LabelledVideos, clip, golden_benchmark, squares

OFFICIAL = load("davis17_official", "case.json")
STATISTICS = {"J": "J", "J_recall": "J-Recall", "J_decay": "J-Decay"}
STATISTICS |= {"F": "F", "F_recall": "F-Recall", "F_decay": "F-Decay"}


class GoldenScores:
    """Scores of every pixel, as a model would give them."""

    fingerprint = "golden"

    def __init__(self) -> None:
        with np.load(CASE / "scores.npz") as arrays:
            self.logits = {key: arrays[key] for key in arrays.files}

    def read_scores(
        self, video: EvalVideo, expression: EvalExpression, size: tuple[int, int]
    ) -> np.ndarray | None:
        number, annotator = expression.details["object"], expression.details["annotator"]
        logits = self.logits[f"logits_{annotator}_{video.id}_{number - 1}"].astype(np.float32) / 16
        return 1 / (1 + np.exp(-logits))

    def read(self, video: EvalVideo, expression: EvalExpression, size: tuple[int, int]) -> Prediction | None:
        raise AssertionError("scores are there")


class MaskPredictions:
    """Masks by video and expression; what is not there is missing."""

    fingerprint = "masks"

    def __init__(self, masks: Mapping[tuple[str, str], Prediction]) -> None:
        self.masks = masks

    def read(self, video: EvalVideo, expression: EvalExpression, size: tuple[int, int]) -> Prediction | None:
        return self.masks.get((video.id, expression.id))


def scored(
    benchmark: MaskBenchmark, predictions: Predictions
) -> tuple[dict[tuple[str, str], ItemScore], Summary]:
    protocol = DavisOfficial()
    items = [i for video in benchmark.videos for i in protocol.score_video(benchmark, video, predictions)]
    items = [item_score(json.loads(json.dumps(asdict(item), allow_nan=False))) for item in items]
    return {(item.video, item.id): item for item in items}, protocol.summarize(benchmark, items)


def masks_of_golden() -> MaskPredictions:
    """What each label map has of each described object, as masks."""
    found = {}
    for video in golden_benchmark().videos:
        for annotator in range(4):
            labels = clip(CASE / "results" / f"anno_{annotator}" / video.id, video.frames)
            for expression in video.expressions:
                if expression.details["annotator"] == annotator:
                    found[video.id, expression.id] = Prediction(labels == expression.details["object"])
    return MaskPredictions(found)


@pytest.mark.parametrize(
    "source",
    [lambda: LabelMapFolder(CASE / "results"), GoldenScores, masks_of_golden],
    ids=["png", "scores", "masks"],
)
def test_equals_the_official_code(source: Any) -> None:
    items, summary = scored(golden_benchmark(), source())
    assert summary["overall"].pop("objects") == sum(len(a["per_object"]) for a in OFFICIAL["annotators"])
    assert summary["overall"] == pytest.approx(
        {k: 100 * v for k, v in OFFICIAL["mean_of_annotators"].items()}, abs=1e-10
    )
    for entry in OFFICIAL["annotators"]:
        row = summary[f"annotator {entry['annotator']}"]
        assert row.pop("objects") == len(entry["per_object"])
        assert row == pytest.approx({k: 100 * v for k, v in entry["global"].items()}, abs=1e-10)
        ours = [item for item in items.values() if item.details["annotator"] == entry["annotator"]]
        # The official table numbers a video's objects in the order of the labels they were matched to.
        proposals = {
            name: sorted(i.details["proposal"] for i in ours if i.video == name) for name in row_names()
        }
        assert len(ours) == len(entry["per_object"])
        for item in ours:
            rank = proposals[item.video].index(item.details["proposal"]) + 1
            theirs = entry["per_object"][f"{item.video}_{rank}"]
            for metric, name in STATISTICS.items():
                assert item.values[name] == pytest.approx(theirs[metric], abs=1e-12), (item.id, metric)


def row_names() -> list[str]:
    return [video.id for video in golden_benchmark().videos]


def test_items_are_named_after_the_objects_of_the_truth() -> None:
    items, summary = scored(golden_benchmark(), LabelMapFolder(CASE / "results"))
    swapped = [items["goose", f"anno_2/object_{k}"].details["proposal"] for k in (1, 2)]
    assert swapped == [2, 1]
    undescribed = items["crowd-x", "anno_0/object_4"]
    assert not undescribed.details["described"]
    assert undescribed.values["J"] == 0.0
    assert all(item.missing == () for item in items.values())
    item = items["skate", "anno_3/object_1"]
    assert item.group == "annotator 3"
    assert len(item.frames["J"]) == len(item.frames["F"]) == 5
    assert list(summary) == ["overall", *(f"annotator {a}" for a in range(4))]


def test_merging_the_scores_gives_the_label_maps_of_the_public_code() -> None:
    source, ties = GoldenScores(), 0
    for video in golden_benchmark().videos:
        for annotator in range(4):
            mine = [e for e in video.expressions if e.details["annotator"] == annotator]
            scores = np.stack([source.read_scores(video, expression, (0, 0)) for expression in mine])
            labels = clip(CASE / "results" / f"anno_{annotator}" / video.id, video.frames)
            assert (merge_scores(scores) == labels).all()
            best = scores.max(axis=0)
            ties += np.count_nonzero(((scores == best) & (scores >= 0.5)).sum(axis=0) > 1)
    assert ties == 157


def four_answers(truth: np.ndarray, described: int) -> dict[tuple[str, str], Prediction]:
    return {("v", str(i)): Prediction(truth == i // 4 + 1) for i in range(4 * described)}


def test_overlapping_masks_go_to_the_lower_object() -> None:
    truth = squares(1, 2)
    answers = four_answers(truth, 2)
    answers["v", "4"] = Prediction(truth > 0)  # object 2, annotator 0: also covers object 1
    answers["v", "1"] = Prediction(truth > 0)  # object 1, annotator 1: also covers object 2
    items, _ = scored(LabelledVideos({"v": truth}, {"v": 2}), MaskPredictions(answers))
    j = {key: item.values["J"] for (_, key), item in items.items()}
    assert j["anno_0/object_1"] == j["anno_0/object_2"] == 1.0
    assert j["anno_1/object_1"] == 0.5
    assert j["anno_1/object_2"] == 0.0


def test_what_is_missing_counts_as_empty_and_is_listed() -> None:
    truth = squares(1, 2)
    answers = four_answers(truth, 2)
    del answers["v", "4"]
    answers["v", "1"] = replace(
        answers["v", "1"], masks=truth * (np.arange(4) != 1)[:, None, None] == 1, missing=(1,)
    )
    benchmark = LabelledVideos({"v": truth, "gone": truth}, {"v": 2, "gone": 2})
    items, summary = scored(benchmark, MaskPredictions(answers))
    frames = ("00000", "00001", "00002", "00003")
    assert items["v", "anno_0/object_2"].missing == frames
    assert items["v", "anno_0/object_2"].values["J"] == 0.0
    assert items["v", "anno_1/object_1"].missing == ("00001",)
    assert items["v", "anno_1/object_1"].frames["J"] == [1.0, 0.0, 1.0, 1.0]
    for annotator in range(4):
        item = items["gone", f"anno_{annotator}/object_1"]
        assert item.missing == frames
        assert item.values["J"] == item.values["F"] == 0.0
    assert summary["annotator 3"]["J-Mean"] == pytest.approx(50.0)
    assert summary["annotator 1"]["J-Mean"] == pytest.approx(100 * (0.75 + 1) / 4)


def test_missing_label_maps_count_as_empty_and_are_listed(tmp_path: Path) -> None:
    video = golden_benchmark().videos[0]
    (tmp_path / "anno_0").symlink_to(CASE / "results" / "anno_0", target_is_directory=True)
    subset = golden_benchmark().subset([video.id])
    items, _ = scored(subset, LabelMapFolder(tmp_path))
    assert items[video.id, "anno_0/object_1"].missing == ()
    assert items[video.id, "anno_1/object_1"].missing == video.frames
    assert items[video.id, "anno_1/object_1"].values["J"] == 0.0
    assert items[video.id, "anno_0/object_1"].values["J"] > 0.8


def test_a_decay_that_the_official_code_cannot_tell_is_left_out() -> None:
    truth = squares(1, frames=300)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        items, summary = scored(
            LabelledVideos({"v": truth}, {"v": 1}), MaskPredictions(four_answers(truth, 1))
        )
    assert "J-Decay" not in items["v", "anno_0/object_1"].values
    assert "J-Decay" not in summary["overall"]
    assert summary["overall"]["J&F-Mean"] == summary["overall"]["J-Recall"] == 100.0


class Maps:
    fingerprint = "maps"

    def __init__(self, labels: np.ndarray) -> None:
        self.labels = labels

    def read_labels(self, video: EvalVideo, annotator: int, size: tuple[int, int]) -> LabelMaps | None:
        return LabelMaps(self.labels)

    def read(self, video: EvalVideo, expression: EvalExpression, size: tuple[int, int]) -> Prediction | None:
        raise AssertionError("label maps are there")


def test_label_maps_that_do_not_fit_are_an_error() -> None:
    benchmark = LabelledVideos({"v": squares(1)}, {"v": 1})
    with pytest.raises(UserError, match=r"video v, annotator 0: expected label maps \(4, 20, 30\)"):
        scored(benchmark, Maps(squares(1)[:, :10]))
    with pytest.raises(UserError, match="video v, annotator 0: at most 20 proposals"):
        scored(benchmark, Maps(squares(255)))


def test_benchmarks_that_cannot_be_merged_are_an_error() -> None:
    benchmark = mevis()
    with pytest.raises(UserError, match="benchmark coded has none, choose per-expression"):
        DavisOfficial().score_video(benchmark, benchmark.videos[0], MaskPredictions({}))
    nameless = LabelledVideos({"v": squares(1)}, {"v": 1})
    nameless.videos = [EvalVideo("v", nameless.videos[0].frames, (EvalExpression("0", "x"),))]
    with pytest.raises(UserError, match="need its annotator"):
        scored(nameless, MaskPredictions({}))
    twice = LabelledVideos({"v": squares(1)}, {"v": 1})
    twice.videos = [replace(twice.videos[0], expressions=twice.videos[0].expressions * 2)]
    with pytest.raises(UserError, match="annotator 0 has two expressions of object 1"):
        scored(twice, MaskPredictions({}))
    with pytest.raises(UserError, match="has no compatibility mode 'official'; it has none"):
        DavisOfficial("official")
