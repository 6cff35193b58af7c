"""The rule-based captioner against the truth of MiniRVOS streams, and on pictures drawn for one rule each."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from refstream_projects.streamo.annotation.prompts import (
    ACTION,
    EVENT,
    NARRATION,
    QUESTION,
    answer_to,
    verify,
)
from refstream_projects.streamo.annotation.rule_captioner import (
    COLOUR_QUESTION,
    COUNT_QUESTION,
    RuleCaptioner,
)
from refstream_projects.streamo.annotation.sightings import see

from refstream.synthetic.minirvos import MiniRVOS
from refstream.synthetic.scene import COLOURS
from refstream.synthetic.shapes import inside
from refstream.synthetic.streams import MiniStreams
from refstream.synthetic.streams_words import all_stream_words
from refstream.synthetic.words import all_words

SIZE = 96


def picture(*objects: tuple[str, str, float, float], radius: float = 12.0) -> np.ndarray:
    """Shapes (shape, colour, x, y) on grey: (96, 96, 3) uint8."""
    image = np.full((SIZE, SIZE, 3), 60, dtype=np.uint8)
    steps = np.arange(SIZE) + 0.5
    for shape, colour, x, y in objects:
        image[inside(shape, (steps[None] - x) / radius, (steps[:, None] - y) / radius)] = COLOURS[colour]
    return image


def say(*frames: np.ndarray, prompt=NARRATION) -> str:
    return RuleCaptioner().caption(np.stack(frames), np.arange(len(frames), dtype=float), prompt)


RED, BLUE = ("circle", "red", 30.0, 40.0), ("star", "blue", 70.0, 60.0)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ([RED, BLUE], [RED, BLUE], "nothing"),
        ([RED, BLUE], [("circle", "green", 30, 40), BLUE], "the red circle turns green"),
        ([RED, BLUE], [("circle", "red", 40, 40), BLUE], "nothing"),  # moves only
        ([RED], [RED, ("star", "blue", 80, 60)], "the blue star comes in"),
        ([RED], [RED, ("star", "blue", 92, 60)], "nothing"),  # not wholly in yet
        ([RED, ("square", "blue", 82, 60)], [RED], "the blue square leaves"),
        ([RED, ("square", "blue", 60, 60)], [RED], "nothing"),  # hidden, not gone
        (
            [("square", "red", 20, 40), ("square", "blue", 70, 40)],
            [("square", "red", 50, 40), ("square", "blue", 70, 40)],
            "the red square bumps into the blue square",
        ),
    ],
)
def test_narration(before, after, said):
    assert say(picture(*before), picture(*after)) == said


def test_a_leaver_is_known_by_what_it_was_before_it_was_cut_off():
    ways = [("star", "blue", x, 60.0) for x in (70, 84, 95)]
    assert say(*(picture(RED, way) for way in ways), picture(RED)) == "the blue star leaves"


def test_description_action_and_verification():
    one, two = picture(RED, BLUE), picture(("circle", "red", 50, 40), BLUE)
    description = say(one, prompt=EVENT)
    assert description == "there is the blue star and the red circle"
    assert say(picture(), prompt=EVENT) == "nothing"
    assert say(one, two, prompt=ACTION) == "the red circle moves right"
    assert say(one, one, prompt=ACTION) == "nothing"
    assert say(one, prompt=verify(description)) == "yes"
    assert say(picture(RED), prompt=verify(description)) == "no"


def test_questions_whose_answer_changes():
    one, more = picture(RED), picture(RED, BLUE)
    assert say(one, more, one, prompt=QUESTION) == COUNT_QUESTION
    assert [say(frame, prompt=answer_to(COUNT_QUESTION)) for frame in (one, more)] == ["1", "2"]
    green = picture(("circle", "green", 30, 40))
    question = COLOUR_QUESTION.format(who="the circle")
    assert say(one, green, prompt=QUESTION) == question
    assert [say(frame, prompt=answer_to(question)) for frame in (one, green)] == ["red", "green"]
    assert say(one, one, prompt=QUESTION) == "nothing"
    with pytest.raises(ValueError, match="the rules answer"):
        say(one, prompt=answer_to("Why?"))


def test_shapes_and_colours_are_told_from_the_masks_of_both_worlds():
    """Of every object of which most is visible, the patch that lies over it is compared with the truth."""
    counts: Counter[str] = Counter()
    for world in ("plain", "rich"):
        clips = MiniRVOS("val", 0, 10, world=world)
        for index in range(10):
            clip = clips.clip(index, [0, 23])
            for t, frame in enumerate(clip.frame_indices):
                seen = see(clip.frames[t])
                for number, obj in enumerate(clip.scene.objects):
                    mask = clip.object_masks[number, t]
                    if mask.sum() < 40:
                        continue
                    colour = [obj.colour, *(r.colour for r in obj.repaints if r.frame <= frame)][-1]
                    over = [s for s in seen if (s.mask & mask).sum() > 0.5 * (s.mask | mask).sum()]
                    counts["objects"] += 1
                    counts["colour"] += bool(over) and over[0].colour == colour
                    counts["shape"] += bool(over) and over[0].shape == obj.shape
    assert counts["objects"] > 150
    assert counts["colour"] >= 0.97 * counts["objects"]
    assert counts["shape"] >= 0.94 * counts["objects"]


def test_what_happens_in_streams_is_narrated_in_time():
    """Sudden changes, comings, goings and contacts of MiniRVOS streams, told within a second."""
    streams = MiniStreams("val", 0, 6)
    captioner, times = RuleCaptioner(), np.arange(20.0)
    hits: Counter[bool] = Counter()
    told = 0
    for index in range(6):
        frames, truth = streams.stream(index, range(0, 80, 4)).frames, streams.truth(index)
        said = []
        for k in range(1, 20):
            window = slice(max(0, k - 3), k + 1)
            text = captioner.caption(frames[window], times[window], NARRATION)
            said += [(part, k) for part in text.split(" and ") if text != "nothing"]
        told += len(said)
        for happening in truth.happenings:
            if happening.kind in {"enter", "leave", "recolour", "touch"}:
                text, end_s = truth.caption(happening), happening.end / 4
                hits[any(part == text and abs(k - end_s) <= 1 for part, k in said)] += 1
    assert hits[True] >= 0.9 * hits.total() > 10
    assert told <= 2 * hits.total()  # fades are told, too, as the colour that they seem to have


def test_all_its_words_are_those_of_minirvos_streams():
    vocabulary = {*all_words(), *all_stream_words(), "is", "there"}
    texts = [
        say(picture(RED, BLUE), prompt=EVENT),
        say(picture(RED, BLUE), picture(("circle", "green", 30, 40), BLUE)),
        say(picture(RED), picture(("circle", "red", 50, 40)), prompt=ACTION),
        COUNT_QUESTION,
    ]
    assert {word for text in texts for word in re.findall(r"[a-z]+", text.lower())} <= vocabulary
