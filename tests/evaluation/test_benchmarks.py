from __future__ import annotations

import json

import numpy as np
import pytest

from refstream.errors import UserError
from refstream.evaluation.benchmarks import BENCHMARKS, load_benchmark, make_protocol, run_benchmark
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
    assert len(benchmark.videos) == 2
    assert benchmark.weights == {family: SHARES[world][family] for family in benchmark.data.families}
    assert benchmark.settings["world"] == world
    assert benchmark.settings["seed"] == 7
    assert json.loads(json.dumps(benchmark.settings)) == benchmark.settings
    for index in (1, 0, 1):
        video, clip = benchmark.videos[index], benchmark.data[index]
        assert [e.text for e in video.expressions] == [e.text for e in clip.expressions]
        np.testing.assert_array_equal(np.stack(list(benchmark.images(video))), clip.frames)
        np.testing.assert_array_equal(benchmark.objects(video), clip.object_masks)
        for e in video.expressions:
            truth = clip.object_masks[e.details["target"]].any(0)
            np.testing.assert_array_equal(benchmark.truth(video, e), truth)
            assert e.group in benchmark.weights
    again = load_benchmark("minirvos", seed=7, world=world, **SMALL)
    other = load_benchmark("minirvos", seed=8, world=world, **SMALL)
    assert again.fingerprint == benchmark.fingerprint != other.fingerprint


def test_all_families_of_the_rich_world_weigh_the_same():
    assert load_benchmark("minirvos").weights == dict.fromkeys(RICH_FAMILIES, 1 / 8)
    assert load_benchmark("minirvos", world="plain").weights == SHARES["plain"]


def test_run_benchmark(colour_pipeline, box_segmenter):
    model = Model(colour_pipeline, box_segmenter)
    gate = {"gate": {"type": "EveryFrame"}}
    result = run_benchmark("minirvos", model, model_name="colours", floors=True, pipeline=gate, **SMALL)
    assert model.overrides == gate
    assert result.expected["videos"] == 2
    assert result.ceilings["oracle box"]["overall"]["J"] > result.floors["shuffled"]["overall"]["J"]


def test_errors(colour_pipeline, box_segmenter):
    assert "minirvos" in BENCHMARKS
    with pytest.raises(UserError, match=r"unknown benchmark 'nothing'; available: .*minirvos"):
        load_benchmark("nothing")
    with pytest.raises(UserError, match="num_clips"):
        load_benchmark("minirvos", num_clips=0)
    with pytest.raises(UserError, match="no split 'valid'; it has test, val, train"):
        load_benchmark("minirvos", split="valid")
    with pytest.raises(UserError, match="leave out --data"):
        load_benchmark("minirvos", root="data")
    with pytest.raises(UserError, match="no protocol 'x'; it has families"):
        make_protocol("minirvos", "x")
    with pytest.raises(UserError, match="families"):
        run_benchmark("minirvos", Model(colour_pipeline, box_segmenter), families=["taste"])
