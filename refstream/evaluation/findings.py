"""What a check found, grouped by kind of problem, with examples of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MAX_EXAMPLES = 100
"""How many of one problem a report names; all are counted."""
SHOWN = 5
"""How many of them are printed."""


@dataclass
class Finding:
    """One kind of problem.

    Attributes:
        kind: "missing", "misaligned", "misspelt", "unreadable", "masks", "form", "count" or "left out".
        problem: In words, singular.
        count: How often.
        examples: Where, at most ``MAX_EXAMPLES``.
    """

    kind: str
    problem: str
    count: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class CheckReport:
    """The outcome of a check.

    Attributes:
        name: Benchmark or dataset.
        split: Official name.
        root: Its folder.
        facts: Numbers of videos, expressions, ...
        counts: One record per official count: ``what``, ``found``, ``official``, ``source``.
        findings: What has to be mended.
        notes: What is worth knowing and no fault.
    """

    name: str
    split: str
    root: Path
    facts: Mapping[str, Any]
    counts: Sequence[Mapping[str, Any]]
    findings: Sequence[Finding]
    notes: Sequence[Finding]

    @property
    def clean(self) -> bool:
        """Whether nothing has to be mended."""
        return not self.findings

    def to_json(self) -> dict[str, Any]:
        """Everything, JSON-serialisable."""
        return {
            "name": self.name,
            "split": self.split,
            "root": str(self.root),
            "clean": self.clean,
            "facts": dict(self.facts),
            "counts": [dict(count) for count in self.counts],
            "findings": [vars(finding).copy() for finding in self.findings],
            "notes": [vars(note).copy() for note in self.notes],
        }

    def lines(self) -> Iterator[str]:
        """The report as text."""
        yield f"{self.name} {self.split} at {self.root}"
        for key, value in self.facts.items():
            text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
            yield f"  {key}: {text}"
        for finding in self.findings:
            yield f"  {finding.kind}: {finding.problem}, {finding.count} x"
            yield from (f"    {example}" for example in finding.examples[:SHOWN])
            if finding.count > SHOWN:
                yield "    ..."
        for note in self.notes:
            yield f"  note: {note.problem}: {'; '.join(note.examples[:SHOWN])}" + (
                f"; ... ({note.count} in all)" if note.count > SHOWN else ""
            )
        total = sum(finding.count for finding in self.findings)
        yield "nothing to mend" if self.clean else f"to mend: {total} in {len(self.findings)} kinds"


class Findings:
    """Collects problems.

    Attributes:
        facts: As in the report.
        counts: As in the report.
    """

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.counts: list[dict[str, Any]] = []
        self._found: dict[tuple[str, str], Finding] = {}
        self._notes: dict[str, Finding] = {}

    def add(self, kind: str, problem: str, *where: str, count: int | None = None) -> None:
        """Something to be mended, at some places; ``count`` if there are more than are named."""
        finding = self._found.setdefault((kind, problem), Finding(kind, problem))
        finding.count += len(where) if count is None else count
        finding.examples += where[: MAX_EXAMPLES - len(finding.examples)]

    def note(self, problem: str, *where: str) -> None:
        """Something worth knowing."""
        note = self._notes.setdefault(problem, Finding("note", problem))
        note.count += len(where)
        note.examples += where[: MAX_EXAMPLES - len(note.examples)]

    def report(self, name: str, split: str, root: Path) -> CheckReport:
        """What was collected."""
        found, notes = list(self._found.values()), list(self._notes.values())
        return CheckReport(name, split, root, self.facts, self.counts, found, notes)
