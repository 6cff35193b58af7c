"""Tables in documents are what docs/results says."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "render_results.py"
RESULT = {
    "command": "refstream bench stream",
    "commit": "abc1234",
    "seeds": [0, 1],
    "machine": "2 cores",
    "rows": [{"setting": "skip|all", "fps": 12.345, "calls": 3}, {"setting": "full", "fps": 123.45}],
}


@pytest.fixture
def script(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("render_results", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    (tmp_path / "docs" / "results").mkdir(parents=True)
    (tmp_path / "docs" / "results" / "speed.json").write_text(json.dumps(RESULT))
    return module


def test_table_is_rendered_once_and_then_fresh(script, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("<!-- results:speed -->\nold\n<!-- /results -->\ny\n")
    assert script.main(["--check"]) == 1
    assert "old" in readme.read_text()
    assert script.main([]) == 0
    text = readme.read_text()
    assert (
        "| setting | fps | calls |\n|---|---|---|\n| skip\\|all | 12.35 | 3 |\n| full | 123.5 |  |\n" in text
    )
    assert "commit abc1234, seeds 0, 1, 2 cores" in text
    assert text.endswith("<!-- /results -->\ny\n")
    assert script.main(["--check"]) == 0


def test_columns_can_be_chosen(script, tmp_path):
    text = script.render("<!-- results:speed:fps,setting -->\n<!-- /results -->", tmp_path)
    assert "| fps | setting |" in text
    assert "calls" not in text


@pytest.mark.parametrize(
    "text",
    [
        "<!-- results:none -->\n<!-- /results -->",  # no such file
        "<!-- results:speed:colour -->\n<!-- /results -->",  # no such column
        "<!-- results:speed -->\nnever closed",
    ],
)
def test_broken_markers_are_errors(script, tmp_path, text):
    (tmp_path / "README.md").write_text(text)
    assert script.main(["--check"]) == 2


def test_incomplete_result_is_an_error(script, tmp_path):
    (tmp_path / "docs" / "results" / "speed.json").write_text('{"rows": [{"a": 1}]}')
    with pytest.raises(ValueError, match="lacks"):
        script.load_result(tmp_path, "speed")
