"""``--dry-run``: what a config would train, on what, for how long and in how much memory.

Nothing is trained, no weights are needed, and data that is not there is listed as missing.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmengine.config import Config
from rich.console import Console, Group, RenderableType
from rich.syntax import Syntax
from rich.table import Table
from torch import nn

from refstream.data.mixture import Mixture, as_stream, missing_source
from refstream.engine.config import find_type, missing_files, typed
from refstream.engine.model import outline
from refstream.engine.strategies import zero_stage
from refstream.errors import UserError
from refstream.registry import DATASETS

QUESTION = "the small dog on the left of the bench"  # of usual length, to count tokens with
FORMULA = (
    "weights: bytes as held; gradients: those of trained parameters (over the processes from ZeRO-2 on); "
    "optimizer: 8 bytes per trained parameter (over the processes from ZeRO-1 on); activations, roughly: "
    "tokens x b x (layers x D + 8 D + 4 F) with gradient checkpointing, tokens x b x layers x (8 D + 4 F) "
    "without, and supervised tokens x V x (b + 8) for the logits; b = 2 bytes with autocast, else 4; D "
    "width, F feed-forward width, V vocabulary; without the segmenter's and the allocator's own"
)


@dataclass(frozen=True)
class Part:
    """Parameters of one part of the model, and bytes that they take."""

    name: str
    trained: int = 0
    frozen: int = 0
    size: int = 0
    gradients: int = 0


@dataclass(frozen=True)
class Load:
    """Work of one micro-batch on one process.

    Attributes:
        samples: Clips.
        looks: Most sequences that the language model reads: clips x expressions x frames, or clips x
            expressions where one sequence holds all frames.
        tokens: Of one sequence with one tile.
        most_tokens: With as many tiles as the learner allows.
        supervised: Supervised tokens of one sequence.
    """

    samples: int
    looks: int
    tokens: int
    most_tokens: int
    supervised: int


@dataclass(frozen=True)
class DryRun:
    """What was found.

    Attributes:
        config: Resolved.
        processes: World size.
        parts: Of the model.
        mixture: One row per source: ``Mixture.counts()``, or ``name`` and ``missing``; ``name``, ``weight``
            and ``why`` for those that the config itself calls missing.
        missing: Files and folders that are not there.
        load: Of a micro-batch.
        accumulation: Micro-batches of one optimizer step.
        iterations: Micro-batches of the run on each process; None if the data to count is missing.
        memory: Bytes per process, by kind.
    """

    config: Config
    processes: int
    parts: list[Part]
    mixture: list[dict[str, Any]]
    missing: list[str]
    load: Load
    accumulation: int
    iterations: int | None
    memory: dict[str, int] = field(default_factory=dict)

    @property
    def steps(self) -> int | None:
        """Optimizer steps."""
        return None if self.iterations is None else math.ceil(self.iterations / self.accumulation)

    def show(self, console: Console) -> None:
        """Print everything."""
        console.print(Syntax(self.config.pretty_text, "python", background_color="default"))
        console.print(Group(*self._tables()))

    def _tables(self) -> list[RenderableType]:
        tables: list[RenderableType] = [
            _table("parameters", [_part_row(part) for part in [*self.parts, _total(self.parts)]]),
            _table("data", [_source_row(row) for row in self.mixture]),
            _table("work", self._work()),
            _table("memory per process (estimate)", [_gigabytes(self.memory)]),
            FORMULA,
        ]
        if self.missing:
            tables.append(_table("missing", [{"file": line} for line in self.missing]))
        return tables

    def _work(self) -> list[dict[str, str]]:
        load, step = self.load, self.accumulation * self.processes
        tokens = f"{load.looks * load.tokens:,}"
        if load.most_tokens > load.tokens:
            tokens += f" to {load.looks * load.most_tokens:,}"
        values = {
            "clips per micro-batch": f"{load.samples}",
            "sequences per micro-batch, at most": f"{load.looks}",
            "tokens per micro-batch, at most": tokens,
            "micro-batches per optimizer step": f"{self.accumulation} x {self.processes} processes",
            "clips per optimizer step": f"{load.samples * step}",
            "iterations": _count(self.iterations),
            "optimizer steps": _count(self.steps),
        }
        return [{"of the run": key, "": value} for key, value in values.items()]


def dry_run(config: Config, *, processes: int = 1) -> DryRun:
    """Examine a checked config.

    Args:
        config: From ``load_config``.
        processes: World size that it would run with.
    """
    training = outline(config["model"])
    parts = count_parts(training.model)
    mixture = count_mixture(config["train_dataloader"]["dataset"])
    load = measure_load(config, training)
    accumulation = int(config["optim_wrapper"].get("accumulative_counts", 1))
    return DryRun(
        config=config,
        processes=processes,
        parts=parts,
        mixture=mixture,
        missing=missing_files(config),
        load=load,
        accumulation=accumulation,
        iterations=count_iterations(config, mixture, processes),
        memory=estimate_memory(config, training, parts, load, processes),
    )


def count_parts(model: nn.Module) -> list[Part]:
    """Parameters by part, in the order of the model; LoRA and token embeddings are parts by themselves."""
    found: dict[str, Part] = {}
    for name, parameter in model.named_parameters():
        words = [word for word in name.split(".") if word != "model"]
        place = ".".join(words[:3] if "embed_tokens" in words else words[:2])
        if any(word.startswith("lora_") for word in words):
            place += " (LoRA)"
        old, number = found.get(place, Part(place)), parameter.numel()
        size, trained = number * parameter.element_size(), parameter.requires_grad
        found[place] = Part(
            place,
            old.trained + number * trained,
            old.frozen + number * (not trained),
            old.size + size,
            old.gradients + size * trained,
        )
    return list(found.values())


def count_mixture(dataset: Mapping[str, Any]) -> list[dict[str, Any]]:
    """``Mixture.counts()``; where sources cannot be opened, one row each, with what is missing."""
    sources = dataset.get("sources", [dict(dataset=dataset, name=dataset["type"])])
    absent = [row for source in sources if (row := missing_source(source)) is not None]
    rows: list[dict[str, Any]] = []
    for source in sources:
        if missing_source(source) is not None:
            continue
        try:
            (row,) = Mixture([source]).counts()
        except (UserError, FileNotFoundError) as error:
            row = {"name": source.get("name", source["dataset"]["type"]), "missing": str(error)}
        rows.append(row)
    if not any("missing" in row for row in rows):
        rows = as_stream(dataset).counts()
    return rows + absent


def measure_load(config: Mapping[str, Any], training: Any) -> Load:
    """Sizes of one micro-batch; of several sources the largest counts.

    A learner whose MLLM reads all frames of a clip at once says so by ``clip_tokens(model, expression,
    num_frames)``: tokens and supervised tokens of one expression. One that learns dialogues with a frame in
    every turn has ``turn_tokens(model, question, turns)``: those of one dialogue.
    """
    loader = config["train_dataloader"]
    nodes = [node for _, node in typed(loader["dataset"]) if DATASETS.get(node["type"]) is not None]
    clips = [(_setting(node, "expressions"), _setting(node, "num_frames")) for node in nodes]
    prompts, tiles = training.model.mllm.prompts, getattr(training.learner, "max_tiles", 1)
    one = prompts.referring([QUESTION], num_tiles=1)
    most = prompts.referring([QUESTION], num_tiles=tiles + 1 if tiles > 1 else 1)
    samples = int(loader["batch_size"])
    whole_clips = getattr(training.learner, "clip_tokens", None)
    if whole_clips is not None:
        tokens, supervised = whole_clips(training.model, QUESTION, max(t for _, t in clips))
        return Load(samples, samples * max(e for e, _ in clips), tokens, tokens, supervised)
    dialogues = getattr(training.learner, "turn_tokens", None)
    if dialogues is not None:
        turns = max(_turns(node) for node in nodes)
        tokens, supervised = dialogues(training.model, QUESTION, turns)
        return Load(samples, samples, tokens, tokens, supervised)
    return Load(
        samples=samples,
        looks=samples * max(e * t for e, t in clips),
        tokens=one.input_ids.shape[1],
        most_tokens=most.input_ids.shape[1],
        supervised=int((one.labels >= 0).sum()),
    )


def count_iterations(config: Mapping[str, Any], mixture: list[dict[str, Any]], processes: int) -> int | None:
    """Micro-batches of the run on each process, as the training loop counts them."""
    loop = config["train_cfg"]
    if loop.get("max_iters"):
        return int(loop["max_iters"])
    if any("missing" in row for row in mixture):
        return None
    draws = math.ceil(sum(row.get("per_epoch", 0) for row in mixture) / processes)
    return round(loop["max_epochs"] * math.ceil(draws / config["train_dataloader"]["batch_size"]))


def estimate_memory(
    config: Mapping[str, Any], training: Any, parts: list[Part], load: Load, processes: int
) -> dict[str, int]:
    """Bytes per process by kind, see ``FORMULA``."""
    stage = zero_stage(config) or 0
    text = training.model.mllm.config.text_config
    width = 2 if config["model"].get("autocast") else 4
    tokens = load.looks * load.most_tokens
    layer = 8 * text.hidden_size + 4 * text.intermediate_size
    kept = text.num_hidden_layers * layer
    if config["model"].get("gradient_checkpointing"):
        kept = text.num_hidden_layers * text.hidden_size + layer
    logits = load.looks * load.supervised * text.vocab_size * (width + 8)
    total = _total(parts)
    return {
        "weights": total.size // (processes if stage >= 3 else 1),
        "gradients": total.gradients // (processes if stage >= 2 else 1),
        "optimizer": 8 * total.trained // (processes if stage >= 1 else 1),
        "activations": tokens * width * kept + logits,
    }


def _setting(node: Mapping[str, Any], name: str) -> int:
    """A number of a dataset's config, or the default of its constructor; 1 where it has none."""
    parameter = inspect.signature(find_type(node["type"])).parameters.get(name)
    default = 1 if parameter is None or parameter.default is parameter.empty else parameter.default
    return int(node.get(name, default))


