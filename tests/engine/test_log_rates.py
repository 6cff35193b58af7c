"""Rates in the log: all hits of an interval over all cases, not a mean of rates."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from refstream.engine.hooks.logging import IntervalHook


def test_a_rate_is_hits_over_cases_of_the_interval() -> None:
    records: list[dict[str, Any]] = []
    hook = IntervalHook(interval=2)
    hook.write = lambda runner, record: records.append(record)  # type: ignore[method-assign]
    runner: Any = SimpleNamespace(
        iter=0,
        max_iters=4,
        rank=0,
        world_size=1,
        train_loop=None,
        optim_wrapper=SimpleNamespace(get_lr=lambda: {"lr": [0.1]}),
        message_hub=SimpleNamespace(log_scalars={}),
    )
    for hits, cases in ((1.0, 1.0), (1.0, 4.0), (0.0, 0.0), (0.0, 0.0)):
        outputs = {"recall_hits": torch.tensor(hits), "recall_cases": torch.tensor(cases)}
        hook.after_train_iter(runner, runner.iter, {}, outputs)
        runner.iter += 1
    assert [record["recall"] for record in records] == [0.4, None]
    assert records[0]["recall_cases"] == 2.5
