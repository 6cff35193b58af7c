"""Strict reading of answers: one option, one number, or yes / no; anything else is no answer.

The rules are the same for all benchmarks, and are not those of their public scorers, which accept more (a
letter anywhere in the words, digits glued together). They are:

* option: its label ("B", "(B)", "B.", "Sentence B"), alone, after a lead-in such as "The answer is", or
  before its text or an explanation ("B. because ..."); or its whole text. Not if the rest names another
  option. A small letter counts only alone, and so does the last word of a label of several ("B" for
  "Sentence B").
* number: exactly one whole number in digits, or one number word alone; no sign, no decimals.
* yes / no: the first word, alone or followed by a mark (",", ".", ":", "!", ";"); y and n alone count. Not if
  the opposite word follows.
"""

from __future__ import annotations

import re

from refstream.evaluation.qa.base import Question

_LEAD = re.compile(
    r"^(?:(?:the|my)\s+)?(?:(?:best|correct|right|final)\s+)?(?:answer|option|choice)\s*(?:is|:)?\s*:?\s*",
    re.IGNORECASE,
)
_MARKS = " \t\r\n\"'`*"
_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
    "twenty",
)
_NUMBER = re.compile(r"-?\d+(?:[.,]\d+)*")
_YES_NO = re.compile(r"^(yes|no|y|n)(?:$|[.,:;!])", re.IGNORECASE)


def parse(question: Question, answer: object) -> str | None:
    """The answer in the form of the question's kind, None if it has none; see the module."""
    if not isinstance(answer, str):
        return None
    if question.kind == "count":
        return parse_number(answer)
    if question.kind == "yes_no":
        return parse_yes_no(answer)
    return parse_option(answer, question.labels, question.options)


def parse_option(text: str, labels: tuple[str, ...], options: tuple[str, ...]) -> str | None:
    """The label that the words name, None if none or several."""
    plain = text.strip(_MARKS)
    by_text = [label for label, option in zip(labels, options, strict=True) if _same(plain, option)]
    if len(by_text) == 1:
        return by_text[0]
    bare = plain.strip("()[].:, ").upper()
    short = [label for label in labels if label.split()[-1].upper() == bare]
    if len(short) == 1:
        return short[0]
    led = _LEAD.match(plain)
    found = [
        (label, rest)
        for start in dict.fromkeys((plain, plain[led.end() :] if led else plain))
        for label in labels
        if (rest := _after(start, label)) is not None
    ]
    if len({label for label, _ in found}) != 1:
        return None
    label, rest = found[0]
    if _same(rest, options[labels.index(label)]):
        return label
    named_by_text = any(_same(rest, option) for option in options)
    return None if named_by_text or any(_names(rest, other) for other in labels if other != label) else label


def parse_number(text: str) -> str | None:
    """The one whole number in the words, without leading zeros, None if there is none or several."""
    plain = text.strip(_MARKS + ".!")
    if plain.lower() in _WORDS:
        return str(_WORDS.index(plain.lower()))
    numbers = _NUMBER.findall(text)
    return str(int(numbers[0])) if len(numbers) == 1 and re.fullmatch(r"[0-9]+", numbers[0]) else None


def parse_yes_no(text: str) -> str | None:
    """ "Yes", "No" or None."""
    plain = text.strip(_MARKS)
    match = _YES_NO.match(plain)
    if match is None:
        return None
    said = "Yes" if match[1].lower().startswith("y") else "No"
    rest = plain[match.end() :]
    if len(match[1]) == 1 and rest.strip():
        return None
    opposite = "no" if said == "Yes" else "yes"
    return None if re.search(rf"\b{opposite}\b", rest, re.IGNORECASE) else said


def _same(text: str, option: str) -> bool:
    return _plain(text) == _plain(option) != ""


def _plain(text: str) -> str:
    return " ".join(text.lower().split()).strip(" .\"'`*")


def _after(text: str, label: str) -> str | None:
    """What follows if the text begins with a label; None if it does not."""
    match = re.match(rf"[(\[]?{re.escape(label)}(?:[)\]]|(?=[.:,;\s]|$))", text)
    if match is None:
        return None
    rest = text[match.end() :]
    closed = match[0][-1] in ")]"
    if rest.strip() and not closed and rest[0] not in ".:,;\n":
        return None  # "A person ..." is an article, not an option
    return rest.lstrip(".:,; \t\n")


def _names(text: str, label: str) -> bool:
    """Whether words name an option: its label as a word of its own, but not as an article."""
    return re.search(rf"(?<!\w){re.escape(label)}(?:[).:,;]|\s*$|\s+(?:or|and)\b)", text) is not None
