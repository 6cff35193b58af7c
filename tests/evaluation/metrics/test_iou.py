from __future__ import annotations

import numpy as np
import pytest

from refstream.evaluation.metrics.iou import mask_iou


def _mask(first, last):
    mask = np.zeros((1, 20), dtype=bool)
    mask[0, first:last] = True
    return mask


def test_mask_iou():
    assert mask_iou(_mask(0, 10), _mask(5, 15)) == pytest.approx(5 / 15)
    assert mask_iou(_mask(0, 0), _mask(0, 0)) == 1
    assert mask_iou(_mask(0, 0), _mask(0, 1)) == 0


def test_errors():
    with pytest.raises(ValueError, match="bool mask"):
        mask_iou(_mask(0, 1), _mask(0, 1).astype(int))
