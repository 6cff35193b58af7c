from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from refstream.errors import UserError
from refstream.evaluation.benchmark import Altered
from refstream.evaluation.evaluate import Evaluation
from refstream.evaluation.floors import OracleBoxes, mismatched
from refstream.evaluation.protocols.families import Families
from refstream.evaluation.shards import Shard

BOTH_J = 100 * 64 / (64 + 400)  # "the square that moves" marks both squares


def test_scores(two_squares, colour_pipeline):
    steps = []
    evaluation = Evaluation(
        colour_pipeline, two_squares, Families(), progress=lambda *step: steps.append(step)
    )
    result = evaluation.result("colours")
    assert steps == [("model: running", 1, 1), ("model: scoring", 1, 1), ("model: scoring", 1, 1)]
    assert result.summary["appearance"] == {"J": 100, "F": 100, "J&F": 100, "expressions": 2}
    assert result.value("J", "motion") == pytest.approx(BOTH_J)
    assert result.value("J") == pytest.approx(0.75 * 100 + 0.25 * BOTH_J)
    assert result.value() == pytest.approx((result.value("J") + result.value("F")) / 2)
    assert result.summary["held out"]["J"] == 100
    assert result.summary["held out"]["expressions"] == 1
    assert result.floors == {}
    assert result.ceilings == {}
    assert result.learned() == {}
    assert result.missing == []


def test_floors_and_ceiling(two_squares, colour_pipeline, box_segmenter):
    evaluation = Evaluation(colour_pipeline, two_squares, Families())
    result = evaluation.result("colours", segmenter=box_segmenter, floors=True)
    j = {name: {group: one["J"] for group, one in s.items()} for name, s in result.floors.items()}
    assert set(j) == {"shuffled", "empty", "blank", "largest"}
    # The red item may be given the words of either blue one; the blue ones only those of the red one.
    assert j["shuffled"]["appearance"] in (0, pytest.approx(100 * 400 / 464 / 2))
    assert j["shuffled"]["motion"] == 0
    assert j["empty"]["appearance"] == pytest.approx((100 * 400 / 464 + BOTH_J) / 2)
    assert j["empty"]["motion"] == pytest.approx(BOTH_J)
    assert (j["blank"]["appearance"], j["blank"]["motion"]) == (0, 0)
    assert (j["largest"]["appearance"], j["largest"]["motion"]) == (50, 0)
    assert result.ceilings["oracle box"]["overall"]["J"] > 85


def test_an_expression_without_rival_is_exchanged_for_one_of_another_video(two_squares, colour_pipeline):
    (video,) = two_squares.videos
    alone = replace(video, id="alone", expressions=video.expressions[:1])
    words = replace(video, id="words", expressions=video.expressions[1:2])
    both = Altered(two_squares, [alone, words])
    to_run, taken = mismatched(both)
    assert [v.expressions[0].text for v in to_run.videos] == ["the blue square", "the red square"]
    assert {key: e.id for key, e in taken.items()} == {
        ("alone", "0"): "stranger 0",
        ("words", "1"): "stranger 1",
    }
    result = Evaluation(colour_pipeline, both, Families()).result("colours", floors=True)
    assert result.value("J") == 100
    assert result.floors["shuffled"]["overall"]["J"] == 0


def test_truths_that_differ_are_different_targets(two_squares):
    (video,) = two_squares.videos
    bare = replace(video, expressions=tuple(replace(e, details={}) for e in video.expressions))
    to_run, taken = mismatched(Altered(two_squares, [bare]))
    assert not to_run.videos
    assert taken["only", "1"].id == taken["only", "2"].id == "0"
    assert taken["only", "0"].id in ("1", "2")


def test_a_stranger_has_other_words_where_it_can(two_squares):
    (video,) = two_squares.videos
    red, blue = video.expressions[:2]
    alone = replace(video, id="alone", expressions=(red,))
    both = replace(video, id="both", expressions=(red, replace(red, id="5"), blue))
    silent = replace(video, id="silent", expressions=())
    to_run, _ = mismatched(Altered(two_squares, [alone, silent, both]))
    assert [[e.text for e in one.expressions] for one in to_run.videos] == [["the blue square"]]


def test_shuffled_is_left_out_where_nothing_else_can_be_meant(two_squares, colour_pipeline, caplog):
    (video,) = two_squares.videos
    one = Altered(two_squares, [replace(video, expressions=video.expressions[1:])])  # one target
    result = Evaluation(colour_pipeline, one, Families()).result("colours", floors=True)
    assert set(result.floors) == {"empty", "blank", "largest"}
    assert result.learned() == {}
    assert "no floor 'shuffled'" in caplog.text


def test_oracle_box_is_in_the_segmenters_pixels(two_squares, box_segmenter):
    (video,) = two_squares.videos
    two_squares.masks[1, 1] = False  # hidden
    oracle = OracleBoxes(two_squares, box_segmenter)
    masks = np.stack([oracle.read(video, e, (40, 60)).masks for e in video.expressions[:2]])
    assert not masks[1, 1].any()
    for n, t in ((0, 0), (0, 2), (1, 0), (1, 2)):
        union = (masks[n, t] | two_squares.masks[n, t]).sum()
        assert (masks[n, t] & two_squares.masks[n, t]).sum() / union > 0.75


def test_a_folder_is_resumed_and_refused_for_another_model(two_squares, colour_pipeline, tmp_path):
    def evaluate(**key):
        evaluation = Evaluation(colour_pipeline, two_squares, Families(), folder=tmp_path, key=key)
        return evaluation.result("colours", floors=True)

    first = evaluate(model="a")
    colour_pipeline.answer = None  # nothing may be computed again
    assert evaluate(model="a").to_dict() == first.to_dict()
    with pytest.raises(UserError, match="holds results of another run: model = a then, b now"):
        evaluate(model="b")


def test_masks_outlive_a_truth_that_was_mended(two_squares, colour_pipeline, tmp_path):
    class Mended(Altered):
        def truth(self, video, expression):
            return ~super().truth(video, expression)

        def files(self):
            return (tmp_path / "truth.json",)

    (tmp_path / "truth.json").write_text("{}")
    first = Evaluation(colour_pipeline, two_squares, Families(), folder=tmp_path / "out").result("colours")
    colour_pipeline.answer = None  # nothing may be run again
    mended = Mended(two_squares, two_squares.videos)
    second = Evaluation(colour_pipeline, mended, Families(), folder=tmp_path / "out").result("colours")
    assert second.value("J") < first.value("J")
    again = Evaluation(colour_pipeline, two_squares, Families(), folder=tmp_path / "out").result("colours")
    assert again.to_dict() == first.to_dict()


def test_several_processes_need_a_folder(two_squares, colour_pipeline):
    with pytest.raises(UserError, match="that has a folder"):
        Evaluation(colour_pipeline, two_squares, Families(), shard=Shard(0, 2))
    with pytest.raises(UserError, match="no videos"):
        Evaluation(colour_pipeline, Altered(two_squares, []), Families())
