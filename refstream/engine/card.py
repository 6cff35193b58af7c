"""The page that travels with exported weights: what they are, where they come from, how to load them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from refstream import __version__
from refstream.evaluation.provenance import commit

CARD = "README.md"
AUTO = {
    "refstream": "After `import refstream.models.modeling`, `AutoModel.from_pretrained` does the same.",
    "sa2va": "Keys and `config.json` are those of Sa2VA's released models.",
}
INHERITED = "follows from the weights that it began from and from its data; see there"
PAGE = """---
library_name: refstream
---
# {name}

{kind}

```python
import refstream

model = refstream.load("{name}")
session = refstream.StreamSession(model.pipeline())
session.open(["the red circle"])
for frame in refstream.open_video("clip.mp4"):
    masks = [event.mask for event in session.step(frame)]
```
{auto}

| | |
|---|---|
| Config | `{config}` |
| Checkpoint | `{checkpoint}` |
| Began from | {base} |
| Trained parameters | {trained} of {total} |
| RefStream | {version}, commit {commit} |
| Licence | {licence} |

## Data

{data}

## Measured

{measured}
"""


def model_card(
    model: Any,
    config: Any,
    name: str,
    config_name: str,
    *,
    checkpoint: Path,
    layout: str = "refstream",
    results: Mapping[str, Any] | None = None,
    licence: str | None = None,
) -> str:
    """The page, in Markdown.

    Args:
        model: A ``RefStreamModel``, adapters not merged yet.
        config: That it was trained by.
        name: Of the folder.
        config_name: Where the config lies.
        checkpoint: What the weights were read from.
        layout: Of the folder.
        results: What ``refstream eval --publish`` wrote; None says that nothing was measured.
        licence: None says that it follows from base and data.
    """
    parts = model.config
    kinds = ", ".join(str(part.get("type")) for part in (parts.mllm, parts.segmenter, parts.head) if part)
    own = list(model.parameters())
    return PAGE.format(
        name=name,
        auto=AUTO[layout],
        kind=f"`{parts.pipeline.get('type')}` on {kinds}.",
        config=config_name or "not named",
        checkpoint=checkpoint.name,
        base=_base(config.model),
        trained=f"{sum(p.numel() for p in own if p.requires_grad):,}",
        total=f"{sum(p.numel() for p in own):,}",
        version=__version__,
        commit=commit(),
        licence=licence or INHERITED,
        data=_data(config.train_dataloader.dataset),
        measured=_measured(results),
    )


def _base(training: Mapping[str, Any]) -> str:
    """The folders whose weights a config takes, with the names it takes."""
    originals = [f"`{path}` ({part})" for part, path in (training.get("init_from") or {}).items()]
    sources = [*originals, *(f"`{path}` ({pattern})" for path, pattern in training.get("sources", ()))]
    return ", ".join(sources) or "random weights"


def _data(dataset: Mapping[str, Any]) -> str:
    """One row per source of a mixture, as the config states it."""
    sources = dataset.get("sources") or [{"dataset": dataset}]
    rows = ["| Source | Type | Share |", "|---|---|---|"]
    for source in sources:
        inner = source.get("dataset", source)
        share = (
            f"weight {source['weight']}" if "weight" in source else f"{source.get('repeats', 1)} x its length"
        )
        rows.append(f"| {source.get('name', inner.get('name', ''))} | `{inner.get('type')}` | {share} |")
    return "\n".join(rows)


def _measured(results: Mapping[str, Any] | None) -> str:
    """The rows of a result file as a table."""
    if results is None:
        return "Nothing was measured with these weights yet: `refstream eval`."
    columns = list(results["rows"][0])
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_cell(row.get(name)) for name in columns) + " |" for row in results["rows"]]
    about = f"{results.get('benchmark', '')}: `{results.get('command', '')}`, commit {results.get('commit')}"
    return f"{about}.\n\n" + "\n".join(lines)


def _cell(value: Any) -> str:
    return f"{value:.1f}" if isinstance(value, float) else "-" if value is None else str(value)
