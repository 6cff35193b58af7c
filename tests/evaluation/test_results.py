from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from refstream.errors import OutputError
from refstream.evaluation import results
from refstream.evaluation.runner import evaluate


@pytest.fixture
def result(two_squares, colour_pipeline, box_segmenter):
    return evaluate(colour_pipeline, two_squares, model_name="colours", floors=True, segmenter=box_segmenter)


def test_json(result, tmp_path):
    path = result.save(tmp_path / "new" / "result.json")
    data = json.loads(path.read_text())
    assert data == result.to_dict()
    assert data["j_and_f"] == result.j_and_f == data["scores"]["overall"]["j_and_f"]
    assert data["settings"] == {"seed": 3}
    assert set(data["floors"]) == {"shuffled", "empty", "blank", "largest"}
    assert data["scores"]["groups"]["motion"]["count"] == 1
    assert [p.name for p in path.parent.iterdir()] == ["result.json"]


@pytest.mark.parametrize(("shuffled", "learned"), [(50.0, True), (50.1, False)])
def test_learned_is_20_above_shuffled(result, shuffled, learned):
    def scores(value):
        score = results.Score(value, value, 1)
        return results.Scores(score, {"motion": score})

    changed = replace(result, scores=scores(70.0), floors={"shuffled": scores(shuffled)})
    assert changed.learned() == {"motion": learned}


def test_a_failed_write_leaves_the_old_file(result, tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    path.write_text("old")

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        result.save(path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_an_unusable_folder(result, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        result.save(tmp_path / "file" / "result.json")


def test_table(result):
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(result.table())
    text = console.export_text()
    for word in ("two_squares", "colours", "shuffled", "largest", "oracle box", "motion", "MLLM calls"):
        assert word in text
