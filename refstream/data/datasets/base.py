"""What a source of training samples is."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from refstream.data.collate import ClipSample


class ClipDataset(Protocol):
    """A source of samples; one of the parts of a ``Mixture``.

    Whatever is random in a sample (which frames, which expressions, which template) is drawn from the
    generator given, and from nothing else: the same index and generator state give the same sample in any
    process.
    """

    def __len__(self) -> int:
        """Number of different samples: videos, images or dialogues."""
        ...

    def sample(self, index: int, rng: np.random.Generator) -> ClipSample:
        """Sample ``index`` in [0, len)."""
        ...
