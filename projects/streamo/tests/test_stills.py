"""Questions about single frames: the answers are true of the picture, and of nothing before it."""

from __future__ import annotations

import numpy as np
from refstream_projects.streamo.stills import LIST_NOW, MiniStreamStills, ask, quiet_frame

from refstream.synthetic.scene import COLOURS
from refstream.synthetic.streams import MiniStreams


def test_answers_are_true_of_the_frame() -> None:
    source = MiniStreams("val", 3, num_streams=40)
    kinds = set()
    for number in range(len(source)):
        rng = np.random.default_rng(number)
        truth = source.truth(number)
        frame = quiet_frame(truth, rng)
        assert not any(h.start <= frame <= h.end for h in truth.happenings) or frame == 0
        question, answer = ask(truth, frame, rng)
        shown = source.stream(number, [frame])
        visible = [i for i, mask in enumerate(shown.object_masks[:, 0]) if mask.any()]
        if question == LIST_NOW:
            kinds.add("list")
            x = {i: np.argwhere(shown.object_masks[i, 0])[:, 1].mean() for i in visible}
            assert answer.count("the ") == len(visible)
            seen = [truth.scene.objects[i].shape for i in sorted(visible, key=lambda i: x[i])]
            assert sorted(word for word in answer.replace(",", "").split() if word in seen) == sorted(seen)
        elif question.startswith("how many"):
            kinds.add("count")
            assert int(answer) == len(visible)
        else:
            kinds.add("colour")
            assert answer in COLOURS
            shape = question.split(" is the ")[-1].split(" does the ")[-1].split()[0]
            (one,) = [i for i in visible if truth.scene.objects[i].shape == shape]
            assert answer == truth.colour(one, frame)
    assert kinds == {"list", "count", "colour"}


def test_a_sample_has_one_frame_and_one_answer_per_turn() -> None:
    data = MiniStreamStills("train", seed=1, turns=3, size=64)
    sample = data[0]
    assert sample.frames.shape == (3, 64, 64, 3)
    assert sample.turn_images == (1, 1, 1)
    assert all(answer.startswith("<Response> ") for _, answer in sample.dialogue)
    again = data[0]
    assert again.dialogue == sample.dialogue
    assert np.array_equal(again.frames, sample.frames)
