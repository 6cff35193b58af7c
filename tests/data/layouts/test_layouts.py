"""The table of layouts: what it refuses, and that MiniRVOS itself goes through every layout."""

from __future__ import annotations

import argparse
import pickle

import numpy as np
import pytest

from refstream.cli import arguments, data_arguments
from refstream.data.layouts import LAYOUTS, write_layout
from refstream.data.pickles import dump_plain_pickle, load_plain_pickle
from refstream.errors import UserError
from refstream.synthetic.minirvos import MiniRVOS, SyntheticClip

WORLDS = ("plain", "rich")
SINGLE = {"no target", "several targets"}
LEFT_OUT = {
    "mevis": set(),
    "revos": set(),
    "ref_davis17": SINGLE | {"target not in the first frame", "more than four sentences for an object"},
    "ref_youtube_vos": SINGLE,
    "refcoco": SINGLE | {"target not visible"},
    "refcoco+": SINGLE | {"target not visible", "family relation"},
    "refcocog": SINGLE | {"target not visible"},
}
EVERY = [(name, split) for name, layout in LAYOUTS.items() for split in layout.splits]


class Drawn:
    """Two clips and two stills of MiniRVOS, rendered once."""

    def __init__(self, world: str) -> None:
        data = MiniRVOS("val", num_clips=2, num_frames=8, size=48, world=world)
        self.split = data.split
        self.clips = [data[i] for i in range(2)]
        self.stills = [data.still(i) for i in range(2)]

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> SyntheticClip:
        return self.clips[index]

    def still(self, index: int) -> SyntheticClip:
        return self.stills[index]


@pytest.fixture(scope="module")
def worlds() -> dict[str, Drawn]:
    return {world: Drawn(world) for world in WORLDS}


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize(("name", "split"), EVERY)
def test_minirvos_in_every_layout(tmp_path, worlds, world, name, split):
    source, layout, steps = worlds[world], LAYOUTS[name], []
    report = write_layout(name, source, tmp_path, split=split, progress=lambda: steps.append(1))
    assert (report.layout, report.split, report.root) == (name, split, tmp_path)
    assert len(steps) == len(source) >= report.clips >= 1
    said = [e for clip in (source.stills if layout.stills else source.clips) for e in clip.expressions]
    assert set(report.left_out) <= LEFT_OUT[name]
    assert report.left_out.get("no target", 0) in (0, sum(not e.object_ids for e in said))
    if name != "ref_davis17":  # which repeats sentences
        assert report.expressions + sum(report.left_out.values()) == len(said)
    with pytest.raises(UserError, match="another folder or split"):
        write_layout(name, source, tmp_path, split=split)


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_split_of_minirvos_has_a_place(name):
    assert set(LAYOUTS[name].default) == {"train", "val", "test"}
    assert set(LAYOUTS[name].default.values()) <= set(LAYOUTS[name].splits)


def test_unknown_names_are_refused(tmp_path, source):
    with pytest.raises(UserError, match=r"one of mevis, .*; got 'coco'"):
        write_layout("coco", source, tmp_path)
    with pytest.raises(UserError, match=r"splits of revos are train, valid; got 'test'"):
        write_layout("revos", source, tmp_path, split="test")
    assert not list(tmp_path.iterdir())


def test_the_command_offers_every_layout():
    parser = argparse.ArgumentParser()
    arguments.data(parser)
    for layout in LAYOUTS:
        assert parser.parse_args(["minirvos", "--out", "x", "--layout", layout]).layout == layout
    assert list(data_arguments.LAYOUTS) == list(LAYOUTS)


def test_an_interrupted_split_is_written_again(tmp_path, source):
    """The index comes last: without it the split is not there."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    for name in LAYOUTS:
        with pytest.raises(KeyboardInterrupt):
            write_layout(name, source, tmp_path / name, progress=interrupt)
        assert write_layout(name, source, tmp_path / name).clips >= 2


def test_plain_pickles(tmp_path):
    content = {"a": [None, True, 1, 1.5, "ä"], 2: ({"b": ()},)}
    dump_plain_pickle(tmp_path / "new" / "a.pkl", content)
    assert load_plain_pickle(tmp_path / "new" / "a.pkl") == content
    assert (tmp_path / "new" / "a.pkl").read_bytes() == pickle.dumps(content, protocol=2)


@pytest.mark.parametrize("value", [np.float64(1), np.zeros(2), {1}, b"x", LAYOUTS["mevis"]])
def test_only_plain_content_is_pickled(tmp_path, value):
    with pytest.raises(TypeError, match=f"got {type(value).__name__}"):
        dump_plain_pickle(tmp_path / "a.pkl", {"deep": [{"inside": value}]})
    assert not list(tmp_path.iterdir())
