"""Masks with 64 pixels in a word: boundaries and dilations that handle a row in a few words at a time.

Word w of a row holds columns 64 w to 64 w + 63, the lowest bit first; bits beyond the width are 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt

import numpy as np

WORD = np.dtype("<u8")
BITS = 64


def pack(masks: Sequence[np.ndarray]) -> np.ndarray:
    """N masks, each (H, W) bool -> (N, H, ceil(W / 64)) uint64."""
    height, width = masks[0].shape
    num_bytes = -(-width // 8)
    packed = np.zeros((len(masks), height, -(-width // BITS) * WORD.itemsize), dtype=np.uint8)
    for words, mask in zip(packed, masks, strict=True):
        words[:, :num_bytes] = np.packbits(mask, axis=1, bitorder="little")
    return packed.view(WORD)


def count(words: np.ndarray) -> np.ndarray:
    """(N, H, S) uint64 -> (N,) int64: how many bits are set."""
    counts: np.ndarray = np.bitwise_count(words).reshape(len(words), -1).sum(axis=1, dtype=np.int64)
    return counts


def boundary(words: np.ndarray, width: int) -> np.ndarray:
    """Pixels that differ from their right, lower or lower right neighbour.

    The last row looks to the right only, the last column downwards only, and the corner is never a boundary.

    Args:
        words: (N, H, S) uint64.
        width: W of the masks.

    Returns:
        (N, H, S) uint64.
    """
    words = np.ascontiguousarray(words)
    right = words >> 1
    right.reshape(-1)[:-1] |= words.reshape(-1)[1:] << (BITS - 1)  # all rows at once: the ends are put right
    end = 1 << (width - 1) % BITS
    right[:, :, -1] = (right[:, :, -1] & WORD.type(end - 1)) | (words[:, :, -1] & WORD.type(end))
    some, every = words | right, words & right
    differs: np.ndarray = some.copy()
    differs[:, :-1] |= some[:, 1:]
    same = every.copy()
    same[:, :-1] &= every[:, 1:]
    differs &= ~same
    return differs


def crop(words: np.ndarray) -> np.ndarray:
    """(N, H, S) uint64 -> the rows and words that hold all set bits of the N; at least one bit is set."""
    some = np.bitwise_or.reduce(words, axis=0)
    rows = np.bitwise_or.reduce(some, axis=1).nonzero()[0]
    cols = np.bitwise_or.reduce(some, axis=0).nonzero()[0]
    return words[:, rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]


def dilate(words: np.ndarray, radius: int) -> np.ndarray:
    """Dilation by the Euclidean disk dx^2 + dy^2 <= radius^2.

    The disk is 2 radius + 1 rows; each is a shorter or longer piece of a line, and a longer one grows out of
    a shorter one. Rows are widened all at once, with zeros between them so that none runs into the next.

    Args:
        words: (N, H, S) uint64.
        radius: In pixels, at least 1.

    Returns:
        (N, H, S) uint64; bits beyond the width may be set.
    """
    num, height, stride = words.shape
    furthest = min(radius, stride * BITS)
    padded = np.zeros((num, height, stride - (-furthest // BITS)), dtype=WORD)
    padded[:, :, :stride] = words
    wide, out = padded.reshape(num, -1), np.zeros((num, padded[0].size), dtype=WORD)
    reach = 0
    for dy in range(radius, -1, -1):
        half = min(isqrt(radius * radius - dy * dy), furthest)
        while reach < half:
            step = min(half - reach, 2 * reach + 1, BITS - 1)
            wide = _widen(wide, step)
            reach += step
        if dy == 0:
            out |= wide
        elif dy < height:
            offset = dy * padded.shape[2]
            out[:, :-offset] |= wide[:, offset:]
            out[:, offset:] |= wide[:, :-offset]
    return out.reshape(padded.shape)[:, :, :stride]


def _widen(rows: np.ndarray, step: int) -> np.ndarray:
    """(N, L) uint64: each bit also set ``step`` places to the left and to the right, 0 < step < 64."""
    wide = rows << step
    wide |= rows
    wide |= rows >> step
    wide[:, 1:] |= rows[:, :-1] >> (BITS - step)
    wide[:, :-1] |= rows[:, 1:] << (BITS - step)
    return wide
