"""What J and F cost; ``tools/bench_eval.py speed`` is the command.

Both codes run in one process on the same masks, turn by turn and on one thread; medians and their ratios are
what counts, absolute times are the machine's.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier
from typing import Any

import cv2
import numpy as np
import psutil
import torch

from refstream.data import rle
from refstream.evaluation.metrics import jf, jf_torch
from refstream.evaluation.metrics.mask_pairs import MaskPair, blob_clip, blob_pairs, shifted
from refstream.evaluation.metrics.official import OfficialMetrics

Row = dict[str, Any]
NUM_CLIPS = 8  # distinct ones in the memory test
MEGABYTE = 2**20
START_TIMEOUT_S = 120.0
_waiting: list[Barrier] = []  # of a worker process


@contextmanager
def single_thread() -> Iterator[None]:
    """OpenCV and torch on one thread each, as they were before afterwards."""
    before = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before[0])
        torch.set_num_threads(before[1])


def compare_speed(what: str, pairs: Sequence[MaskPair], official: OfficialMetrics, rounds: int) -> Row:
    """J and F of each pair by the official code and by ours, in turn.

    Args:
        what: Name of the row.
        pairs: At least one.
        official: The oracle.
        rounds: How often all pairs are gone through; who goes first changes from round to round.

    Returns:
        Medians over all pairs and rounds in milliseconds, the median of the ratios pair by pair, and the
        largest difference between the figures.
    """

    def theirs(pair: MaskPair) -> np.ndarray:
        return np.array(official.scores(pair.gt, pair.result, pair.void, pair.bound_th))

    def ours(pair: MaskPair) -> np.ndarray:
        return np.concatenate(jf.frame_scores(pair.gt, pair.result, pair.void, pair.bound_th))

    times, apart = [], 0.0
    with single_thread():
        for step in range(rounds + 1):  # the first one warms up
            for pair in pairs:
                turns = [theirs, ours] if step % 2 else [ours, theirs]
                done = {code: _timed(code, pair) for code in turns}
                apart = max(apart, float(np.abs(done[theirs][1] - done[ours][1]).max()))
                if step:
                    times.append((done[theirs][0], done[ours][0]))
    theirs_s, ours_s = np.array(times).T
    height, width = pairs[0].gt.shape
    return {
        "what": what,
        "size": f"{height} x {width}",
        "pairs": len(pairs),
        "rounds": rounds,
        "official_ms": round(float(np.median(theirs_s)) * 1e3, 3),
        "ours_ms": round(float(np.median(ours_s)) * 1e3, 3),
        "ratio": round(float(np.median(theirs_s / ours_s)), 2),
        "max_abs_difference": apart,
    }


def torch_speed(pairs: Sequence[MaskPair], device: str, rounds: int) -> Row:
    """The batched path on masks of one size that are on the device, against the NumPy path's figures."""
    gt = torch.from_numpy(np.stack([pair.gt for pair in pairs])).to(device)
    result = torch.from_numpy(np.stack([pair.result for pair in pairs])).to(device)
    times = []
    with single_thread():
        for _ in range(rounds + 1):
            seconds, scores = _timed(jf_torch.frame_scores, gt, result)  # ends with a copy to the CPU
            times.append(seconds)
        expected = jf.frame_scores(gt.cpu().numpy(), result.cpu().numpy())
    name = torch.cuda.get_device_name() if device == "cuda" else device
    return {
        "what": f"torch, {name}",
        "size": " x ".join(map(str, gt.shape[1:])),
        "pairs": len(pairs),
        "rounds": rounds,
        "ours_ms": round(float(np.median(times[1:])) * 1e3 / len(pairs), 4),
        "max_abs_difference": float(np.abs(np.array(scores) - np.array(expected)).max()),
    }


def scaling(processes: Sequence[int], num_pairs: int, seed: int) -> list[Row]:
    """Pairs per second, all processes together, each working through its own ``num_pairs``."""
    rows: list[Row] = []
    context = multiprocessing.get_context("spawn")
    for count in processes:
        barrier = context.Barrier(count, timeout=START_TIMEOUT_S)
        with ProcessPoolExecutor(count, context, _keep_barrier, (barrier,)) as pool:
            spans = list(pool.map(_work, range(seed, seed + count), [num_pairs] * count))
        seconds = max(end for _, end in spans) - min(start for start, _ in spans)
        rows.append(
            {
                "what": f"{count} process{'es' if count > 1 else ''}",
                "processes": count,
                "pairs": count * num_pairs,
                "pairs_per_s": round(count * num_pairs / seconds, 1),
            }
        )
    for row in rows:
        row["speedup"] = round(row["pairs_per_s"] / rows[0]["pairs_per_s"], 2)
    return rows


def memory(num_expressions: int, num_frames: int, seed: int, size: tuple[int, int] = (480, 854)) -> list[Row]:
    """Resident memory of a fresh process while it scores run-length codes, expression by expression.

    Returns:
        A row at the start, and after the first expression, a quarter, half and all of them.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_memory, num_expressions, num_frames, seed, size).result()


def _memory(num_expressions: int, num_frames: int, seed: int, size: tuple[int, int]) -> list[Row]:
    rng = np.random.default_rng(seed)
    clips = []
    for _ in range(min(NUM_CLIPS, num_expressions)):
        gt = blob_clip(rng, num_frames, size)
        clips.append((rle.encode_clip(gt), rle.encode_clip(shifted(gt, 5, 3))))
    del gt
    marks = {1, *(max(1, round(num_expressions * share)) for share in (0.25, 0.5, 1.0))}
    process = psutil.Process()
    rows: list[Row] = []
    means = []

    def note(done: int) -> None:
        rows.append(
            {
                "what": f"memory after {done} of {num_expressions} expressions",
                "size": f"{size[0]} x {size[1]}",
                "pairs": done * num_frames,
                "rss_mb": round(process.memory_info().rss / MEGABYTE, 1),
                "elapsed_s": round(time.perf_counter() - start, 2),
            }
        )

    start = time.perf_counter()
    note(0)
    for index in range(num_expressions):
        gt_codes, result_codes = clips[index % len(clips)]
        j, f = jf.frame_scores(rle.decode_clip(gt_codes), rle.decode_clip(result_codes))
        means.append((float(j.mean()), float(f.mean())))
        if index + 1 in marks:
            note(index + 1)
    return rows


def _keep_barrier(barrier: Barrier) -> None:
    _waiting.append(barrier)


def _work(seed: int, num_pairs: int) -> tuple[float, float]:
    """Wall-clock times at which this process began and ended its pairs; all processes begin together."""
    pairs = list(blob_pairs(8, seed))
    with single_thread():
        for pair in pairs:
            jf.frame_scores(pair.gt, pair.result)
        _waiting[0].wait()
        start = time.time()
        for index in range(num_pairs):
            pair = pairs[index % len(pairs)]
            jf.frame_scores(pair.gt, pair.result)
    return start, time.time()


def _timed(call: Callable[..., Any], *args: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    value = call(*args)
    return time.perf_counter() - start, value
