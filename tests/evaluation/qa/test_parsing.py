"""Strict reading of answers: what counts, and what does not."""

from __future__ import annotations

import pytest

from refstream.evaluation.qa.parsing import parse_number, parse_option, parse_yes_no

OPTIONS = ("a red car", "A man walks.", "Vitamin C.", "none")


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("B", "B"),
        (" b. ", "B"),
        ("(B)", "B"),
        ("**B**", "B"),
        ("B) A man walks", "B"),
        ("B. A man walks.", "B"),
        ("C. Vitamin C.", "C"),
        ("D. because the street is empty", "D"),
        ("The answer is B.", "B"),
        ("Answer: (D)", "D"),
        ("The correct option is: A", "A"),
        ("B:\nA man walks.", "B"),
        ("none", "D"),
        ("A red car.", "A"),
        ("A man walks", "B"),
        ("E", None),
        ("", None),
        ("ABCD", None),
        ("A or B", None),
        ("A. or B.", None),
        ("A, B", None),
        ("A blue car", None),
        ("I think B", None),
        ("A. A man walks.", None),
        ("Beautiful", None),
    ],
)
def test_options(text, label):
    assert parse_option(text, ("A", "B", "C", "D"), OPTIONS) == label


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Sentence A", "Sentence A"),
        ("Sentence B: It stops.", "Sentence B"),
        ("B", "Sentence B"),
        ("It runs.", "Sentence A"),
        ("Caption A", None),
        ("Sentence A: It stops.", None),
    ],
)
def test_named_options(text, label):
    assert parse_option(text, ("Sentence A", "Sentence B"), ("It runs.", "It stops.")) == label


@pytest.mark.parametrize(
    ("text", "number"),
    [("3", "3"), ("about 18.", "18"), ("03 times", "3"), ("Three.", "3"), ("0", "0"), ("twenty", "20")]
    + [(t, None) for t in ("", "none", "1 or 2", "2.5", "-1", "1,000", "three or so", "2 of 3")],
)
def test_numbers(text, number):
    assert parse_number(text) == number


@pytest.mark.parametrize(
    ("text", "said"),
    [("Yes", "Yes"), ("no.", "No"), ("Y", "Yes"), ("n", "No"), ("Yes, it is.", "Yes"), ("NO: not yet", "No")]
    + [
        (t, None)
        for t in ("", "No one is there", "Yes. No.", "Not yet", "It is: yes", "Yes it is", "Y. M. C. A.")
    ],
)
def test_yes_or_no(text, said):
    assert parse_yes_no(text) == said
