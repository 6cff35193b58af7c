"""Seeded permutations of [0, n) that are computed where they are asked, and stored nowhere."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

ROUNDS = 8  # assumed: 4 suffice in theory (Luby and Rackoff, 1988) for large n, more help the small ones
WORD = (1 << 64) - 1


@dataclass(frozen=True)
class Permutation:
    """One permutation of [0, n): a Feistel network on the smallest rectangle that holds [0, n).

    The rectangle has fewer than 2 sqrt(n) places too many; what falls there is sent through again until it
    does not (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002, sections 4 and 5).

    Attributes:
        n: Number of elements, at least 1.
        keys: One 64-bit number per round.
    """

    n: int
    keys: tuple[int, ...]

    def __call__(self, position: int) -> int:
        """Which element comes at ``position`` in [0, n). Raises IndexError outside of it."""
        if not 0 <= position < self.n:
            raise IndexError(f"position must be in [0, {self.n}), got {position}")
        rows = math.isqrt(self.n - 1) + 1
        columns = -(-self.n // rows)
        while True:
            row, column = divmod(position, columns)
            for i, key in enumerate(self.keys):
                if i % 2:
                    column = (column + _mix(row ^ key)) % columns
                else:
                    row = (row + _mix(column ^ key)) % rows
            position = row * columns + column
            if position < self.n:
                return position


def _mix(word: int) -> int:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): 64 bits to 64 well-mixed bits."""
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 & WORD
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB & WORD
    return word ^ (word >> 31)


@lru_cache(maxsize=256)
def permutation(n: int, seed: int, series: int, number: int) -> Permutation:
    """Permutation ``number`` of an independent ``series`` of a seed; all three are at least 0."""
    sequence = np.random.SeedSequence([seed, number], spawn_key=(series,))
    return Permutation(n, tuple(int(key) for key in sequence.generate_state(ROUNDS, np.uint64)))
