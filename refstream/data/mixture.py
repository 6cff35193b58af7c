"""Many sources as one endless series of training samples, in shares that are stated and counted."""

from __future__ import annotations

import bisect
import itertools
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from refstream.data.collate import ClipSample
from refstream.data.datasets.base import ClipDataset
from refstream.data.permutation import permutation
from refstream.errors import UserError
from refstream.registry import DATASETS, TRANSFORMS

logger = logging.getLogger(__name__)

Transform = Callable[[ClipSample, np.random.Generator], ClipSample]
SOURCE_KEYS = {"dataset", "repeats", "weight", "name"}


@dataclass(frozen=True)
class Source:
    """One part of a mixture; ``per_epoch`` of its samples are drawn in an epoch."""

    name: str
    dataset: ClipDataset
    repeats: float | None
    weight: float | None
    per_epoch: int = 0


@DATASETS.register_module()
class Mixture(Dataset[ClipSample]):
    """An endless series of samples: number ``draw`` depends on the seed and on ``draw``, and on nothing else.

    So any number of workers and ranks may share the draws, and going on after draw 1,000,000 costs what
    starting costs. An epoch of ``len(mixture)`` draws takes a stated number of samples from each source, in a
    seeded order. A source gives all its samples, in a seeded order, before it gives one again: over any
    number of epochs two samples of one source are drawn equally often, or one of them once more, whatever
    fraction ``repeats`` is.

    Indexing never ends: do not iterate over a mixture, give it a sampler such as ``DrawSampler``.

    Args:
        sources: Dictionaries with ``dataset`` (a ``ClipDataset`` or its config), optionally ``name`` for
            messages, and one of

            - ``repeats`` (default 1): how often each sample comes in an epoch, on average; the draws of an
              epoch are rounded to a whole number, at least 1;
            - ``weight``: share of the epoch relative to the other weights; then all sources have one, and
              the epoch is as long as all sources together.

            A source that belongs to the mixture but cannot be read has ``name``, ``weight`` and, in place of
            ``dataset``, ``missing``: why. It gets no draws, the others share the epoch, and a warning names
            it.
        transforms: Callables ``(sample, rng) -> sample`` or their configs, applied in order.
        seed: At least 0; of the order and of all that is random in a sample.

    Raises:
        UserError: If a source cannot be built, is empty, or gets no draw; names it. Also for unknown keys,
            both or mixed ``repeats`` and ``weight``, and shares that are not positive.
    """

    def __init__(
        self,
        sources: Sequence[Mapping[str, Any]],
        transforms: Sequence[Transform | Mapping[str, Any]] = (),
        seed: int = 0,
    ) -> None:
        if not sources:
            raise UserError("a mixture needs at least one source, got none")
        if seed < 0:
            raise UserError(f"the seed of a mixture must be at least 0, got {seed}")
        self.missing = [row for spec in sources if (row := missing_source(spec)) is not None]
        present = [(i, spec) for i, spec in enumerate(sources) if missing_source(spec) is None]
        if not present:
            raise UserError("no source of the mixture can be read, all are missing")
        self.sources = _counted([_source(spec, i) for i, spec in present])
        for row in self.missing:
            logger.warning("not in the mixture: %s (weight %g): %s", row["name"], row["weight"], row["why"])
        self.transforms = [_transform(spec) for spec in transforms]
        self.seed = seed
        self._ends = list(itertools.accumulate(source.per_epoch for source in self.sources))

    def __len__(self) -> int:
        """Number of draws of an epoch."""
        return self._ends[-1]

    def locate(self, draw: int) -> tuple[int, int]:
        """Which source, and which of its samples, draw number ``draw`` >= 0 takes."""
        if draw < 0:
            raise IndexError(f"draws are numbered from 0, got {draw}")
        epoch, position = divmod(int(draw), len(self))
        slot = permutation(len(self), self.seed, 0, epoch)(position)
        number = bisect.bisect_right(self._ends, slot)
        source = self.sources[number]
        drawn = epoch * source.per_epoch + slot - (self._ends[number] - source.per_epoch)
        size = len(source.dataset)
        return number, permutation(size, self.seed, number + 1, drawn // size)(drawn % size)

    def __getitem__(self, draw: int) -> ClipSample:
        """Sample of draw number ``draw`` >= 0."""
        number, index = self.locate(draw)
        source = self.sources[number]
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, int(draw)])))
        try:
            sample = source.dataset.sample(index, rng)
            for transform in self.transforms:
                sample = transform(sample, rng)
        except Exception as error:
            error.add_note(f"while making draw {draw}: sample {index} of source {source.name!r}")
            raise
        return sample

    def counts(self) -> list[dict[str, Any]]:
        """Per source: ``name``, ``samples``, ``repeats`` or ``weight``, ``per_epoch`` draws, ``share``."""
        return [
            {
                "name": source.name,
                "samples": len(source.dataset),
                **({"repeats": source.repeats} if source.weight is None else {"weight": source.weight}),
                "per_epoch": source.per_epoch,
                "share": source.per_epoch / len(self),
            }
            for source in self.sources
        ]


