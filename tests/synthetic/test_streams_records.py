"""What is asked and answered about streams is true by a second, slow reading of the trajectories."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest

from refstream.models.mllm.tokenizer import build_tiny_tokenizer
from refstream.synthetic.scene import COLOURS, SHAPES
from refstream.synthetic.shapes import boxes
from refstream.synthetic.streams import MiniStreams
from refstream.synthetic.streams_records import FAMILIES, TASKS
from refstream.synthetic.streams_words import all_stream_words
from refstream.synthetic.words import all_words


@pytest.fixture(scope="module")
def asked():
    """(truth, family, record) of many streams."""
    found = []
    for split in ("train", "test"):
        data = MiniStreams(split, seed=4, num_streams=60)
        for index in range(60):
            truth = data.truth(index)
            found += [(truth, r.id.split("/")[1], r) for r in data.records(index)]
    return found


def of(asked, family):
    found = [(truth, record) for truth, name, record in asked if name == family]
    assert len(found) >= 40, family
    return found


def test_every_family_is_asked_and_every_task_named(asked):
    assert {family for _, family, _ in asked} == set(FAMILIES)
    assert {record.task for _, _, record in asked} == set(TASKS)
    ids = [record.id for _, _, record in asked]
    assert len(set(ids)) == len(ids)


def test_questions_come_while_nothing_goes_on_and_some_in_mid_stream(asked):
    times = [ask.time_s for _, _, record in asked for ask in record.asks]
    assert 0.3 < np.mean([t > 0 for t in times]) < 0.8
    for truth, _, record in asked:
        for ask in record.asks:
            for h in truth.happenings if ask.time_s else ():
                start, end = h.start / truth.fps, h.end / truth.fps
                assert not start < ask.time_s < end
                assert not ask.time_s < end <= ask.time_s + 1, "it can still be answered a second later"
        for answer in record.answers:
            assert answer.end_s >= record.asks[answer.ask].time_s
            assert answer.end_s <= record.duration_s - 1


def test_event_captions_tell_one_kind_and_all_of_it(asked):
    starts = {"comes in": "enter", "leaves": "leave", "fades": "fade", "bumps": "touch"}
    never = distracted = 0
    for truth, record in of(asked, "event_caption"):
        (ask,) = record.asks
        (kind,) = (kind for words, kind in starts.items() if words in ask.text)
        wanted = [h for h in truth.happenings if h.kind == kind and h.start / truth.fps >= ask.time_s]
        assert [(a.start_s, a.end_s) for a in record.answers] == [
            (h.start / truth.fps, h.end / truth.fps) for h in wanted
        ]
        assert all(starts[next(w for w in starts if w in a.text)] == kind for a in record.answers)
        never += not wanted
        distracted += any(h.kind != kind and h.start / truth.fps >= ask.time_s for h in truth.happenings)
    assert 3 <= never <= 40
    assert distracted >= 90, "other things happen meanwhile"


def test_action_captions_follow_one_object(asked):
    for truth, record in of(asked, "action_caption"):
        (ask,) = record.asks
        index = _named(truth, ask.text, round(ask.time_s * truth.fps))
        wanted = [
            h
            for h in truth.happenings
            if h.object_id == index
            and h.kind in ("enter", "leave", "move", "touch")
            and h.start / truth.fps >= ask.time_s
        ]
        assert [a.end_s for a in record.answers] == [h.end / truth.fps for h in wanted]
        assert record.answers
        assert all(truth.scene.objects[index].shape in answer.text for answer in record.answers)


def test_groundings_give_the_seconds(asked):
    verbs = {"come in": "enter", "leave": "leave", "fade to": "fade", "bump into": "touch"}
    for truth, record in of(asked, "event_grounding"):
        (ask,), (answer,) = record.asks, record.answers
        start, end = (int(v) for v in re.fullmatch(r"<(\d+)s-(\d+)s>", answer.text).groups())
        assert start <= answer.start_s < start + 1
        assert end - 1 < answer.end_s <= end
        (words,) = (words for words in verbs if words in ask.text)
        index = _named(truth, ask.text.split(words)[0], round(ask.time_s * truth.fps))
        same = [h for h in truth.happenings if (h.kind, h.object_id) == (verbs[words], index)]
        assert [(h.start / truth.fps, h.end / truth.fps) for h in same] == [(answer.start_s, answer.end_s)]
        if words == "bump into":
            whom = ask.text.split(words)[1]
            assert _named(truth, whom, same[0].end) == same[0].other_id
        if words == "fade to":
            assert truth.scene.objects[index].rgb_at(same[0].end) != truth.scene.objects[index].rgb_at(0)


def test_counts_are_those_of_the_boxes_in_the_picture(asked):
    for truth, record in of(asked, "count"):
        (ask,) = record.asks
        assert record.answers[0].end_s == ask.time_s, "answered at once"
        changes = [h for h in truth.happenings if h.kind in ("enter", "leave")]
        assert [a.end_s for a in record.answers[1:]] == [
            h.end / truth.fps for h in changes if h.start / truth.fps >= ask.time_s
        ]
        for answer in record.answers:
            assert int(answer.text) == _count(truth, round(answer.end_s * truth.fps - 0.5 + 1e-6))


def test_colours_are_those_that_are_painted(asked):
    for truth, record in of(asked, "colour"):
        (ask,) = record.asks
        index = _named(truth, ask.text, 0)
        said = [answer.text for answer in record.answers]
        assert len(said) >= 2
        assert all(a != b for a, b in pairwise(said))
        for answer in record.answers:
            frame = int(answer.end_s * truth.fps + 1e-6)
            assert _painted(truth, index, frame) == answer.text


def test_what_was_is_told_truly(asked):
    kinds = {
        "come in": "enter",
        "left": "leave",
        "leave": "leave",
        "fade": "fade",
        "at once": "recolour",
        "bump": "touch",
    }
    seen = dict.fromkeys(("colour", "count", "yes", "no"), 0)
    pairs = [(truth, record, 0) for truth, record in of(asked, "past")]
    pairs += [(truth, record, 1) for truth, record in of(asked, "interleaved")]
    for truth, record, number in pairs:
        ask = record.asks[number]
        (answer,) = (a for a in record.answers if a.ask == number)
        assert answer.end_s == ask.time_s > 0
        if "colour was" in ask.text or "which colour" in ask.text:
            index = _named(truth, ask.text.replace("at first", ""), 0)
            assert answer.text == _painted(truth, index, 0)
            assert answer.text != _painted(truth, index, int(ask.time_s * truth.fps)), "it has changed"
            assert answer.text not in ask.text
            seen["colour"] += 1
        elif "how many" in ask.text:
            assert int(answer.text) == _count(truth, 0)
            seen["count"] += 1
        else:
            kind = next(kind for words, kind in kinds.items() if words in ask.text)
            ever = any(h.kind == kind and h.end / truth.fps <= ask.time_s for h in truth.happenings)
            assert answer.text == ("yes" if ever else "no")
            seen[answer.text] += 1
    assert min(seen.values()) >= 10, seen


def test_interleaved_questions_keep_the_standing_one(asked):
    for truth, record in of(asked, "interleaved"):
        assert [a.end_s for a in record.answers if a.ask == 0] == [
            h.end / truth.fps for h in truth.happenings
        ]


def test_all_words_are_listed_after_the_old_ones(asked):
    new = all_stream_words()
    assert not set(new) & set(all_words())
    assert new == sorted(set(new))
    known = {*all_words(), *new}
    texts = [ask.text for _, _, r in asked for ask in r.asks] + [
        a.text for _, _, r in asked for a in r.answers
    ]
    said = {word for text in texts for word in text.split()}
    strange = {w for w in said - known if not re.fullmatch(r"\d+|<\d+s-\d+s>", w)}
    assert not strange
    assert set(new) - said <= {"do", "happened", "just", "next"}, "all but those of multiple choice are said"


def test_old_token_numbers_stay(asked):
    old, new = (build_tiny_tokenizer(words) for words in (all_words(), [*all_words(), *all_stream_words()]))
    words = [f" {word}" for word in all_words()]
    assert [old(w).input_ids for w in words] == [new(w).input_ids for w in words]
    for _, _, record in asked[:40]:
        for text in (ask.text for ask in record.asks):
            assert len(new(text).input_ids) == len(text.split())


def _named(truth, text, frame):
    """The object that the words mean: by shape, and by size or colour if these are said."""
    (shape,) = (word for word in text.split() if word in SHAPES)
    sizes = [word for word in text.split() if word in ("small", "large")]
    colours = [word for word in text.replace(f"to {text.split()[-1]}", "").split() if word in COLOURS]
    found = [
        i
        for i, obj in enumerate(truth.scene.objects)
        if obj.shape == shape
        and (not sizes or obj.size == sizes[0])
        and (not colours or _painted(truth, i, frame) == colours[0])
    ]
    assert len(found) == 1, (text, found)
    return found[0]


def _painted(truth, index, frame):
    """The name of the colour that is drawn; None in the middle of a fade."""
    shown = np.array(truth.scene.objects[index].rgb_at(frame))
    away = {name: np.abs(shown - np.array(rgb)).max() for name, rgb in COLOURS.items()}
    name = min(away, key=away.get)
    return name if away[name] <= 9 else None


def _count(truth, frame):
    """How many boxes lie more than half in the picture."""
    total = 0
    for obj in truth.scene.objects:
        box = boxes(obj.shape, obj.radius, obj.centres[frame])
        low, high = np.maximum(box[:2], 0), np.minimum(box[2:], [truth.scene.width, truth.scene.height])
        total += float(np.clip(high - low, 0, None).prod() / (box[2:] - box[:2]).prod()) > 0.5
    return total
