"""Questions about single frames: what a pretrained MLLM can answer, and a tiny one must learn first."""

from __future__ import annotations

import numpy as np
from torch.utils.data import Dataset

from refstream.data.collate import ClipSample
from refstream.registry import DATASETS
from refstream.stream_records import StreamAnswer, StreamAsk, StreamRecord
from refstream.synthetic.render import render
from refstream.synthetic.scene import Split
from refstream.synthetic.streams import MiniStreams
from refstream.synthetic.streams_truth import StreamTruth
from refstream.synthetic.streams_words import COLOUR_NOW, COUNT_NOW

from .clock import StreamClock
from .compiler import compile_record
from .dataset import to_sample

LIST_NOW = "say what is in the picture now"
SHARES = (0.5, 0.3, 0.2)  # lists, colours, counts


@DATASETS.register_module()
class MiniStreamStills(Dataset[ClipSample]):
    """One sample is a dialogue of ``turns`` turns: each shows another stream, asks about it, is answered.

    So nothing but the last frame helps. Frames in which something is going on are not shown.

    Args:
        split: "train", "val" or "test".
        seed: Of the split.
        length: Number of dialogues of an epoch.
        turns: Of a dialogue.
        size: Side of the frames in pixels.
    """

    def __init__(
        self, split: Split = "train", seed: int = 0, length: int = 100_000, turns: int = 8, size: int = 128
    ) -> None:
        self.source = MiniStreams(split, seed, num_streams=length * turns, size=size)
        self.length, self.turns = length, turns

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> ClipSample:
        return self.sample(index, np.random.default_rng([self.source.seed, index]))

    def sample(self, index: int, rng: np.random.Generator) -> ClipSample:
        """Dialogue ``index`` in [0, len); frames and questions are drawn from ``rng``."""
        frames, asks, answers = [], [], []
        for turn in range(self.turns):
            number = index * self.turns + turn
            truth = self.source.truth(number)
            frame = quiet_frame(truth, rng)
            frames.append(render(truth.scene, self.source.size, (frame,))[0][0])
            question, answer = ask(truth, frame, rng)
            asks.append(StreamAsk(question, float(turn)))
            answers.append(StreamAnswer(answer, float(turn), ask=turn))
        name = f"{self.source.name(index)} stills"
        record = StreamRecord(name, "time_sensitive_qa", tuple(asks), tuple(answers), id=name)
        return to_sample(compile_record(record, StreamClock(1.0), float(self.turns)), np.stack(frames))


def quiet_frame(truth: StreamTruth, rng: np.random.Generator) -> int:
    """A frame in which nothing is going on; the first one if there is always something."""
    busy = np.zeros(truth.scene.num_frames, dtype=bool)
    for happening in truth.happenings:
        busy[happening.start : happening.end + 1] = True
    free = np.flatnonzero(~busy)
    return int(free[int(rng.integers(len(free)))]) if len(free) else 0


def ask(truth: StreamTruth, frame: int, rng: np.random.Generator) -> tuple[str, str]:
    """A question about what is to be seen in a frame, and its answer; lists go from left to right."""
    there = [i for i in range(len(truth.scene.objects)) if truth.inside(i, frame)]
    there.sort(key=lambda i: float(truth.scene.objects[i].centres[frame, 0]))
    kind = int(rng.choice(3, p=SHARES))
    if kind == 1 and there:
        one = there[int(rng.integers(len(there)))]
        shape = truth.scene.objects[one].shape
        alike = [i for i in there if truth.scene.objects[i].shape == shape]
        if len(alike) == 1:
            return COLOUR_NOW[int(rng.integers(2))].format(who=f"the {shape}"), truth.colour(one, frame)
    if kind == 2 or not there:
        return COUNT_NOW[int(rng.integers(2))], str(len(there))
    return LIST_NOW, ", ".join(truth.full_name(i, frame) for i in there)
