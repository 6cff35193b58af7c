"""Which segments a full window keeps."""

from __future__ import annotations

import pytest

from refstream.models.mllm.window import DialogueWindow

SINKS = [("system", 10), ("question", 5)]


def test_all_stay_while_there_is_room() -> None:
    window = DialogueWindow(max_tokens=100, reserve=10)
    segments = [*SINKS, *[("round", 10)] * 6]
    assert window.kept(segments, 15) == list(range(8))
    assert window.kept([], 90) == []


def test_the_oldest_half_of_the_rounds_leaves() -> None:
    window = DialogueWindow(max_tokens=100, reserve=10)
    segments = [*SINKS, *[("round", 10)] * 6]
    assert window.kept(segments, 16) == [0, 1, 5, 6, 7]
    assert window.kept([*SINKS, *[("round", 10)] * 5], 30) == [0, 1, 5, 6]
    # a question asked in between stays where it is
    middle = [("system", 10), ("round", 20), ("question", 5), ("round", 20), ("round", 20)]
    assert window.kept(middle, 16) == [0, 2, 4]


def test_halves_until_it_fits() -> None:
    window = DialogueWindow(max_tokens=100, reserve=0)
    segments = [("system", 10), *[("round", 10)] * 8]
    assert window.kept(segments, 70) == [0, 7, 8]
    assert window.kept(segments, 80) == [0, 8]
    assert window.kept(segments, 90) == [0]
    one = [("system", 10), ("round", 80)]
    assert window.kept(one, 11) == [0]


def test_what_is_kept_can_be_chosen() -> None:
    window = DialogueWindow(max_tokens=100, reserve=0, keep=["system"])  # type: ignore[arg-type]
    assert window.keep == ("system",)
    assert window.kept([*SINKS, ("round", 80)], 10) == [0, 2]


def test_wrong_use_is_explained() -> None:
    window = DialogueWindow(max_tokens=100, reserve=10)
    with pytest.raises(ValueError, match="76 tokens with 10 for its answer does not fit beside"):
        window.kept([*SINKS, ("round", 1)], 76)
    with pytest.raises(ValueError, match="max_tokens > reserve"):
        DialogueWindow(max_tokens=10, reserve=10)
    with pytest.raises(ValueError, match="list of kinds"):
        DialogueWindow(max_tokens=100, keep="system")  # type: ignore[arg-type]
