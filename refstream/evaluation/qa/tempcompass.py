"""TempCompass: what happens, which way, how fast, in which order, and what changes, in three forms of
question.

Source: llyx97/TempCompass (arXiv 2403.00476): ``questions/<form>.json``, ``{video: {aspect: [{"question",
"answer"}]}}`` with the options as lines of the question, and ``meta_info.json`` with the finer aspects; 1,580
multiple-choice, 2,453 yes / no and 1,503 caption-matching questions on 410 videos. The fourth form,
captioning, is left out: its public score comes from a language model as judge. The questions carry their
options; the request for the form of the answer is worded here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from refstream.data.datasets.reading import dataset_file, expect, read_object, relative_path
from refstream.errors import UserError
from refstream.evaluation.protocols.base import OVERALL, Summary
from refstream.evaluation.qa.base import QABenchmark, Question
from refstream.evaluation.qa.scoring import ACCURACY, COUNT, Mark, QARow, StrictScorer, mean_summary
from refstream.evaluation.qa.tables import take

FORMS: dict[str, str] = {
    "multi-choice": "Answer with the letter of the best option alone.",
    "yes_no": "Answer yes or no.",
    "caption_matching": "Answer with the best option alone.",
}
"""Form -> how its prompt ends."""
WHERE = "docs/benchmarks_qa.md says where it belongs"
EXCLUDED = {"captioning": "its public score comes from a language model as judge"}
_LETTERED = re.compile(r"^\s*([A-Z])\. ?(.*)$")
_NAMED = re.compile(r"^((?:Caption|Option|Sentence) [A-Z0-9]): (.*)$")


class TempCompass(QABenchmark):
    """The public questions.

    Args:
        root: Holds ``questions/<form>.json``, ``meta_info.json`` and ``videos/<video>.mp4``, as in a clone
            of the authors' repository.
        forms: Keys of ``FORMS``; all three by default.

    Raises:
        UserError: If a file is missing or a question is not as described; names it.
    """

    name = "tempcompass"

    def __init__(
        self, root: str | Path = "data/video_qa/tempcompass", *, forms: Sequence[str] | None = None
    ) -> None:
        self.root = Path(root)
        wanted = tuple(FORMS) if forms is None else tuple(forms)
        unknown = [form for form in wanted if form not in FORMS]
        if unknown or not wanted:
            left_out = "".join(f"; {form} is left out: {why}" for form, why in EXCLUDED.items())
            raise UserError(
                f"TempCompass is read in the forms {', '.join(FORMS)}; got "
                f"{', '.join(unknown) or 'none'}{left_out}"
            )
        self.meta = read_object(dataset_file(self.root, "meta_info.json", WHERE))
        self.questions = [question for form in wanted for question in self._read(form)]
        self.settings = {"forms": list(wanted), "excluded": EXCLUDED}

    def video_path(self, question: Question) -> Path:
        return self.root / "videos" / f"{question.video}.mp4"

    def _read(self, form: str) -> Iterator[Question]:
        path = dataset_file(self.root, f"questions/{form}.json", WHERE)
        for video, aspects in read_object(path).items():
            relative_path(video, f"{path}, video")
            for aspect, rows in expect(aspects, dict, f"{path}, {video}").items():
                for index, row in enumerate(expect(rows, list, f"{path}, {video}, {aspect}")):
                    where = f"{path}, {video}, {aspect} {index}"
                    row = expect(row, dict, where)
                    text, answer = (take(row, key, str, where) for key in ("question", "answer"))
                    groups = {
                        "form": form,
                        "aspect": f"{form}/{aspect}",
                        "finer aspect": f"{form}/{self._finer(video, aspect, where)}",
                    }
                    common: dict[str, Any] = {
                        "id": f"{form}/{video}/{aspect}/{index}",
                        "video": video,
                        "prompt": f"{text}\n{FORMS[form]}",
                        "task": form,
                        "groups": groups,
                        "text": text,
                    }
                    yield _question(common, text, answer, form, where)

    def _finer(self, video: str, aspect: str, where: str) -> str:
        if aspect == "order":  # has none
            return aspect
        try:
            return str(self.meta[video]["eval_dim"][aspect]["type"])
        except (KeyError, TypeError) as error:
            raise UserError(f"{where}: meta_info.json has no type of {aspect!r} for this video") from error


class TempCompassStrict(StrictScorer):
    """The strict rule; the overall figure is the mean over forms, which the authors report apart."""

    rule = (
        "one option or yes/no (see parsing); form and aspect: mean over questions; overall: mean over forms"
    )

    def summarize(self, rows: Sequence[QARow]) -> Summary:
        summary = mean_summary(rows)
        forms = [figures[ACCURACY] for group, figures in summary.items() if group.startswith("form/")]
        if forms:
            summary[OVERALL] = {ACCURACY: sum(forms) / len(forms), COUNT: float(len(rows))}
        return summary


class TempCompassOfficial(TempCompassStrict):
    """The authors' matching rules with ``--disable_llm``: what they do not match is wrong, and no model is
    asked.

    Multiple choice: the whole answer, or its letter alone, before "." or before ")". Yes / no: the answer
    begins with it. Caption matching: the whole option, its text, or its name ("Sentence A", "A"). "</s>" is
    cut off.
    """

    name = "official"
    rule = (
        "the authors' matching rules without a judging model; form and aspect: mean over questions; "
        "overall: mean "
        "over forms"
    )

    def mark(self, question: Question, answer: Any) -> Mark:
        if not isinstance(answer, str):
            return Mark(0.0)
        said = answer.replace("</s>", "").strip()
        if question.kind == "yes_no":
            parsed = next((word for word in ("Yes", "No") if said.lower().startswith(word.lower())), None)
        elif question.task == "multi-choice":
            parsed = _lettered(said, question)
        else:
            parsed = _matched(said, question)
        return Mark(float(parsed is not None and parsed == question.answer), parsed)


def read_predictions(folder: str | Path) -> dict[str, Any]:
    """Answers out of the authors' ``predictions/<model>/<form>.json``, by the ids of ``TempCompass``.

    The form is that of the questions, with "prediction" (or "response") beside question and answer. Files
    that are not there are left out.

    Raises:
        UserError: If there is none, or one is not as described.
    """
    answers: dict[str, Any] = {}
    for form in FORMS:
        path = Path(folder) / f"{form}.json"
        if not path.is_file():
            continue
        for video, aspects in read_object(path).items():
            for aspect, rows in expect(aspects, dict, f"{path}, {video}").items():
                for index, row in enumerate(expect(rows, list, f"{path}, {video}, {aspect}")):
                    where = f"{path}, {video}, {aspect} {index}"
                    row = expect(row, dict, where)
                    key = "prediction" if "prediction" in row else "response"
                    if key not in row:
                        raise UserError(f"{where}: expected a prediction or a response, got {sorted(row)}")
                    answers[f"{form}/{video}/{aspect}/{index}"] = row[key]
    if not answers:
        raise UserError(f"no predictions in {folder}; expected {', '.join(f'{form}.json' for form in FORMS)}")
    return answers


def _question(common: Mapping[str, Any], text: str, answer: str, form: str, where: str) -> Question:
    if form == "yes_no":
        if answer.lower() not in ("yes", "no"):
            raise UserError(f"{where}: expected the answer yes or no, got {answer[:60]!r}")
        return Question(**common, answer=answer.capitalize(), kind="yes_no")
    pattern = _LETTERED if form == "multi-choice" else _NAMED
    lines = [line for line in text.split("\n")[1:] if line.strip()]
    found = [pattern.match(line) for line in lines]
    options = [match for match in found if match is not None]
    truth = pattern.match(answer)
    labels = tuple(match[1] for match in options)
    if len(options) != len(lines) or len(options) < 2 or truth is None or truth[1] not in labels:
        raise UserError(
            f"{where}: expected options as lines and one of them as the answer, got {text[:80]!r}"
        )
    texts = tuple(match[2] for match in options)
    return Question(**common, answer=truth[1], kind="choice", options=texts, labels=labels)


def _lettered(said: str, question: Question) -> str | None:
    whole = [f"{label}. {text}" for label, text in zip(question.labels, question.options, strict=True)]
    if said in whole:
        return question.labels[whole.index(said)]
    if said in {"A", "B", "C", "D"} or said[:2] in {f"{letter}{mark}" for letter in "ABCD" for mark in ".)"}:
        return said[0]
    return None


def _matched(said: str, question: Question) -> str | None:
    """The last rule that fits wins, as in the authors' code: name, then text, then the whole."""
    after = said.split(") ")[1] if ") " in said else None
    named = {label: label for label in question.labels} | {
        label.split()[-1]: label for label in question.labels
    }
    for form in (said, said.replace(".", "")):
        if form in named:
            return named[form]
    for label, text in reversed(list(zip(question.labels, question.options, strict=True))):
        if text in (said, after):
            return label
    for label, text in zip(question.labels, question.options, strict=True):
        if said == f"{label}: {text}":
            return label
    return None
