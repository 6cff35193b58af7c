from __future__ import annotations

import json

import numpy as np
import pytest
from pycocotools import mask as coco

from refstream.data.rle import decode, decode_clip, encode, encode_clip, from_polygons


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (5, 9), (120, 161)])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_round_trip(size, share):
    mask = np.random.default_rng(3).random(size) < share
    code = json.loads(json.dumps(encode(mask)))
    assert code["size"] == list(size)
    result = decode(code)
    assert result.dtype == bool
    np.testing.assert_array_equal(result, mask)


def test_codes_are_those_of_pycocotools():
    mask = np.random.default_rng(4).random((40, 30)) < 0.3
    official = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert encode(mask)["counts"].encode() == official["counts"]
    np.testing.assert_array_equal(decode(official), mask)


def test_uncompressed_runs_are_column_major():
    mask = decode({"size": [2, 3], "counts": [1, 3, 2]})
    np.testing.assert_array_equal(mask, [[False, True, False], [True, True, False]])


def test_clip_with_empty_frames():
    masks = np.random.default_rng(5).random((3, 8, 6)) < 0.4
    codes = [*encode_clip(masks), None]
    result = decode_clip(codes)
    np.testing.assert_array_equal(result[:3], masks)
    assert not result[3].any()
    assert decode_clip([None, None], size=(8, 6)).shape == (2, 8, 6)


@pytest.mark.parametrize(
    "code",
    [
        None,
        {"counts": "abc"},
        {"size": [2], "counts": "abc"},
        {"size": [0, 4], "counts": "abc"},
        {"size": [8, 8], "counts": None},
        {"size": [8, 8], "counts": "é"},
        {"size": [8, 8], "counts": "\x10"},
        {"size": [8, 8], "counts": ""},
        {"size": [2, 3], "counts": [1, 3, 3]},
        {"size": [2, 3], "counts": [7, -1]},
    ],
)
def test_broken_codes_are_refused(code):
    with pytest.raises(ValueError, match="RLE"):
        decode(code)


def test_truncated_or_misfitting_code_is_refused():
    code = encode(np.random.default_rng(6).random((40, 30)) < 0.3)
    with pytest.raises(ValueError, match="RLE"):
        decode({"size": code["size"], "counts": code["counts"][:-3]})
    with pytest.raises(ValueError, match="RLE"):
        decode({"size": [40, 31], "counts": code["counts"]})


def test_bad_masks_are_refused():
    with pytest.raises(ValueError, match="bool mask"):
        encode(np.zeros((4, 4), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"\(T, H, W\)"):
        encode_clip(np.zeros((4, 4), dtype=bool))
    with pytest.raises(ValueError, match="one size"):
        decode_clip([None])


def test_polygons_become_their_union():
    square, overlapping = [2, 1, 6, 1, 6, 4, 2, 4], [4, 2, 9, 2, 9, 6, 4, 6]
    expected = np.zeros((8, 10), dtype=bool)
    expected[1:4, 2:6] = expected[2:6, 4:9] = True
    mask = from_polygons([square, overlapping], 8, 10)
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, expected)


def test_polygons_are_those_of_pycocotools():
    rng = np.random.default_rng(7)
    polygons = [(rng.random(2 * n) * 60 - 5).tolist() for n in (3, 5, 12)]
    official = [coco.decode(coco.frPyObjects([polygon], 40, 50))[..., 0] for polygon in polygons]
    np.testing.assert_array_equal(from_polygons(polygons, 40, 50), np.any(official, axis=0))


def test_degenerate_polygons_enclose_nothing():
    for polygon in ([], [1, 2], [1, 1, 5, 5], [3, 3, 3, 3, 3, 3]):
        assert from_polygons([polygon], 8, 8).sum() == 0
    assert from_polygons([], 3, 5).shape == (3, 5)
    box = [2, 1, 6, 1, 6, 4, 2, 4]  # beside one of two points it stays a polygon
    np.testing.assert_array_equal(from_polygons([[1, 1, 5, 5], box], 8, 8), from_polygons([box], 8, 8))


@pytest.mark.parametrize(
    "polygon", [[1, 2, 3, 4, 5], [1, 2, 3, 4, 5, float("nan")], [0, 0, 1e9, 0, 0, 5], [[1, 2, 3, 4, 5, 6]]]
)
def test_impossible_polygons_are_refused(polygon):
    with pytest.raises(ValueError, match="polygon"):
        from_polygons([polygon], 8, 8)
    with pytest.raises(ValueError, match="1 x 1"):
        from_polygons([], 0, 8)
