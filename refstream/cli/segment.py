"""``refstream segment``: a video and expressions in; masks, an overlay, events and a summary out."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

import refstream
from refstream.cli.console import OUT, Advance, note, progress_bar
from refstream.cli.options import device_of, dtype_of, gate_of, load_model
from refstream.cli.results import ResultFolder, summary_table
from refstream.errors import VideoError
from refstream.evaluation.metrics.jf import j_and_f
from refstream.resources import default_model_path, is_embedded
from refstream.streaming.session import StreamSession
from refstream.streaming.timing import StreamTimer
from refstream.structures import StreamEvent
from refstream.video import VideoSource, open_video

TINY_NOTE = "the embedded model knows the coloured shapes of MiniRVOS only; expect nonsense on anything else"
RANDOM_NOTE = "random weights: the masks mean nothing, only shapes, memory and speed do"


def run(args: argparse.Namespace) -> int:
    """Carry out the command; see ``refstream segment --help``."""
    segment_video(args, args.out)
    return 0


def segment_video(args: argparse.Namespace, out: Path | None) -> None:
    """Segment ``--video`` into ``out``, by default a folder named after the video."""
    with open_video(args.video, max_side=args.max_side, on_error=args.on_error, fps=args.fps) as source:
        out = out or Path("outputs") / "segment" / (Path(source.name).stem or "video")
        model = LoadedModel.from_arguments(args)
        if model.remark:
            note(model.remark, quiet=args.quiet)
        Segmentation(model, source, args.expression, out, args).run()


@dataclass(frozen=True)
class LoadedModel:
    """A model and what is to be said about it.

    Attributes:
        model: Has ``pipeline(**overrides)``.
        name: For the summary.
        device, dtype: Where and how it runs.
        remark: What a user must know before looking at the masks; empty if nothing.
    """

    model: Any
    name: str
    device: torch.device
    dtype: torch.dtype
    remark: str

    @classmethod
    def from_arguments(cls, args: argparse.Namespace) -> LoadedModel:
        """Load what ``--model`` or ``--random-init`` names, by default the embedded model."""
        device = device_of(args)
        dtype = dtype_of(args, device)
        torch.manual_seed(args.seed)
        if args.random_init:
            from refstream.models.random_init import random_model

            model = random_model(args.random_init, device=device, dtype=dtype, seed=args.seed)
            return cls(model, f"random {args.random_init}", device, dtype, RANDOM_NOTE)
        path = args.model or default_model_path()
        remark = TINY_NOTE if is_embedded(path) else ""
        return cls(load_model(path, device, dtype), Path(path).as_posix(), device, dtype, remark)


@dataclass
class Segmentation:
    """One run over one source.

    Attributes:
        loaded: The model.
        source: The video.
        expressions: What to look for.
        out: Folder of results.
        args: Options of gate and limits.
        truth: Per expression (T, H, W) bool, or nothing if it is not known.
    """

    loaded: LoadedModel
    source: VideoSource
    expressions: list[str]
    out: Path
    args: argparse.Namespace
    truth: list[np.ndarray] = field(default_factory=list)

    def run(self) -> dict[str, Any]:
        """Stream, write, print; return the summary.

        Raises:
            VideoError: The video broke off; what came before is written.
        """
        timer = StreamTimer()
        own_gate = self.loaded.model.config.pipeline.get("gate")
        gate = gate_of(self.args, own_gate)
        overrides = {} if gate is None else {"gate": gate}
        pipeline = self.loaded.model.pipeline(stage=timer.stage, **overrides)
        session = StreamSession(pipeline, live=self.source.is_live)
        queries = dict(zip(session.open(self.expressions), self.expressions, strict=True))
        self._scores = _TruthScores(dict(zip(queries, self.truth, strict=False)))
        limit = _smaller(self.args.max_frames, pipeline.max_frames)
        if pipeline.max_frames is not None and limit == pipeline.max_frames:
            note(
                f"this method looks at whole clips, of at most {limit} frames; the rest is left out",
                quiet=self.args.quiet,
            )
        failure: VideoError | None = None
        state = "interrupted"
        with ResultFolder(self.out, self.source.fps, queries, causal=pipeline.causal) as results:
            try:
                failure = self._stream(session, timer, results, limit)
                self._finish(session, timer, results)
                state = "complete" if failure is None else "broken off"
            finally:
                summary = self._summary(queries, gate or own_gate, timer, state, failure)
                results.summarize(summary)
        if not self.args.quiet:
            OUT.print(summary_table(summary))
            note(f"results are in {self.out}")
        if failure is not None:
            raise failure
        return summary

    def _stream(
        self, session: StreamSession, timer: StreamTimer, results: ResultFolder, limit: int | None
    ) -> VideoError | None:
        """Push all frames; return the error at which the video broke off, None at its proper end."""
        total = _smaller(self.source.num_frames, limit)
        frames = itertools.islice(iter(self.source), limit)
        with progress_bar("segmenting", total, quiet=self.args.quiet) as advance:
            while True:
                try:
                    frame = next(frames, None)
                except VideoError as error:
                    if timer.num_frames == 0:
                        raise
                    return error
                if frame is None:
                    return None
                with timer.frame() as events:
                    events.extend(session.step(frame))
                results.write(frame, events)
                self._scores.add(events)
                _report(advance, timer)

    def _finish(self, session: StreamSession, timer: StreamTimer, results: ResultFolder) -> None:
        with timer.ending() as late:
            late.extend(session.close())
        self._scores.add(late)
        results.write_late(late)

    def _summary(
        self,
        queries: Mapping[str, str],
        gate: Any,
        timer: StreamTimer,
        state: str,
        failure: VideoError | None,
    ) -> dict[str, Any]:
        source, device = self.source, self.loaded.device
        scores = self._scores.per_query(timer.num_frames)
        mean = float(np.mean(list(scores.values()))) if scores else None
        memory = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None
        problems = [*source.problems, *([str(failure)] if failure else [])]
        return {
            "state": state,
            "j_and_f": mean,
            **timer.summary(),
            "peak_memory_mb": _peak_memory_mb(),
            "peak_gpu_memory_mb": memory,
            "queries": [
                {"id": i, "expression": text, "j_and_f": scores.get(i)} for i, text in queries.items()
            ],
            "video": {
                "name": source.name,
                "width": source.width,
                "height": source.height,
                "fps": source.fps,
                "is_live": source.is_live,
            },
            "model": self.loaded.name,
            "gate": gate if isinstance(gate, dict) else None,
            "device": str(device),
            "dtype": str(self.loaded.dtype).removeprefix("torch."),
            "seed": self.args.seed,
            "notes": [self.loaded.remark] if self.loaded.remark else [],
            "problems": problems,
            "refstream": refstream.__version__,
        }


class _TruthScores:
    """Keeps the masks of queries whose truth is known, to score them at the end."""

    def __init__(self, truth: Mapping[str, np.ndarray]) -> None:
        self._truth = truth
        self._found = {query_id: np.zeros_like(masks) for query_id, masks in truth.items()}

    def add(self, events: list[StreamEvent]) -> None:
        for event in events:
            found = self._found.get(event.query_id)
            if found is not None and event.mask is not None and event.frame_index < len(found):
                found[event.frame_index] = event.mask

    def per_query(self, num_frames: int) -> dict[str, float]:
        """J&F in [0, 100] over the first ``num_frames`` frames."""
        if num_frames == 0:
            return {}
        return {
            query_id: 100 * j_and_f(truth[:num_frames], self._found[query_id][:num_frames]).mean
            for query_id, truth in self._truth.items()
        }


def _report(advance: Advance, timer: StreamTimer) -> None:
    seconds = timer.latency.total_ms / 1000
    rate = timer.num_frames / seconds if seconds else 0.0
    calls = timer.num_mllm_calls / max(1, timer.num_events)
    advance(f"{rate:.1f} FPS, {calls:.2f} MLLM calls per frame")


def _peak_memory_mb() -> float | None:
    """Most main memory that this process held so far; None where the platform does not say."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _smaller(a: int | None, b: int | None) -> int | None:
    known = [n for n in (a, b) if n is not None]
    return min(known) if known else None