def as_stream(dataset: ClipDataset | Mixture | Mapping[str, Any], seed: int = 0) -> Mixture:
    """A dataset, or the config of one, as a mixture of one source; a mixture stays as it is, with its seed.

    Raises:
        UserError: If it cannot be built, is empty, or is no ``ClipDataset``.
    """
    built = _build(dataset, "the dataset") if isinstance(dataset, Mapping) else dataset
    return built if isinstance(built, Mixture) else Mixture([dict(dataset=built)], seed=seed)


def missing_source(spec: Mapping[str, Any]) -> dict[str, Any] | None:
    """``name``, ``weight`` and ``why`` of a source that cannot be read; None for any other.

    Raises:
        UserError: If it has other keys, or no weight.
    """
    if "missing" not in spec:
        return None
    why, weight = spec["missing"], spec.get("weight")
    if set(spec) != {"name", "weight", "missing"} or not isinstance(why, str) or not why:
        raise UserError(
            "a missing source of a mixture has the keys name, weight and missing (why, in words), got "
            f"{dict(spec)}"
        )
    if not (isinstance(weight, int | float) and 0 < weight < math.inf):
        raise UserError(f"missing source {spec['name']!r}: weight must be a positive number, got {weight!r}")
    return {"name": spec["name"], "weight": weight, "why": why}


def _build(config: Mapping[str, Any], what: str) -> Any:
    try:
        return DATASETS.build(dict(config))
    except (KeyError, TypeError, ValueError, OSError) as error:
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        raise UserError(f"{what} cannot be built: {text}") from error


def _source(spec: Mapping[str, Any], number: int) -> Source:
    unknown = sorted(set(spec) - SOURCE_KEYS)
    if unknown or "dataset" not in spec:
        raise UserError(
            f"source {number} of the mixture: expected the keys dataset, repeats or weight, name; "
            f"got {sorted(spec)}"
        )
    config = spec["dataset"]
    kind = config.get("type", "dataset") if isinstance(config, Mapping) else type(config)
    name = spec.get("name") or f"{number} {kind if isinstance(kind, str) else kind.__name__}"
    what = f"source {name!r} of the mixture"
    repeats, weight = spec.get("repeats"), spec.get("weight")
    if repeats is not None and weight is not None:
        raise UserError(f"{what} has both repeats and weight; give one of them")
    for key, value in (("repeats", repeats), ("weight", weight)):
        if value is not None and not (isinstance(value, int | float) and 0 < value < math.inf):
            raise UserError(f"{what}: {key} must be a positive number, got {value!r}; to omit it, delete it")
    dataset = _build(config, what) if isinstance(config, Mapping) else config
    if not (hasattr(dataset, "__len__") and callable(getattr(dataset, "sample", None))):
        raise UserError(f"{what} must have __len__ and sample(index, rng), {type(dataset).__name__} has not")
    if len(dataset) == 0:
        raise UserError(f"{what} is empty")
    return Source(name, dataset, 1.0 if repeats is None and weight is None else repeats, weight)


def _counted(sources: list[Source]) -> list[Source]:
    """The sources with their draws per epoch."""
    weights = [source.weight for source in sources if source.weight is not None]
    names = [source.name for source in sources]
    if len(set(names)) < len(names):
        raise UserError(f"the sources of a mixture need different names, got {names}")
    if not weights:
        counts = [max(1, math.floor((s.repeats or 1.0) * len(s.dataset) + 0.5)) for s in sources]
    elif len(weights) == len(sources):
        total = sum(len(source.dataset) for source in sources)
        ends = [round(total * end / sum(weights)) for end in itertools.accumulate(weights)]
        counts = [end - start for start, end in itertools.pairwise([0, *ends])]
    else:
        without = [source.name for source in sources if source.weight is None]
        raise UserError(f"either all sources of a mixture have a weight or none; without: {without}")
    for source, count in zip(sources, counts, strict=True):
        if count < 1:
            raise UserError(f"source {source.name!r} gets no draw: its weight {source.weight} is too small")
    return [Source(s.name, s.dataset, s.repeats, s.weight, n) for s, n in zip(sources, counts, strict=True)]


def _transform(spec: Transform | Mapping[str, Any]) -> Transform:
    if not isinstance(spec, Mapping):
        built: Any = spec
    else:
        try:
            built = TRANSFORMS.build(dict(spec))
        except (KeyError, TypeError, ValueError) as error:
            text = error.args[0] if isinstance(error, KeyError) and error.args else error
            raise UserError(f"a transform of the mixture cannot be built: {text}") from error
    if not callable(built):
        raise UserError(f"a transform must be called with (sample, rng), {type(built).__name__} cannot be")
    return built
