"""Tables on consoles of any width: no figure is cut."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.table import Table

from refstream.cli import tables
from refstream.evaluation.published import all_published


@pytest.fixture
def shown(monkeypatch):
    """Prints on a console of some width; returns the text."""

    def run(width: int, print_on_it) -> str:
        console = Console(file=io.StringIO(), width=width)
        monkeypatch.setattr(tables, "OUT", console)
        print_on_it()
        assert console.width == width
        return console.file.getvalue()

    return run


def a_table(num_columns: int) -> Table:
    table = Table(title="a title that is much wider than a narrow table", caption="so is this caption")
    for number in range(num_columns):
        table.add_column(f"metric {number}", no_wrap=True)
    table.add_row(*(f"{100 * number}.00" for number in range(num_columns)))
    return table


def test_the_first_form_that_fits_is_taken(shown):
    wide, narrow = a_table(8), a_table(2)
    assert "700.00" in shown(120, lambda: tables.show(wide, narrow))
    text = shown(40, lambda: tables.show(wide, narrow))
    assert "700.00" not in text
    assert text.splitlines()[0] == wide.title
    assert text.splitlines()[-1] == wide.caption
    assert wide.title is not None  # it is left as it was


def test_where_none_fits_figures_are_whole_all_the_same(shown):
    text = shown(20, lambda: tables.show(a_table(8)))
    assert "…" not in text
    assert all(f"{100 * number}.00" in text for number in range(8))


@pytest.mark.parametrize("width", [80, 250])
def test_published_figures_are_whole(shown, width):
    splits = {(row.benchmark, row.split) for row in all_published()}
    for benchmark, split in sorted(splits):
        text = shown(width, lambda b=benchmark, s=split: tables.show_published(b, s))
        assert "…" not in text
        for row in all_published():
            if (row.benchmark, row.split) == (benchmark, split):
                assert all(f"{value:.1f}" in text for value in row.values.values())
    assert "no published figures are known of minirvos test" in shown(
        width, lambda: tables.show_published("minirvos", "test")
    )
