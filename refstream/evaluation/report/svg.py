"""Small vector pictures as text: shapes go in, an ``<svg>`` element comes out, every word escaped."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

Point = tuple[float, float]
CHAR_WIDTH = 6.1  # of a letter of 11 px, on average; text is only measured to keep labels apart

STYLE = """
svg.chart{font:11px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;max-width:100%;height:auto}
.chart text{fill:var(--ink,#1c2430)}.chart .soft{fill:var(--soft,#64707f)}
.chart .strong{font-weight:600}
.chart .grid{stroke:var(--line,#dfe4ea);stroke-width:1;fill:none}
.chart .track{fill:var(--track,#eef1f5)}.chart .bar{fill:var(--accent,#2f6fde)}
.chart .bar.main{fill:var(--accent-deep,#1d4fae)}
.chart .line{stroke:var(--accent,#2f6fde);stroke-width:2;fill:none;stroke-linejoin:round}
.chart .thread{stroke:var(--soft,#64707f);stroke-width:1;fill:none;stroke-dasharray:3 4;opacity:.7}
.chart .band{fill:var(--accent,#2f6fde);opacity:.16}
.chart .dot{fill:var(--accent,#2f6fde);stroke:var(--card,#fff);stroke-width:1.5}
.chart .mark{stroke:var(--card,#fff);stroke-width:1.2}
.chart .m0{fill:#d55e00}.chart .m1{fill:#cc79a7}.chart .m2{fill:#8a94a1}.chart .m3{fill:#e0a800}
.chart .m4{fill:#009e73}.chart .m5{fill:#56b4e9}
.chart .trail{fill:none;stroke-width:1.6;stroke-linejoin:round}
.chart .truth{stroke:#b4bcc6;stroke-width:5;stroke-linecap:round}
.chart .t0{stroke:#d55e00}.chart .t1{stroke:#2f6fde}.chart .t2{stroke:#009e73}.chart .t3{stroke:#cc79a7}
.chart .t4{stroke:#e0a800}.chart .t5{stroke:#56b4e9}
"""
"""Colours of the classes; a page may set the variables, a file of its own has the defaults."""
NUM_MARKS = 6


class Canvas:
    """A picture of ``width`` x ``height`` pixels; y points down.

    Args:
        width: In pixels.
        height: In pixels.
        title: What a screen reader says.
    """

    def __init__(self, width: float, height: float, title: str) -> None:
        self.width, self.height, self.title = width, height, title
        self._parts: list[Markup] = []

    def rect(self, x: float, y: float, width: float, height: float, cls: str, tip: str = "") -> None:
        """A rectangle with slightly round corners."""
        size = f'x="{_n(x)}" y="{_n(y)}" width="{_n(max(0.0, width))}" height="{_n(max(0.0, height))}"'
        self._add(f'<rect {size} rx="2" class="{escape(cls)}"', tip, "rect")

    def line(self, start: Point, end: Point, cls: str) -> None:
        """A straight line."""
        at = f'x1="{_n(start[0])}" y1="{_n(start[1])}" x2="{_n(end[0])}" y2="{_n(end[1])}"'
        self._add(f'<line {at} class="{escape(cls)}"', "", "line")

    def path(self, points: Sequence[Point], cls: str, *, closed: bool = False) -> None:
        """A line through points, or the area that they enclose."""
        name = "polygon" if closed else "polyline"
        text = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
        self._add(f'<{name} points="{text}" class="{escape(cls)}"', "", name)

    def circle(self, centre: Point, radius: float, cls: str, tip: str = "") -> None:
        """A disk."""
        at = f'cx="{_n(centre[0])}" cy="{_n(centre[1])}" r="{_n(radius)}"'
        self._add(f'<circle {at} class="{escape(cls)}"', tip, "circle")

    def text(self, at: Point, words: str, cls: str = "", anchor: str = "start") -> None:
        """A line of text; ``at`` is its baseline's start, middle or end."""
        place = f'x="{_n(at[0])}" y="{_n(at[1])}" text-anchor="{anchor}" class="{escape(cls)}"'
        self._parts.append(Markup(f"<text {place}>{escape(words)}</text>"))

    def mark(self, number: int, centre: Point, tip: str = "") -> None:
        """One of ``NUM_MARKS`` small signs that differ in shape and in colour."""
        x, y = centre
        shape = number % NUM_MARKS
        cls = f"mark m{shape}"
        if shape == 0:
            self.rect(x - 2, y - 8, 4, 16, cls, tip)
        elif shape == 1:
            self.circle(centre, 4.5, cls, tip)
        elif shape == 5:
            self.rect(x - 4, y - 4, 8, 8, cls, tip)
        else:
            corners = {
                2: [(-5.0, 4.5), (5.0, 4.5), (0.0, -5.0)],
                3: [(-5.0, -4.5), (5.0, -4.5), (0.0, 5.0)],
                4: [(0.0, -6.0), (5.0, 0.0), (0.0, 6.0), (-5.0, 0.0)],
            }[shape]
            points = " ".join(f"{_n(x + dx)},{_n(y + dy)}" for dx, dy in corners)
            self._add(f'<polygon points="{points}" class="{cls}"', tip, "polygon")

    def markup(self) -> Markup:
        """The element, for a page that has ``STYLE``."""
        return self._wrapped(Markup(""))

    def document(self) -> str:
        """A file of its own."""
        background = Markup('<rect width="100%" height="100%" fill="#fff"/>')
        return str(self._wrapped(Markup(f"<style>{STYLE}</style>") + background)) + "\n"

    def _wrapped(self, head: Markup) -> Markup:
        box = f'viewBox="0 0 {_n(self.width)} {_n(self.height)}" width="{_n(self.width)}" '
        start = (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" role="img" '
            f'{box}height="{_n(self.height)}" aria-label="{escape(self.title)}">'
        )
        return Markup(start) + head + Markup("").join(self._parts) + Markup("</svg>")

    def _add(self, start: str, tip: str, name: str) -> None:
        rest = f"><title>{escape(tip)}</title></{name}>" if tip else "/>"
        self._parts.append(Markup(start + rest))


def text_width(words: str) -> float:
    """About how wide a label of 11 px is, in pixels."""
    return CHAR_WIDTH * len(words)


def shortened(words: str, length: int) -> str:
    """At most ``length`` letters."""
    return words if len(words) <= length else words[: max(1, length - 1)] + "…"


def _n(value: float) -> str:
    """A number as SVG has it: finite, two digits."""
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError(f"a chart cannot draw {value}")
    return f"{value:.2f}".rstrip("0").rstrip(".")
