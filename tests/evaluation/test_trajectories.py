"""Trajectories of runs whose boxes and masks are known."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from refstream.errors import UserError
from refstream.evaluation.trajectories import clip_trajectories, find_expression


def boxed(pipeline, *boxes):
    """A pipeline like ``pipeline`` that says these boxes, one list per frame."""
    answer = pipeline.answer
    pipeline.answer = lambda s, f, x: replace(answer(s, f, x), extra={"boxes": boxes[f.index]})
    return pipeline


def test_truth_masks_and_prompts(two_squares, colour_pipeline, buffering_pipeline):
    """The blue square of 8 pixels walks from (30, 28) by 4 pixels; frames are 60 wide and 40 high."""
    said = [[[0.5, 0.5, 0.6, 0.7]], [], [[0.0, 0.0, 0.1, 0.1], [0.4, 0.5, 0.5, 0.9]]]
    made = []

    def spoken():
        made.append("spoken")
        return boxed(colour_pipeline, *said)

    runs = {"spoken": spoken, "silent": lambda: buffering_pipeline}
    found = clip_trajectories(two_squares, "only", "1", runs)
    assert made == ["spoken"]
    assert (found.text, found.size, found.frames) == (
        "the blue square",
        (40, 60),
        ("00000", "00001", "00002"),
    )
    np.testing.assert_allclose(found.boxes, [[34, 32], [38, 32], [42, 32]])
    np.testing.assert_allclose(found.masks, [[33.5, 31.5], [37.5, 31.5], [41.5, 31.5]])
    spoken_run, silent = found.runs
    np.testing.assert_allclose(spoken_run.masks, found.masks)
    np.testing.assert_allclose(spoken_run.prompts, [[33, 24], [np.nan, np.nan], [15, 18]])
    assert silent.prompts is None
    assert spoken_run.stability["jitter_error"] == pytest.approx(0, abs=1e-9)
    assert "prompt_jitter" not in spoken_run.stability  # never three in a row
    written = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert written["runs"][0]["prompts"] == [[33, 24], None, [15, 18]]
    assert written["runs"][1]["prompts"] is None
    assert written["truth"]["boxes"][0] == [34, 32]


def test_what_can_be_laid_side_by_side(two_squares, colour_pipeline, buffering_pipeline):
    box = [[0.5, 0.5, 0.6, 0.7]]
    runs = {"spoken": lambda: boxed(colour_pipeline, box, box, box), "silent": lambda: buffering_pipeline}
    found = clip_trajectories(two_squares, "only", "1", runs)
    masks = found.places("masks")
    assert list(masks) == ["truth", "spoken", "silent"]
    np.testing.assert_array_equal(masks["truth"], found.masks)
    alone = replace(found, runs=found.runs[:1]).places()
    np.testing.assert_array_equal(alone["truth"], found.boxes)
    np.testing.assert_allclose(alone["spoken"], [[33, 24]] * 3)
    with pytest.raises(UserError, match="run 'silent' prompted with no boxes for 'the blue square'; choose"):
        found.places()
    with pytest.raises(UserError, match="of 'prompts' or 'masks', got 'words'"):
        found.places("words")


def test_what_there_is_not_is_told(two_squares):
    assert find_expression(two_squares, "only", "2")[1].text == "the square that moves"
    with pytest.raises(UserError, match="two_squares test has no video 'other'; it has only"):
        find_expression(two_squares, "other", "0")
    with pytest.raises(UserError, match="no expression '7'; it has 0: 'the red square'; 1: 'the blue"):
        clip_trajectories(two_squares, "only", "7", {})
