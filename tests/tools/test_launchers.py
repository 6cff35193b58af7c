"""The shell launchers build the right command and refuse wrong arguments."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "projects/_template/configs/tiny.py"
TASK = "render_results"  # any script that lies in tools/


def launch(script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a launcher with ``echo`` in place of Python, so that it prints its command."""
    clean = {name: value for name, value in os.environ.items() if name not in ("PORT", "NNODES", "NODE_RANK")}
    environment = {**clean, "PYTHON": "echo", **variables}
    command = ["bash", f"tools/{script}", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_one_machine_takes_a_free_port():
    done = launch("dist.sh", TASK, CONFIG, "4", "--cfg-options", "a.b=1")
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    assert words[0].endswith("tools/launch.py")
    for word in ("--nnodes=1", "--nproc_per_node=4", "--standalone", "--max_restarts=0"):
        assert word in words
    assert not [word for word in words if "port" in word]
    assert words[-5:] == [CONFIG, "--launcher", "pytorch", "--cfg-options", "a.b=1"]
    assert words[-6].endswith(f"tools/{TASK}.py")


def test_one_machine_takes_the_port_named():
    done = launch("dist.sh", TASK, CONFIG, "4", PORT="29777")
    words = done.stdout.split()
    assert "--standalone" not in words
    for word in ("--master_addr=127.0.0.1", "--master_port=29777", "--node_rank=0"):
        assert word in words


def test_a_port_that_is_taken_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        done = launch("dist.sh", TASK, CONFIG, "4", PORT=port)
    assert done.returncode == 2
    assert f"port {port} of 127.0.0.1 is taken" in done.stderr
    assert "PORT=" in done.stderr


def test_several_machines():
    done = launch(
        "dist.sh", TASK, CONFIG, "8", NNODES="2", NODE_RANK="1", MASTER_ADDR="10.0.0.1", PORT="29999"
    )
    for word in ("--nnodes=2", "--node_rank=1", "--master_addr=10.0.0.1", "--master_port=29999"):
        assert word in done.stdout.split()
    done = launch("dist.sh", TASK, CONFIG, "8", NNODES="2", NODE_RANK="1", MASTER_ADDR="10.0.0.1")
    assert "--master_port=29500" in done.stdout.split()


@pytest.mark.parametrize("words", [("--max-restarts", "2"), ("--max-restarts=2",), ("--max_restarts", "2")])
def test_restarts_are_torchruns(words):
    done = launch("dist.sh", TASK, CONFIG, "2", "--resume", *words, "--deepspeed", "zero2")
    assert done.returncode == 0, done.stderr
    before, _, after = done.stdout.partition(f"{TASK}.py")
    assert "--max_restarts=2" in before.split()
    assert after.split() == [CONFIG, "--launcher", "pytorch", "--resume", "--deepspeed", "zero2"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "usage"),
        ([TASK, CONFIG], "usage"),
        (["nothing", CONFIG, "1"], "no such task"),
        ([TASK, "projects/none.py", "1"], "no such config"),
        ([TASK, CONFIG, "zero"], "whole number"),
        ([TASK, CONFIG, "0"], "whole number"),
        ([TASK, CONFIG, "1", "--max-restarts"], "whole number"),
        ([TASK, CONFIG, "1", "--max-restarts", "many"], "whole number"),
    ],
)
def test_wrong_arguments_are_refused(arguments, complaint):
    done = launch("dist.sh", *arguments)
    assert done.returncode == 2
    assert complaint in done.stderr


@pytest.fixture
def path(tmp_path):
    """PATH with an ``srun`` that prints its arguments, and the port that it was given."""
    srun = tmp_path / "srun"
    srun.write_text('#!/bin/sh\necho "$@" "port=$MASTER_PORT"\n')
    srun.chmod(0o755)
    return f"{tmp_path}:{os.environ['PATH']}"


def test_slurm(path):
    done = launch("slurm.sh", "gpu", "job", TASK, CONFIG, "16", "--resume", PATH=path, SRUN_ARGS="-x n1")
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    for word in ("--partition=gpu", "--gres=gpu:8", "--ntasks=16", "--ntasks-per-node=8", "-x", "n1"):
        assert word in words
    assert words[-5:-1] == [CONFIG, "--launcher", "slurm", "--resume"]
    assert 20000 <= int(words[-1].removeprefix("port=")) < 30000
    small = launch("slurm.sh", "gpu", "job", TASK, CONFIG, "2", PATH=path)
    assert "--gres=gpu:2" in small.stdout.split()
    named = launch("slurm.sh", "gpu", "job", TASK, CONFIG, "2", PATH=path, PORT="29501")
    assert named.stdout.split()[-1] == "port=29501"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["gpu", "job", TASK, CONFIG], "usage"),
        (["gpu", "job", "nothing", CONFIG, "8"], "no such task"),
        (["gpu", "job", TASK, "projects/none.py", "8"], "no such config"),
        (["gpu", "job", TASK, CONFIG, "some"], "whole number"),
        (["gpu", "job", TASK, CONFIG, "12"], "multiple"),
    ],
)
def test_wrong_arguments_to_slurm_are_refused(arguments, complaint, path):
    done = launch("slurm.sh", *arguments, PATH=path)
    assert done.returncode == 2
    assert complaint in done.stderr


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        ("", 0, ""),
        ("sys.exit(2)", 2, r"process \d left with code 2; see its message above\n$"),
        ("if rank: sys.exit('wrong')", 1, r"Root Cause .first observed failure.:\n(.*\n)*.* exitcode +: 1 "),
        (
            "time.sleep(60) if rank else os.kill(os.getpid(), 9)",
            1,
            r"Root Cause .*\n(.*\n)*.* exitcode +: -9 ",
        ),
    ],
)
def test_a_process_that_fails_is_named_without_a_traceback(content, code, said, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(f"import os, sys, time\nrank = int(os.environ['RANK'])\n{content}\n")
    options = ["--standalone", "--local-addr=127.0.0.1", "--nproc_per_node=2"]
    command = [sys.executable, "tools/launch.py", *options, str(script)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert re.search(said, done.stderr), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("script", ["dist.sh", "slurm.sh"])
def test_the_shell_understands_it(script):
    done = subprocess.run(
        ["bash", "-n", f"tools/{script}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
