"""Names that are nearly right: which one is meant?"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def near(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that ``name`` most likely means: written in another case, or with a slip; or None."""
    folded = {_folded(candidate): candidate for candidate in sorted(candidates)}
    if _folded(name) in folded:
        return folded[_folded(name)]
    found = difflib.get_close_matches(_folded(name), list(folded), n=1, cutoff=0.8)
    return folded[found[0]] if found else None


def _folded(name: str) -> str:
    return name.casefold().replace("_", "-").replace(" ", "-")
