"""Temporal stability of rectangles and disks whose motion is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from refstream.evaluation.metrics.stability import (
    Stability,
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
