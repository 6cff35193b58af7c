"""RefCOCO, RefCOCO+ and RefCOCOg as written, read back by the training reader."""

from __future__ import annotations

import numpy as np
import pytest

from refstream.data.datasets.refcoco import RefCOCODataset
from refstream.data.layouts import write_layout
from refstream.synthetic.minirvos import MiniRVOS


@pytest.mark.parametrize(
    ("name", "split"), [("refcoco", "testB"), ("refcoco+", "train"), ("refcocog", "val")]
)
def test_refcoco(tmp_path, name, split):
    source = MiniRVOS("train", seed=3, num_clips=4, size=64)
    report = write_layout(name, source, tmp_path / name, split=split)
    data = RefCOCODataset(tmp_path, name, split, expressions=99, repeat=False)
    assert (len(data), data.report()["expressions"]) == (report.clips, report.expressions)
    assert data.report()["left_out"] == {}
    assert len(data) == 4
    for index in range(len(data)):
        still = source.still(index)
        sample = data.sample(index, np.random.default_rng(0))
        assert np.abs(sample.frames.astype(int) - still.frames).mean() < 8  # JPEG
        expected = [
            (e.text, still.target_mask(e).tobytes())
            for e in still.expressions
            if len(e.object_ids) == 1 and not (name == "refcoco+" and e.family == "relation")
        ]
        got = [(text, masks.tobytes()) for text, masks in zip(sample.expressions, sample.masks, strict=True)]
        assert sorted(got) == sorted(expected)
