"""Arrays: logits are resized before the threshold; nothing is unpickled."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from refstream.errors import UserError
from refstream.evaluation.predictions.inventory import inventory
from refstream.evaluation.predictions.open import open_predictions
from tests.evaluation.predictions.small import (
    Small,
    first,
    masks_of,
)


def test_logits_are_resized_bilinearly_before_the_threshold(tmp_path):
    benchmark = Small()
    video, expression, size = first(benchmark)
    logits = np.random.default_rng(0).normal(size=(3, 5, 6)).astype(np.float16)
    (tmp_path / "set/a").mkdir(parents=True)
    np.savez(tmp_path / "set/a/0.npz", mask_logits=logits, confidence=np.array([0.5, 1, 0], np.float32))
    found = open_predictions(tmp_path, benchmark).read(video, expression, size)
    soft = torch.from_numpy(logits.astype(np.float32))[:, None]
    expected = F.interpolate(soft, size, mode="bilinear", align_corners=False)[:, 0] > 0
    assert np.array_equal(found.masks, expected.numpy())
    hard = F.interpolate((soft > 0).float(), size, mode="nearest")[:, 0] > 0
    assert not np.array_equal(found.masks, hard.numpy())  # the case tells the two apart
    assert found.confidence.tolist() == [0.5, 1.0, 0.0]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "either 'masks' or 'mask_logits', got neither"),
        (
            {"masks": np.zeros((3, 12, 17), bool), "mask_logits": np.zeros((3, 1, 1))},
            "got masks, mask_logits",
        ),
        ({"masks": np.zeros((3, 12, 17), np.float32)}, "are they logits"),
        ({"masks": np.zeros((3, 1, 12, 17), bool)}, r"expected \(frames, height, width\)"),
        ({"masks": np.zeros((2, 12, 17), bool)}, "expected 3 masks"),
        ({"mask_logits": np.full((3, 2, 2), np.nan)}, "finite floats"),
        ({"masks": np.zeros((3, 12, 17), bool), "frames": np.arange(3)}, "names as str"),
        ({"masks": np.zeros((3, 12, 17), bool), "confidence": np.array([0, 1, 2])}, "must lie in"),
        ({"masks": np.array([{"a": 1}], dtype=object)}, "not a readable .npz of plain arrays"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(arrays, message, tmp_path):
    benchmark = Small()
    (tmp_path / "set/a").mkdir(parents=True)
    np.savez(tmp_path / "set/a/0.npz", **arrays)
    with pytest.raises(UserError, match=message) as caught:
        open_predictions(tmp_path, benchmark).read(*first(benchmark))
    assert "0.npz" in str(caught.value)


def test_frames_of_arrays_go_by_their_names(tmp_path):
    benchmark = Small()
    (tmp_path / "set/a").mkdir(parents=True)
    masks = masks_of("set/a", "0")[[2, 0]]
    np.savez(tmp_path / "set/a/0.npz", masks=masks, frames=np.array(["00010", "00000"]))
    predictions = open_predictions(tmp_path, benchmark)
    found = predictions.read(*first(benchmark))
    assert found.missing == (1,)
    assert np.array_equal(found.masks[[2, 0]], masks)
    assert ("set/a", "0", "00005") in inventory(predictions, benchmark).missing_frames
