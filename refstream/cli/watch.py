"""``refstream watch``: a video and questions in; answers out, each when the model finds that it is time."""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from refstream.cli.console import OUT, note
from refstream.cli.options import device_of, dtype_of, load_model
from refstream.errors import UserError, VideoError
from refstream.models.protocols import StreamPipeline, answers_of
from refstream.registry import PIPELINES
from refstream.resources import default_model_path, is_embedded
from refstream.streaming.joined import JoinedPipelines
from refstream.streaming.session import StreamSession
from refstream.streaming.timing import StreamTimer
from refstream.streaming.writers import EventJsonlWriter
from refstream.structures import Frame, StreamEvent
from refstream.video import VideoSource, open_video

WATCH, SEGMENT = "watch", "segment"
TINY_NOTE = "the embedded model knows the coloured shapes of MiniRVOS only; expect nonsense on anything else"


def run(args: argparse.Namespace) -> int:
    """Carry out the command; see ``refstream watch --help``."""
    asks = asks_of(args)
    with open_video(
        args.video, max_side=args.max_side, on_error=args.on_error, fps=args.folder_fps
    ) as source:
        timer = StreamTimer()
        session = StreamSession(pipeline_of(args, timer), live=source.is_live)
        watching = Watching(source, session, timer, args)
        watching.ask(asks, args.segment)
        watching.run()
    return 0


def asks_of(args: argparse.Namespace) -> list[tuple[str, float | None]]:
    """The questions of ``--ask`` and ``--ask-at``, with the second of the video at which they are asked.

    Raises:
        UserError: There is none, or a time is none.
    """
    asks: list[tuple[str, float | None]] = [(text, None) for text in args.ask]
    for time, text in args.ask_at:
        try:
            time_s = float(time)
        except ValueError:
            time_s = math.nan
        if not 0 <= time_s < math.inf:
            raise UserError(f'--ask-at takes seconds and a text, as in --ask-at 12.5 "..."; got {time!r}')
        asks.append((text, time_s))
    if not asks:
        raise UserError('say what to tell: --ask "tell me when the light turns green"')
    return asks


def pipeline_of(args: argparse.Namespace, timer: StreamTimer) -> StreamPipeline:
    """The pipeline of ``--model``, joined by that of ``--segment-model`` if there is something to segment.

    Raises:
        UserError: A model is missing or answers in the wrong way.
    """
    device = device_of(args)
    dtype = dtype_of(args, device)
    model = _model(args, "--model", args.model, "text", device, dtype)
    keys: dict[str, Any] = {} if args.fps is None else {"fps": args.fps}
    given = {"respond": args.respond, "cool_down_s": args.cool_down}
    policy = {name: value for name, value in given.items() if value is not None}
    if policy:
        keys["policy"] = {**(model.config.pipeline.get("policy") or {}), **policy}
    speaker: StreamPipeline = model.pipeline(stage=timer.stage, **keys)
    if not args.segment:
        return speaker
    segmenter = _model(args, "--segment-model", args.segment_model, "masks", device, dtype)
    return JoinedPipelines({WATCH: speaker, SEGMENT: segmenter.pipeline(stage=timer.stage)})


def _model(
    args: argparse.Namespace,
    option: str,
    path: Path | None,
    answers: str,
    device: torch.device,
    dtype: torch.dtype,
) -> Any:
    """A model whose pipeline answers in text, or in masks."""
    path = path or default_model_path(answers)
    if is_embedded(path):
        note(TINY_NOTE, quiet=args.quiet)
    model = load_model(path, device, dtype)
    found = answers_of(PIPELINES.get(str(model.config.pipeline.get("type"))))
    if found != answers:
        raise UserError(f"{option}: {path} answers in {found}, expected a model that answers in {answers}")
    return model


@dataclass
class Watching:
    """One run over one source.

    Attributes:
        source: The video.
        session: Of the pipelines.
        timer: Of the session's frames.
        args: Options of output and limits.
        number_of: Query id -> its number among the questions, from 1.
    """

    source: VideoSource
    session: StreamSession
    timer: StreamTimer
    args: argparse.Namespace
    number_of: dict[str, int] = field(default_factory=dict)

    def ask(self, asks: list[tuple[str, float | None]], things: list[str]) -> None:
        """Put the questions, and name the things to segment."""
        joined = isinstance(self.session.pipeline, JoinedPipelines)
        for number, (text, time_s) in enumerate(asks, 1):
            query_id = self.session.add(text, f"ask{number}", WATCH if joined else "", time_s=time_s)
            self.number_of[query_id] = number
            when = "" if time_s is None else f" (at {time_s:g} s)"
            note(f"[{number}] {text}{when}", quiet=self.args.quiet or len(asks) == 1)
        for number, text in enumerate(things, 1):
            self.session.add(text, f"mask{number}", SEGMENT)
        if things and self.args.json is None:
            note("masks are written into --json only, which is not given", quiet=self.args.quiet)

    def run(self) -> None:
        """Stream and print.

        Raises:
            VideoError: The video broke off; what came before is printed and written.
        """
        num_looks = num_answers = 0
        failure: VideoError | None = None
        with ExitStack() as stack:
            log = None if self.args.json is None else stack.enter_context(EventJsonlWriter(self.args.json))
            frames = self._frames()
            while True:
                try:
                    frame = next(frames, None)
                except VideoError as error:
                    if self.timer.num_frames == 0:
                        raise
                    failure, frame = error, None
                with self.timer.frame() if frame is not None else self.timer.ending() as events:
                    events.extend(self.session.close() if frame is None else self.session.step(frame))
                if log is not None:
                    log.write(events)
                told = [event for event in events if event.query_id in self.number_of]
                num_looks += len(told)
                num_answers += sum(event.text is not None for event in told)
                self._print(told)
                if frame is None:
                    break
        self._close(num_looks, num_answers)
        if failure is not None:
            raise failure

    def _frames(self) -> Iterator[Frame]:
        return itertools.islice(iter(self.source), self.args.max_frames)

    def _print(self, events: list[StreamEvent]) -> None:
        """One line per answer; with --states also per look."""
        for event in events:
            if event.text is None and not self.args.states:
                continue
            parts = [f"{event.time_s:8.2f} s"]
            if len(self.number_of) > 1:
                parts.append(f"[{self.number_of[event.query_id]}]")
            if self.args.states:
                parts.append(_state(event.extra))
            line = "  ".join([*parts, event.text or ""]).rstrip()
            OUT.print(line, markup=False, highlight=False, soft_wrap=True)
            OUT.file.flush()

    def _close(self, num_looks: int, num_answers: int) -> None:
        summary = self.timer.summary()
        p95 = summary["latency_ms_p95"]
        slow = "" if p95 is None else f", 95 % of the looks within {p95:.0f} ms"
        note(
            f"{summary['frames']} frames, {num_looks} looks, {num_answers} answers{slow}",
            quiet=self.args.quiet,
        )
        if self.args.json is not None:
            note(f"events are in {self.args.json}", quiet=self.args.quiet)


def _state(extra: Mapping[str, Any]) -> str:
    """The interval, the state, and how probable it was, as far as the pipeline says so."""
    state = str(extra.get("state", ""))
    probability = (extra.get("probabilities") or {}).get(state)
    shown = "" if probability is None else f"{probability:.2f}"
    return f"{extra.get('interval', '')}  {state:<8} {shown:>4}".rstrip()
