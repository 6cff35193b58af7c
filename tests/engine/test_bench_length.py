"""Costs against length: counts are exact, and bad input is refused before anything is loaded."""

from __future__ import annotations

import pytest

from refstream.engine.bench_length import bench_length
from refstream.errors import UserError
from refstream.resources import default_model_path


@pytest.mark.slow
def test_counts_every_encoded_image() -> None:
    arms = {"every": dict(gate=dict(type="EveryFrameGate")), "first": dict(gate=dict(type="FirstFrameGate"))}
    result = bench_length(default_model_path(), arms, [2, 5], size=(96, 128), rounds=1)
    found = {(row["arm"], row["frames"]): row for row in result["rows"]}
    assert set(found) == {("every", 2), ("every", 5), ("first", 2), ("first", 5)}
    for (name, length), row in found.items():
        assert row["segmenter images"] == length
        assert row["MLLM images"] == row["MLLM passes"] == (length if name == "every" else 1)
        assert row["FPS"] > 0
    assert found["every", 2]["against the shortest"] == 1.0


@pytest.mark.parametrize("wrong", [dict(arms={}), dict(lengths=[]), dict(lengths=[0]), dict(rounds=0)])
def test_nothing_to_measure(wrong: dict) -> None:
    keys = {"arms": {"a": {}}, "lengths": [2], **wrong}
    with pytest.raises(UserError, match="needs arms"):
        bench_length("nowhere", **keys)
