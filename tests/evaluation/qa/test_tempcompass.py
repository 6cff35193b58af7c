"""TempCompass: the official rule was compared with the authors' three scripts, run with ``--disable_llm``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from refstream.errors import UserError
from refstream.evaluation.qa import QA_BENCHMARKS, load_qa_benchmark, score_answers
from refstream.evaluation.qa.tempcompass import read_predictions
from refstream.files import write_json


@pytest.fixture
def tempcompass(tmp_path: Path) -> Any:
    choice = {"question": "What does he do?\nA. run\nB. stop\nC. sit down", "answer": "B. stop"}
    match = {
        "question": "Which fits?\nSentence A: He runs.\nSentence B: He stops.",
        "answer": "Sentence B: He stops.",
    }
    yes_no = [{"question": "Does he run?", "answer": "no"}, {"question": "Does he stop?", "answer": "yes"}]
    write_json(
        tmp_path / "questions/multi-choice.json", {"1_reverse": {"action": [choice], "order": [choice]}}
    )
    write_json(tmp_path / "questions/yes_no.json", {"1_reverse": {"action": yes_no}})
    write_json(tmp_path / "questions/caption_matching.json", {"1_reverse": {"action": [match]}})
    meta = {"eval_dim": {"action": {"type": "fine-grained action"}, "order": None}}
    write_json(tmp_path / "meta_info.json", {"1_reverse": meta})
    return load_qa_benchmark("tempcompass", root=tmp_path)


def test_tempcompass_is_read(tempcompass, tmp_path):
    assert [q.answer for q in tempcompass.questions] == ["B", "B", "No", "Yes", "Sentence B"]
    first = tempcompass.by_id["multi-choice/1_reverse/action/0"]
    assert first.options == ("run", "stop", "sit down")
    assert first.groups == {
        "form": "multi-choice",
        "aspect": "multi-choice/action",
        "finer aspect": "multi-choice/fine-grained action",
    }
    assert tempcompass.video_path(first) == tmp_path / "videos/1_reverse.mp4"
    assert "judge" in tempcompass.settings["excluded"]["captioning"]


@pytest.mark.parametrize(
    ("question", "answer", "official", "strict"),
    [
        ("multi-choice/1_reverse/action/0", "B", 1, 1),
        ("multi-choice/1_reverse/action/0", "B. stop</s>", 1, 1),
        ("multi-choice/1_reverse/action/0", "B) he stops", 1, 1),
        ("multi-choice/1_reverse/action/0", "B. anything", 1, 1),
        ("multi-choice/1_reverse/action/0", "(B)", 0, 1),
        ("multi-choice/1_reverse/action/0", "stop", 0, 1),
        ("multi-choice/1_reverse/action/0", "A", 0, 0),
        ("yes_no/1_reverse/action/0", "No.", 1, 1),
        ("yes_no/1_reverse/action/0", "nothing of the kind", 1, 0),
        ("yes_no/1_reverse/action/0", "Yes", 0, 0),
        ("yes_no/1_reverse/action/0", "He does not", 0, 0),
        ("caption_matching/1_reverse/action/0", "Sentence B: He stops.", 1, 1),
        ("caption_matching/1_reverse/action/0", "Sentence B.", 1, 1),
        ("caption_matching/1_reverse/action/0", "B", 1, 1),
        ("caption_matching/1_reverse/action/0", "He stops.", 1, 1),
        ("caption_matching/1_reverse/action/0", "Sentence A", 0, 0),
        ("caption_matching/1_reverse/action/0", "Sentence B, since he stops", 0, 1),
    ],
)
def test_tempcompass_rules(tempcompass, question, answer, official, strict, correct):
    assert correct("tempcompass", tempcompass, question, answer) == [official, strict]


def test_tempcompass_is_the_mean_of_its_forms(tempcompass, tmp_path):
    said = {"question": "?", "answer": "?", "prediction": "B"}
    write_json(tmp_path / "predictions/multi-choice.json", {"1_reverse": {"action": [said], "order": [said]}})
    write_json(
        tmp_path / "predictions/yes_no.json",
        {"1_reverse": {"action": [{"response": None}, {"response": "Yes"}]}},
    )
    answers = read_predictions(tmp_path / "predictions")
    result = score_answers(tempcompass, answers, QA_BENCHMARKS["tempcompass"].scorer())
    accuracies = {group: figures["accuracy"] for group, figures in result.summary.items()}
    assert accuracies["form/multi-choice"] == 100
    assert accuracies["form/yes_no"] == 50
    assert accuracies["form/caption_matching"] == 0
    assert accuracies["overall"] == 50, "not 3 of 5"
    assert result.missing == ["yes_no/1_reverse/action/0", "caption_matching/1_reverse/action/0"]


def test_tempcompass_errors(tempcompass, tmp_path):
    with pytest.raises(
        UserError, match="captioning is left out: its public score comes from a language model"
    ):
        load_qa_benchmark("tempcompass", root=tmp_path, forms=["captioning"])
    with pytest.raises(UserError, match="no predictions"):
        read_predictions(tmp_path)
    write_json(
        tmp_path / "questions/yes_no.json", {"1_reverse": {"speed": [{"question": "?", "answer": "no"}]}}
    )
    with pytest.raises(UserError, match=r"meta_info\.json has no type of 'speed'"):
        load_qa_benchmark("tempcompass", root=tmp_path)
    write_json(
        tmp_path / "questions/yes_no.json", {"1_reverse": {"action": [{"question": "?", "answer": "maybe"}]}}
    )
    with pytest.raises(UserError, match="expected the answer yes or no, got 'maybe'"):
        load_qa_benchmark("tempcompass", root=tmp_path)
