"""Boxes in what models say: the forms of the families, and what is no box."""

from __future__ import annotations

import pytest

from refstream.models.mllm.spoken_boxes import spoken_boxes


@pytest.mark.parametrize(
    "text",
    [
        "<ref>the dog</ref><box>[[100, 200, 400, 700]]</box>",
        "[100,200,400,700]",
        "It is at (100, 200, 400, 700).",
        '```json\n[{"bbox_2d": [100, 200, 400, 700], "label": "dog"}]\n```',
        "[100.0, 200.0, 400.0, 700.0] and again [100,200,400,700]",
    ],
)
def test_a_box_in_any_wrapping(text: str) -> None:
    assert spoken_boxes(text) == [(0.1, 0.2, 0.4, 0.7)]


def test_several_boxes_keep_their_order() -> None:
    found = spoken_boxes("[[500,0,1000,250],[0,0,250,500]]")
    assert found == [(0.5, 0.0, 1.0, 0.25), (0.0, 0.0, 0.25, 0.5)]


def test_pixels_are_divided_by_the_size_of_the_image() -> None:
    assert spoken_boxes("[64, 24, 320, 240]", (640.0, 480.0)) == [(0.1, 0.05, 0.5, 0.5)]


def test_what_lies_outside_is_cut_off() -> None:
    assert spoken_boxes("[-50, 900, 500, 1200]") == [(0.0, 0.9, 0.5, 1.0)]


@pytest.mark.parametrize(
    "text",
    ["", "No object.", "[1,2,3]", "[1,2,3,4,5]", "1,2,3,4", "[400,200,100,700]", "[100,200,100,700]",
     "[1200,0,1400,500]"],
)  # fmt: skip
def test_no_box(text: str) -> None:
    assert spoken_boxes(text) == []
