"""Which sample of the endless stream comes next, on every rank."""

from __future__ import annotations

from collections.abc import Iterator, Sized

from mmengine.dist import get_dist_info
from mmengine.registry import DATA_SAMPLERS
from torch.utils.data import Sampler


@DATA_SAMPLERS.register_module()
class DrawSampler(Sampler[int]):
    """Draw numbers without end: ``start + rank, start + rank + world, ...``.

    What a draw number means is the dataset's business (``Mixture``: order and everything random in a sample
    depend on its seed and the draw number alone). So a run is continued by setting ``start`` to the number of
    samples that all ranks together have consumed, however far workers had read ahead, and a run on another
    number of ranks sees the same samples.

    Args:
        dataset: Its length tells how long an epoch is.
        start: First draw of rank 0; read when iteration begins.
        seed: Accepted because mmengine passes it; nothing is random here.
    """

    def __init__(self, dataset: Sized, start: int = 0, seed: int | None = None) -> None:
        if start < 0:
            raise ValueError(f"start must be at least 0, got {start}")
        self.dataset, self.start = dataset, start
        self.rank, self.world_size = get_dist_info()

    def __iter__(self) -> Iterator[int]:
        draw = self.start + self.rank
        while True:
            yield draw
            draw += self.world_size

    def __len__(self) -> int:
        """Draws of one rank in one epoch, rounded up; iteration goes on after them."""
        return -(-len(self.dataset) // self.world_size)
