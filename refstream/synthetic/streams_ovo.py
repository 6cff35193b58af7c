"""Questions of OVO-Bench's tasks about MiniRVOS streams; see ``stream_writers`` for what each task asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from refstream.synthetic import streams_words as words
from refstream.synthetic.expressions import DIRECTIONS, EXTREME_MARGIN
from refstream.synthetic.scene import COLOURS, SHAPES
from refstream.synthetic.streams_happenings import KINDS, Happening
from refstream.synthetic.streams_truth import StreamTruth, quiet_time
from refstream.synthetic.streams_words import Told, caption, pick

UNABLE = "Unable to answer"
NUM_OPTIONS = 4
_STEPS_KINDS = ("enter", "leave", "fade", "touch")
_NEXT_KINDS = ("enter", "leave", "fade", "touch", "recolour")
_SIDES = {"left": "left", "right": "right", "up": "top", "down": "bottom"}
_DOING = {"enter": "it comes in", "leave": "it leaves", "fade": "it fades to another colour"}
_NOTHING = "it does nothing"
_NUM_POINTS = 5
_AFTER_CLUE_S = 1.0  # between the later points of CRR

Row = dict[str, Any]


def ovo_record(task: str, truth: StreamTruth, rng: np.random.Generator) -> Row | None:
    """What a record of a task says besides id, task and video; None if the stream cannot show the task.

    Args:
        task: One of ``OVO_TASKS``.
        truth: Of the stream.
        rng: The only source of randomness.
    """
    return _WAYS[task](truth, rng)


# ---------------------------------------------------------------- multiple choice


def _choice(
    rng: np.random.Generator, realtime: float, question: str, answer: str, others: Sequence[str]
) -> Row | None:
    """A question with the answer among others, in random order; None if there are no others."""
    wrong = [other for other in dict.fromkeys(others) if other != answer]
    if not wrong:
        return None
    chosen = [wrong[int(i)] for i in rng.permutation(len(wrong))[: NUM_OPTIONS - 1]]
    index = int(rng.integers(len(chosen) + 1))
    options = [*chosen[:index], answer, *chosen[index:]]
    return {
        "realtime": realtime,
        "question": f"{question}?",
        "answer": answer,
        "options": options,
        "gt": index,
    }


def _late(truth: StreamTruth, rng: np.random.Generator) -> float:
    """A quiet time in the later part of the stream; 0.0 if there is none."""
    return quiet_time(truth, rng, 0.3 * truth.duration_s, truth.duration_s - 1.0)


def _first(truth: StreamTruth, rng: np.random.Generator) -> Row | None:
    """EPM."""
    time_s = _late(truth, rng)
    frame = truth.frame_at(time_s)
    options = [
        (name, obj.colour)
        for index, obj in enumerate(truth.scene.objects)
        if truth.inside_at_first(index) and truth.colour(index, frame) != obj.colour
        for name in truth.names(index, 0, frame)
    ]
    if not time_s:
        return None
    if options:
        name, colour = options[int(rng.integers(len(options)))]
        return _choice(rng, time_s, words.COLOUR_FIRST[0].format(who=name), colour, list(COLOURS))
    count = truth.count(0)
    near = [str(n) for n in range(max(0, count - 2), count + 3)]
    return _choice(rng, time_s, words.COUNT_FIRST[0], str(count), near)


def _order(truth: StreamTruth, rng: np.random.Generator) -> Row | None:
    """ASI."""
    captions = [truth.caption(h) for h in truth.happenings]
    fitting = [
        i
        for i in range(1, len(captions))
        if truth.happenings[i].start > truth.happenings[i - 1].end
        and captions.count(captions[i]) == 1
        and captions.count(captions[i - 1]) == 1
    ]
    if not fitting:
        return None
    i = fitting[int(rng.integers(len(fitting)))]
    over = truth.seconds(truth.happenings[i].end)
    realtime = round(min(over + 0.5, truth.duration_s - 1 / truth.fps), 3)
    said = captions[:i] + captions[i + 1 :]
    question = words.LAST_BEFORE.format(after=captions[i])
    return _choice(rng, realtime, question, captions[i - 1], [*said, *_untrue(truth)])


def _untrue(truth: StreamTruth) -> list[str]:
    """Captions of comings and goings that never happen."""
    found = []
    for index in range(len(truth.scene.objects)):
        for kind in ("enter", "leave"):
            if not any(h.object_id == index and h.kind == kind for h in truth.happenings):
                found.append(caption(Told(kind, truth.full_name(index, 0))))
    return found


def _nobody(truth: StreamTruth, rng: np.random.Generator) -> Row | None:
    """HLD."""
    time_s = _late(truth, rng)
    absent = [shape for shape in SHAPES if all(shape != obj.shape for obj in truth.scene.objects)]
    if not time_s or not absent:
        return None
    question = words.COLOUR_FIRST[0].format(who=f"the {pick(absent, rng)}")
    return _choice(rng, time_s, question, UNABLE, list(COLOURS))


def _colour(truth: StreamTruth, rng: np.random.Generator) -> Row | None:
    """ATR."""
    time_s = _late(truth, rng)
    frame = truth.frame_at(time_s)
    options = [
        (name, truth.colour(index, frame))
        for index in range(len(truth.scene.objects))
        if truth.inside(index, frame)
        for name in truth.names(index, frame, frame)
        if truth.colour(index, frame) not in name.split()
    ]
    if not time_s or not options:
        return None
    name, colour = options[int(rng.integers(len(options)))]
    return _choice(rng, time_s, words.COLOUR_NOW[0].format(who=name), colour, list(COLOURS))


def _doing(truth: StreamTruth, rng: np.random.Generator) -> Row | None:
    """ACR: asked in the middle of what takes time, of a mover while it moves."""
    fitting = [h for h in truth.happenings if h.kind in ("enter", "leave", "fade", "move")]
    if not fitting:
        return None
    h = fitting[int(rng.integers(len(fitting)))]
    last = h.end - (round(truth.fps) if h.kind == "move" else 0)
    middle = (h.start + last) // 2
    name = truth.full_name(h.object_id, middle)
    if h.kind == "move":
        answer = caption(Told("move", "it", value=h.value))
        others = [caption(Told("move", "it", value=direction)) for direction in DIRECTIONS]
    else:
        answer, others = _DOING[h.kind], [*_DOING.values(), _NOTHING]
    return _choice(rng, truth.seconds(middle), words.WHAT_NOW.format(who=name), answer, others)


def _place(truth: StreamTruth, rng: np.random.Generator) -> Row | None:
    """STU."""
    time_s = _late(truth, rng)
    frame = truth.frame_at(time_s)
    present = [i for i in range(len(truth.scene.objects)) if truth.inside(i, frame)]
    if not time_s or len(present) < 2:
        return None
    for number in rng.permutation(len(_SIDES)):
        direction = list(_SIDES)[int(number)]
        axis, sign = DIRECTIONS[direction]
        place = [sign * float(truth.scene.objects[i].centres[frame, axis]) for i in present]
        order = np.argsort(place)
        if place[order[-1]] - place[order[-2]] >= EXTREME_MARGIN:
            names = [truth.full_name(i, frame) for i in present]
            question = words.WHERE_NOW.format(value=_SIDES[direction])
            return _choice(rng, time_s, question, names[int(order[-1])], names)
    return None


# ---------------------------------------------------------------- what is asked again and again


def _times(truth: StreamTruth, rng: np.random.Generator, wanted: Sequence[float]) -> list[float]:
    """These times and some others, in order, within the stream."""
    last = truth.duration_s - 1 / truth.fps
    others = np.round(rng.uniform(0, last, _NUM_POINTS), 2).tolist()
    return sorted({round(t, 3) for t in [*wanted, *others] if 0 <= t <= last})


def _repeated(truth: StreamTruth, rng: np.random.Generator) -> Row | None:
    """REC."""
    by_kind: dict[str, list[Happening]] = {
        kind: [h for h in truth.happenings if h.kind == kind] for kind in KINDS
    }
    most = max(len(found) for found in by_kind.values())
    kind = pick([kind for kind, found in by_kind.items() if len(found) == most], rng)
    ends = [truth.seconds(h.end) for h in by_kind[kind]]
    return {
        "activity": words.ANY_SHAPE[kind][1],
        "start_times": [truth.seconds(h.start) for h in by_kind[kind]],
        "end_times": ends,
        "test_info": [
            {"realtime": t, "count": sum(end <= t for end in ends)} for t in _times(truth, rng, ends)
        ],
    }


def _steps(truth: StreamTruth, rng: np.random.Generator) -> Row | None:
    """SSR: things that take time, each told once."""
    captions = [truth.caption(h) for h in truth.happenings]
    steps = [
        (text, truth.seconds(h.start), truth.seconds(h.end))
        for text, h in zip(captions, truth.happenings, strict=True)
        if h.kind in _STEPS_KINDS and captions.count(text) == 1
    ]
    if not steps:
        return None
    points = []
    for text, start, end in steps:
        inside = round(start + (end - start) * float(rng.random()), 2)
        for t in _times(truth, rng, [start, inside, end]):
            points.append({"realtime": t, "step": text, "type": int(start <= t <= end)})
    return {
        "tutorial": "Shapes in motion",
        "all_steps": [text for text, _, _ in steps],
        "start_time": [start for _, start, _ in steps],
        "end_time": [end for _, _, end in steps],
        "test_info": sorted(points, key=lambda point: float(str(point["realtime"]))),
    }


def _next(truth: StreamTruth, rng: np.random.Generator) -> Row | None:
    """CRR."""
    ask = quiet_time(truth, rng, 0.5, 0.6 * truth.duration_s)
    later: list[Happening] = []
    for kind in _NEXT_KINDS:
        later += truth.after(ask, [kind])[:1]
    if not ask or not later:
        return None
    h = later[int(rng.integers(len(later)))]
    clue = truth.seconds(h.end)
    before = np.round(rng.uniform(ask, clue, 2), 2).tolist()
    wanted = [ask, *before, clue, clue + _AFTER_CLUE_S, clue + 2 * _AFTER_CLUE_S]
    last = truth.duration_s - 1 / truth.fps
    return {
        "question": words.WHICH_NEXT.format(verb=words.ANY_SHAPE[h.kind][1]) + "?",
        "answer": truth.told(h).who,
        "ask_time": ask,
        "clue_time": clue,
        "test_info": [{"realtime": t, "type": int(t >= clue)} for t in sorted(set(wanted)) if t <= last],
    }


_WAYS: dict[str, Callable[[StreamTruth, np.random.Generator], Row | None]] = {
    "EPM": _first,
    "ASI": _order,
    "HLD": _nobody,
    "ATR": _colour,
    "ACR": _doing,
    "STU": _place,
    "REC": _repeated,
    "SSR": _steps,
    "CRR": _next,
}
OVO_TASKS = tuple(_WAYS)
"""Those that can be written."""
