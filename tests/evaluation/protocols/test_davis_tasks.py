"""The tasks of DAVIS-2017 on one video, against its evaluation code."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refstream.evaluation.metrics.jf import frame_scores, sequence_statistics
from refstream.evaluation.protocols.davis_tasks import semi_supervised, unsupervised
from tests.evaluation.protocols.golden import load
from tests.evaluation.protocols.labelled import CASE, clip, golden_benchmark, squares

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data" / "davis17_osvos_predictions" / "results"
METRICS = ("J", "J_recall", "J_decay", "F", "F_recall", "F_decay")


def test_semi_supervised_equals_the_official_code() -> None:
    expected = load("davis17_official", "case.json")["semi_supervised_anno_0"]
    j_values, f_values = [], []
    for video in golden_benchmark().videos:
        labels = clip(CASE / "results" / "anno_0" / video.id, video.frames)
        for score in semi_supervised(golden_benchmark().maps[video.id], labels):
            theirs = expected["per_object"][f"{video.id}_{score.number}"]
            j, f = sequence_statistics(score.j), sequence_statistics(score.f)
            assert (*j, *f) == pytest.approx([theirs[metric] for metric in METRICS], abs=1e-12)
            j_values.append(j)
            f_values.append(f)
    assert len(j_values) == len(expected["per_object"])
    means = dict(zip(("J-Mean", "J-Recall", "J-Decay"), np.mean(j_values, axis=0), strict=True))
    means |= dict(zip(("F-Mean", "F-Recall", "F-Decay"), np.mean(f_values, axis=0), strict=True))
    means["J&F-Mean"] = (means["J-Mean"] + means["F-Mean"]) / 2
    assert means == pytest.approx(expected["global"], abs=1e-12)


def test_any_relabelling_scores_the_same() -> None:
    truth = squares(1, 2, 3)
    shifted = np.roll(truth, 1, axis=2)
    plain = unsupervised(truth, shifted)
    assert all(0 < score.j.mean() < 1 for score in plain)
    for order in permutations((1, 2, 3)):
        scores = unsupervised(truth, np.array([0, *order], dtype=np.uint8)[shifted])
        assert [score.proposal for score in scores] == list(order)
        for one, other in zip(plain, scores, strict=True):
            assert one.number == other.number
            assert (one.j == other.j).all()
            assert (one.f == other.f).all()


def test_surplus_proposals_cost_nothing_and_unmatched_objects_score_as_empty_results() -> None:
    truth = squares(1, 2)
    truth[2:, :, 9:] = 0  # object 2 leaves
    (first, second) = unsupervised(truth, squares(1, 0, 20))
    assert first.j.tolist() == first.f.tolist() == [1.0] * 4
    assert second.j.tolist() == second.f.tolist() == [0.0, 0.0, 1.0, 1.0]
    assert second.proposal not in (1, 20)
    assert len(unsupervised(squares(1), squares(1, 2, 20))) == 1


def test_only_labels_up_to_the_largest_of_the_first_frame_are_objects() -> None:
    truth = squares(3)
    truth[1:, 7:13, 20:26] = 4
    truth[0, 0, 0] = 255
    scores = unsupervised(truth, squares(3))
    assert [score.number for score in scores] == [1, 2, 3]
    assert scores[2].j.tolist() == [1.0] * 4
    assert scores[0].j.tolist() == [1.0] * 4  # never there, and nothing said about it
    assert unsupervised(squares(), squares(1)) == []


def test_void_pixels_do_not_count() -> None:
    truth, labels = squares(1), squares(1)
    truth[:, 7:13, 6:8] = 255
    (score,) = unsupervised(truth, labels)
    assert score.j.tolist() == score.f.tolist() == [1.0] * 4
    (score,) = semi_supervised(truth, labels)
    assert score.j.tolist() == pytest.approx([4 / 6] * 2)


@pytest.mark.parametrize(
    ("task", "truth", "labels", "message"),
    [
        (unsupervised, squares(1), squares(21), "at most 20 proposals are allowed, got the label 21"),
        (unsupervised, squares(1), squares(1, frames=3), "labels are not resized"),
        (unsupervised, squares(1).astype(int), squares(1), "truth must be non-empty"),
        (semi_supervised, squares(1), squares(2), "has 1 objects, the result has label 2"),
        (semi_supervised, squares(1, frames=2), squares(1, frames=2), "at least 3 are needed"),
    ],
)
def test_labels_that_do_not_fit_are_an_error(
    task: Any, truth: np.ndarray, labels: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        task(truth, labels)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data/davis17_osvos_predictions")
def test_real_masks_score_as_with_the_official_code() -> None:
    """The official evaluator's figures, to the digits that were noted; OSVOS stands in for the truth."""
    frames = tuple(f"{i:05d}" for i in range(12))
    scores = {
        f"{name}_{score.proposal}": score
        for name in ("blackswan", "dogs-jump", "bmx-trees")
        for score in unsupervised(
            clip(SHARED / "semi-supervised" / "osvos" / name, frames),
            clip(SHARED / "unsupervised" / "rvos" / name, frames),
        )
    }
    j = np.mean([score.j.mean() for score in scores.values()])
    f = np.mean([score.f.mean() for score in scores.values()])
    assert (round(j, 6), round(f, 6), round((j + f) / 2, 6)) == (0.362924, 0.491386, 0.427155)
    swan = scores["blackswan_1"]
    assert (round(swan.j.mean(), 6), round(swan.f.mean(), 6)) == (0.930854, 0.965235)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data/davis17_osvos_predictions")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("blackswan", (0.93344, 0.95299)),
        ("camel", (0.84406, 0.85907)),
        ("dogs-jump", (0.77417, 0.87962)),
        ("bike-packing", (0.53546, 0.57671)),
        ("bmx-trees", (0.25281, 0.45444)),
    ],
)
def test_real_foregrounds_score_as_with_the_official_code(name: str, expected: tuple[float, float]) -> None:
    paths = sorted((SHARED / "semi-supervised" / "osvos" / name).glob("*.png"))[::8]
    frames = tuple(path.stem for path in paths)
    truth = clip(SHARED / "semi-supervised" / "osvos" / name, frames) > 0
    j, f = frame_scores(truth, clip(SHARED / "unsupervised" / "rvos" / name, frames) > 0)
    assert (round(j.mean(), 5), round(f.mean(), 5)) == expected
