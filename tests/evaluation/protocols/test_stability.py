from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from refstream.evaluation.evaluate import Evaluation
from refstream.evaluation.protocols.families import Families
from refstream.evaluation.protocols.stability import TemporalStability
from refstream.evaluation.report.figures import speed_figures
from refstream.evaluation.score import score


def test_a_model_that_answers_the_truth_is_as_steady_as_the_truth(two_squares, colour_pipeline):
    result = Evaluation(colour_pipeline, two_squares, Families()).result("colours")
    assert result.stability["gt_jitter"] == pytest.approx(0, abs=1e-9)  # both squares keep their velocity
    assert result.stability["gt_compensated_iou"] == 1
    # the standing square is 400 pixels; the third expression marks both, whose other one walks on 4 of 8
    still, walking, both = 1.0, 1 / 3, (400 + 32) / (464 + 32)
    assert result.stability["frame_iou"] == pytest.approx((still + walking + both) / 3)
    assert result.stability["gt_frame_iou"] == pytest.approx((still + 2 * walking) / 3)


def longer(two_squares):
    """The same with six frames: the last one six times."""
    video = replace(two_squares.videos[0], frames=tuple("abcdef"))
    two_squares.videos = [video]
    two_squares.frames = np.repeat(two_squares.frames[2:], 6, axis=0)
    two_squares.masks = np.repeat(two_squares.masks[:, 2:], 6, axis=1)
    return two_squares


def test_the_jerk_of_spoken_boxes_is_in_the_result_and_its_file(two_squares, colour_pipeline, tmp_path):
    answer = colour_pipeline.answer
    step = 0.1 * np.hypot(40, 60) / 60  # of the width: 10 percent of the diagonal

    def swaying(state, frame, features):
        x = 0.3 + step * (frame.index % 2)
        return replace(answer(state, frame, features), extra={"boxes": [[x, 0.2, x + 0.1, 0.4]]})

    colour_pipeline.answer = swaying
    result = Evaluation(colour_pipeline, longer(two_squares), Families(), folder=tmp_path).result("colours")
    assert result.stability["prompt_jitter"] == pytest.approx(20)
    assert result.stability["prompt_jerk"] == pytest.approx(40)
    assert result.stability["gt_prompt_jerk"] == 0
    saved = json.loads(result.save(tmp_path / "result.json").read_text())
    assert saved["stability"]["prompt_jerk"] == pytest.approx(40)
    assert ("stability: prompt_jerk", "40.000") in speed_figures(result)


def test_who_says_no_boxes_has_no_figures_of_prompts(two_squares, colour_pipeline):
    result = Evaluation(colour_pipeline, longer(two_squares), Families()).result("colours")
    assert not [name for name in result.stability if "prompt" in name]


def test_without_predictions_there_are_no_figures(two_squares):
    class Nothing:
        fingerprint = ""

        def read(self, video, expression, size):
            return None

    items = score(two_squares, Nothing(), TemporalStability())
    assert [item.values for item in items] == [{}, {}, {}]
    assert TemporalStability().summarize(two_squares, items) == {"overall": {}}
