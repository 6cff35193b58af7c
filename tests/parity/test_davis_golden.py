"""J and F against values of the official DAVIS-2017 code: see tests/golden/README.md, davis/."""

from __future__ import annotations

import json

import numpy as np
import pytest

from refstream.evaluation.metrics.jf import (
    boundary_map,
    contour_accuracy,
    region_similarity,
    sequence_statistics,
)

EXACT = 1e-12  # pure counting


@pytest.fixture(scope="module")
def case(golden):
    folder = golden / "davis"
    return json.loads((folder / "case.json").read_text()), np.load(folder / "masks.npz")


def _mask(masks, name, *shape):
    return np.unpackbits(masks[name], count=int(np.prod(shape))).astype(bool).reshape(shape)


def test_pairs(case):
    info, masks = case
    assert info["pairs"]
    for pair in info["pairs"]:
        name, shape = pair["id"], (pair["height"], pair["width"])
        gt, result = _mask(masks, f"gt_{name}", *shape), _mask(masks, f"result_{name}", *shape)
        void = _mask(masks, f"void_{name}", *shape) if pair["void"] else None
        assert region_similarity(gt, result, void) == pytest.approx(pair["J"], abs=EXACT, rel=0), name
        f = contour_accuracy(gt, result, void, pair["bound_th"])
        assert f == pytest.approx(pair["F"], abs=EXACT, rel=0), name
        if "boundary_pixels_gt" in pair:
            assert boundary_map(gt).sum() == pair["boundary_pixels_gt"]
            assert boundary_map(result).sum() == pair["boundary_pixels_result"]


def test_sequences(case):
    info, masks = case
    assert info["sequences"]
    for sequence in info["sequences"]:
        shape = sequence["frames"], sequence["height"], sequence["width"]
        gt = _mask(masks, f"seq{sequence['id']}_gt", *shape)
        result = _mask(masks, f"seq{sequence['id']}_result", *shape)
        for letter, values in (("J", region_similarity(gt, result)), ("F", contour_accuracy(gt, result))):
            np.testing.assert_allclose(values, sequence[letter], rtol=0, atol=EXACT)
            expected = sequence[f"{letter}_mean_recall_decay"]
            np.testing.assert_allclose(sequence_statistics(values), expected, rtol=0, atol=EXACT)
