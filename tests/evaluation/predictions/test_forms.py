"""Every form gives the same masks, says what it lacks, and refuses what does not fit."""

from __future__ import annotations

import shutil
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refstream.errors import UserError
from refstream.evaluation.ledger import FolderLedger
from refstream.evaluation.predictions.inventory import inventory
from refstream.evaluation.predictions.npz import NpzFolder
from refstream.evaluation.predictions.open import open_predictions
from refstream.evaluation.predictions.png import PngFolder
from refstream.evaluation.predictions.rle_json import JsonByVideo, JsonFolder
from refstream.evaluation.protocols.label_maps import LabelMapFolder
from refstream.evaluation.run import RunPredictions
from tests.evaluation.predictions.small import (
    FRAMES,
    ITEMS,
    SIZES,
    Small,
    check_all,
    code,
    entries,
    first,
    masks_of,
    write_json,
    write_npz,
    write_png,
)


def write_run(root: Path) -> Path:
    ledger = FolderLedger(root, {"model": "m"})
    for video, key in ITEMS:
        masks = [code(mask) for mask in masks_of(video, key)]
        record = {"size": SIZES[video], "frames": FRAMES[video], "text": f"thing {key}", "masks": masks}
        ledger.write(f"{video}/{key}", {**record, "confidence": [0.5] * len(masks)})
    return root


def write_json_folder(root: Path) -> Path:
    for video, expressions in entries().items():
        for key, entry in expressions.items():
            write_json(root / video / f"{key}.json", entry)
    return root


WRITERS = {
    "png": (write_png, PngFolder),
    "annotations": (lambda root: write_png(root / "Annotations").parent, PngFolder),
    "npz": (write_npz, NpzFolder),
    "json": (lambda root: write_json(root / "anything.json", entries()), JsonByVideo),
    "results": (lambda root: write_json(root / "results.json", entries()).parent, JsonByVideo),
    "json folder": (write_json_folder, JsonFolder),
    "run": (write_run, RunPredictions),
    "evaluation": (lambda root: write_run(root / "model" / "run").parents[1], RunPredictions),
}


@pytest.mark.parametrize("form", WRITERS)
def test_every_form_is_recognised_and_gives_the_same_masks(form, tmp_path):
    write, kind = WRITERS[form]
    path = write(tmp_path / "p")
    benchmark = Small()
    predictions = open_predictions(path, benchmark)
    assert type(predictions) is kind
    check_all(predictions, benchmark)
    check_all(
        ForkingPickler.loads(ForkingPickler.dumps(predictions)), benchmark
    )  # as it goes to other processes
    held = inventory(predictions, benchmark)
    assert held.complete
    assert held.lines() == []
    assert (held.expected.videos, held.expected.expressions, held.expected.frames) == (2, 3, 8)


@pytest.mark.parametrize("form", [form for form in WRITERS if form not in ("run", "evaluation")])
def test_only_the_scored_frames_are_read(form, tmp_path):
    path = WRITERS[form][0](tmp_path / "p")
    benchmark = Small(scored=(1,))
    check_all(open_predictions(path, benchmark), benchmark)


@pytest.mark.parametrize(
    ("value", "mode"), [(255, "L"), (1, "L"), (7, "P"), (1, "1"), (300, "I;16"), (90, "RGB"), (255, "RGBA")]
)
def test_any_value_but_zero_is_the_target(value, mode, tmp_path):
    benchmark = Small()
    check_all(open_predictions(write_png(tmp_path, value=value, mode=mode), benchmark), benchmark)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_colours_are_refused(mode, tmp_path):
    benchmark = Small()
    predictions = open_predictions(write_png(tmp_path), benchmark)
    path = tmp_path / "set/a/0/00005.png"
    values = np.zeros((*SIZES["set/a"], {"RGB": 3, "RGBA": 4, "LA": 2}[mode]), np.uint8)
    values[..., 0] = 5
    Image.fromarray(values, mode=mode).save(path)
    with pytest.raises(UserError, match=rf"00005.png: expected a mask of one channel.*mode {mode}"):
        predictions.read(*first(benchmark))


def test_missing_frames_expressions_and_videos(tmp_path):
    benchmark = Small()
    predictions = open_predictions(write_png(tmp_path), benchmark)
    (tmp_path / "set/a/0/00005.png").unlink()
    found = predictions.read(*first(benchmark))
    assert found.missing == (1,)
    assert not found.masks[1].any()
    assert np.array_equal(found.masks[[0, 2]], masks_of("set/a", "0")[[0, 2]])
    shutil.rmtree(tmp_path / "set/a/1")
    shutil.rmtree(tmp_path / "b")
    video = benchmark.videos[0]
    assert predictions.read(video, video.expressions[1], SIZES["set/a"]) is None
    held = inventory(predictions, benchmark)
    assert held.missing_videos == ("b",)
    assert held.missing_expressions == (("set/a", "1"),)
    assert held.missing_frames == (("set/a", "0", "00005"),)
    assert (held.found.videos, held.found.expressions, held.found.frames) == (1, 1, 2)
    with pytest.raises(UserError, match=r"the set is incomplete: expected 2 videos, 3 expressions.*Do"):
        held.require_complete("the set", "Do this")


