"""MiniRVOS streams with what is asked and answered about them; a development benchmark, made on the fly."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from refstream.errors import UserError
from refstream.evaluation.listening import turn_indices
from refstream.evaluation.stream_tasks import NAME, StreamWorld, TaskStream
from refstream.structures import Frame
from refstream.synthetic.scene import Split
from refstream.synthetic.streams import MiniStreams

NUM_STREAMS = 300


def minirvos_streams(
    split: Split = "test",
    seed: int = 0,
    num_streams: int = NUM_STREAMS,
    duration_s: float = 20.0,
    stream_fps: float = 4.0,
    size: int = 128,
) -> StreamWorld:
    """A world of streams, each with one record for every family of questions that it can show.

    Args:
        split: "test", "val" or "train".
        seed: Of the draw.
        num_streams: How many.
        duration_s: Of each, in seconds.
        stream_fps: Frames per second of the streams: how finely things are timed.
        size: Side of the frames in pixels.

    Raises:
        UserError: If an option is impossible.
    """
    try:
        source = MiniStreams(
            split, seed, num_streams=num_streams, duration_s=duration_s, fps=stream_fps, size=size
        )
    except ValueError as error:
        raise UserError(f"{NAME}: {error}") from error
    streams = [
        TaskStream(source.name(index), tuple(source.records(index)), partial(_frames, source, index))
        for index in range(num_streams)
    ]
    settings = {
        "seed": seed,
        "streams": num_streams,
        "duration_s": source.duration_s,
        "stream_fps": source.fps,
        "size": size,
    }
    return StreamWorld(NAME, split, settings, streams)


def _frames(source: MiniStreams, index: int, fps: float | None) -> Iterator[Frame]:
    """The frames of a stream that are looked at; the others are not rendered."""
    times = (np.arange(source.num_frames) / source.fps).tolist()
    chosen = turn_indices(times, fps)
    for number, image in zip(chosen, source.stream(index, chosen).frames, strict=True):
        yield Frame(number, times[number], image)
