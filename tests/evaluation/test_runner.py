from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from refstream.evaluation.runner import RunLog, evaluate, oracle_masks, segment_clip

BOTH_J = 100 * 64 / (64 + 400)  # "the square that moves" marks both squares


def test_segment_clip(two_squares, colour_pipeline, buffering_pipeline):
    (clip,) = two_squares
    expressions = [item.expression for item in clip.items]
    log = RunLog()
    masks = segment_clip(colour_pipeline, clip.frames, expressions, clip.fps, log)
    np.testing.assert_array_equal(masks[:2], clip.object_masks)
    np.testing.assert_array_equal(masks[2], clip.object_masks.any(0))
    assert (log.num_frames, log.num_events, log.num_calls) == (3, 9, 6)
    assert len(log.latencies_ms) == 3
    speed = log.speed()
    assert speed.mllm_calls_per_frame == pytest.approx(2 / 3)
    assert speed.expressions_per_stream == 3
    assert speed.fps > 0
    assert 0 < speed.latency_ms_p50 <= speed.latency_ms_p95
    again = segment_clip(buffering_pipeline, clip.frames, expressions, clip.fps)
    np.testing.assert_array_equal(again, masks)


def test_pipelines_that_leave_out_or_misfit_masks_are_refused(two_squares, colour_pipeline):
    (clip,) = two_squares
    answer = colour_pipeline.answer
    colour_pipeline.answer = lambda s, frame, x: replace(answer(s, frame, x), mask=None)
    with pytest.raises(ValueError, match="gave no mask for 'the red square' in frame 0"):
        segment_clip(colour_pipeline, clip.frames, ["the red square"], 10.0)
    colour_pipeline.answer = lambda s, frame, x: replace(
        answer(s, frame, x), mask=np.zeros((2, 2), dtype=bool)
    )
    with pytest.raises(ValueError, match=r"mask of \(2, 2\) for frames of \(40, 60\)"):
        segment_clip(colour_pipeline, clip.frames, ["the red square"], 10.0)


def test_evaluate(two_squares, colour_pipeline):
    done = []
    result = evaluate(colour_pipeline, two_squares, progress=lambda *numbers: done.append(numbers))
    assert done == [(1, 1)]
    assert result.scores.groups["appearance"].j == 100
    assert result.scores.groups["appearance"].f == 100
    assert result.scores.groups["appearance"].count == 2
    assert result.scores.groups["motion"].j == pytest.approx(BOTH_J)
    assert result.scores.overall.j == pytest.approx(0.75 * 100 + 0.25 * BOTH_J)
    assert result.scores.held_out.j == 100
    assert result.scores.held_out.count == 1
    assert result.floors == {}
    assert result.ceiling is None
    assert result.learned() == {}


def test_floors_and_ceiling(two_squares, colour_pipeline, box_segmenter):
    result = evaluate(colour_pipeline, two_squares, floors=True, segmenter=box_segmenter)
    j = {name: {group: s.j for group, s in scores.groups.items()} for name, scores in result.floors.items()}
    assert set(j) == {"shuffled", "empty", "blank", "largest"}
    # The red item may be given the words of either blue one; the blue ones only those of the red one.
    assert j["shuffled"]["appearance"] in (0, pytest.approx(100 * 400 / 464 / 2))
    assert j["shuffled"]["motion"] == 0
    assert j["empty"]["appearance"] == pytest.approx((100 * 400 / 464 + BOTH_J) / 2)
    assert j["empty"]["motion"] == pytest.approx(BOTH_J)
    assert j["blank"] == {"appearance": 0, "motion": 0}
    assert j["largest"] == {"appearance": 50, "motion": 0}
    assert result.ceiling.overall.j > 85


def test_oracle_box_is_in_the_segmenters_pixels(two_squares, box_segmenter):
    (clip,) = two_squares
    targets = clip.object_masks.copy()
    targets[1, 1] = False  # hidden
    masks = oracle_masks(box_segmenter, clip.frames, targets)
    assert not masks[1, 1].any()
    for n, t in ((0, 0), (0, 2), (1, 0), (1, 2)):
        union = (masks[n, t] | targets[n, t]).sum()
        assert (masks[n, t] & targets[n, t]).sum() / union > 0.75


def test_one_target_cannot_be_shuffled(two_squares, colour_pipeline):
    (clip,) = two_squares
    alone = replace(clip, items=clip.items[:1])
    two_squares.__class__ = type("One", (type(two_squares),), {"__iter__": lambda self: iter([alone])})
    with pytest.raises(ValueError, match="cannot be shuffled"):
        evaluate(colour_pipeline, two_squares, floors=True)
