"""The script takes the authors' arguments and prints the authors' lines."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "eval" / "eval_ovo.py"
ANNOTATIONS = (
    Path(__file__).resolve().parents[3] / "shared/data/streaming_text/ovo_bench/data/ovo_bench_new.json"
)


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("eval_ovo", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(script, golden: Path, name: str, *more: str) -> int:
    return script.main(["--result_dir", str(golden / "ovo/results"), "--model", name, *more])


def test_it_prints_what_the_authors_script_prints(script, golden, capsys):
    assert run(script, golden, "mixed", "--mode", "offline") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Offline Model: mixed"
    assert "Task: REC, Acc: 84.62" in lines
    assert "Backward Avg.: 66.67" in lines
    assert "Total Avg.: 68.88" in lines


@pytest.mark.parametrize(
    ("name", "message"), [("list_in_REC", "TypeError"), ("no_forward", "UnboundLocalError")]
)
def test_where_the_authors_script_stops(script, golden, capsys, name, message):
    assert run(script, golden, name) == 1
    captured = capsys.readouterr()
    assert "Realtime Avg.: 70.12" in captured.out
    assert "Total Avg." not in captured.out
    assert message in captured.err


def test_strict_and_duplicates(script, golden, capsys, tmp_path):
    assert run(script, golden, "exploit_constant", "--strict", "--out", str(tmp_path / "out.json")) == 0
    assert "Total Avg." not in capsys.readouterr().out
    figures = json.loads((tmp_path / "out.json").read_text())
    assert figures["scorer"] == "strict"
    assert figures["summary"]["mode/Backward"]["accuracy"] == 0
    assert run(script, golden, "overlapping_files") == 0
    assert "count as often" in capsys.readouterr().err
    assert run(script, golden, "overlapping_files", "--per_question") == 2
    assert "more than once" in capsys.readouterr().err


def test_bad_input(script, golden, capsys):
    assert run(script, golden, "no such model") == 2
    assert "no folder of results" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(script, golden, "mixed", "--mode", "sideways")


def test_what_is_missing_is_wrong(script, capsys, tmp_path):
    if not ANNOTATIONS.is_file():
        pytest.skip(f"the annotations of OVO-Bench are not at {ANNOTATIONS}")
    (tmp_path / "Mine").mkdir()
    record = {"id": 0, "video": "v", "task": "EPM", "question": "?", "response": "C", "ground_truth": "C"}
    content = {"backward": [record], "realtime": [], "forward": []}
    (tmp_path / "Mine/one.json").write_text(json.dumps(content))
    arguments = ["--result_dir", str(tmp_path), "--model", "Mine", "--anno_path", str(ANNOTATIONS)]
    assert script.main(arguments) == 0
    captured = capsys.readouterr()
    assert "Task: EPM, Acc: 0.34" in captured.out, "1 of 297"
    assert "(3034 in all)" in captured.err
