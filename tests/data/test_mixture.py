"""Mixtures: shares as stated, every draw by its number alone, and errors that name their source."""

from __future__ import annotations

import pickle
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DataLoader

from refstream.data.collate import ClipSample
from refstream.data.mixture import Mixture, as_stream
from refstream.errors import UserError
from refstream.registry import DATASETS


class Numbers:
    """Samples that say their index and the first number of their generator."""

    def __init__(self, length: int, name: str = "n") -> None:
        self.length, self.name = length, name

    def __len__(self) -> int:
        return self.length

    def sample(self, index: int, rng: np.random.Generator) -> ClipSample:
        frames = np.full((1, 2, 2, 3), index % 256, np.uint8)
        drawn = int(rng.integers(1 << 62))
        return ClipSample(frames, ["x"], np.ones((1, 1, 2, 2), bool), f"{self.name}/{index}/{drawn}")


class Failing(Numbers):
    def sample(self, index: int, rng: np.random.Generator) -> ClipSample:
        raise OSError("no such picture")


def needs(folder: str) -> Numbers:
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"{folder} not found; see data/README.md")
    return Numbers(1)


def spoil(sample: ClipSample, rng: np.random.Generator) -> ClipSample:
    return ClipSample(sample.frames, sample.expressions, sample.masks, f"{sample.id}/{rng.integers(1 << 62)}")


def draws(mixture: Mixture, start: int, stop: int) -> Counter[tuple[int, int]]:
    return Counter(mixture.locate(draw) for draw in range(start, stop))


def test_an_epoch_has_the_stated_counts() -> None:
    mixture = Mixture([dict(dataset=Numbers(7), repeats=4), dict(dataset=Numbers(20, "m"), name="other")])
    assert len(mixture) == 48
    for epoch in range(3):
        found = draws(mixture, 48 * epoch, 48 * (epoch + 1))
        assert found == {**{(0, i): 4 for i in range(7)}, **{(1, i): 1 for i in range(20)}}
    assert mixture.counts() == [
        {"name": "0 Numbers", "samples": 7, "repeats": 4, "per_epoch": 28, "share": 28 / 48},
        {"name": "other", "samples": 20, "repeats": 1.0, "per_epoch": 20, "share": 20 / 48},
    ]


@pytest.mark.parametrize(
    ("repeats", "epochs", "each"), [(0.5, 2, 1), (1.5, 2, 3), (0.25, 4, 1), (2.75, 4, 11)]
)
def test_fractions_are_exact_over_epochs(repeats: float, epochs: int, each: int) -> None:
    mixture = Mixture([dict(dataset=Numbers(12), repeats=repeats), dict(dataset=Numbers(5))])
    size = len(mixture)
    assert size == 12 * repeats + 5
    for start in (0, epochs * size, 50 * epochs * size):
        found = draws(mixture, start, start + epochs * size)
        assert {count for (source, _), count in found.items() if source == 0} == {each}
        assert len(found) == 17
    for epoch in range(3):
        found = draws(mixture, epoch * size, (epoch + 1) * size)
        ones = Counter({key: count for key, count in found.items() if key[0] == 0})
        assert sum(ones.values()) == 12 * repeats


def test_samples_that_do_not_divide_differ_by_at_most_one() -> None:
    mixture = Mixture([dict(dataset=Numbers(7), repeats=0.5)])
    assert len(mixture) == 4  # 3.5 rounded
    for epochs in range(2, 9):
        found = draws(mixture, 0, 4 * epochs)
        counts = [found[0, i] for i in range(7)]
        assert max(counts) - min(counts) <= 1


def test_weights_are_shares_of_the_epoch() -> None:
    sources = [
        dict(dataset=Numbers(10), weight=1),
        dict(dataset=Numbers(70), weight=2),
        dict(dataset=Numbers(20), weight=1),
    ]
    mixture = Mixture(sources)
    assert len(mixture) == 100
    assert [row["per_epoch"] for row in mixture.counts()] == [25, 50, 25]
    assert [row["weight"] for row in mixture.counts()] == [1, 2, 1]
    found = Counter(source for source, _ in draws(mixture, 300, 400).elements())
    assert found == {0: 25, 1: 50, 2: 25}
    two = draws(mixture, 0, 200)
    assert {two[0, i] for i in range(10)} == {5}


def test_a_draw_depends_on_seed_and_number_only() -> None:
    def build(seed: int) -> Mixture:
        return Mixture([dict(dataset=Numbers(9)), dict(dataset=Numbers(4), repeats=3)], [spoil], seed)

    one, two, other = build(1), build(1), build(2)
    numbers = [0, 20, 21, 22, 1000, 10**12]
    ids = [one[draw].id for draw in numbers]
    assert [two[draw].id for draw in reversed(numbers)] == ids[::-1]
    assert not set(ids) & {other[draw].id for draw in numbers}
    assert len({one[draw].id.split("/", 2)[2] for draw in range(50)}) == 50
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([1, 1000])))
    assert one[1000].id.split("/")[2:] == [str(rng.integers(1 << 62)) for _ in range(2)]


def test_epochs_differ_in_order() -> None:
    mixture = as_stream(Numbers(200))
    first, second = ([mixture.locate(d + e * 200)[1] for d in range(200)] for e in range(2))
    assert sorted(first) == sorted(second) == list(range(200))
    assert np.mean(np.array(first) == np.array(second)) < 0.1
    assert np.mean(np.diff(first) == 1) < 0.1


