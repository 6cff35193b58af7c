"""Folders of results in the public form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refstream.errors import UserError
from refstream.evaluation.qa.ovo_results import OVOResults, write_results


def test_what_was_written_is_read_back(ovo, tmp_path: Path):
    answers = {"5": "B", "7_1": "1", "8_0": "Yes", "9_2": "No"}
    path = write_results(ovo, answers, tmp_path / "results", "Mine")
    assert path == tmp_path / "results/Mine/Mine_EPM_STU_REC_SSR_CRR_offline_1.json"
    read = OVOResults(path.parent)
    assert {key: value for key, value in read.answers_for(ovo).items() if value is not None} == answers
    assert [q.id for q in read.questions] == [q.id for q in ovo.questions]
    assert [q.answer for q in read.questions] == [q.answer for q in ovo.questions]


def test_the_file_has_the_public_keys(ovo, tmp_path: Path):
    content = json.loads(write_results(ovo, {"5": "B"}, tmp_path, "Mine").read_text())
    assert [len(content[part]) for part in ("backward", "realtime", "forward")] == [1, 1, 3]
    assert content["backward"][0] == {
        "id": 5,
        "video": (tmp_path / "src_videos/a/one.mp4").as_posix(),
        "task": "EPM",
        "question": "Who came?",
        "response": "B",
        "ground_truth": "B",
    }
    assert content["realtime"][0]["response"] is None
    assert content["forward"][0]["test_info"][1] == {"realtime": 2, "count": 1, "response": None}


def test_records_that_occur_twice(ovo, golden: Path, tmp_path: Path):
    results = OVOResults(golden / "ovo/results/overlapping_files")
    assert results.duplicates
    assert len(results.questions) == len(results.answers)
    with pytest.raises(UserError, match="more than once"):
        results.answers_for(ovo)


def test_results_of_other_annotations(ovo, tmp_path: Path):
    path = write_results(ovo, {}, tmp_path, "Mine")
    content = json.loads(path.read_text())
    content["backward"][0]["ground_truth"] = "C"
    path.write_text(json.dumps(content))
    with pytest.raises(
        UserError, match="question 5 is EPM with the answer C, the annotations say EPM with B"
    ):
        OVOResults(path.parent).answers_for(ovo)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"backward": [], "realtime": []}, "expected 'forward' to be list, got nothing"),
        ({"backward": [{"id": 1, "task": "REC"}], "realtime": [], "forward": []}, "does not belong there"),
        (
            {"backward": [{"id": 1, "task": "EPM", "ground_truth": "A"}], "realtime": [], "forward": []},
            "there is no response",
        ),
        (
            {"backward": [{"id": 1, "task": "EPM", "ground_truth": "a"}], "realtime": [], "forward": []},
            "ground_truth is 'a'",
        ),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, content, message):
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=message) as error:
        OVOResults(tmp_path)
    assert "x.json" in str(error.value)


def test_an_empty_or_missing_folder(tmp_path: Path):
    with pytest.raises(UserError, match=r"no \.json file"):
        OVOResults(tmp_path)
    with pytest.raises(UserError, match="no folder of results"):
        OVOResults(tmp_path / "none")
