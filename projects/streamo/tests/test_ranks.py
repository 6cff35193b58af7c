"""Counts over a whole optimizer step, by the real engine: 1 x 8 = 2 x 4 = 8 x 1, two processes are one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

WORKER = Path(__file__).with_name("ranks_worker.py")


def run(jobs: list[dict[str, Any]], processes: int) -> None:
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1"]
        command += [f"--nproc-per-node={processes}"]
    done = subprocess.run(
        [*command, str(WORKER), json.dumps(jobs)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_step_does_not_depend_on_how_it_is_cut(tmp_path: Path) -> None:
    cuts = {"1x8": (8, 1), "2x4": (4, 2), "8x1": (1, 8)}
    alone = [
        dict(batch_size=size, accumulate=n, folder=str(tmp_path / name)) for name, (size, n) in cuts.items()
    ]
    run(alone, 1)
    run([dict(batch_size=4, accumulate=1, folder=str(tmp_path / "ranks"))], 2)
    states = {name: load_file(tmp_path / name / "export" / "model.safetensors") for name in (*cuts, "ranks")}
    first = states.pop("1x8")
    log = [json.loads(line) for line in (tmp_path / "1x8" / "log.jsonl").read_text().splitlines()]
    assert log[0]["recall_standby_cases"] == 5
    for name, state in states.items():
        for key, value in first.items():
            torch.testing.assert_close(state[key], value, rtol=0, atol=2e-6, msg=f"{name}: {key}")
