"""Boxes, points and judgements as words, and back.

Round 1 asks for the box of an expression; the answer is one box per object, or a refusal. Round 2, once per
box, asks of every point of a grid in it whether it lies on the object.

    brackets    [012,345,678,901] [...]                     (SAM4MLLM's form, which SPOT builds on)
    internvl    <box>[[012, 345, 678, 901], [...]]</box>    (InternVL's own grounding form, zero-padded)

Numbers are thousandths of the frame's width and height, 000 to 999: those of boxes rounded, those of points
cut off. SPOT (CVPR 2026) does not give its own words or format (assumed).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from .geometry import GRID_SIZE, GridRule, grid_fractions, grid_points

COORDINATES = ("digits", "locations")
STYLES = ("brackets", "internvl")
SCALE = 1000
LOCATION_TOKENS = tuple(f"<{n:03d}>" for n in range(SCALE))
BOX_TAGS = ("<box>", "</box>")
BOX_QUESTION = 'Where is "{expression}"? Give the box of each, or say that there is none.'
POINT_QUESTION = 'In the box {box}, does each of these points lie on "{expression}"? {points}'
REFUSAL = "No object found."  # SAM4MLLM
_GROUP = re.compile(r"\[([^\[\]]*)\]")


@dataclass(frozen=True, eq=False)
class BoxReply:
    """What an answer of round 1 says.

    Attributes:
        boxes: (N, 4) float32 xyxy in [0, 1], each of positive area.
        refused: Whether it says that there is no object.
        problem: What is wrong with it, in words; empty if it is well formed. Boxes may be there all the same.
    """

    boxes: Tensor
    refused: bool
    problem: str


@dataclass(frozen=True, eq=False)
class PointReply:
    """What an answer of round 2 says.

    Attributes:
        labels: (K,) int64, 1 on the object, else 0; None if there is not one judgement per point.
        problem: What is wrong with it, in words; empty if it is well formed.
    """

    labels: Tensor | None
    problem: str


@dataclass(frozen=True)
class SpotFormat:
    """How a dialogue is written.

    Attributes:
        coordinates: "digits": numbers are text. "locations": numbers in answers are added tokens <000> to
            <999>; those in questions stay digits, as a question never holds special tokens.
        style: "brackets" or "internvl", see the module.
        yes: Says that a point lies on the object. A word in angle brackets is an added token.
        no: Says that it does not.
        separator: Between judgements. With words, some is needed: a tokenizer may join "YesNo" as it likes.
        refusal: Round 1 where there is no object.
        grid: Points per side of the grid.
        rule: Of the grid, see ``grid_fractions``.
        box_question: Holds {expression}.
        point_question: Holds {expression} and {box}, and {points} if the points are to be listed (SAM4MLLM);
            without it the order of the answers alone says which point is meant.

    Raises:
        ValueError: For unknown names, or texts that could not be read back.
    """

    coordinates: str = "digits"
    style: str = "brackets"
    yes: str = "Yes"
    no: str = "No"
    separator: str = " "
    refusal: str = REFUSAL
    grid: int = GRID_SIZE
    rule: GridRule = "centres"
    box_question: str = BOX_QUESTION
    point_question: str = POINT_QUESTION

    def __post_init__(self) -> None:
        if self.coordinates not in COORDINATES or self.style not in STYLES:
            raise ValueError(
                f"coordinates must be one of {COORDINATES} and style one of {STYLES}, got "
                f"{self.coordinates!r} and {self.style!r}"
            )
        grid_fractions(self.grid, self.rule)  # it checks them
        words = (self.yes, self.no)
        if (
            not all(word and word == word.strip() for word in words)
            or self.yes in self.no
            or self.no in self.yes
        ):
            raise ValueError(f"yes and no must be words that do not hold each other, got {words}")
        if any(word in self.separator for word in words):
            raise ValueError(f"the separator {self.separator!r} must hold neither of {words}")
        if not self.refusal.strip() or "[" in self.refusal:
            raise ValueError(f'a refusal must be words without "[", got {self.refusal!r}')
        for name, places in (
            ("box_question", ("{expression}",)),
            ("point_question", ("{expression}", "{box}")),
        ):
            if any(getattr(self, name).count(place) != 1 for place in places):
                raise ValueError(f"{name} must hold {', '.join(places)} once, got {getattr(self, name)!r}")
        if self.point_question.count("{points}") > 1:
            raise ValueError(f"point_question may hold {{points}} once, got {self.point_question!r}")

    @property
    def num_points(self) -> int:
        """K."""
        return self.grid * self.grid

    @property
    def answer_tokens(self) -> tuple[str, ...]:
        """Special tokens that answers hold: the MLLM's ``added_tokens`` and its prompts'
        ``answer_tokens``."""
        words = tuple(word for word in (self.yes, self.no) if word.startswith("<") and word.endswith(">"))
        tags = BOX_TAGS if self.style == "internvl" else ()
        return (*words, *tags, *(LOCATION_TOKENS if self.coordinates == "locations" else ()))

    def points(self, boxes: Tensor) -> Tensor:
        """(..., 4) boxes -> (..., K, 2) their grids."""
        return grid_points(boxes, self.grid, self.rule)

    def ask_box(self, expression: str) -> str:
        """The question of round 1."""
        return self.box_question.replace("{expression}", expression)

    def say_boxes(self, boxes: Tensor) -> str:
        """The answer of round 1: (N, 4) boxes; the refusal if N is 0.

        A side that would be rounded away is one thousandth long.

        Raises:
            ValueError: For another shape, or corners in the wrong order.
        """
        if boxes.ndim != 2 or boxes.shape[1] != 4 or bool((boxes[:, :2] > boxes[:, 2:]).any()):
            raise ValueError(
                f"boxes must be (N, 4) with the upper left corner first, got {tuple(boxes.shape)}: "
                f"{boxes.tolist()}"
            )
        if len(boxes) == 0:
            return self.refusal
        number = "<{:03d}>" if self.coordinates == "locations" else "{:03d}"
        comma = ", " if self.style == "internvl" else ","
        said = ["[" + comma.join(number.format(n) for n in row) + "]" for row in _with_area(boxes)]
        if self.style == "internvl":
            return f"{BOX_TAGS[0]}[{comma.join(said)}]{BOX_TAGS[1]}"
        return " ".join(said)

    def ask_points(self, expression: str, box: Tensor, points: Tensor) -> str:
        """The question of round 2 about one (4,) box and (K, 2) points."""
        if box.shape != (4,) or points.ndim != 2 or points.shape[1] != 2:
            raise ValueError(
                f"need a box (4,) and (K, 2) points, got {tuple(box.shape)}, {tuple(points.shape)}"
            )
        listed = ",".join("[{:03d},{:03d}]".format(*row) for row in thousandths(points, cut=True))
        corners = "[{:03d},{:03d},{:03d},{:03d}]".format(*_with_area(box[None])[0])
        text = self.point_question.replace("{box}", corners).replace("{points}", listed)
        return text.replace("{expression}", expression)  # the last, so that braces in it mean nothing

    def say_points(self, labels: Tensor) -> str:
        """The answer of round 2: (K,) labels, 1 on the object."""
        if labels.ndim != 1:
            raise ValueError(f"labels must be (K,), got {tuple(labels.shape)}")
        return self.separator.join(self.yes if one > 0 else self.no for one in labels.tolist())

    def read_boxes(self, text: str) -> BoxReply:
        """Read an answer of round 1, however bad.

        Numbers outside of 0 ... 999 are clipped, boxes without area dropped, both told in ``problem``, and
        so is any other departure from the format but white space.
        """
        said = text.strip()
        none = torch.zeros(0, 4)
        if _letters(said) == _letters(self.refusal):
            return BoxReply(none, refused=True, problem="")
        number = r"<([0-9]{3})>" if self.coordinates == "locations" else r"(-?[0-9]{1,9})"
        pattern = re.compile(r"\s*" + r"\s*,\s*".join([number] * 4) + r"\s*")
        found = [pattern.fullmatch(group) for group in _GROUP.findall(said)]
        rows = [[int(n) for n in match.groups()] for match in found if match]
        if not rows:
            return BoxReply(none, refused=False, problem=f"no box in {_short(said)}")
        given = torch.tensor(rows, dtype=torch.float64)
        inside = given.clamp(0, SCALE - 1)
        whole = (inside[:, :2] < inside[:, 2:]).all(1)
        boxes = (inside[whole] / SCALE).float()
        problems = []
        if bool((given != inside).any()):
            problems.append(f"numbers outside of the frame in {_short(said)}")
        if not bool(whole.all()):
            problems.append(f"{int((~whole).sum())} boxes without area in {_short(said)}")
        if not problems and "".join(said.split()) != "".join(self.say_boxes(boxes).split()):
            problems.append(f"not written as boxes are: {_short(said)}")
        return BoxReply(boxes, refused=False, problem="; ".join(problems))

    def read_points(self, text: str, count: int) -> PointReply:
        """Read an answer of round 2 about ``count`` points, however bad."""
        said = text.strip()
        words = re.findall("|".join(map(re.escape, (self.yes, self.no))), said)
        if len(words) != count:
            return PointReply(None, f"{len(words)} judgements for {count} points in {_short(said)}")
        labels = torch.tensor([int(word == self.yes) for word in words], dtype=torch.int64)
        same = "".join(said.split()) == "".join(self.say_points(labels).split())
        return PointReply(labels, "" if same else f"not written as judgements are: {_short(said)}")


def thousandths(values: Tensor, *, cut: bool = False) -> list[list[int]]:
    """(N, n) coordinates in [0, 1] -> whole numbers in 0 ... 999, rounded or cut off.

    What lies within 1e-3 of the next whole number is not cut off, but taken for it: float32 has no 0.29.

    Raises:
        ValueError: If a coordinate is no finite number.
    """
    scaled = values.detach().double().cpu() * SCALE
    if not bool(scaled.isfinite().all()):
        raise ValueError(f"coordinates must be finite, got {values.tolist()}")
    whole = (scaled + 1e-3).floor() if cut else scaled.round()
    return [[int(n) for n in row] for row in whole.clamp(0, SCALE - 1).tolist()]


def _with_area(boxes: Tensor) -> list[list[int]]:
    """(N, 4) boxes in thousandths, each side at least one long."""
    rows = thousandths(boxes)
    for row in rows:
        for low, high in ((0, 2), (1, 3)):
            if row[low] == row[high]:
                row[low] = min(row[low], SCALE - 2)
                row[high] = row[low] + 1
    return rows


def _letters(text: str) -> str:
    """Lower-case words alone, to compare refusals."""
    return " ".join(re.sub(r"[^\w\s]", " ", text).lower().split())


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