def _turns(node: Mapping[str, Any]) -> int:
    """Most turns of a dataset's dialogues: as it says, or the length of its videos times its rate."""
    return max(_setting(node, "max_turns"), math.ceil(_setting(node, "duration_s") * _setting(node, "fps")))


def _total(parts: list[Part]) -> Part:
    sums = [sum(getattr(p, key) for p in parts) for key in ("trained", "frozen", "size", "gradients")]
    return Part("all", *sums)


def _count(number: int | None) -> str:
    return "unknown until the data is there" if number is None else f"{number:,}"


def _part_row(part: Part) -> dict[str, str]:
    return {
        "part": part.name,
        "trained": f"{part.trained:,}",
        "frozen": f"{part.frozen:,}",
        "GB": f"{part.size / 1e9:.3f}",
    }


def _source_row(row: Mapping[str, Any]) -> dict[str, str]:
    if "why" in row:
        lost = {"samples": "no reader", "per epoch": f"weight {row['weight']:g}", "share": row["why"]}
        return {"source": row["name"], **lost}
    if "missing" in row:
        return {"source": row["name"], "samples": "missing", "per epoch": "", "share": row["missing"]}
    taken = f"x {row['repeats']:g}" if "repeats" in row else f"weight {row['weight']:g}"
    return {
        "source": row["name"],
        "samples": f"{row['samples']:,} {taken}",
        "per epoch": f"{row['per_epoch']:,}",
        "share": f"{row['share']:.1%}",
    }


def _gigabytes(memory: Mapping[str, int]) -> dict[str, str]:
    everything = {**memory, "all": sum(memory.values())}
    return {kind: f"{size / 1e9:.2f} GB" for kind, size in everything.items()}


def _table(title: str, rows: list[dict[str, str]]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in rows[0]:
        table.add_column(column)
    for row in rows:
        table.add_row(*row.values())
    return table
