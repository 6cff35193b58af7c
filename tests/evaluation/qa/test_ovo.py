"""The reader of OVO-Bench's annotations."""

from __future__ import annotations

import copy
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from refstream.errors import UserError
from refstream.evaluation.qa.ovo import OVOBench


def test_each_query_point_is_a_question(ovo):
    asked = [(q.id, q.task, q.kind, q.answer, q.end_s) for q in ovo.questions]
    assert asked[:4] == [
        ("5", "EPM", "choice", "B", 4.5),
        ("6", "STU", "choice", "A", 2.0),
        ("7_0", "REC", "count", "0", 1.5),
        ("7_1", "REC", "count", "1", 2.0),
    ]
    assert [q.answer for q in ovo.questions if q.kind == "yes_no"] == [
        "Yes",
        "No",
        "Yes",
        "No",
        "No",
        "No",
        "Yes",
    ]
    assert {q.start_s for q in ovo.questions} == {0.0}
    assert ovo.questions[0].groups == {"mode": "Backward", "task": "EPM"}


def test_prompts_carry_the_official_form(ovo):
    prompts = {q.id: q.prompt for q in ovo.questions}
    assert "Who came?" in prompts["5"]
    assert "A. a dog; B. a cat; C. nobody;" in prompts["5"]
    assert "How many times did they jump?" in prompts["7_0"]
    assert "pour" in prompts["8_1"]
    assert "boil" not in prompts["8_1"]
    assert "What falls?" in prompts["9_0"]
    assert not any("a cup" in prompt for prompt in prompts.values()), "the truth is not told"


def test_videos_are_whole_or_cut(ovo, ovo_file, tmp_path):
    question = ovo.by_id["7_1"]
    assert ovo.video_path(question) == tmp_path / "src_videos" / "b.mp4"
    cut = OVOBench(anno_path=ovo_file, chunked_dir=tmp_path / "cut")
    assert cut.video_path(question) == tmp_path / "cut" / "7_1.mp4"
    assert cut.fingerprint != ovo.fingerprint


def test_some_tasks_only(ovo_file):
    assert {q.task for q in OVOBench(anno_path=ovo_file, tasks=["REC", "EPM"]).questions} == {"REC", "EPM"}
    with pytest.raises(UserError, match="ABC"):
        OVOBench(anno_path=ovo_file, tasks=["ABC"])


def changed(records: list[dict[str, Any]], number: int, **values: Any) -> list[dict[str, Any]]:
    records = copy.deepcopy(records)
    records[number].update(values)
    return records


@pytest.mark.parametrize(
    ("number", "values", "message"),
    [
        (0, {"gt": 3}, r"record 0 \(id 5\): gt is 3, but there are 3 options"),
        (0, {"realtime": None}, "expected 'realtime' to be int or float, got 'None'"),
        (0, {"realtime": -1}, "realtime is -1.0"),
        (0, {"options": ["one"]}, "'options'"),
        (0, {"task": "XYZ"}, "XYZ"),
        (0, {"id": 6}, "another record has this id"),
        (0, {"video": "../up.mp4"}, "inside the folder"),
        (2, {"test_info": []}, "test_info is empty"),
        (2, {"test_info": [{"realtime": 1, "count": True}]}, "'count'"),
        (3, {"test_info": [{"realtime": 1, "step": "x", "type": 2}]}, "type is 2"),
    ],
)
def test_a_wrong_record_is_named(ovo_file, number, values, message):
    ovo_file.write_text(json.dumps(changed(json.loads(ovo_file.read_text()), number, **values)))
    with pytest.raises(UserError, match=message):
        OVOBench(anno_path=ovo_file)


def test_a_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"ovo_bench_new\.json"):
        OVOBench(tmp_path)
    broken = tmp_path / "broken.json"
    broken.write_text("[{")
    with pytest.raises(UserError, match=r"broken\.json is not valid JSON"):
        OVOBench(anno_path=broken)


def test_the_public_file(real_ovo, caplog):
    """Counts of JoeLeelyf/OVO-Bench data/ovo_bench_new.json, taken from the file itself."""
    counts = Counter(q.task for q in real_ovo.questions)
    assert len(real_ovo.records) == 1640
    assert len(real_ovo.questions) == 3035
    assert len({q.video for q in real_ovo.questions}) == 644
    assert counts == {
        **{"EPM": 297, "ASI": 148, "HLD": 186},
        **{"OCR": 149, "ACR": 109, "ATR": 116, "STU": 178, "FPD": 101, "OJR": 184},
        **{"REC": 698, "SSR": 629, "CRR": 240},
    }
    assert max(q.end_s for q in real_ovo.questions) == 1785


def test_a_partial_file_is_remarked_on(ovo_file: Path, caplog: pytest.LogCaptureFixture):
    OVOBench(anno_path=ovo_file)
    assert "5 records with 12 query points; the public file has 1640 with 3035" in caplog.text
