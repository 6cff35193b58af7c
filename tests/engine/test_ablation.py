"""Ablations: plans that cannot work are refused, means and rates are right, and a small one runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from refstream.engine.ablation import arm_waves, check, matched_gate, run_ablation, summarise, waves
from refstream.registry import GATES
from refstream.streaming.gates import GateSignals
from refstream.testing import small_model


def plan(**changes: Any) -> dict[str, Any]:
    rows = [dict(name="one", arm="a"), dict(name="two", arm="a", match="one")]
    return dict(name="n", work_dir="w", benchmark=dict(name="minirvos"), arms=dict(a={}), rows=rows) | changes


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (dict(speed=1), "unknown {'speed'}"),
        (dict(rows=[dict(name="one", arm="b")]), "names arm 'b'"),
        (dict(arms=dict(a=dict(after="b"))), "never come first"),
        (dict(rows=[dict(name="one", arm="a", match="later")]), "no earlier row"),
        (dict(rows=[dict(name="one", arm="a"), dict(name="one", arm="a")]), "two rows"),
    ],
)
def test_plans_that_cannot_work(changes: dict[str, Any], complaint: str) -> None:
    check(plan())
    with pytest.raises(ValueError, match=complaint):
        check(plan(**changes))


def test_rows_that_match_come_second() -> None:
    assert [[row["name"] for row in wave] for wave in waves(plan()["rows"])] == [["one"], ["two"]]


def test_arms_that_come_after_others_wait() -> None:
    arms = dict(last=dict(after="mid"), first={}, mid=dict(after="first"), other={})
    assert [list(wave) for wave in arm_waves(arms)] == [["first", "other"], ["mid"], ["last"]]


@pytest.mark.parametrize("calls", [6, 9, 24])
def test_a_matched_gate_calls_as_often(calls: int) -> None:
    frames = 24
    config = matched_gate(dict(type="EvenGate"), calls / frames, frames)
    gate = GATES.build(config)
    later = [gate.decide(GateSignals(t, 1)).invoke for t in range(1, frames)]
    assert 1 + sum(later) == calls


def test_means_and_spread() -> None:
    cells = [{"J&F": 1.0, "held out": None, "calls": 0.5}, {"J&F": 3.0, "held out": None, "calls": 1.0}]
    spread = 2**0.5
    assert summarise(cells) == {"J&F": 2.0, "spread": spread, "seeds": 2, "held out": None, "calls": 0.75}
    assert summarise(cells[:1])["spread"] is None


@pytest.mark.slow
def test_a_small_ablation_runs_and_goes_on(tmp_path: Path) -> None:
    model = small_model(dict(type="StreamingRVOS", gate=dict(type="EveryFrameGate")))
    model.save(tmp_path / "model")
    content = f"""
name = "small"
work_dir = {str(tmp_path / "work")!r}
benchmark = dict(name="minirvos", num_clips=2, num_frames=8, size=64)
arms = dict(given=dict(folder={str(tmp_path / "model")!r}))
rows = [
    dict(name="every k", arm="given", pipeline=dict(gate=dict(type="EveryKGate", k=4)), floors=True),
    dict(name="even", arm="given", pipeline=dict(gate=dict(type="EvenGate")), match="every k"),
]
"""
    (tmp_path / "plan.py").write_text(content)
    first = run_ablation(tmp_path / "plan.py", out=tmp_path / "out.json")
    names = [row["run"] for row in first["rows"]]
    assert names[0] == "every k"
    assert "every k: shuffled" in names
    assert names[-1] == "even"
    assert first["rows"][0]["calls a frame"] == first["rows"][-1]["calls a frame"] == 0.25
    written = [path.stat().st_mtime_ns for path in sorted((tmp_path / "work" / "rows").iterdir())]
    again = run_ablation(tmp_path / "plan.py", out=tmp_path / "out.json")
    assert again["rows"] == first["rows"] == json.loads((tmp_path / "out.json").read_text())["rows"]
    assert written == [path.stat().st_mtime_ns for path in sorted((tmp_path / "work" / "rows").iterdir())]
