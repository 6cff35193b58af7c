"""Tables on stdout, with no figure cut off, however narrow the console is."""

from __future__ import annotations

from rich.measure import Measurement
from rich.table import Table

from refstream.cli.console import OUT
from refstream.evaluation.published import published_tables

WIDEST = 10_000


def show(*forms: Table) -> None:
    """Print a table, its title above and its caption below as whole lines.

    Args:
        forms: The same table, wide and narrow: the first that fits the console is taken. If none does, the
            last is as wide as it needs to be.
    """
    needed = [_width(form) for form in forms]
    number = next((n for n, width in enumerate(needed) if width <= OUT.width), len(forms) - 1)
    _print(forms[number], needed[number])


def show_published(benchmark: str, split: str | None = None) -> None:
    """Print the papers' figures; in the narrow form they wrap between two figures."""
    tables = published_tables(benchmark, split)
    if tables is None:
        OUT.print(f"no published figures are known of {' '.join(filter(None, [benchmark, split]))}")
        return
    wide, narrow = tables
    _print(wide if _width(wide) <= OUT.width else narrow, OUT.width)


def _width(table: Table) -> int:
    """That it needs, without its title."""
    return Measurement.get(OUT, OUT.options.update(max_width=WIDEST), table).maximum


def _print(table: Table, width: int) -> None:
    title, caption, room = table.title, table.caption, OUT.width
    try:
        table.title = table.caption = None
        if title:
            OUT.print(title, soft_wrap=True, markup=False, highlight=False)
        OUT.width = max(room, width)
        OUT.print(table)
    finally:
        table.title, table.caption, OUT.width = title, caption, room
    if caption:
        OUT.print(caption, soft_wrap=True, markup=False, highlight=False)
