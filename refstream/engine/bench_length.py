"""What a stream costs against its length: speed, peak memory, and how often each encoder runs.

Every arm is a way of running one model (keys of its pipeline). Each (arm, length) runs in a process of its
own, so that a peak is its own; arms take turns, so that a busy machine slows all of them alike. Quote ratios.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import wraps
from pathlib import Path
from typing import Any

import torch

from refstream.errors import UserError
from refstream.models.loading import load
from refstream.streaming.session import StreamSession
from refstream.structures import Frame
from refstream.synthetic.minirvos import MiniRVOS

LOOP = 24  # frames of the clip that is played to and fro
WARM_UP = 8
MEBIBYTE = 2**20


def bench_length(
    model: str | Path,
    arms: Mapping[str, Mapping[str, Any]],
    lengths: Sequence[int],
    *,
    device: str = "cpu",
    size: tuple[int, int] = (480, 854),
    rounds: int = 3,
    num_queries: int = 1,
) -> dict[str, Any]:
    """Measure every arm at every length.

    Args:
        model: Model folder.
        arms: Name -> keys of the pipeline.
        lengths: Frames per stream.
        device: Where to run, in float32.
        size: (H, W) of the frames.
        rounds: Runs of each; medians count.
        num_queries: Expressions on the stream.

    Returns:
        ``rows``: arm, frames, fps, "FPS against the shortest", "peak MB" (growth over the loaded and warmed
        up model), "segmenter images" and "MLLM images" (encoded, whatever the batches), "MLLM passes".

    Raises:
        UserError: If there is nothing to measure.
    """
    if not arms or not lengths or min(lengths) < 1 or rounds < 1 or num_queries < 1:
        raise UserError("bench_length needs arms, lengths of 1 or more, rounds and queries")
    done: dict[tuple[str, int], list[dict[str, float]]] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, max_tasks_per_child=1) as pool:
        for _ in range(rounds):
            for length in lengths:
                for name, keys in arms.items():
                    job = pool.submit(_measure, str(model), dict(keys), length, device, size, num_queries)
                    done.setdefault((name, length), []).append(job.result())
    fps = {key: statistics.median(run["frames_per_s"] for run in runs) for key, runs in done.items()}
    rows = [
        {
            "arm": name,
            "frames": length,
            "FPS": round(fps[name, length], 2),
            "against the shortest": round(fps[name, length] / fps[name, min(lengths)], 3),
            "peak MB": round(statistics.median(run["peak_mb"] for run in runs), 1),
            "segmenter images": int(runs[0]["segmenter"]),
            "MLLM images": int(runs[0]["vision"]),
            "MLLM passes": int(runs[0]["passes"]),
        }
        for (name, length), runs in done.items()
    ]
    return {"rows": rows, "frame_size": list(size), "rounds": rounds, "queries": num_queries}


def _measure(
    folder: str, keys: dict[str, Any], length: int, device: str, size: tuple[int, int], num_queries: int
) -> dict[str, float]:
    """One stream in this process."""
    torch.set_num_threads(1)
    model = load(folder, device=device)
    clip = MiniRVOS("test", 0, 1, num_frames=LOOP, size=size)[0]
    said = [expression.text for expression in clip.expressions]
    said = (said * num_queries)[:num_queries]
    counts = {"segmenter": 0.0, "vision": 0.0, "passes": 0.0}

    def count(target: Any, method: str, what: str, images: Callable[..., int]) -> None:
        inner = getattr(target, method)

        @wraps(inner)
        def counted(*args: Any, **kwargs: Any) -> Any:
            counts[what] += images(*args)
            return inner(*args, **kwargs)

        setattr(target, method, counted)

    count(model.segmenter, "encode", "segmenter", len)
    count(model.mllm, "encode_images", "vision", len)
    count(model.mllm, "forward_chat", "passes", lambda *args: 1)

    def play(frames: int) -> float:
        session = StreamSession(model.pipeline(**keys))
        session.open(said)
        start = time.perf_counter()
        for index in range(frames):
            turn = index % (2 * LOOP)
            image = clip.frames[turn if turn < LOOP else 2 * LOOP - 1 - turn]
            session.step(Frame(index, index / 25, image.copy()))
        session.close()
        if device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    play(WARM_UP)
    counts.update(dict.fromkeys(counts, 0.0))
    before = _peak(device)
    seconds = play(length)
    return {"frames_per_s": length / seconds, "peak_mb": (_peak(device) - before) / MEBIBYTE, **counts}


def _peak(device: str) -> float:
    """Most bytes so far: of this process, or of its GPU memory."""
    if device != "cpu":
        return float(torch.cuda.max_memory_allocated())
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(most) * (1 if sys.platform == "darwin" else 1024)
