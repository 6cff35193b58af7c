"""Temporal stability of rectangles and disks whose motion is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from refstream.evaluation.metrics.stability import (
    Stability,
    mask_boxes,
    mask_centres,
    temporal_stability,
)

HEIGHT, WIDTH = 60, 80  # diagonal 100


def _rect(x, y=20, width=10, height=8):
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[y : y + height, x : x + width] = True
    return mask


def _clip(*places, **kwargs):
    return np.stack([_rect(x, **kwargs) for x in places])


def _disks(*centres, radius=9):
    rows, cols = np.ogrid[:HEIGHT, :WIDTH]
    return np.stack([(cols - x) ** 2 + (rows - y) ** 2 <= radius**2 for x, y in centres])


def test_centres():
    masks = np.stack([_rect(4, y=2), np.zeros((HEIGHT, WIDTH), dtype=bool)])
    centres = mask_centres(masks)
    assert centres.shape == (2, 2)
    assert centres[0].tolist() == [8.5, 5.5]
    assert np.isnan(centres[1]).all()


def test_constant_velocity_is_steady():
    """A rectangle 10 wide that walks 2 pixels a frame: 8 of 12 columns are common to two frames."""
    clip = _clip(10, 12, 14, 16)
    figures = temporal_stability(clip, clip)
    assert figures == Stability(0.0, pytest.approx(8 / 12), 0.0, 1.0, 0.0, pytest.approx(8 / 12), 1.0)


def test_oblique_disk_is_steady():
    clip = _disks((12, 12), (17, 15), (22, 18), (27, 21))
    figures = temporal_stability(clip, clip)
    assert figures.jitter == pytest.approx(0, abs=1e-12)
    assert figures.compensated_iou == 1.0
    assert figures.frame_iou is not None
    assert figures.frame_iou < 0.7


def test_alternating_mask_has_known_jitter():
    """+1, -1, +1, ...: the second difference is 4 pixels, 4 percent of a diagonal of 100."""
    gt, result = _clip(20, 20, 20, 20), _clip(21, 19, 21, 19)
    figures = temporal_stability(result, gt)
    assert figures.jitter == pytest.approx(4.0)
    assert figures.jitter_error == pytest.approx(4.0)
    assert figures.gt_jitter == 0
    assert figures.frame_iou == pytest.approx(8 / 12)
    assert figures.compensated_iou == pytest.approx(8 / 12)
    assert figures.gt_compensated_iou == 1


def test_trembling_with_the_truth_is_no_error():
    gt = _clip(21, 19, 21, 19)
    figures = temporal_stability(_clip(31, 29, 31, 29), gt)
    assert figures.jitter == pytest.approx(4.0)
    assert figures.gt_jitter == pytest.approx(4.0)
    assert figures.jitter_error == pytest.approx(0.0)
    assert figures.compensated_iou == 1


def test_acceleration():
    """Places 0, 0, 3: the second difference is 3 pixels down, whatever the direction."""
    clip = np.stack([_rect(5, y) for y in (10, 10, 13)])
    assert temporal_stability(clip).jitter == pytest.approx(3.0)


def test_flicker_of_the_size_alone():
    """A mask of 10 or 5 columns on a truth that walks: the motion is taken out, the flicker is left."""
    gt = _clip(10, 13, 16)
    result = gt.copy()
    result[1, :, 18:] = False
    figures = temporal_stability(result, gt)
    assert figures.compensated_iou == pytest.approx(0.5)
    assert figures.gt_compensated_iou == 1


def test_what_leaves_the_picture_does_not_count():
    """Bars from top to bottom, in step with the truth; the right one walks out of the picture."""
    gt = _clip(10, 15, y=0, height=HEIGHT)
    result = gt | _clip(72, 77, y=0, height=HEIGHT)
    figures = temporal_stability(result, gt)
    assert figures.compensated_iou == 1
    assert figures.frame_iou is not None
    assert figures.frame_iou < 0.5


def test_empty_masks():
    empty, clip = np.zeros((4, HEIGHT, WIDTH), dtype=bool), _clip(20, 20, 20, 20)
    assert temporal_stability(empty, empty) == Stability(None, 1.0, gt_frame_iou=1.0)
    absent = temporal_stability(empty, clip)
    assert (absent.jitter, absent.jitter_error) == (None, None)
    assert (absent.frame_iou, absent.compensated_iou) == (1.0, 1.0)
    lost = clip.copy()
    lost[1] = False  # no triple is left, and two of three neighbours differ
    figures = temporal_stability(lost, clip)
    assert figures.jitter is None
    assert figures.frame_iou == pytest.approx(1 / 3)
    assert figures.compensated_iou == pytest.approx(1 / 3)
    unknown = temporal_stability(clip, lost)  # the motion is known from frame 2 to 3 only
    assert unknown.compensated_iou == 1
    assert unknown.gt_jitter is None


def test_short_clips_and_no_truth():
    assert temporal_stability(_clip(20)) == Stability(None, None)
    assert temporal_stability(_clip(20), _clip(20)).known() == {}
    assert temporal_stability(_clip(20, 25)).known() == {"frame_iou": pytest.approx(5 / 15)}
    assert math.isclose(temporal_stability(_clip(20, 25, 20)).jitter or 0, 10.0)


def _prompts(*centres, width=0.25, height=0.2):
    """Boxes in [0, 1] around centres in pixels; None: no box."""
    rows = np.full((len(centres), 4), np.nan)
    for row, centre in zip(rows, centres, strict=True):
        if centre is not None:
            x, y = centre[0] / WIDTH, centre[1] / HEIGHT
            row[:] = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    return rows


def test_boxes_of_masks():
    boxes = mask_boxes(np.stack([_rect(4, y=2), np.zeros((HEIGHT, WIDTH), dtype=bool)]))
    assert boxes[0].tolist() == [4, 2, 14, 10]
    assert np.isnan(boxes[1]).all()


def test_prompts_at_constant_velocity_are_smooth():
    figures = temporal_stability(
        _clip(*[20] * 5), prompts=_prompts(*[(20 + 4 * t, 30 + t) for t in range(5)])
    )
    assert figures.prompt_jitter == pytest.approx(0, abs=1e-9)
    assert figures.prompt_jerk == pytest.approx(0, abs=1e-9)
    assert figures.gt_prompt_jerk is None  # no truth was given


def test_prompts_at_constant_acceleration_have_jitter_and_no_jerk():
    """x = t^2 pixels: the second difference is 2, the third 0."""
    prompts = _prompts(*[(20 + t * t, 30) for t in range(6)])
    figures = temporal_stability(_clip(*[20] * 6), prompts=prompts)
    assert figures.prompt_jitter == pytest.approx(2.0)
    assert figures.prompt_jerk == pytest.approx(0, abs=1e-9)


def test_cubic_motion_has_constant_jerk():
    """x = t^3, y = 2 t^3 pixels: third differences of 6 and 12."""
    prompts = _prompts(*[(10 + t**3, 10 + 2 * t**3) for t in range(-2, 3)])
    figures = temporal_stability(_clip(*[20] * 5), prompts=prompts)
    assert figures.prompt_jerk == pytest.approx(math.hypot(6, 12))


def test_zigzag_of_prompts():
    """+3, -3, +3, ... pixels: differences of 6, 12 and 24, in percent of a diagonal of 100."""
    prompts = _prompts(*[(40 + 3 * (-1) ** t, 30) for t in range(5)])
    figures = temporal_stability(_clip(*[36] * 5), _clip(*[36] * 5), prompts)
    assert figures.prompt_jitter == pytest.approx(12.0)
    assert figures.prompt_jerk == pytest.approx(24.0)
    assert (figures.gt_prompt_jitter, figures.gt_prompt_jerk) == (0, 0)
    assert figures.jitter == 0  # the masks stand still


def test_the_largest_jerk_there_can_be():
    """Boxes without area that jump from corner to corner."""
    prompts = _prompts((0, 0), (80, 60), (0, 0), (80, 60), width=0, height=0)
    assert temporal_stability(_clip(*[20] * 4), prompts=prompts).prompt_jerk == pytest.approx(400.0)


def test_true_boxes_as_prompts_are_as_smooth_as_the_truth():
    gt = np.concatenate([_clip(20, 23, 21, 30, 28), _clip(20, width=4)])
    scale = np.array([WIDTH, HEIGHT, WIDTH, HEIGHT])
    figures = temporal_stability(gt, gt, mask_boxes(gt) / scale)
    assert figures.prompt_jerk == pytest.approx(figures.gt_prompt_jerk)
    # centres 25, 28, 26, 35, 33, 22: third differences 16, -22, 2
    assert figures.gt_prompt_jerk == pytest.approx(40 / 3)


def test_only_runs_of_four_prompts_count():
    """Before the gap three prompts in a row, after it four; the truth is judged on the same frames."""
    spoken = [(20, 30), (25, 30), (20, 30), None, (20, 30), (20, 30), (20, 30), (24, 30)]
    gt = _clip(10, 40, 10, 40, 20, 20, 20, 22)
    figures = temporal_stability(gt, gt, _prompts(*spoken))
    assert figures.prompt_jitter == pytest.approx((10 + 0 + 4) / 3)
    assert figures.prompt_jerk == pytest.approx(4.0)
    assert figures.gt_prompt_jitter == pytest.approx((60 + 0 + 2) / 3)
    assert figures.gt_prompt_jerk == pytest.approx(2.0)
    gt[5] = False  # the truth is hidden in the only run of four
    hidden = temporal_stability(gt, gt, _prompts(*spoken))
    assert hidden.prompt_jerk == pytest.approx(4.0)
    assert hidden.gt_prompt_jerk is None


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_frames_have_no_jerk(count):
    clip = _clip(*[20] * count)
    figures = temporal_stability(clip, clip, _prompts(*[(20, 30)] * count))
    assert (figures.prompt_jerk, figures.gt_prompt_jerk) == (None, None)
    assert (figures.prompt_jitter is None) == (count < 3)


def test_without_a_single_prompt_there_are_no_figures_of_prompts():
    clip = _clip(20, 22, 24, 26)
    assert temporal_stability(clip, clip, _prompts(None, None, None, None)) == temporal_stability(clip, clip)


def test_prompts_that_do_not_fit_the_masks_are_refused():
    with pytest.raises(ValueError, match=r"a box for each of 2 frames, got shape \(3, 4\)"):
        temporal_stability(_clip(3, 4), prompts=_prompts((3, 3), (4, 4), (5, 5)))


@pytest.mark.parametrize(
    ("result", "gt"),
    [
        (_rect(3), None),
        (_clip(3).astype(np.uint8), None),
        (_clip(3, 4), _clip(3)),
        (_clip(3), _rect(3)),
    ],
)
def test_bad_masks_are_refused(result, gt):
    with pytest.raises(ValueError, match=r"mask|shape"):
        temporal_stability(result, gt)
