"""Draw numbers: rank-strided, without end, from anywhere."""

from __future__ import annotations

from itertools import islice

import pytest
from mmengine.registry import DATA_SAMPLERS

from refstream.data import sampler as module
from refstream.data.sampler import DrawSampler


def draws(monkeypatch: pytest.MonkeyPatch, rank: int, world: int, start: int, count: int) -> list[int]:
    monkeypatch.setattr(module, "get_dist_info", lambda: (rank, world))
    return list(islice(DrawSampler(range(10), start=start), count))


def test_ranks_share_the_stream_and_it_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = [draws(monkeypatch, rank, 3, 0, 20) for rank in range(3)]
    assert sorted(draw for rank in ranks for draw in rank) == list(range(60))
    assert ranks[1][:3] == [1, 4, 7]


def test_another_number_of_ranks_goes_on_with_the_same_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    first = [draws(monkeypatch, rank, 2, 0, 6) for rank in range(2)]
    then = [draws(monkeypatch, rank, 4, 12, 3) for rank in range(4)]
    assert sorted(draw for rank in first + then for draw in rank) == list(range(24))


def test_mmengine_builds_it_from_a_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "get_dist_info", lambda: (0, 3))
    built = DATA_SAMPLERS.build(dict(type="DrawSampler"), default_args=dict(dataset=range(10), seed=1))
    assert len(built) == 4  # ranks 0, 1, 2 have 4, 3, 3 of an epoch's ten
    built.start = 6
    assert list(islice(built, 2)) == [6, 9]


def test_a_negative_start_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 0"):
        DrawSampler(range(3), start=-1)
