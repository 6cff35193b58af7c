from __future__ import annotations

import json

import numpy as np
import pytest

from refstream.errors import UserError
from refstream.evaluation.benchmarks import BENCHMARKS, load_benchmark, run_benchmark
from refstream.synthetic.minirvos import SHARES
from refstream.synthetic.rich_expressions import RICH_FAMILIES

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


@pytest.mark.parametrize("world", ["plain", "rich"])
def test_minirvos_is_what_it_says(world):
    benchmark = load_benchmark("minirvos", seed=7, world=world, **SMALL)
    clips = list(benchmark)
    assert len(benchmark) == len(clips) == 2
    assert benchmark.weights == {family: SHARES[world][family] for family in benchmark.data.families}
    assert benchmark.settings["world"] == world
    assert benchmark.settings["seed"] == 7
    assert json.loads(json.dumps(benchmark.settings)) == benchmark.settings
    for clip in clips:
        assert clip.frames.shape == (6, 64, 64, 3)
        for item in clip.items:
            np.testing.assert_array_equal(item.mask, clip.object_masks[list(item.target)].any(0))
            assert item.group in benchmark.weights
    again = list(load_benchmark("minirvos", seed=7, world=world, **SMALL))
    other = list(load_benchmark("minirvos", seed=8, world=world, **SMALL))
    np.testing.assert_array_equal(again[1].frames, clips[1].frames)
    assert (other[1].frames != clips[1].frames).any()


def test_all_families_of_the_rich_world_weigh_the_same():
    assert load_benchmark("minirvos").weights == dict.fromkeys(RICH_FAMILIES, 1 / 8)
    assert load_benchmark("minirvos", world="plain").weights == SHARES["plain"]


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
