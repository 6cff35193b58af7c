"""The decision policy against hand-written cases and its laws."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from refstream_projects.streamo.policy import Decision, DecisionPolicy, best_threshold, build_policy

from refstream.errors import UserError


def odds(silence: float, standby: float, response: float) -> dict[str, float]:
    return {"silence": silence, "standby": standby, "response": response}


def decide(
    policy: DecisionPolicy, p: dict[str, float], time_s: float = 0.0, last_s: float | None = None
) -> Decision:
    return policy.decide(p, time_s=time_s, last_s=last_s)


@pytest.mark.parametrize(
    ("keys", "p", "expected"),
    [
        ({}, odds(0.5, 0.2, 0.3), Decision("silence", "argmax")),
        ({}, odds(0.2, 0.5, 0.3), Decision("standby", "argmax")),
        ({}, odds(0.2, 0.3, 0.5), Decision("response", "argmax")),
        ({}, odds(0.4, 0.2, 0.4), Decision("silence", "argmax")),  # of equals the quieter
        ({}, odds(0.0, 0.5, 0.5), Decision("standby", "argmax")),
        ({"respond": 0.3}, odds(0.5, 0.2, 0.3), Decision("response", "threshold")),
        ({"respond": 0.9}, odds(0.1, 0.2, 0.7), Decision("standby", "threshold")),
        ({"respond": 0.0}, odds(1.0, 0.0, 0.0), Decision("response", "threshold")),
        ({"standby": False}, odds(0.2, 0.5, 0.3), Decision("silence", "argmax")),
    ],
)
def test_what_is_chosen(keys: dict, p: dict[str, float], expected: Decision) -> None:
    assert decide(DecisionPolicy(**keys), p) == expected


def test_after_having_spoken_it_rests() -> None:
    policy = DecisionPolicy(cool_down_s=3.0)
    p = odds(0.1, 0.2, 0.7)
    assert decide(policy, p, 4.9, last_s=2.0) == Decision("standby", "cool_down")
    assert decide(policy, p, 5.0, last_s=2.0) == Decision("response", "argmax")
    assert decide(policy, odds(0.7, 0.2, 0.1), 3.0, last_s=2.0) == Decision("silence", "argmax")


def spoken(threshold: float, stream: np.ndarray, cool_down_s: float) -> list[int]:
    policy = DecisionPolicy(respond=threshold, cool_down_s=cool_down_s)
    last: float | None = None
    times: list[int] = []
    for second, p in enumerate(stream):
        if decide(policy, odds(*map(float, p)), float(second), last).state == "response":
            last = float(second)
            times.append(second)
    return times


@pytest.mark.parametrize("cool_down_s", [0.0, 1.0, 4.0])
def test_a_higher_threshold_never_speaks_more(cool_down_s: float) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        stream = rng.dirichlet([1.0, 1.0, 1.0], size=40)
        runs = [spoken(threshold, stream, cool_down_s) for threshold in np.linspace(0, 1, 11)]
        assert len(runs[0]) == -(-40 // max(1, int(cool_down_s)))  # at 0 it speaks whenever it may
        for low, high in itertools.pairwise(runs):
            assert len(high) <= len(low)
            assert cool_down_s > 0 or set(high) <= set(low)


def test_wrong_numbers() -> None:
    for keys in ({"respond": 1.5}, {"respond": -0.1}, {"cool_down_s": -1.0}, {"cool_down_s": float("inf")}):
        with pytest.raises(UserError, match="must be"):
            DecisionPolicy(**keys)
    with pytest.raises(UserError, match="its keys are"):
        build_policy({"treshold": 0.5})
    with pytest.raises(ValueError, match="three states"):
        decide(DecisionPolicy(), {"silence": 1.0})
    with pytest.raises(ValueError, match="not numbers"):
        decide(DecisionPolicy(), odds(float("nan"), 0.0, 0.0))
    policy = DecisionPolicy(respond=0.2)
    assert build_policy(policy) is policy
    assert build_policy(None).respond is None


def test_the_best_threshold_by_trying_all() -> None:
    assert best_threshold([0.9, 0.8, 0.2], [True, True, False]) == (0.8, 1.0)
    # speaking at 0.7 takes both of that probability: 2 of 3 right, 2 of 3 found
    assert best_threshold([0.7, 0.7, 0.9, 0.1], [True, False, True, True]) == (0.1, 6 / 7)
    rng = np.random.default_rng(1)
    for _ in range(30):
        p = rng.integers(0, 6, 12) / 5
        truth = rng.random(12) < 0.4
        truth[0] = True
        scores = {t: 2 * (truth & (p >= t)).sum() / ((p >= t).sum() + truth.sum()) for t in set(p.tolist())}
        threshold, f1 = best_threshold(p.tolist(), truth.tolist())
        assert f1 == pytest.approx(max(scores.values()))
        assert threshold == max(t for t, value in scores.items() if value == pytest.approx(f1))
    with pytest.raises(ValueError, match="moment to speak"):
        best_threshold([0.5], [False])
