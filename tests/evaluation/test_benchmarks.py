from __future__ import annotations

import json

import numpy as np
import pytest

from refstream.errors import UserError
from refstream.evaluation.benchmarks import BENCHMARKS, load_benchmark, run_benchmark
from refstream.synthetic.expressions import FAMILY_SHARES

SMALL = {"num_clips": 2, "num_frames": 6, "size": 64}


class Model:
    """What ``run_benchmark`` needs of a model."""

    def __init__(self, pipeline, segmenter):
        self._pipeline = pipeline
        self.segmenter = segmenter
        self.overrides = None

    def pipeline(self, **overrides):
        self.overrides = overrides
        return self._pipeline


def test_minirvos_is_what_it_says():
    benchmark = load_benchmark("minirvos", seed=7, **SMALL)
    clips = list(benchmark)
    assert len(benchmark) == len(clips) == 2
    assert benchmark.weights == FAMILY_SHARES
    assert benchmark.settings["seed"] == 7
    assert json.loads(json.dumps(benchmark.settings)) == benchmark.settings
    for clip in clips:
        assert clip.frames.shape == (6, 64, 64, 3)
        for item in clip.items:
            np.testing.assert_array_equal(item.mask, clip.object_masks[item.target[0]])
            assert item.group in FAMILY_SHARES
    again = list(load_benchmark("minirvos", seed=7, **SMALL))
    other = list(load_benchmark("minirvos", seed=8, **SMALL))
    np.testing.assert_array_equal(again[1].frames, clips[1].frames)
    assert (other[1].frames != clips[1].frames).any()


def test_run_benchmark(colour_pipeline, box_segmenter, tmp_path):
    model = Model(colour_pipeline, box_segmenter)
    out = tmp_path / "result.json"
    result = run_benchmark(
        "minirvos",
        model,
        model_name="colours",
        floors=True,
        out=out,
        pipeline={"gate": {"type": "EveryFrame"}},
        **SMALL,
    )
    assert model.overrides == {"gate": {"type": "EveryFrame"}}
    assert json.loads(out.read_text())["j_and_f"] == result.j_and_f
    assert result.num_clips == 2
    assert result.ceiling.overall.j > result.floors["shuffled"].overall.j


def test_errors(colour_pipeline, box_segmenter):
    assert "minirvos" in BENCHMARKS
    with pytest.raises(UserError, match="unknown benchmark 'nothing'; available: minirvos"):
        load_benchmark("nothing")
    with pytest.raises(UserError, match="num_clips"):
        load_benchmark("minirvos", num_clips=0)
    with pytest.raises(UserError, match="families"):
        run_benchmark("minirvos", Model(colour_pipeline, box_segmenter), families=["taste"])
