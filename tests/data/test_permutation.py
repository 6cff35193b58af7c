"""Permutations computed on demand."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from refstream.data.permutation import permutation


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 10, 17, 97, 1000, 4097])
def test_every_element_comes_once(n: int) -> None:
    for number in range(3):
        order = permutation(n, 5, 1, number)
        assert sorted(order(i) for i in range(n)) == list(range(n))


@pytest.mark.parametrize("n", [2, 3, 4])
def test_all_orders_are_equally_likely(n: int) -> None:
    draws = 4000
    found = Counter(tuple(permutation(n, s, 0, 0)(i) for i in range(n)) for s in range(draws))
    expected = draws / math.factorial(n)
    chi2 = sum((found[order] - expected) ** 2 / expected for order in itertools.permutations(range(n)))
    degrees = math.factorial(n) - 1
    assert chi2 < degrees + 4 * math.sqrt(2 * degrees)


def test_large_permutations_are_well_mixed() -> None:
    n, draws = 10_000_019, 20_000
    order = permutation(n, 0, 0, 0)
    values = np.array([order(i) for i in range(draws)]) / n
    assert len(set(values)) == draws
    expected = draws / 20
    counts, _ = np.histogram(values, 20, (0, 1))
    assert ((counts - expected) ** 2 / expected).sum() < 19 + 4 * math.sqrt(38)
    limit = 4 / math.sqrt(draws)  # standard error of a correlation
    assert abs(np.corrcoef(np.arange(draws), values)[0, 1]) < limit
    for lag in (1, 2, 3, 100):
        assert abs(np.corrcoef(values[:-lag], values[lag:])[0, 1]) < limit
    steps = np.diff(values)
    assert len(np.unique(np.round(steps, 6))) > draws * 0.9  # no constant stride


@pytest.mark.parametrize("other", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_seed_series_and_number_each_make_another(other: tuple[int, int, int]) -> None:
    n = 50_000
    one, two = permutation(n, 0, 0, 0), permutation(n, *other)
    a, b = (np.array([order(i) for i in range(3000)]) for order in (one, two))
    assert (a == b).mean() < 0.01
    assert abs(np.corrcoef(a, b)[0, 1]) < 4 / math.sqrt(3000)


def test_positions_outside_are_refused() -> None:
    for position in (-1, 7):
        with pytest.raises(IndexError, match=r"\[0, 7\)"):
            permutation(7, 0, 0, 0)(position)