def test_extra_names_are_listed_and_near_ones_pointed_at(tmp_path):
    benchmark = Small()
    write_png(tmp_path)
    (tmp_path / "set/a").rename(tmp_path / "set/aa")
    shutil.copytree(tmp_path / "b/0", tmp_path / "b/one")
    held = inventory(open_predictions(tmp_path, benchmark), benchmark)
    assert held.extra == ("b/one", "set/aa")
    assert held.similar == {"set/a": "set/aa"}
    assert held.lines()[-1] == "missing set/a: is it called set/aa here?"


@pytest.mark.parametrize("shift", [1, -1])
def test_shifted_numbering_is_refused(shift, tmp_path):
    benchmark = Small()
    write_png(tmp_path)
    folder = tmp_path / "b/0"
    for number in (1, 0) if shift > 0 else (0, 1):
        (folder / f"{number:05d}.png").rename(folder / f"{number + shift + 1:05d}.png")
    predictions = open_predictions(tmp_path, benchmark)
    video = benchmark.videos[1]
    if shift > 0:
        with pytest.raises(
            UserError,
            match=r"b/0: frames are misaligned: video b has no frame 00002, 00003; "
            r"expected 2 frames \(00000, 00001\), found 2 \(00002, 00003\)",
        ):
            predictions.read(video, video.expressions[0], SIZES["b"])
    else:  # renamed onto the same names: nothing to notice
        check_all(predictions, benchmark)


def test_other_files_among_the_pictures_are_refused(tmp_path):
    benchmark = Small()
    write_png(tmp_path)
    (tmp_path / "set/a/0/.DS_Store").touch()
    check_all(open_predictions(tmp_path, benchmark), benchmark)
    (tmp_path / "set/a/0/00000.jpg").touch()
    with pytest.raises(UserError, match=r"set/a/0: expected nothing but <frame>.png, found 00000.jpg"):
        open_predictions(tmp_path, benchmark).read(*first(benchmark))


@pytest.mark.parametrize("form", ["png", "npz", "json", "json folder"])
def test_wrong_sizes_are_refused(form, tmp_path):
    benchmark = Small()
    predictions = open_predictions(WRITERS[form][0](tmp_path / "p"), benchmark)
    video, expression, _ = first(benchmark)
    with pytest.raises(UserError, match=r"size \(12, 17\), expected \(24, 34\)") as caught:
        predictions.read(video, expression, (24, 34))
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("form", ["png", "npz", "json folder"])
def test_broken_files_are_named(form, tmp_path):
    benchmark = Small()
    path = WRITERS[form][0](tmp_path / "p")
    broken = sorted(file for file in path.rglob("*") if file.is_file() and "set/a/0" in file.as_posix())[0]
    broken.write_bytes(broken.read_bytes()[:20])
    with pytest.raises(UserError, match=broken.name):
        open_predictions(path, benchmark).read(*first(benchmark))


# ------------------------------------------------------------------ opening


def test_label_maps_are_recognised(tmp_path):
    (tmp_path / "anno_0" / "v").mkdir(parents=True)
    assert type(open_predictions(tmp_path, Small())) is LabelMapFolder


def test_what_is_not_understood_is_refused_with_what_was_found(tmp_path):
    benchmark = Small()
    with pytest.raises(UserError, match=r"no predictions at .*expected <video>"):
        open_predictions(tmp_path / "none", benchmark)
    for name, message in (("p.zip", "unpack it first"), ("p.txt", "must be .json")):
        (tmp_path / name).touch()
        with pytest.raises(UserError, match=message):
            open_predictions(tmp_path / name, benchmark)
    with pytest.raises(UserError, match=r"no predictions found, only p\.txt, p\.zip; expected"):
        open_predictions(tmp_path, benchmark)
    write_png(tmp_path / "both")
    np.savez(tmp_path / "both/b/0.npz", masks=masks_of("b", "0"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no predictions found, the folder is empty; expected"):
        open_predictions(tmp_path / "empty", benchmark)
    figures = write_json(tmp_path / "run" / "result.json", {"command": "x", "rows": [], "summary": {}})
    with pytest.raises(UserError, match=r"holds figures, not masks; name the folder of the run: .*run$"):
        open_predictions(figures, benchmark)
    with pytest.raises(UserError, match="of several forms"):
        open_predictions(tmp_path / "both", benchmark)
    scores = FolderLedger(tmp_path / "scores", {})
    scores.write("b", {"scores": []})
    with pytest.raises(UserError, match="scores is part of an evaluation, but holds no masks"):
        open_predictions(tmp_path / "scores", benchmark)


@pytest.mark.parametrize("form", ["png", "json"])
def test_the_fingerprint_follows_the_files(form, tmp_path):
    path = WRITERS[form][0](tmp_path / "p")
    benchmark = Small()
    before = open_predictions(path, benchmark).fingerprint
    assert open_predictions(path, benchmark).fingerprint == before
    file = path if path.is_file() else path / "b/0/00001.png"
    file.write_bytes(file.read_bytes() + b"\n")
    assert open_predictions(path, benchmark).fingerprint != before
