"""Files of answers: question id -> text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from refstream.errors import UserError
from refstream.evaluation.qa.base import QABenchmark
from refstream.files import atomic_write_text, write_json

Answers = Mapping[str, Any]
"""Question id -> what was answered: text, or None for nothing. Other types are kept as they are, since some
official scorers accept them; a strict scorer counts them as wrong."""

ID_KEYS = ("id", "question_id")
TEXT_KEYS = ("answer", "response", "prediction", "text")


def read_answers(path: str | Path) -> dict[str, Any]:
    """Read answers from JSON or JSONL.

    Accepted: one object ``{id: text}``; a list of objects, or one object per line (``.jsonl``), each with an
    id (``id`` or ``question_id``) and a text (``answer``, ``response``, ``prediction`` or ``text``). null
    means that nothing was answered.

    Raises:
        UserError: If the file is missing or of another form, or answers a question twice; names the place.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no file of answers at {path}; expected JSON {{question id: text}}")
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        return _from_rows(_lines(path, text), path)
    try:
        content = json.loads(text, object_pairs_hook=_unique)
    except _Twice as error:
        raise UserError(f"{path} has the key {error} twice; keep one") from error
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error})") from error
    if isinstance(content, list):
        return _from_rows(((f"{path}, entry {i}", row) for i, row in enumerate(content)), path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected an object {{question id: text}} or a list, got {text[:40]!r}")
    return {str(key): value for key, value in content.items()}


def write_answers(path: str | Path, answers: Answers) -> Path:
    """Write answers so that ``read_answers`` reads them back: JSONL for that suffix, else one JSON object."""
    path = Path(path)
    if path.suffix == ".jsonl":
        rows = ({"id": key, "answer": value} for key, value in answers.items())
        atomic_write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    else:
        write_json(path, dict(answers))
    return path


def check_answers(benchmark: QABenchmark, answers: Answers) -> tuple[list[str], list[str]]:
    """Ids without an answer in the benchmark's order, and ids of answers that nobody asked for.

    Raises:
        UserError: If no answer belongs to the benchmark.
    """
    missing = [question.id for question in benchmark.questions if answers.get(question.id) is None]
    unknown = [key for key in answers if key not in benchmark.by_id]
    if answers and len(unknown) == len(answers):
        expected = benchmark.questions[0].id if benchmark.questions else "none"
        raise UserError(
            f"none of the {len(answers)} answers belongs to {benchmark.name}: its ids look like "
            f"{expected!r}, "
            f"those of the answers like {unknown[0]!r}"
        )
    return missing, unknown


class _Twice(Exception):
    """A key that an object of JSON has twice."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _Twice(repr(key))
        found[key] = value
    return found


def _lines(path: Path, text: str) -> Iterable[tuple[str, Any]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            yield f"{path}, line {number}", json.loads(line)
        except ValueError as error:
            raise UserError(f"{path}, line {number} is not valid JSON ({error})") from error


def _from_rows(rows: Iterable[tuple[str, Any]], path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for where, row in rows:
        fields = row if isinstance(row, dict) else {}
        names = [key for key in ID_KEYS if key in fields]
        texts = [key for key in TEXT_KEYS if key in fields]
        if not names or not texts:
            raise UserError(
                f"{where}: expected an object with {' or '.join(ID_KEYS)} and {' or '.join(TEXT_KEYS)}, "
                f"got {str(row)[:60]!r}"
            )
        key = str(fields[names[0]])
        if key in found:
            raise UserError(f"{where}: question {key} was answered before in {path}; keep one answer")
        found[key] = fields[texts[0]]
    return found
