"""Submission zips: right by construction, checked, refused when incomplete; and what is wrong with others."""

from __future__ import annotations

import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refstream.errors import OutputError, UserError
from refstream.evaluation import submit
from refstream.evaluation.predictions.open import open_predictions
from refstream.evaluation.readers.mevis import MeViSBenchmark
from refstream.evaluation.readers.ref_youtube_vos import RefYouTubeVOSBenchmark
from refstream.evaluation.submit import check_submission, write_submission
from refstream.synthetic.minirvos import MiniRVOS
from tests.evaluation.predictions.small import FRAMES, ITEMS, Small, entries, masks_of, write_json, write_png

NAMES = [f"{video}/{key}/{frame}.png" for video, key in sorted(ITEMS, key=str) for frame in FRAMES[video]]


@pytest.fixture
def predictions(tmp_path):
    return open_predictions(write_json(tmp_path / "p.json", entries()), Small())


def contents(path: Path) -> dict[str, Image.Image]:
    with zipfile.ZipFile(path) as archive:
        return {name: Image.open(io.BytesIO(archive.read(name))) for name in archive.namelist()}


@pytest.mark.parametrize(("form", "folder"), [("videos", ""), ("annotations", "Annotations/")])
@pytest.mark.parametrize("stated", [True, False])
def test_the_zip_has_every_frame_in_its_size(form, folder, stated, predictions, tmp_path):
    done = write_submission(predictions, Small(stated=stated), tmp_path / "s" / "out.zip", form=form)
    pictures = contents(done.path)
    assert sorted(pictures) == sorted(folder + name for name in NAMES)
    assert done.num_files == 8
    assert done.num_bytes == done.path.stat().st_size
    for video, key in ITEMS:
        for frame, mask in zip(FRAMES[video], masks_of(video, key), strict=True):
            picture = pictures[f"{folder}{video}/{key}/{frame}.png"]
            assert (picture.format, picture.mode) == ("PNG", "L")
            assert np.array_equal(np.asarray(picture), mask * np.uint8(255))
    assert check_submission(done.path, Small(), form=form) == []
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["out.zip"]


def test_frames_that_cannot_be_scored_here_are_in_it_too(predictions, tmp_path):
    done = write_submission(predictions, Small(scored=(0,)), tmp_path / "out.zip")
    assert sorted(contents(done.path)) == sorted(NAMES)
    assert check_submission(done.path, Small(scored=(0,))) == []


def test_equal_masks_give_equal_bytes_whatever_their_form(predictions, tmp_path):
    one = write_submission(predictions, Small(), tmp_path / "one.zip").path
    others = open_predictions(write_png(tmp_path / "png", value=1), Small())
    two = write_submission(others, Small({"b": ("0",), "set/a": ("1", "0")}), tmp_path / "two.zip").path
    assert one.read_bytes() == two.read_bytes()


def test_a_written_zip_can_be_read_as_predictions(predictions, tmp_path):
    done = write_submission(predictions, Small(), tmp_path / "s.zip", form="annotations")
    shutil.unpack_archive(done.path, tmp_path / "unpacked")
    again = open_predictions(tmp_path / "unpacked", Small())
    for video in Small().videos:
        for expression in video.expressions:
            found = again.read(video, expression, video.size)
            assert np.array_equal(found.masks, masks_of(video.id, expression.id))


def test_an_incomplete_set_is_refused_or_filled_and_listed(tmp_path):
    root = write_png(tmp_path / "p")
    (root / "set/a/0/00005.png").unlink()
    shutil.rmtree(root / "b")
    predictions, out = open_predictions(root, Small()), tmp_path / "s.zip"
    with pytest.raises(UserError, match="incomplete: expected 2 videos, 3 expressions, 8 frames; found 1"):
        write_submission(predictions, Small(), out)
    assert not out.exists()
    done = write_submission(predictions, Small(), out, missing="empty")
    assert done.inventory.missing_videos == ("b",)
    assert done.inventory.missing_frames == (("set/a", "0", "00005"),)
    pictures = contents(out)
    assert check_submission(out, Small()) == []
    empty = [name for name, picture in pictures.items() if not np.asarray(picture).any()]
    assert sorted(empty) == ["b/0/00000.png", "b/0/00001.png", "set/a/0/00005.png"]
    with pytest.raises(UserError, match="no prediction fits small valid"):
        write_submission(open_predictions(root, Small()), Small({"b": ("7",)}), out, missing="empty")


def test_what_came_out_wrong_is_not_called_done(predictions, tmp_path, monkeypatch):
    out = tmp_path / "s.zip"
    out.write_bytes(b"earlier")
    monkeypatch.setattr(submit, "_png", lambda mask: b"no picture")
    with pytest.raises(UserError, match=r"was not written, as it came out wrong: .*not a readable picture"):
        write_submission(predictions, Small(), out)
    assert out.read_bytes() == b"earlier"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.json", "s.zip"]


