"""Answers written and read back, good and bad."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from refstream_projects.spot.text import LOCATION_TOKENS, SpotFormat, thousandths

FORMATS = {
    "brackets": SpotFormat(),
    "internvl": SpotFormat(style="internvl"),
    "locations": SpotFormat(coordinates="locations"),
    "tokens": SpotFormat(yes="<Yes>", no="<No>", separator=""),
}
BOXES = torch.tensor([[0.012, 0.345, 0.678, 0.901], [0.0, 0.1, 0.25, 1.0]])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("brackets", "[012,345,678,901] [000,100,250,999]"),
        ("internvl", "<box>[[012, 345, 678, 901], [000, 100, 250, 999]]</box>"),
        ("locations", "[<012>,<345>,<678>,<901>] [<000>,<100>,<250>,<999>]"),
    ],
)
def test_boxes_in_words(name: str, expected: Any) -> None:
    assert FORMATS[name].say_boxes(BOXES) == expected


@pytest.mark.parametrize("text", FORMATS.values(), ids=FORMATS)
def test_boxes_come_back_exactly_at_every_thousandth(text: SpotFormat) -> None:
    low = torch.arange(1000)[:, None].expand(1000, 2)
    high = torch.arange(1, 1001)[:, None].expand(1000, 2)
    boxes = torch.cat((low, high), dim=1) / 1000
    for some in (boxes[:998], boxes[:1], boxes[123:125]):
        reply = text.read_boxes(text.say_boxes(some))
        assert reply.problem == ""
        assert not reply.refused
        assert torch.equal(reply.boxes, some)
    last = text.read_boxes(text.say_boxes(boxes[998:]))  # 1.000 is written 999
    assert thousandths(last.boxes) == [[998, 998, 999, 999]] * 2


@pytest.mark.parametrize("text", FORMATS.values(), ids=FORMATS)
def test_refusals_come_back(text: SpotFormat) -> None:
    said = text.say_boxes(torch.zeros(0, 4))
    assert said == "No object found."
    for spelt in (said, "no object found", "  No object found.\n"):
        reply = text.read_boxes(spelt)
        assert reply.refused
        assert reply.problem == ""
        assert reply.boxes.shape == (0, 4)


def test_a_side_is_never_rounded_away() -> None:
    text = SpotFormat()
    assert text.say_boxes(torch.tensor([[0.5, 0.5, 0.5002, 0.7]])) == "[500,500,501,700]"
    assert text.say_boxes(torch.tensor([[0.9997, 0.9997, 1.0, 1.0]])) == "[998,998,999,999]"
    with pytest.raises(ValueError, match="upper left"):
        text.say_boxes(torch.tensor([[0.5, 0.5, 0.4, 0.7]]))
    with pytest.raises(ValueError, match="finite"):
        text.say_boxes(torch.tensor([[0.5, 0.5, float("nan"), 0.7]]))


@pytest.mark.parametrize(
    ("said", "boxes", "problem"),
    [
        ("", [], "no box"),
        ("The circle is on the left.", [], "no box"),
        ("[012,345,678]", [], "no box"),
        ("[0.1,0.2,0.3,0.4]", [], "no box"),
        ("[1,2,3,4,5]", [], "no box"),
        ("012,345,678,901", [], "no box"),
        ("[012,345,678,901", [], "no box"),
        ("[٠١٢,345,678,901]", [], "no box"),
        ("[500,345,500,901]", [], "without area"),
        ("[678,345,012,901]", [], "without area"),
        ("[1200,345,1500,901]", [], "without area"),
        ("[012,345,1678,901]", [[12, 345, 999, 901]], "outside"),
        ("[-12,345,678,901]", [[0, 345, 678, 901]], "outside"),
        ("[12,345,678,901]", [[12, 345, 678, 901]], "not written"),
        ("It is at [012,345,678,901].", [[12, 345, 678, 901]], "not written"),
        ("[012,345,678,901] [1,2]", [[12, 345, 678, 901]], "not written"),
        ("[012,345,678,901] [500,1,400,2]", [[12, 345, 678, 901]], "without area"),
        ("[012, 345, 678, 901]", [[12, 345, 678, 901]], ""),
        ("[" * 300 + "012,345,678,901" + "]" * 300, [[12, 345, 678, 901]], "not written"),
        ("[999999999999,0,1,1]", [], "no box"),
        ("[1234567890,0,2345678901,1]", [], "no box"),
        ("[012,345,678,901] [1234567890,0,1,1]", [[12, 345, 678, 901]], "not written"),
        ("[-100,-200,-1,-5]", [], "without area"),
        ("[-100,-200,2000,3000]", [[0, 0, 999, 999]], "outside"),
        ("[1200,345,1500,901] [012,345,678,901]", [[12, 345, 678, 901]], "outside"),
    ],
)
def test_malformed_boxes_are_told(said: str, boxes: list[list[int]], problem: str) -> None:
    reply = SpotFormat().read_boxes(said)
    assert thousandths(reply.boxes) == boxes
    assert not reply.refused
    assert (problem in reply.problem) if problem else reply.problem == ""
    assert len(reply.problem) < 300


def test_points_in_words() -> None:
    labels = torch.tensor([1, 0, 0, 1])
    assert FORMATS["brackets"].say_points(labels) == "Yes No No Yes"
    assert FORMATS["tokens"].say_points(labels) == "<Yes><No><No><Yes>"
    with pytest.raises(ValueError, match=r"\(K,\)"):
        FORMATS["tokens"].say_points(labels[None])


@pytest.mark.parametrize("text", FORMATS.values(), ids=FORMATS)
def test_points_come_back(text: SpotFormat) -> None:
    labels = torch.randint(0, 2, (25,), generator=torch.Generator().manual_seed(0))
    reply = text.read_points(text.say_points(labels), 25)
    assert reply.problem == ""
    assert reply.labels is not None
    assert torch.equal(reply.labels, labels)


@pytest.mark.parametrize(
    ("said", "labels", "problem"),
    [
        ("Yes No", None, "2 judgements for 3 points"),
        ("", None, "0 judgements"),
        ("Yes No Yes Yes", None, "4 judgements"),
        ("yes no yes", None, "0 judgements"),
        ("Yes, No, Yes", [1, 0, 1], "not written"),
        ("YesNoYes", [1, 0, 1], ""),
    ],
)
def test_malformed_judgements_are_told(said: str, labels: list[int] | None, problem: str) -> None:
    reply = SpotFormat().read_points(said, 3)
    assert (None if reply.labels is None else reply.labels.tolist()) == labels
    assert (problem in reply.problem) if problem else reply.problem == ""


def test_questions_hold_what_they_are_about() -> None:
    text = SpotFormat(box_question="box of {expression}", point_question="{box} {points} on {expression}")
    assert text.ask_box("the {box} of {points}") == "box of the {box} of {points}"
    box = torch.tensor([0.1, 0.2, 0.6, 0.7])
    points = text.points(box)
    asked = text.ask_points("the {box}", box, points)
    assert asked.startswith("[100,200,600,700] [150,250],[250,250],")
    assert asked.endswith("[550,650] on the {box}")
    assert points.shape == (25, 2)
    assert text.num_points == 25
    assert SpotFormat(grid=3, rule="inclusive").points(box[None, None]).shape == (1, 1, 9, 2)
    with pytest.raises(ValueError, match="need a box"):
        text.ask_points("it", box[None], points)


UNLISTED = SpotFormat(point_question='Which points of {box} are on "{expression}"?')


def test_points_need_not_be_listed() -> None:
    box = torch.tensor([0.1, 0.2, 0.6, 0.7])
    asked = UNLISTED.ask_points("the {points} in the {box}", box, UNLISTED.points(box))
    assert asked == 'Which points of [100,200,600,700] are on "the {points} in the {box}"?'
    listed = SpotFormat(point_question=f"{UNLISTED.point_question} {{points}}")
    longer = listed.ask_points("it", box, listed.points(box))
    # 25 times [ddd,ddd], commas between them, and a space
    assert len(longer) - len(UNLISTED.ask_points("it", box, UNLISTED.points(box))) == 25 * 9 + 24 + 1


def test_unlisted_points_come_back_in_the_grids_order() -> None:
    labels = torch.arange(25) % 3 == 0
    reply = UNLISTED.read_points(UNLISTED.say_points(labels.long()), UNLISTED.num_points)
    assert reply.problem == ""
    assert reply.labels is not None
    assert torch.equal(reply.labels, labels.long())


def test_points_are_listed_once() -> None:
    with pytest.raises(ValueError, match=r"\{points\} once"):
        SpotFormat(point_question="{points} of {box}, {points}, on {expression}?")


def test_numbers_of_points_are_cut_off() -> None:
    values = torch.tensor([[0.0019, 0.9999], [0.29, 0.57]])
    assert thousandths(values, cut=True) == [[1, 999], [290, 570]]
    assert thousandths(values) == [[2, 999], [290, 570]]


def test_tokens_that_answers_need() -> None:
    assert FORMATS["brackets"].answer_tokens == ()
    assert FORMATS["internvl"].answer_tokens == ("<box>", "</box>")
    assert FORMATS["locations"].answer_tokens == LOCATION_TOKENS
    assert FORMATS["tokens"].answer_tokens == ("<Yes>", "<No>")
    assert len(set(LOCATION_TOKENS)) == 1000


@pytest.mark.parametrize(
    "keys",
    [{"coordinates": "pixels"}, {"style": "xml"}, {"yes": ""}, {"yes": "No", "no": "No way"}, {"yes": " Yes"},
     {"separator": " No "}, {"refusal": "[]"}, {"refusal": " "}, {"grid": 0}, {"rule": "random"},
     {"box_question": "where?"}, {"box_question": "{expression} {expression}"},
     {"point_question": "{box} {points}"}, {"point_question": "{expression} {points}"}],
)  # fmt: skip
def test_formats_that_could_not_be_read_back(keys: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|needs"):
        SpotFormat(**keys)
