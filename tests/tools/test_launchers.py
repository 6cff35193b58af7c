"""The shell launchers build the right command and refuse wrong arguments."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "projects/_template/configs/tiny.py"
TASK = "render_results"  # any script that lies in tools/


def launch(script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a launcher with ``echo`` in place of Python, so that it prints its command."""
    environment = {**os.environ, "PYTHON": "echo", **variables}
    command = ["bash", f"tools/{script}", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_one_machine():
    done = launch("dist.sh", TASK, CONFIG, "4", "--cfg-options", "a.b=1")
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    assert words[:2] == ["-m", "torch.distributed.run"]
    for word in ("--nnodes=1", "--node_rank=0", "--nproc_per_node=4", "--master_addr=127.0.0.1"):
        assert word in words
    assert words[-5:] == [CONFIG, "--launcher", "pytorch", "--cfg-options", "a.b=1"]
    assert words[-6].endswith(f"tools/{TASK}.py")


def test_several_machines():
    done = launch(
        "dist.sh", TASK, CONFIG, "8", NNODES="2", NODE_RANK="1", MASTER_ADDR="10.0.0.1", PORT="29999"
    )
    for word in ("--nnodes=2", "--node_rank=1", "--master_addr=10.0.0.1", "--master_port=29999"):
        assert word in done.stdout.split()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "usage"),
        ([TASK, CONFIG], "usage"),
        (["nothing", CONFIG, "1"], "no such task"),
        ([TASK, "projects/none.py", "1"], "no such config"),
        ([TASK, CONFIG, "zero"], "whole number"),
        ([TASK, CONFIG, "0"], "whole number"),
    ],
)
def test_wrong_arguments_are_refused(arguments, complaint):
    done = launch("dist.sh", *arguments)
    assert done.returncode == 2
    assert complaint in done.stderr


def test_slurm(tmp_path):
    srun = tmp_path / "srun"
    srun.write_text('#!/bin/sh\necho "$@"\n')
    srun.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = launch("slurm.sh", "gpu", "job", TASK, CONFIG, "16", "--resume", PATH=path, SRUN_ARGS="-x n1")
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    for word in ("--partition=gpu", "--gres=gpu:8", "--ntasks=16", "--ntasks-per-node=8", "-x", "n1"):
        assert word in words
    assert words[-4:] == [CONFIG, "--launcher", "slurm", "--resume"]
    small = launch("slurm.sh", "gpu", "job", TASK, CONFIG, "2", PATH=path)
    assert "--gres=gpu:2" in small.stdout.split()
