from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from refstream.errors import OutputError
from refstream.evaluation.evaluate import Evaluation
from refstream.evaluation.protocols.families import Families


@pytest.fixture
def result(two_squares, colour_pipeline, box_segmenter):
    evaluation = Evaluation(colour_pipeline, two_squares, Families())
    return evaluation.result("colours", segmenter=box_segmenter, floors=True)


def test_json(result, tmp_path):
    path = result.save(tmp_path / "new" / "result.json")
    data = json.loads(path.read_text())
    assert data.pop("speed")["expressions_per_stream"] == 3
    assert data == result.to_dict()
    assert data["headline"] == {"J&F": result.value()}
    assert data["settings"] == {"seed": 3}
    assert data["expected"] == {"videos": 1, "expressions": 3}
    assert set(data["floors"]) == {"shuffled", "empty", "blank", "largest"}
    assert data["summary"]["motion"]["expressions"] == 1
    assert [row["run"] for row in data["rows"]] == ["model", *data["floors"], "oracle box"]
    assert data["rows"][0]["motion"] == result.value(group="motion")
    assert [p.name for p in path.parent.iterdir()] == ["result.json"]


def test_csv(result, tmp_path):
    rows = list(csv.DictReader(result.save_csv(tmp_path / "items.csv").open()))
    assert [row["id"] for row in rows] == ["0", "1", "2"]
    assert rows[1]["text"] == "the blue square"
    assert float(rows[2]["J"]) == result.items[2].values["J"]
    assert {row["missing_frames"] for row in rows} == {"0"}


def test_missing_frames_are_listed(result):
    items = [replace(result.items[0], missing=("00001",)), *result.items[1:]]
    changed = replace(result, items=items)
    assert changed.missing == [{"video": "only", "id": "0", "frames": ["00001"]}]
    assert "1 items lack 1 predicted frames" in changed.table().caption


@pytest.mark.parametrize(("shuffled", "learned"), [(50.0, True), (50.1, False)])
def test_learned_is_20_above_shuffled(result, shuffled, learned):
    def summary(value):
        return {"overall": {"J&F": value}, "motion": {"J&F": value}}

    changed = replace(result, summary=summary(70.0), floors={"shuffled": summary(shuffled)})
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


def test_table(result):
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(result.table())
    text = console.export_text()
    for word in ("two_squares", "colours", "shuffled", "largest", "oracle box", "motion", "MLLM calls"):
        assert word in text
    upright = result.table(by_metric=True)
    assert [column.header for column in upright.columns] == ["metric", *(row["run"] for row in result.rows())]
    for row, column in zip(result.rows(), list(upright.columns)[1:], strict=True):
        figures = dict(zip(upright.columns[0].cells, column.cells, strict=True))
        assert figures["J&F"] == f"{row['J&F']:.1f}"
