"""The loop: windows of micro-batches that count as one batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook

from .small_run import Rows, SmallModel, small_runner


class Watch(Hook):
    """Keeps what the loop shows of every iteration."""

    def __init__(self) -> None:
        self.totals: list[float] = []
        self.waits: list[float] = []
        self.ids: list[list[str]] = []

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        loop = runner.train_loop
        self.totals.append(data_batch["batch"].totals.get("rows"))
        self.waits.append(loop.data_seconds)
        self.ids.append(loop.sample_ids)


def counted(draws: range) -> int:
    """Rows that count for the loss."""
    return sum(bool(Rows()[draw][1][0] > 0) for draw in draws)


def test_totals_are_the_mean_counts_of_each_window(tmp_path: Path) -> None:
    """Seven micro-batches of two, in windows of four and three."""
    watch = Watch()
    small_runner(tmp_path, iters=7, window=4, hooks=[watch]).train()
    assert watch.totals == [counted(range(8)) / 4] * 4 + [counted(range(8, 14)) / 3] * 3
    assert watch.ids == [[str(2 * i), str(2 * i + 1)] for i in range(7)]
    assert [wait > 0 for wait in watch.waits] == [True, False, False, False, True, False, False]


@pytest.mark.parametrize(("window", "batch_size"), [(4, 2), (8, 1), (1, 8)])
def test_accumulated_gradients_are_those_of_one_large_batch(
    tmp_path: Path, window: int, batch_size: int
) -> None:
    """One step of gradient descent against the mean over all rows that count, whatever the division.

    Micro-batches of one row include some in which nothing counts.
    """
    model, expected = SmallModel(dropout=0.0), SmallModel(dropout=0.0)
    plain = dict(optimizer=dict(type="SGD", lr=1.0), schedule=None)
    small_runner(tmp_path, model, iters=window, window=window, batch_size=batch_size, **plain).train()
    rows = torch.stack([Rows()[draw][1] for draw in range(8)])
    rows = rows[rows[:, 0] > 0]
    assert 0 < len(rows) < 8
    expected.model(rows).square().mean().backward()
    with torch.no_grad():
        for parameter in expected.model.parameters():
            if parameter.grad is not None:
                parameter -= parameter.grad
    for name, value in expected.model.state_dict().items():
        torch.testing.assert_close(model.model.state_dict()[name], value, rtol=1e-5, atol=1e-6)


def test_a_learner_that_counts_nothing_is_left_alone(tmp_path: Path, monkeypatch: Any) -> None:
    from .small_run import Learner

    monkeypatch.delattr(Learner, "counts")
    watch = Watch()
    small_runner(tmp_path, iters=4, hooks=[watch]).train()
    assert watch.totals == [None] * 4


def test_a_window_without_anything_that_counts_is_no_division_by_zero(
    tmp_path: Path, monkeypatch: Any
) -> None:
    from .small_run import Learner

    monkeypatch.setattr(Learner, "counts", lambda self, model, batch: {"rows": 0})
    watch = Watch()
    small_runner(tmp_path, iters=2, hooks=[watch]).train()
    assert watch.totals == [1.0, 1.0]


def test_counts_must_have_the_same_names(tmp_path: Path, monkeypatch: Any) -> None:
    from .small_run import Learner

    monkeypatch.setattr(Learner, "counts", lambda self, model, batch: {batch.sample_ids[0]: 1})
    with pytest.raises(ValueError, match="same names"):
        small_runner(tmp_path).train()


def test_epochs_can_be_given_instead_of_iterations(tmp_path: Path) -> None:
    """Seven samples in batches of two: four iterations are an epoch."""
    runner = small_runner(tmp_path, iters=1)
    runner._train_loop = dict(type="StepTrainLoop", max_epochs=2)
    runner.train()
    assert runner.iter == 8
    runner = small_runner(tmp_path, iters=1)
    runner._train_loop = dict(type="StepTrainLoop", max_epochs=2, max_iters=3)
    with pytest.raises(ValueError, match="max_iters or max_epochs"):
        runner.train()


def test_beginning_far_into_a_run_replays_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    """As from a checkpoint of mmengine's, which knows the iteration only."""
    fetched: list[int] = []
    plain = Rows.__getitem__
    monkeypatch.setattr(Rows, "__getitem__", lambda self, draw: (fetched.append(draw), plain(self, draw))[1])
    runner = small_runner(tmp_path, iters=100_002)
    runner.train_loop._iter = 100_000
    runner.train()
    assert sorted(fetched) == [200_000, 200_001, 200_002, 200_003]
