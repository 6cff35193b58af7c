"""How far J and F are from those of the public DAVIS-2017 code: ``tools/bench_eval.py parity``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from refstream.errors import UserError
from refstream.evaluation.metrics import jf, jf_torch
from refstream.evaluation.metrics.mask_pairs import MaskPair
from refstream.evaluation.metrics.official import OfficialMetrics

Row = dict[str, Any]


def compare_with_official(
    what: str, pairs: Iterable[MaskPair], official: OfficialMetrics, source: str
) -> Row:
    """Score every pair with both codes, ours as NumPy and as torch on the CPU.

    Args:
        what: Name of the row.
        pairs: What to score.
        official: The oracle.
        source: Where the masks are from.

    Returns:
        Number of pairs, and the largest absolute differences, with the pair that has the largest of all.

    Raises:
        UserError: If there is no pair.
    """
    rows = []
    for pair in pairs:
        truth = official.scores(pair.gt, pair.result, pair.void, pair.bound_th)
        rows.append((pair.name, truth, *_ours(pair)))
    return _row(what, rows, source)


def compare_with_golden(folder: str | Path) -> Row:
    """Score the pairs and sequences of ``tests/golden/davis``, whose values the official code gave.

    Raises:
        UserError: If the folder does not hold the case.
    """
    folder = Path(folder)
    path, archive = folder / "case.json", folder / "masks.npz"
    if not path.is_file() or not archive.is_file():
        raise UserError(f"{folder} does not hold the golden case: expected case.json and masks.npz")
    case = json.loads(path.read_text(encoding="utf-8"))
    rows = []
    with np.load(archive) as masks:
        for entry in case["pairs"]:
            shape, name = (entry["height"], entry["width"]), entry["id"]
            gt, result = (_unpack(masks[f"{part}_{name}"], shape) for part in ("gt", "result"))
            void = _unpack(masks[f"void_{name}"], shape) if entry["void"] else None
            pair = MaskPair(name, gt, result, void, entry["bound_th"])
            rows.append((pair.name, (entry["J"], entry["F"]), *_ours(pair)))
        for entry in case["sequences"]:
            clip, name = (entry["frames"], entry["height"], entry["width"]), f"seq{entry['id']}"
            clips = (_unpack(masks[f"{name}_{part}"], clip) for part in ("gt", "result"))
            for t, (gt, result) in enumerate(zip(*clips, strict=True)):
                pair = MaskPair(f"{name} frame {t}", gt, result)
                rows.append((pair.name, (entry["J"][t], entry["F"][t]), *_ours(pair)))
    return _row("golden case", rows, "tests/golden/davis")


Scores = tuple[float, float]


def _ours(pair: MaskPair) -> tuple[Scores, Scores]:
    """(J, F) by NumPy, (J, F) by torch."""
    j, f = jf.frame_scores(pair.gt, pair.result, pair.void, pair.bound_th)
    clips = [None if mask is None else torch.from_numpy(mask[None]) for mask in pair[1:4]]
    assert clips[0] is not None
    assert clips[1] is not None
    torch_j, torch_f = jf_torch.frame_scores(clips[0], clips[1], clips[2], pair.bound_th)
    return (float(j[0]), float(f[0])), (float(torch_j[0]), float(torch_f[0]))


def _row(what: str, rows: list[tuple[str, Scores, Scores, Scores]], source: str) -> Row:
    if not rows:
        raise UserError(f"{what}: no pair of masks to compare")
    values = np.array([row[1:] for row in rows])  # (pairs, official | numpy | torch, J | F)
    if np.isnan(values).any():
        raise UserError(f"{what}: {rows[int(np.isnan(values).any(axis=(1, 2)).argmax())][0]} scores NaN")
    apart = np.abs(values[:, 1:] - values[:, :1])
    worst = int(apart.max(axis=(1, 2)).argmax())
    return {
        "what": what,
        "pairs": len(rows),
        "max_abs_dj": float(apart[:, 0, 0].max()),
        "max_abs_df": float(apart[:, 0, 1].max()),
        "torch_max_abs_dj": float(apart[:, 1, 0].max()),
        "torch_max_abs_df": float(apart[:, 1, 1].max()),
        "worst": rows[worst][0] if apart.max() > 0 else None,
        "mean_j": float(values[:, 0, 0].mean()),
        "mean_f": float(values[:, 0, 1].mean()),
        "source": source,
    }


def _unpack(bits: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.unpackbits(bits, count=int(np.prod(shape))).astype(bool).reshape(shape)
