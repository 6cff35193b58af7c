"""What the ledger costs, and that memory does not grow with the number of items."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from refstream.cli import main
from refstream.evaluation.ledger import FolderLedger

ROOT = Path(__file__).resolve().parents[2]
TINY_ITEMS = """\
import json, sys
from pathlib import Path
import numpy as np, psutil
sys.path.insert(0, "tests/evaluation")
from conftest import ColourPipeline
from refstream.evaluation.benchmark import EvalExpression, EvalVideo, MaskBenchmark
from refstream.evaluation.evaluate import Evaluation
from refstream.evaluation.protocols.per_expression import PerExpression

class Many(MaskBenchmark):
    name, split, settings = "many", "test", {}

    def __init__(self, number):
        asked = tuple(EvalExpression(str(n), f"the {word} thing") for n, word in enumerate(("red", "blue")))
        self.videos = [EvalVideo(f"{n:05d}", ("0", "1"), asked, (16, 16)) for n in range(number // 2)]
        self.image = np.full((16, 16, 3), 60, np.uint8)
        self.image[4:9, 4:9] = 220, 10, 10

    def images(self, video):
        return iter([self.image, self.image])

    def truth(self, video, expression):
        return np.stack([self.image[..., 0] > 100] * 2)

number, folder = int(sys.argv[1]), Path(sys.argv[2])
process, peak = psutil.Process(), 0

def watch(*step):
    global peak
    peak = max(peak, process.memory_info().rss)

evaluation = Evaluation(ColourPipeline(), Many(number), PerExpression(), folder=folder, progress=watch)
result = evaluation.result("colours")
watch()
print(json.dumps({"items": len(result.items), "peak": peak / 2**20}))
"""


@pytest.mark.slow
def test_memory_is_flat_from_200_to_20_000_items(tmp_path):
    """Within 50 MB, the scores that the result holds included."""
    peak = {}
    for number in (200, 20_000):
        command = [sys.executable, "-c", TINY_ITEMS, str(number), str(tmp_path / str(number))]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout.splitlines()[-1])
        assert found["items"] == number
        peak[number] = found["peak"]
    assert peak[20_000] - peak[200] < 50, peak


@pytest.mark.slow
def test_the_ledger_takes_less_than_a_hundredth_of_the_time(tmp_path, monkeypatch):
    """Of a run of the embedded model, which is a hundred times faster than a real one."""
    spent: dict[str, float] = {}

    def timed(owner, name):
        original = getattr(owner, name)

        def call(*args, **keys):
            begin = time.perf_counter()
            try:
                return original(*args, **keys)
            finally:
                spent[name] = spent.get(name, 0.0) + time.perf_counter() - begin

        monkeypatch.setattr(owner, name, call)

    for name in ("__init__", "write", "done", "read"):
        timed(FolderLedger, name)
    begin = time.perf_counter()
    words = ["eval", "pretrained/tiny", "--clips", "10", "--device", "cpu", "--out", str(tmp_path), "--quiet"]
    monkeypatch.chdir(ROOT)
    assert main(words) == 0
    whole = time.perf_counter() - begin
    assert spent.keys() == {"__init__", "write", "done", "read"}
    assert sum(spent.values()) < 0.01 * whole, (spent, whole)
