"""OVO-Bench's folders of results: ``<folder>/<model>/<anything>.json``, each with all that was asked and
answered.

A file holds the lists "backward", "realtime" (id, video, task, question, response, ground_truth) and
"forward" (the annotations with a "response" in every entry of ``test_info``). The public scorer joins all
files of a folder, so a second file of the same records counts them twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from refstream.data.datasets.reading import read_object
from refstream.errors import UserError
from refstream.evaluation.qa.answers import Answers
from refstream.evaluation.qa.base import LETTERS, QABenchmark, Question
from refstream.evaluation.qa.ovo import MODE_OF, OVOBench, question_groups
from refstream.evaluation.qa.tables import Row, take
from refstream.files import write_json

PARTS = ("backward", "realtime", "forward")
MAX_OPTIONS = 5
"""The public file has 2 to 5 options; results do not say how many."""


class OVOResults(QABenchmark):
    """What a folder of results says was asked, with what it says was answered.

    Questions are those of the files alone, as for the public scorer: whatever was not run is not among them.
    A record that occurs again has ids that end in "#2", "#3", ...

    Args:
        folder: ``<result_dir>/<model>``.

    Attributes:
        answers: Question id -> response as it stands in the file: text, null, or what else a model wrote.
        duplicates: Ids of records that occur more than once.

    Raises:
        UserError: If there is no such folder, no JSON file in it, or a file is not as described.
    """

    name = "ovo"

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise UserError(
                f"no folder of results at {self.folder}; expected <result_dir>/<model>/*.json in it"
            )
        self.paths = sorted(self.folder.glob("*.json"))
        if not self.paths:
            raise UserError(f"no .json file in {self.folder}; expected the results of an OVO-Bench run")
        self.answers: dict[str, Any] = {}
        questions: list[Question] = []
        times: dict[str, int] = {}
        for path in self.paths:
            content = read_object(path)
            for part in PARTS:
                for index, record in enumerate(take(content, part, list, f"{path}")):
                    where = f"{path}, {part} {index}"
                    if not isinstance(record, dict):
                        raise UserError(f"{where}: expected an object, got {str(record)[:60]!r}")
                    name = str(take(record, "id", (int, str), where))
                    times[name] = times.get(name, 0) + 1
                    suffix = f"#{times[name]}" if times[name] > 1 else ""
                    for question, response in _questions(record, part, name, where):
                        questions.append(replace(question, id=f"{question.id}{suffix}"))
                        self.answers[questions[-1].id] = response
        self.questions = questions
        self.duplicates = [name for name, count in times.items() if count > 1]
        self.settings = {"folder": self.folder.name, "files": [path.name for path in self.paths]}

    def video_path(self, question: Question) -> Path:
        return Path(question.video)

    def answers_for(self, benchmark: QABenchmark) -> dict[str, Any]:
        """The answers by the ids of the annotations.

        Raises:
            UserError: If a record occurs twice, or its truth differs from that of the annotations.
        """
        if self.duplicates:
            raise UserError(
                f"{self.folder} answers {len(self.duplicates)} records more than once (first: id "
                f"{self.duplicates[0]}) in {len(self.paths)} files; remove the files of the older run"
            )
        for question in self.questions:
            truth = benchmark.by_id.get(question.id)
            if truth is not None and (truth.task, truth.answer) != (question.task, question.answer):
                raise UserError(
                    f"{self.folder}: question {question.id} is {question.task} with the answer "
                    f"{question.answer}, "
                    f"the annotations say {truth.task} with {truth.answer}; are they of the same version?"
                )
        return self.answers


def write_results(
    benchmark: OVOBench, answers: Answers, result_dir: str | Path, model: str, *, mode: str = "offline"
) -> Path:
    """Write answers as one file of the public form, which the public scorer reads.

    Args:
        benchmark: The annotations; every record is written, with null where there is no answer.
        answers: Question id -> text.
        result_dir: The file becomes ``<result_dir>/<model>/<model>_<tasks>_<mode>_1.json``.
        model: The public scorer knows thirteen names only; any is fine for ours.
        mode: Part of the file's name.

    Raises:
        OutputError: If it cannot be written.
    """
    parts: dict[str, list[Row]] = {part: [] for part in PARTS}
    for record in benchmark.records:
        task, name = record["task"], str(record["id"])
        video = (benchmark.video_dir / record["video"]).as_posix()
        if MODE_OF[task] == "Forward":
            points = [
                {**point, "response": answers.get(f"{name}_{index}")}
                for index, point in enumerate(record["test_info"])
            ]
            parts["forward"].append({**record, "video": video, "test_info": points})
            continue
        parts[MODE_OF[task].lower()].append(
            {
                "id": record["id"],
                "video": video,
                "task": task,
                "question": record["question"],
                "response": answers.get(name),
                "ground_truth": LETTERS[record["gt"]],
            }
        )
    tasks = "_".join(dict.fromkeys(record["task"] for record in benchmark.records))
    path = Path(result_dir) / model / f"{model}_{tasks}_{mode}_1.json"
    write_json(path, parts, indent=4)
    return path


def _questions(record: Row, part: str, name: str, where: str) -> Iterator[tuple[Question, Any]]:
    task = record.get("task")
    if task not in MODE_OF or MODE_OF[task].lower() != part:
        raise UserError(f"{where}: task {task!r} does not belong there")
    common: dict[str, Any] = {
        "video": str(record.get("video", "")),
        "prompt": "",
        "task": task,
        "groups": question_groups(task),
        "details": {"record": name},
    }
    if part != "forward":
        truth = take(record, "ground_truth", str, where)
        if truth not in LETTERS[:MAX_OPTIONS] or len(truth) != 1:
            raise UserError(
                f"{where}: ground_truth is {truth!r}; expected a letter from A to {LETTERS[MAX_OPTIONS - 1]}"
            )
        text = str(record.get("question", ""))
        options = ("",) * MAX_OPTIONS
        yield (
            Question(id=name, answer=truth, kind="choice", text=text, options=options, **common),
            _response(record, where),
        )
        return
    for index, point in enumerate(take(record, "test_info", list, where)):
        at = f"{where}, test_info {index}"
        point = point if isinstance(point, dict) else {}
        if task == "REC":
            common.update(kind="count", answer=str(take(point, "count", int, at)))
        else:
            common.update(kind="yes_no", answer="No" if take(point, "type", int, at) == 0 else "Yes")
        yield Question(id=f"{name}_{index}", **common), _response(point, at)


def _response(row: Row, where: str) -> Any:
    if "response" not in row:
        raise UserError(f"{where}: there is no response; expected a text, or null where nothing was answered")
    return row["response"]
