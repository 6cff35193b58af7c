"""Ablations: plans that cannot work are refused, means and rates are right, and a small one runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from refstream.engine.ablation import (
    arm_waves,
    check,
    matched_gate,
    row_models,
    run_ablation,
    summarise,
    table,
    waves,
)
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
        (dict(stability=["wobble"]), r"no figures \['wobble'\]; there are \['compensated_iou', "),
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
    means = {"held out": None, "calls": 0.75}
    assert summarise(cells) == {"J&F": 2.0, "spread": spread, "seeds": 2, "by seed": [1.0, 3.0], **means}
    assert summarise(cells[:1])["spread"] is None


def result(jerk: float | None, stability: bool = True) -> dict[str, Any]:
    figures = {"jitter_error": 1.5} | ({} if jerk is None else {"prompt_jerk": jerk})
    return dict(
        rows=[{"run": "model", "J&F": 50.0, "motion": 40.0}, {"run": "empty", "J&F": 9.0, "motion": 8.0}],
        headline={"J&F": 50.0},
        speed=dict(mllm_calls_per_frame=1.0, fps=5.0),
        stability=figures if stability else None,
        settings={},
        commit="abc",
        learned={},
    )


def test_rows_have_the_chosen_figures_of_stability(tmp_path: Path) -> None:
    """After J&F and its groups, before the speed; means over seeds; None for floors and for who has none."""
    rows = [dict(name="boxes", arm="a", floors=True), dict(name="one of two", arm="a")]
    rows += [dict(name="none", arm="a"), dict(name="pictures", arm="a")]
    made = dict(plan(rows=rows, arms=dict(a=dict(folder="f", seeds=[0, 1]))))
    results = {
        "boxes": [result(2.0), result(4.0)],
        "one of two": [result(2.0), result(None)],
        "none": [result(None), result(None)],
        "pictures": [result(None, stability=False)] * 2,
    }
    results["none"][0]["commit"] = "def+"
    written = table(made, results, tmp_path)
    plain = written["rows"]
    assert written["commit"] == "abc, def+"  # of those that measured the rows
    assert not {"jitter_error", "prompt_jerk"} & {key for row in plain for key in row}
    found = table(made | dict(stability=["jitter_error", "prompt_jerk"]), results, tmp_path)["rows"]
    after = ["motion", "jitter_error", "prompt_jerk", "calls a frame", "FPS"]
    assert list(found[0]) == ["run", "J&F", "spread", "seeds", "by seed", *after]
    told = {row["run"]: (row["jitter_error"], row["prompt_jerk"]) for row in found}
    assert told == {
        "boxes": (1.5, 3.0),
        "boxes: empty": (None, None),
        "one of two": (1.5, None),
        "none": (1.5, None),
        "pictures": (None, None),
    }
    for row, other in zip(found, plain, strict=True):
        assert {k: v for k, v in row.items() if k not in ("jitter_error", "prompt_jerk")} == other


def test_the_models_of_rows() -> None:
    arms = dict(a=dict(config="c", seeds=[3, 4]), b=dict(folder="f"))
    made = plan(arms=arms, rows=[dict(name="one", arm="a", pipeline=dict(k=1)), dict(name="two", arm="b")])
    found = row_models(made, ["two", "one"], 0)
    assert list(found.items()) == [("two", ("f", {})), ("one", (str(Path("w/a_3/export")), {"k": 1}))]
    assert row_models(made, ["one"], 1)["one"][0] == str(Path("w/a_4/export"))
    with pytest.raises(ValueError, match="row 'two' has 1 seeds, there is no number 1"):
        row_models(made, ["two"], 1)
    with pytest.raises(ValueError, match=r"no row is named 'two' .*; there are \['one'\]"):
        row_models(plan(), ["two"])  # its gate is matched to another's


def test_models_that_are_missing_are_told_before_anything_is_trained(tmp_path: Path) -> None:
    content = f"""
name = "small"
work_dir = {str(tmp_path / "work")!r}
benchmark = dict(name="minirvos", num_clips=2)
arms = dict(
    trained=dict(config="no such config"),
    its=dict(folder={str(tmp_path / "work/trained_0/export")!r}),
    given=dict(folder={str(tmp_path / "elsewhere/export")!r}),
)
rows = [dict(name="one", arm="given")]
"""
    (tmp_path / "plan.py").write_text(content)
    with pytest.raises(FileNotFoundError, match=r"missing: [^;]*elsewhere/export \(train elsewhere first"):
        run_ablation(tmp_path / "plan.py", out=tmp_path / "out.json")


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
