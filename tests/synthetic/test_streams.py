"""MiniRVOS streams: what is said to happen is seen in the pixels, when it is said to."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest

from refstream.synthetic.scene import COLOURS, SHAPES, allowed_pairs
from refstream.synthetic.shapes import boxes
from refstream.synthetic.streams import MiniStreams
from refstream.synthetic.streams_happenings import KINDS
from refstream.synthetic.streams_paths import meet
from tests.synthetic.reading import MIN_PIXELS

SENTENCE = r"the (\w+) (\w+) (comes in|leaves|turns|fades to|bumps into|moves) ?(.*)"


@pytest.fixture(scope="module")
def streams():
    """Fully rendered streams of all splits, some of them wide or at other rates."""
    made = [MiniStreams("train", seed=7, num_streams=8)[i] for i in range(8)]
    made += [MiniStreams("val", seed=8, num_streams=4, fps=5.0, duration_s=24.0)[i] for i in range(4)]
    made += [MiniStreams("test", seed=9, num_streams=4, size=(96, 160), fps=4.0)[i] for i in range(4)]
    return made


@pytest.fixture(scope="module")
def truths():
    """Many streams that are not rendered."""
    data = [MiniStreams(split, seed=3, num_streams=40) for split in ("train", "val", "test")]
    return [(d, i, d.truth(i)) for d in data for i in range(40)]


def test_equal_seeds_are_equal_streams_and_frames_are_those_of_the_whole():
    one, two = MiniStreams("val", 5, 3), MiniStreams("val", 5, 9)
    whole, some = one[2], two.stream(2, [16, 0, 79])
    assert whole.frames.shape == (80, 128, 128, 3)
    assert whole.frames.dtype == np.uint8
    assert whole.object_masks.shape == (len(whole.scene.objects), 80, 128, 128)
    assert np.array_equal(some.frames, whole.frames[[16, 0, 79]])
    assert np.array_equal(some.object_masks, whole.object_masks[:, [16, 0, 79]])
    assert some.times.tolist() == [4.0, 0.0, 19.75]
    assert some.records == whole.records == two.records(2)
    assert some.happenings == whole.happenings
    assert whole.duration_s == 20.0
    others = [MiniStreams("test", 5, 3), MiniStreams("val", 6, 3)]
    assert all(not np.array_equal(whole.frames[0], other.stream(2, [0]).frames[0]) for other in others)
    assert one.stream(0, []).frames.shape == (0, 128, 128, 3)
    with pytest.raises(ValueError, match="all 80 frames"):
        some.all_frames()


def test_families_are_chosen_without_changing_the_others():
    chosen = MiniStreams("train", 1, 5, families=["past", "count"])
    every = MiniStreams("train", 1, 5)
    for index in range(5):
        wanted = [r for r in every.records(index) if r.id.split("/")[1] in ("past", "count")]
        assert chosen.records(index) == wanted


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "all"}, "split must be"),
        ({"split": "train", "duration_s": 5.0}, "at least 10 s"),
        ({"split": "train", "fps": 1.0}, "at least 10 s at 2 frames"),
        ({"split": "train", "families": ["news"]}, "non-empty subset"),
        ({"split": "train", "size": 16}, "32 x 32"),
        ({"split": "train", "ask_late": 2.0}, "ask_late"),
        ({"split": "train", "num_streams": 0}, "num_streams >= 1"),
    ],
)
def test_impossible_streams_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MiniStreams(**options)


def test_indices_outside_are_refused():
    data = MiniStreams("train", num_streams=2)
    with pytest.raises(IndexError, match="stream 2"):
        data.stream(2)
    with pytest.raises(IndexError, match="frames of a stream"):
        data.stream(0, [80])


def test_all_kinds_of_things_happen_and_to_lookalikes(truths):
    count = {kind: sum(h.kind == kind for _, _, t in truths for h in t.happenings) for kind in KINDS}
    assert min(count.values()) >= 40, count
    assert min(len(t.happenings) for _, _, t in truths) >= 4
    alike = sum(
        a.kind == b.kind and a.object_id != b.object_id
        for _, _, t in truths
        for i, a in enumerate(t.happenings)
        for b in t.happenings[:i]
    )
    assert alike >= 60, "the same happens to others"
    shapes = [[o.shape for o in t.scene.objects] for _, _, t in truths]
    assert all(len(set(names)) < len(names) for names in shapes), "somebody is of the same shape"


def test_looks_belong_to_one_object_and_to_the_split(truths):
    for data, _, truth in truths:
        owner: dict[tuple[str, str], int] = {}
        for i, obj in enumerate(truth.scene.objects):
            for colour in obj.colours:
                assert (obj.shape, colour) in allowed_pairs(data.split)
                assert owner.setdefault((obj.shape, colour), i) == i


def test_times_can_be_told_from_one_frame_a_second(truths):
    for data, _, truth in truths:
        ends = [h.end for h in truth.happenings]
        assert ends == sorted(ends)
        assert all(b - a > data.fps for a, b in pairwise(ends))
        assert ends[-1] / data.fps <= data.duration_s - 1.5
        for h in truth.happenings:
            assert h.start <= h.end
            if h.kind != "recolour":
                assert h.start / data.fps == h.start // data.fps, "what takes time shows at a whole second"
                assert h.end - h.start >= data.fps / 2


def test_nobody_overlaps_and_only_who_touches_meets(truths):
    for _, _, truth in truths:
        objects = truth.scene.objects
        touches = {(h.object_id, h.other_id): h for h in truth.happenings if h.kind == "touch"}
        for i, a in enumerate(objects):
            for j, b in enumerate(objects[:i]):
                near = np.sqrt(((a.centres - b.centres) ** 2).sum(-1)) - a.radius - b.radius
                if not ((near < 0.03) & (a.centres > -1).all(-1)).any():  # not there yet: at -2
                    continue
                assert (i, j) in touches or (j, i) in touches, (i, j)
                for h in (touches.get((i, j)), touches.get((j, i))):
                    if h is None:
                        continue
                    for frame in range(h.start, h.end):
                        one, other = ((o.shape, o.radius, o.centres[frame]) for o in (objects[i], objects[j]))
                        assert not meet(one, other), "before the touch they are apart"
                    mover, still = objects[h.object_id], objects[h.other_id]
                    grown = (mover.shape, mover.radius * 1.1, mover.centres[h.end])
                    assert meet(grown, (still.shape, still.radius, still.centres[h.end]))


def test_what_happens_is_seen_in_the_pixels(streams):
    seen = dict.fromkeys(KINDS, 0)
    for stream in streams:
        area = stream.object_masks.sum((2, 3))
        second = int(np.ceil(stream.fps))
        for h in stream.happenings:
            seen[h.kind] += 1
            after = slice(h.end, h.end + second + 1)
            own = area[h.object_id]
            if h.kind == "enter":
                assert 0 < own[h.start] < own[h.end]
                assert own[h.end] >= 0.85 * own[h.end + 1 : h.end + second].max()
                assert [_whole(stream, h.object_id, f) for f in (h.end - 1, h.end)] == [False, True]
                assert _touches_border(stream, h.object_id, h.start)
                assert own[max(0, h.start - 2 * second)] < own[h.start]
            elif h.kind == "leave":
                assert (own[after] == 0).all()
                assert own[h.end - 3] > 0
                assert 0 < own[h.start] < own.max()
            elif h.kind in ("recolour", "fade"):
                assert _colour(stream, h.object_id, h.start - 1) == h.colour
                assert all(_colour(stream, h.object_id, f) == h.value for f in range(after.start, after.stop))
                before, first = (_mean(stream, h.object_id, f) for f in (h.start - 1, h.start))
                assert np.abs(first - before).max() > 8, "the first frame shows it"
                if h.kind == "fade":
                    steps = [_mean(stream, h.object_id, f) for f in range(h.start - 1, h.end + 1)]
                    jumps = [np.abs(b - a).max() for a, b in pairwise(steps)]
                    assert max(jumps) < 0.6 * np.abs(steps[-1] - steps[0]).max(), "it is gradual"
            elif h.kind == "move":
                way = _centre(stream, h.object_id, h.end) - _centre(stream, h.object_id, h.start - second)
                axis, sign = {"left": (0, -1), "right": (0, 1), "up": (1, -1), "down": (1, 1)}[h.value]
                assert sign * way[axis] > 0.15 * min(stream.frames.shape[1:3])
                assert abs(way[1 - axis]) < 1.5
                rest = stream.object_masks[h.object_id, h.end - second : h.end + 1]
                assert (rest == rest[0]).all(), "it has stood still for a second"
            else:
                gaps = [_gap(stream, h, f) for f in range(h.start, h.end + second + 1)]
                assert max(gaps[h.end - h.start :]) <= 2.0, "in contact, and still a second later"
                assert gaps[0] > 2.5
    assert min(seen.values()) >= 5, seen


def test_the_events_of_the_scene_agree(streams):
    for stream in streams:
        area = stream.object_masks.sum((2, 3))
        for event in stream.scene.events:
            own = area[event.object_ids[0]]
            if event.kind == "enter":
                assert own[event.frame - 1] == 0
                assert own[event.frame : event.frame + 3].max() > 0
            elif event.kind == "leave":
                assert own[event.frame] == 0
                assert own[event.frame - 3] > 0, "a thin tip may cover no pixel in the last frames"
        kinds = {event.kind for event in stream.scene.events}
        assert kinds <= {"enter", "leave", "recolour", "touch", "stop"}


def test_narrations_tell_all_and_truly(streams):
    """Each sentence is read again, word by word, and held against the pixels."""
    told = 0
    for stream in streams:
        record = next(r for r in stream.records if r.task == "narration")
        after = record.asks[0].time_s
        assert [a.end_s for a in record.answers] == [
            h.end / stream.fps for h in stream.happenings if h.start / stream.fps >= after
        ]
        for answer in record.answers:
            match = re.fullmatch(
                r"the (\w+) (\w+) (comes in|leaves|turns|fades to|bumps into|moves) ?(.*)", answer.text
            )
            assert match, answer.text
            colour, shape, verb, rest = match.groups()
            assert colour in COLOURS
            assert shape in SHAPES
            frame = round(answer.end_s * stream.fps)
            found = [
                i
                for i, obj in enumerate(stream.scene.objects)
                if obj.shape == shape and colour in _recent(stream, i, frame)
            ]
            assert len(found) == 1, (answer.text, found)
            if verb in ("turns", "fades to"):
                assert _colour(stream, found[0], frame) == rest
            elif verb == "bumps into":
                _, other_colour, other_shape = rest.split()
                others = [
                    i
                    for i, obj in enumerate(stream.scene.objects)
                    if obj.shape == other_shape and _colour(stream, i, frame) == other_colour
                ]
                assert len(others) == 1
            told += 1
    assert told > 40


def _recent(stream, index, frame):
    """The colours that an object shows in the last seconds up to a frame."""
    first = max(0, frame - round(5 * stream.fps))
    return {_colour(stream, index, f) for f in range(first, frame + 1)}


def _mean(stream, index, frame):
    mask = stream.object_masks[index, frame]
    pixels = stream.frames[frame][mask].astype(float)
    return pixels[pixels.sum(1) >= np.quantile(pixels.sum(1), 0.7)].mean(0)  # its lighter parts


def _colour(stream, index, frame):
    """The name of a pure colour; None for a mixed one, or hardly any pixels."""
    if stream.object_masks[index, frame].sum() < MIN_PIXELS:
        return None
    shown = _mean(stream, index, frame)
    names = list(COLOURS)
    away = [float(np.abs(shown - np.array(COLOURS[name])).max()) for name in names]
    best = int(np.argmin(away))
    return names[best] if away[best] < 45 else None


def _centre(stream, index, frame):
    rows, columns = np.nonzero(stream.object_masks[index, frame])
    return np.array([columns.mean(), rows.mean()])


def _touches_border(stream, index, frame):
    mask = stream.object_masks[index, frame]
    return bool(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())


def _whole(stream, index, frame):
    """Whether the box of a shape lies in the picture."""
    obj = stream.scene.objects[index]
    box = boxes(obj.shape, obj.radius, obj.centres[frame])
    return bool((box >= 0).all() and box[2] <= stream.scene.width and box[3] <= stream.scene.height)


def _gap(stream, happening, frame):
    """Pixels between two objects: the least distance of their points."""
    a, b = (np.argwhere(stream.object_masks[i, frame]) for i in (happening.object_id, happening.other_id))
    return float(np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1).min()))


def test_boxes_stay_in_the_picture_but_for_who_comes_and_goes(truths):
    for _, _, truth in truths:
        busy = {h.object_id for h in truth.happenings if h.kind in ("enter", "leave")}
        for i, obj in enumerate(truth.scene.objects):
            around = boxes(obj.shape, obj.radius, obj.centres)
            whole = (around[:, :2] >= -1e-6).all() and (around[:, 2:] <= 1 + 1e-6).all()
            gone = (obj.centres == -2.0).all()
            assert whole or gone or i in busy