def test_ten_million_samples_start_anywhere_at_once() -> None:
    started = time.perf_counter()
    mixture = Mixture([dict(dataset=Numbers(10_000_000), repeats=1.5), dict(dataset=Numbers(3))])
    ids = [mixture[draw].id for draw in (0, 15_000_000, 10**15)]
    assert time.perf_counter() - started < 0.5
    assert len(set(ids)) == 3
    assert len(pickle.dumps(mixture)) < 2000


@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_make_the_same_samples(context: str) -> None:
    mixture = as_stream(Numbers(50), seed=4)
    wanted = [mixture[draw].id for draw in range(30, 42)]
    loader = DataLoader(
        mixture,
        batch_size=3,
        sampler=range(30, 42),
        num_workers=2,
        multiprocessing_context=context,
        collate_fn=ids_of,
    )
    assert [i for ids in loader for i in ids] == wanted


def ids_of(samples: list[ClipSample]) -> list[str]:
    return [sample.id for sample in samples]


def test_it_is_built_from_config(tmp_path: Path) -> None:
    mixture = DATASETS.build(
        dict(
            type="Mixture",
            sources=[dict(dataset=dict(type=Numbers, length=3), name="a")],
            transforms=[dict(type="ColourJitter", probability=1.0)],
            seed=3,
        )
    )
    assert isinstance(mixture, Mixture)
    assert mixture[5].frames.shape == (1, 2, 2, 3)
    assert as_stream(mixture, seed=9) is mixture
    assert len(as_stream(dict(type=Numbers, length=3))) == 3


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([], "at least one source"),
        ([dict(dataset=Numbers(0), name="hollow")], "'hollow' of the mixture is empty"),
        ([dict(dataset=Numbers(3), weight=1, repeats=2, name="b")], "'b'.*both repeats and weight"),
        (
            [dict(dataset=Numbers(3), weight=1), dict(dataset=Numbers(3), name="c")],
            r"weight or none.*\['c'\]",
        ),
        ([dict(dataset=Numbers(3), repeats=0)], "positive number, got 0"),
        ([dict(dataset=Numbers(3), repeats=float("nan"))], "positive number, got nan"),
        ([dict(dataset=Numbers(3), weight=-1.0)], "positive number"),
        ([dict(dataset=Numbers(3), repeats="4")], "positive number, got '4'"),
        ([dict(dataset=Numbers(3), repeat=2)], r"expected the keys dataset, repeats.*'repeat'"),
        ([dict(repeats=2)], "expected the keys dataset"),
        ([dict(dataset=dict(type="NoSuchReader"), name="d")], "source 'd' .*cannot be built: NoSuchReader"),
        ([dict(dataset=dict(type=Numbers, size=3), name="e")], "source 'e' .*cannot be built.*size"),
        ([dict(dataset=dict(length=3))], "cannot be built: .*type"),
        ([dict(dataset=[1, 2], name="f")], "source 'f' .*must have __len__ and sample"),
        ([dict(dataset=Numbers(3), name="g"), dict(dataset=Numbers(4), name="g")], "different names"),
        (
            [dict(dataset=Numbers(3), weight=1), dict(dataset=Numbers(3), weight=1e-9, name="h")],
            "'h' gets no draw",
        ),
        (
            [dict(dataset=dict(type=needs, folder="data/ref_seg/refcoco"), name="refcoco")],
            "source 'refcoco' of the mixture cannot be built: data/ref_seg/refcoco not found; see",
        ),
    ],
)
def test_bad_sources_are_named(sources: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Mixture(sources)


def test_other_bad_arguments_are_refused() -> None:
    source = [dict(dataset=Numbers(3))]
    with pytest.raises(UserError, match="seed"):
        Mixture(source, seed=-1)
    with pytest.raises(UserError, match=r"transform.*NoSuchTransform"):
        Mixture(source, [dict(type="NoSuchTransform")])
    with pytest.raises(UserError, match="called with"):
        Mixture(source, [3])  # type: ignore[list-item]
    with pytest.raises(IndexError, match="numbered from 0"):
        Mixture(source)[-1]


def test_a_failing_sample_says_where_it_came_from() -> None:
    mixture = Mixture([dict(dataset=Failing(5), name="broken")], seed=1)
    with pytest.raises(OSError, match="no such picture") as caught:
        mixture[3]
    assert caught.value.__notes__ == [
        f"while making draw 3: sample {mixture.locate(3)[1]} of source 'broken'"
    ]


def test_a_source_that_is_missing_is_named_and_gets_no_draws(caplog: pytest.LogCaptureFixture) -> None:
    gone = dict(name="gone", weight=9, missing="no reader")
    with caplog.at_level("WARNING"):
        mixture = Mixture([gone, dict(name="here", dataset=Numbers(10), weight=3)])
    assert "gone (weight 9): no reader" in caplog.text
    assert mixture.missing == [{"name": "gone", "weight": 9, "why": "no reader"}]
    assert [(row["name"], row["share"]) for row in mixture.counts()] == [("here", 1.0)]
    assert draws(mixture, 0, 10) == {(0, i): 1 for i in range(10)}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (dict(name="a", weight=-1, missing="no reader"), "weight must be a positive number"),
        (dict(name="a", weight=1, missing=""), "why, in words"),
        (dict(name="a", weight=1, missing="x", dataset=Numbers(1)), "has the keys name, weight and missing"),
        (dict(name="a", weight=1, missing="x"), "all are missing"),
    ],
)
def test_missing_sources_that_make_no_sense(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Mixture([spec])
