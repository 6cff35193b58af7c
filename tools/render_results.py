"""Render the tables of docs/results/*.json into the documents that quote them.

A document holds ``<!-- results:NAME -->`` and ``<!-- /results -->``; what lies between them is replaced by
the rows of ``docs/results/NAME.json`` as a table. ``NAME:a,b`` picks columns. With ``--check`` nothing is
written, and stale or broken tables are an error.

    python tools/render_results.py [--check] [FILE ...]
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"(<!-- results:([\w.-]+)(?::([\w,. /&%-]+))? -->\n)(.*?)(<!-- /results -->)", re.DOTALL)
KEYS = ("command", "commit", "seeds", "machine", "rows")


def default_documents(root: Path) -> list[Path]:
    """README files and docs of the repository, sorted."""
    patterns = ("*.md", "docs/**/*.md", "projects/*/README.md")
    return sorted({path for pattern in patterns for path in root.glob(pattern)})


def load_result(root: Path, name: str) -> dict[str, Any]:
    """A result file, checked.

    Raises:
        FileNotFoundError: If there is none of that name.
        ValueError: If a key is missing or ``rows`` is not a list of objects.
    """
    path = root / "docs" / "results" / f"{name}.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path.relative_to(root)} not found; a table quotes it")
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    missing = [key for key in KEYS if key not in result]
    if missing:
        raise ValueError(f"{path.relative_to(root)} lacks {missing}; a result needs {list(KEYS)}")
    if not result["rows"] or not all(isinstance(row, dict) for row in result["rows"]):
        raise ValueError(f"{path.relative_to(root)}: rows must be a list of objects with at least one")
    return result


def cell(value: Any) -> str:
    """One value as text: numbers with at most two decimals below 100, bars escaped."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}"
    if value is None:
        return ""
    return str(value).replace("|", "\\|").replace("\n", " ")


def table(result: dict[str, Any], columns: list[str] | None = None) -> str:
    """The rows as a Markdown table, with a line on where they come from.

    Raises:
        ValueError: If a chosen column is in no row.
    """
    known = list(dict.fromkeys(key for row in result["rows"] for key in row))
    unknown = [name for name in columns or [] if name not in known]
    if unknown:
        raise ValueError(f"no row has the columns {unknown}; there are {known}")
    names = columns or known
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(cell(row.get(name)) for name in names) + " |" for row in result["rows"]]
    seeds = result["seeds"]
    seeds = ", ".join(map(str, seeds)) if isinstance(seeds, list) else seeds
    machine = result["machine"]
    if isinstance(machine, dict):
        machine = ", ".join(f"{name} {value}" for name, value in machine.items() if value is not None)
    source = f"`{result['command']}`, commit {result['commit']}, seeds {seeds}, {cell(machine)}"
    return "\n".join([*lines, "", f"<sub>{source}</sub>", ""])


def render(text: str, root: Path) -> str:
    """A document with all of its tables up to date."""

    def replace(match: re.Match[str]) -> str:
        opening, name, columns, _, closing = match.groups()
        chosen = [column.strip() for column in columns.split(",")] if columns else None
        return opening + table(load_result(root, name), chosen) + closing

    if text.count("<!-- results:") != len(BLOCK.findall(text)):
        raise ValueError("a results marker is not closed: write <!-- /results --> on a line after it")
    return BLOCK.sub(replace, text)


def main(arguments: list[str] | None = None) -> int:
    """Render or check; the number of stale documents decides the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a table is stale")
    parser.add_argument(
        "files", nargs="*", type=Path, help="documents; default: README, docs, projects' READMEs"
    )
    options = parser.parse_args(arguments)
    stale = 0
    for path in options.files or default_documents(ROOT):
        text = path.read_text(encoding="utf-8")
        try:
            rendered = render(text, ROOT)
        except (ValueError, FileNotFoundError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            return 2
        if rendered != text and options.check:
            print(f"{path}: a table is stale; run python tools/render_results.py", file=sys.stderr)
            stale += 1
        elif rendered != text:
            path.write_text(rendered, encoding="utf-8")
            print(f"rendered {path}")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
