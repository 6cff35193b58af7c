"""The torch path against the official values and, on random masks, against the NumPy path."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from refstream.evaluation.metrics import jf, jf_torch


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    return request.param


def _unpack(masks, name, shape):
    return np.unpackbits(masks[name], count=int(np.prod(shape))).astype(bool).reshape(shape)


def test_official_values(golden, device):
    info = json.loads((golden / "davis" / "case.json").read_text())
    masks = np.load(golden / "davis" / "masks.npz")
    assert len(info["pairs"]) >= 50
    for pair in info["pairs"]:
        shape = 1, pair["height"], pair["width"]
        names = ["gt", "result", *(["void"] if pair["void"] else [])]
        clips = [torch.from_numpy(_unpack(masks, f"{n}_{pair['id']}", shape)).to(device) for n in names]
        j, f = jf_torch.frame_scores(*clips, bound_th=pair["bound_th"])
        assert j[0] == pytest.approx(pair["J"], abs=1e-12, rel=0), pair["id"]
        assert f[0] == pytest.approx(pair["F"], abs=1e-12, rel=0), pair["id"]


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (13, 17), (65, 64), (64, 65), (70, 200)])
@pytest.mark.parametrize("frames_at_once", [1, 3, 32])
def test_equals_numpy(size, frames_at_once, device):
    rng = np.random.default_rng(5)
    density = np.array([0.0, 1.0, 0.02, 0.3, 0.5])[:, None, None]
    gt, result = rng.random((2, 5, *size)) < density
    void = rng.random((5, *size)) < 0.1
    for bound_th in (0.008, 0.05, 1, 3, 100):
        for extra in (None, void):
            expected = jf.frame_scores(gt, result, extra, bound_th)
            clips = [None if m is None else torch.from_numpy(m).to(device) for m in (gt, result, extra)]
            found = jf_torch.frame_scores(*clips, bound_th=bound_th, frames_at_once=frames_at_once)
            for ours, theirs in zip(found, expected, strict=True):
                assert ours.dtype == np.float64
                assert ours.shape == (5,)
                assert ours.tolist() == theirs.tolist()


def test_boundary_maps_are_equal(device):
    masks = np.random.default_rng(0).random((3, 20, 31)) < 0.4
    found = jf_torch.boundary_map(torch.from_numpy(masks).to(device)).cpu().numpy()
    assert found.tolist() == np.stack([jf.boundary_map(mask) for mask in masks]).tolist()


def test_bad_masks_are_refused():
    mask = torch.zeros(2, 4, 5, dtype=torch.bool)
    for gt, result in [
        (mask.float(), mask),
        (mask[0], mask[0]),
        (mask, mask[:1]),
        (mask[:0], mask[:0]),
        (mask, mask.to("meta")),
    ]:
        with pytest.raises(ValueError, match="mask"):
            jf_torch.frame_scores(gt, result)
    with pytest.raises(ValueError, match="frames_at_once"):
        jf_torch.frame_scores(mask, mask, frames_at_once=0)
