"""The official scorer prints what the public script prints; constant answers score what is known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refstream.evaluation.qa import QA_BENCHMARKS, OVOResults, score_answers
from refstream.evaluation.qa.ovo_scorers import EXPLOIT, official_lines
from refstream.evaluation.qa.scoring import QAResult

OVO = QA_BENCHMARKS["ovo"]
SCENARIOS = [
    *("mixed", "none_and_empty", "exploit_constant", "floor_A_yes", "two_files", "overlapping_files"),
    *(
        "lower_case_and_capital_A",
        "list_in_multiple_choice",
        "list_in_REC",
        "no_forward",
        "one_task_per_group",
    ),
]


def accuracy(result: QAResult, group: str) -> float:
    return result.summary[group]["accuracy"]


def printed(lines: list[str]) -> dict[str, float]:
    found = {}
    for line in lines:
        if line.startswith("Task: "):
            task, value = line.removeprefix("Task: ").split(", Acc: ")
            found[task] = float(value)
        elif " Avg.: " in line:
            name, value = line.split(": ")
            found[name] = float(value)
    return found


def test_all_scenarios_are_here(golden: Path):
    case = json.loads((golden / "ovo/case.json").read_text())
    assert [scenario["name"] for scenario in case["scenarios"]] == SCENARIOS


@pytest.mark.parametrize("name", SCENARIOS)
def test_official_equals_the_public_script(golden: Path, name: str):
    case = json.loads((golden / "ovo/case.json").read_text())
    scenario = next(s for s in case["scenarios"] if s["name"] == name)
    results = OVOResults(golden / "ovo/results" / name)
    result = score_answers(results, results.answers, OVO.scorer("official"))
    assert printed(official_lines("GPT", result.summary)) == scenario["printed"]
    assert bool(result.error) == bool(scenario["exit"])
    assert (scenario["error"] or "") in result.error
    for task, value in scenario["task_accuracy"].items():
        assert accuracy(result, f"task/{task}") / 100 == pytest.approx(value, abs=1e-12)


def test_the_default_is_official():
    assert OVO.scorer().name == "official"


KNOWN_FLOORS = [
    ("always A", "mode/Backward", 34.86),
    ("always A", "mode/Realtime", 27.63),
    ("always Yes", "task/SSR", 67.25),
    ("always Yes", "task/CRR", 60.00),
    (f"always {EXPLOIT!r}", "overall", 91.17),
]


@pytest.mark.parametrize(("floor", "group", "value"), KNOWN_FLOORS)
def test_official_floors_of_the_public_file(real_ovo, floor, group, value):
    """Values of the public script on these constant answers."""
    result = score_answers(real_ovo, {}, OVO.scorer("official"))
    assert f"{result.floors[floor][group]['accuracy']:.2f}" == f"{value:.2f}"
    assert result.found == 0
    assert result.expected == 3035
    assert accuracy(result, "overall") == 0


def test_strict_floors_of_the_public_file(real_ovo):
    floors = score_answers(real_ovo, {}, OVO.scorer("strict")).floors
    exploit = floors[f"always {EXPLOIT!r}"]
    assert exploit["mode/Backward"]["accuracy"] == exploit["mode/Realtime"]["accuracy"] == 0
    assert exploit["task/SSR"]["accuracy"] == exploit["task/CRR"]["accuracy"] == 0
    assert f"{floors['always A']['mode/Backward']['accuracy']:.2f}" == "34.86"
    assert f"{floors['always Yes']['task/SSR']['accuracy']:.2f}" == "67.25"
    assert floors["unable, else A"]["task/HLD"]["accuracy"] == 100, "its truth is always 'Unable to answer'"


def test_the_truth_scores_100(real_ovo):
    truth = {question.id: question.answer for question in real_ovo.questions}
    for scorer in OVO.scorers:
        assert accuracy(score_answers(real_ovo, truth, scorer, with_floors=False), "overall") == 100


@pytest.mark.parametrize(
    ("question", "answer", "official", "strict"),
    [
        ("5", "B", 1, 1),
        ("5", "(B) a cat", 1, 1),
        ("5", "b", 0, 1),
        ("5", "A or B", 1, 0),
        ("5", "It was Bob", 1, 0),
        ("5", ["B"], 1, 0),
        ("5", "a cat", 0, 1),
        ("7_2", "2 times", 1, 1),
        ("7_2", "0 or 2", 0, 0),
        ("7_1", "1 or 1", 0, 0),
        ("7_2", "two", 0, 1),
        ("8_0", "Y", 1, 1),
        ("8_0", "yes", 0, 1),
        ("8_0", "Yes. No.", 1, 0),
        ("8_1", "Not at all", 1, 0),
        ("8_1", "No, it boils", 1, 1),
    ],
)
def test_one_answer(ovo, question, answer, official, strict):
    marks = [OVO.scorer(name).mark(ovo.by_id[question], answer).correct for name in ("official", "strict")]
    assert marks == [official, strict]


def test_glued_digits_are_a_known_defect(ovo):
    twelve = ovo.by_id["7_2"].__class__(**{**ovo.by_id["7_2"].__dict__, "answer": "12"})
    assert OVO.scorer("official").mark(twelve, "1 or 2").correct == 1
    assert OVO.scorer("strict").mark(twelve, "1 or 2").correct == 0


def test_tasks_are_means_of_query_points_or_of_records(ovo_file):
    """Two REC records with 3 and 1 points, 1 of 3 and 1 of 1 right: 2/4 by point, (1/3 + 1)/2 by record."""
    records = json.loads(ovo_file.read_text())
    records.append({**records[2], "id": 70, "test_info": [{"realtime": 2, "count": 1}]})
    ovo_file.write_text(json.dumps(records))
    benchmark = OVO.reader(anno_path=ovo_file)
    answers = {"7_0": "0", "70_0": "1"}
    by_point = score_answers(benchmark, answers, OVO.scorer("strict"))
    by_record = score_answers(benchmark, answers, OVO.scorer("strict-per-question"))
    assert accuracy(by_point, "task/REC") == pytest.approx(50)
    assert accuracy(by_record, "task/REC") == pytest.approx(100 * (1 / 3 + 1) / 2)
    assert accuracy(by_point, "mode/Forward") == pytest.approx(50 / 3), "the mean of REC, SSR and CRR"
    assert accuracy(by_point, "overall") == pytest.approx(50 / 9)


def test_no_total_without_all_modes(ovo_file):
    backward = OVO.reader(anno_path=ovo_file, tasks=["EPM"])
    result = score_answers(backward, {"5": "B"}, OVO.scorer("strict"))
    assert "overall" not in result.summary
    assert accuracy(result, "mode/Backward") == 100