def test_a_zip_that_cannot_be_written_is_named(predictions, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file/s\.zip"):
        write_submission(predictions, Small(), tmp_path / "file" / "s.zip")


def test_unknown_choices_are_refused(predictions, tmp_path):
    with pytest.raises(UserError, match="one of videos, annotations; got 'x'"):
        write_submission(predictions, Small(), tmp_path / "s.zip", form="x")
    with pytest.raises(UserError, match="refuse or empty, got 'x'"):
        write_submission(predictions, Small(), tmp_path / "s.zip", missing="x")


# ------------------------------------------------------------------ zips of other tools


def png(mode: str = "L", size: tuple[int, int] = (12, 17), value: int = 255, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size[::-1], value).save(buffer, format=form)
    return buffer.getvalue()


def make_zip(path: Path, top: str = "", **changes: bytes | None) -> Path:
    """A right one but for ``changes``, by name; "" as content leaves it out."""
    files = {name: png(size=(12, 17) if name.startswith("set") else (9, 8)) for name in NAMES}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("a folder of its own")
        for name, data in (files | changes).items():
            if data is not None:
                archive.writestr(top + name, data)
    return path


FIRST = "set/a/0/00000.png"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({FIRST: None}, "1 of 8 files are missing: set/a/0/00000.png"),
        ({"__MACOSX/x": b""}, "1 files should not be there: __MACOSX/x"),
        ({FIRST: png("RGB")}, f"{FIRST}: expected 8-bit grey 0/255, got mode RGB"),
        ({FIRST: png("P", value=1)}, f"{FIRST}: expected 8-bit grey 0/255, got mode P"),
        ({FIRST: png("1", value=1)}, f"{FIRST}: expected 8-bit grey 0/255, got mode 1"),
        ({FIRST: png(value=1)}, f"{FIRST}: expected 0 and 255 only, got 1"),
        ({FIRST: png(size=(24, 34))}, f"{FIRST}: expected the size of its frame, (12, 17), got (24, 34)"),
        ({FIRST: png(form="JPEG")}, f"{FIRST}: expected a PNG, got JPEG"),
        ({FIRST: png()[:-1]}, f"{FIRST}: not a readable picture"),
        ({FIRST: b"\0" * 10**6}, f"{FIRST}: 1000000 bytes are too many"),
    ],
)
def test_what_is_wrong_with_a_zip_is_said(changes, problem, tmp_path):
    problems = check_submission(make_zip(tmp_path / "z.zip", **changes), Small())
    assert len(problems) == 1
    assert problems[0].startswith(problem)


@pytest.mark.parametrize(
    ("form", "top", "problem"),
    [
        ("videos", "out/", "the folders of videos must be at the top of the zip, and they are in 'out/'"),
        ("videos", "Annotations/", "must be at the top of the zip, and they are in 'Annotations/'"),
        ("annotations", "", "must be in the single folder 'Annotations/', and they are at the top"),
        ("annotations", "x/Annotations/", "'Annotations/', and they are in 'x/Annotations/'"),
    ],
)
def test_wrong_folders_at_the_top_are_said_once_and_the_rest_is_checked(form, top, problem, tmp_path):
    path = make_zip(tmp_path / "z.zip", top, **{FIRST: png("RGB"), "b/0/00001.png": None, "b/0/1.png": b""})
    problems = check_submission(path, Small(), form=form)
    assert len(problems) == 4
    assert problem in problems[0]
    assert problems[1].startswith("1 of 8 files are missing")
    assert problems[2] == f"1 files should not be there: {top}b/0/1.png"
    assert problems[3].startswith(f"{top}{FIRST}: expected 8-bit grey")


def test_a_zip_of_something_else(tmp_path):
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("readme.txt", "x")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("readme.txt", "x")
    assert check_submission(tmp_path / "z.zip", Small()) == [
        "1 files are there twice",
        "8 of 8 files are missing: b/0/00000.png, b/0/00001.png, set/a/0/00000.png, ..., set/a/1/00010.png",
        "1 files should not be there: readme.txt",
    ]
    (tmp_path / "x.zip").write_bytes((tmp_path / "z.zip").read_bytes()[:50])
    with pytest.raises(UserError, match=r"x\.zip is not a readable zip"):
        check_submission(tmp_path / "x.zip", Small())
    with pytest.raises(UserError, match="no file"):
        check_submission(tmp_path / "none.zip", Small())


# ------------------------------------------------------------------ official layouts


def all_true(benchmark, root: Path) -> Path:
    """Full masks for every listed frame, as PNG."""
    for video in benchmark.videos:
        size = next(iter(benchmark.images(video))).shape[:2]
        for expression in video.expressions:
            folder = root / video.id / expression.id
            folder.mkdir(parents=True)
            for frame in video.frames:
                Image.fromarray(np.full(size, 255, np.uint8)).save(folder / f"{frame}.png")
    return root


@pytest.mark.parametrize("name", ["mevis", "ref_youtube_vos"])
def test_hidden_splits_of_official_layouts(name, tmp_path):
    from refstream.data.layouts import write_layout

    source = MiniRVOS("test", 0, num_clips=2, num_frames=3, size=64)
    write_layout(name, source, tmp_path / "data", split="valid")
    if name == "mevis":
        benchmark, form, first = MeViSBenchmark(tmp_path / "data", "valid"), "videos", ""
    else:
        benchmark, form = RefYouTubeVOSBenchmark(tmp_path / "data", "valid", masks="none"), "annotations"
        first = "Annotations/"
    predictions = open_predictions(all_true(benchmark, tmp_path / "p"), benchmark)
    done = write_submission(predictions, benchmark, tmp_path / "s.zip", form=form)
    names = contents(done.path)
    assert len(names) == 3 * benchmark.num_expressions
    assert {name.removeprefix(first).split("/")[0] for name in names} == {v.id for v in benchmark.videos}
    other = "annotations" if form == "videos" else "videos"
    assert len(check_submission(done.path, benchmark, form=other)) == 1
