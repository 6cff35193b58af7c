from __future__ import annotations

import pytest

from refstream.evaluation.evaluate import Evaluation
from refstream.evaluation.protocols.families import Families
from refstream.evaluation.protocols.stability import TemporalStability
from refstream.evaluation.score import score


def test_a_model_that_answers_the_truth_is_as_steady_as_the_truth(two_squares, colour_pipeline):
    result = Evaluation(colour_pipeline, two_squares, Families()).result("colours")
    assert result.stability["gt_jitter"] == pytest.approx(0, abs=1e-9)  # both squares keep their velocity
    assert result.stability["gt_compensated_iou"] == 1
    # the standing square is 400 pixels; the third expression marks both, whose other one walks on 4 of 8
    still, walking, both = 1.0, 1 / 3, (400 + 32) / (464 + 32)
    assert result.stability["frame_iou"] == pytest.approx((still + walking + both) / 3)
    assert result.stability["gt_frame_iou"] == pytest.approx((still + 2 * walking) / 3)


def test_without_predictions_there_are_no_figures(two_squares):
    class Nothing:
        fingerprint = ""

        def read(self, video, expression, size):
            return None

    items = score(two_squares, Nothing(), TemporalStability())
    assert [item.values for item in items] == [{}, {}, {}]
    assert TemporalStability().summarize(two_squares, items) == {"overall": {}}
