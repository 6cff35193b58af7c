"""Rules for parts that overlap, by hand on 2 x 3 pixels."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco

from refstream.data.rle import encode
from refstream.evaluation.readers.outlines import merge, outlines

SIZE = (2, 3)
A = np.array([[1, 1, 0], [1, 1, 0]], dtype=bool)
B = np.array([[0, 1, 1], [0, 1, 1]], dtype=bool)


def test_parts_are_joined_cancelled_or_corrupted() -> None:
    assert merge([[A, B]], SIZE).all()
    np.testing.assert_array_equal(merge([[A, B]], SIZE, "background"), [[1, 0, 1], [1, 0, 1]])
    # columns: 1 1 | 2 2 | 1 1; the code toggles at each change: on, off, on
    np.testing.assert_array_equal(merge([[A, B]], SIZE, "rle_of_sum"), [[1, 0, 1], [1, 0, 1]])
    # annotations are or-ed: 1 | 1 = 1
    np.testing.assert_array_equal(merge([[A], [B]], SIZE, "background"), np.ones(SIZE))
    for parts in ([], [[]]):
        assert not merge(parts, SIZE, "rle_of_sum").any()


def test_the_corrupted_code_is_that_of_pycocotools() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        parts = rng.random((3, 7, 9)) < 0.4
        public = coco.decode(coco.encode(np.asfortranarray(parts.sum(0).astype(np.uint8)))).astype(bool)
        np.testing.assert_array_equal(merge([parts], (7, 9), "rle_of_sum"), public)


def test_forms_of_a_segmentation() -> None:
    square = [0, 0, 2, 0, 2, 2, 0, 2]
    np.testing.assert_array_equal(outlines([square], SIZE), [A])
    np.testing.assert_array_equal(outlines([encode(A), encode(B)], SIZE), [A, B])
    np.testing.assert_array_equal(outlines(encode(B), SIZE), [B])
    assert outlines([], SIZE) == []
    with pytest.raises(ValueError, match=r"of size \(3, 2\), its picture of \(2, 3\)"):
        outlines([encode(np.ones((3, 2), bool))], SIZE)
