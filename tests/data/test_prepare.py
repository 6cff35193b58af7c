"""Conversions: Ref-DAVIS17 from the original files, dictionaries of masks, the foreground of ReVOS."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refstream.data import rle
from refstream.data.pickles import load_plain_pickle
from refstream.data.prepare import prepare_mask_dict, prepare_revos_foreground
from refstream.data.prepare_davis17 import prepare_ref_davis17
from refstream.errors import UserError
from refstream.evaluation.readers.ref_davis17 import RefDAVIS17Benchmark
from tests.evaluation.golden_trees import (
    GOLDEN,
    SHARED_DATA,
    davis17_official_tree,
    davis17_tree,
    load,
    revos_tree,
    write,
    write_labels,
)

FILES = {
    "Davis17_annot1.txt": "utf-8",
    "Davis17_annot1_full_video.txt": "utf-8",
    "Davis17_annot2.txt": "latin-1",
    "Davis17_annot2_full_video.txt": "latin-1",
}
DAVIS = GOLDEN / "davis17_official" / "DAVIS"


def write_texts(folder: Path, lines: dict[int, list[str]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for a, (name, encoding) in enumerate(FILES.items()):
        (folder / name).write_text("".join(f"{line}\n" for line in lines[a]), encoding=encoding)
    return folder


def golden_texts(folder: Path) -> Path:
    """The texts that the expressions of the golden case come from."""
    lines: dict[int, list[str]] = {a: [] for a in range(4)}
    for video, record in load("davis17_official", "meta_expressions.json")["videos"].items():
        for key, entry in record["expressions"].items():
            lines[int(key) % 4].append(f'{video} {entry["obj_id"]} "{entry["exp"]}"')
    return write_texts(folder, lines)


@pytest.mark.parametrize("copy", [False, True])
def test_the_golden_tree_is_rebuilt_from_davis(tmp_path: Path, copy: bool) -> None:
    prepared = prepare_ref_davis17(DAVIS, golden_texts(tmp_path / "texts"), tmp_path / "out", copy=copy)
    path = tmp_path / "out" / "meta_expressions" / "valid" / "meta_expressions.json"
    assert json.loads(path.read_text()) == load("davis17_official", "meta_expressions.json")
    assert prepared.counts["videos"] == 3
    assert (tmp_path / "out" / "valid" / "JPEGImages" / "goose").is_symlink() is not copy
    coded = RefDAVIS17Benchmark(tmp_path / "out", masks="pickle")
    pictures = RefDAVIS17Benchmark(davis17_official_tree(tmp_path / "tree"), masks="pictures")
    for one, two in zip(coded.videos, pictures.videos, strict=True):
        assert np.array_equal(coded.label_map(one), pictures.label_map(two))
        for expression in one.expressions:
            assert np.array_equal(coded.truth(one, expression), pictures.truth(two, expression))
        assert sum(1 for _ in coded.images(one)) == len(one.frames)
    with pytest.raises(UserError, match="this split is written already"):
        prepare_ref_davis17(DAVIS, tmp_path / "texts", tmp_path / "out")


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="needs ../shared/data")
def test_the_complete_real_text_gives_the_published_expressions(tmp_path: Path) -> None:
    """All of Ref-DAVIS17 val: 30 videos, 61 objects, 244 sentences; frames and masks are stand-ins."""
    folder = SHARED_DATA / "refdavis17_text"
    path = folder / "meta_expressions" / "valid" / "meta_expressions.json"
    published = json.loads(path.read_text(encoding="utf-8"))
    texts = tmp_path / "texts"
    texts.mkdir()
    for name in FILES:
        source = folder / "regenerated_val_txt" / name.replace(".txt", "_VALONLY.txt")
        shutil.copy(source, texts / name)
    davis = tmp_path / "DAVIS"
    (davis / "ImageSets" / "2017").mkdir(parents=True)
    (davis / "ImageSets" / "2017" / "val.txt").write_text("\n".join(published["videos"]))
    (tmp_path / "frame.jpg").write_bytes((DAVIS / "JPEGImages/480p/goose/00000.jpg").read_bytes())
    write_labels(tmp_path / "labels", np.arange(48, dtype=np.uint8).reshape(1, 6, 8), ["mask"])
    for video, record in published["videos"].items():
        for kind, source in (("JPEGImages", "frame.jpg"), ("Annotations_unsupervised", "labels/mask.png")):
            place = davis / kind / "480p" / video
            place.mkdir(parents=True)
            for frame in record["frames"]:
                (place / f"{frame}{Path(source).suffix}").symlink_to(tmp_path / source)
    prepared = prepare_ref_davis17(davis, texts, tmp_path / "out")
    assert prepared.counts == {"videos": 30, "objects": 61, "expressions": 244}
    assert prepared.notes == {}
    built = json.loads((tmp_path / "out/meta_expressions/valid/meta_expressions.json").read_text())
    assert built["videos"] == published["videos"]


def small_davis(root: Path, videos: list[str], labels: int = 2) -> Path:
    (root / "ImageSets" / "2017").mkdir(parents=True)
    (root / "ImageSets" / "2017" / "train.txt").write_text("\n".join(videos))
    (root / "ImageSets" / "2017" / "val.txt").write_text("goose")
    for video in [*videos, "goose"]:
        masks = np.zeros((2, 6, 8), np.uint8)
        masks[:, 0, :labels] = np.arange(1, labels + 1)
        write_labels(root / "Annotations_unsupervised" / "480p" / video, masks, ["00000", "00001"])
        (root / "JPEGImages" / "480p" / video).mkdir(parents=True)
        for frame in ("00000", "00001"):
            Image.new("RGB", (8, 6)).save(root / "JPEGImages" / "480p" / video / f"{frame}.jpg")
    return root


def texts_of(videos: list[str]) -> dict[int, list[str]]:
    return {a: [f'{video} {k} "caf\u00e9  {k} {a} "' for video in videos for k in (2, 1)] for a in range(4)}


def test_misspelt_names_encodings_blanks_and_order_of_the_original_texts(tmp_path: Path) -> None:
    davis = small_davis(tmp_path / "DAVIS", ["classic-car", "dogs-scale", "motorbike"])
    texts = write_texts(tmp_path / "texts", texts_of(["clasic-car", "dog-scale", "motor-bike", "goose"]))
    prepare_ref_davis17(davis, texts, tmp_path / "out", "train")
    path = tmp_path / "out" / "meta_expressions" / "train" / "meta_expressions.json"
    videos = json.loads(path.read_text(encoding="utf-8"))["videos"]
    assert list(videos) == ["classic-car", "dogs-scale", "motorbike"]
    expected = [(str(4 * (k - 1) + a), f"caf\u00e9 {k} {a} ", str(k)) for k in (1, 2) for a in range(4)]
    for record in videos.values():
        assert record["frames"] == ["00000", "00001"]
        assert [(key, e["exp"], e["obj_id"]) for key, e in record["expressions"].items()] == expected


def test_categories_are_kept_where_davis_has_them(tmp_path: Path) -> None:
    davis = small_davis(tmp_path / "DAVIS", ["a"])
    write(davis / "davis_semantics.json", {"a": {"1": "dog", "2": "cat"}, "goose": {"1": "goose"}})
    texts = write_texts(tmp_path / "texts", texts_of(["a", "goose"]))
    prepare_ref_davis17(davis, texts, tmp_path / "out", "train")
    meta = json.loads((tmp_path / "out" / "train" / "meta.json").read_text())
    assert meta["videos"] == {"a": {"objects": {"1": {"category": "dog"}, "2": {"category": "cat"}}}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[0].append('gose 1 "x"'), "line 5: there is no video 'gose'; is goose meant"),
        (lambda lines: lines[1].append("a one cat"), r'line 5: expected video object "sentence", got'),
        (lambda lines: lines[2].append('a 1 "again"'), "line 5: object 1 of a has a sentence already"),
        (lambda lines: lines[3].pop(0), "Davis17_annot2_full_video.txt has no sentence for object 2 of a"),
        (lambda lines: [part.__delitem__(slice(2)) for part in lines.values()], "no sentences for 1 videos"),
    ],
)
def test_texts_that_do_not_fit_are_refused(tmp_path: Path, change, message: str) -> None:
    davis, lines = small_davis(tmp_path / "DAVIS", ["a"]), texts_of(["a", "goose"])
    change(lines)
    with pytest.raises(UserError, match=message):
        prepare_ref_davis17(davis, write_texts(tmp_path / "texts", lines), tmp_path / "out", "train")
    assert not (tmp_path / "out" / "meta_expressions").exists()


def test_pictures_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    davis = small_davis(tmp_path / "DAVIS", ["a"])
    texts = write_texts(tmp_path / "texts", texts_of(["a", "goose"]))
    folder = davis / "JPEGImages" / "480p" / "a"
    (folder / "00001.jpg").unlink()
    with pytest.raises(UserError, match="do not hold the same frames of a, such as 00001"):
        prepare_ref_davis17(davis, texts, tmp_path / "out", "train")
    folder.rename(folder.with_name("A"))
    with pytest.raises(UserError, match=r"no folder .*480p/a; is A meant\?"):
        prepare_ref_davis17(davis, texts, tmp_path / "out", "train")
    with pytest.raises(UserError, match="splits train, valid"):
        prepare_ref_davis17(davis, texts, tmp_path / "out", "val")


def test_objects_that_nothing_shows_are_noted(tmp_path: Path) -> None:
    davis = small_davis(tmp_path / "DAVIS", ["a"], labels=1)
    texts = write_texts(tmp_path / "texts", texts_of(["a", "goose"]))
    prepared = prepare_ref_davis17(davis, texts, tmp_path / "out", "train")
    assert prepared.notes == {"object that no frame shows": ["a, object 2"]}


@pytest.mark.parametrize("suffix", [".pkl", ".json"])
def test_a_dictionary_from_pictures_says_what_they_say(tmp_path: Path, suffix: str) -> None:
    root = davis17_tree(tmp_path, pictures=True)
    out = tmp_path / f"masks{suffix}"
    prepared = prepare_mask_dict(root, "davis17", "valid", out)
    content = load_plain_pickle(out) if suffix == ".pkl" else json.loads(out.read_text())
    assert prepared.counts == {"videos": 4, "expressions": 40}
    assert list(content) == [str(number) for number in range(40)]
    pictures = RefDAVIS17Benchmark(root, masks="pictures")
    videos = {video.id: video for video in pictures.videos}
    order = [
        (video, e) for video in sorted(videos) for e in sorted(videos[video].expressions, key=lambda e: e.id)
    ]
    empty = 0
    for codes, (video, expression) in zip(content.values(), order, strict=True):
        truth = pictures.truth(videos[video], expression)
        assert np.array_equal(rle.decode_clip(codes, truth.shape[1:]), truth)
        assert [code is None for code in codes] == [not mask.any() for mask in truth]
        empty += sum(code is None for code in codes)
    assert empty > 0
    with pytest.raises(UserError, match="exists; choose another file"):
        prepare_mask_dict(root, "davis17", "valid", out)
    assert prepare_mask_dict(root, "davis17", "valid", out, overwrite=True).counts == prepared.counts


def test_a_dictionary_needs_objects_and_notes_missing_pictures(tmp_path: Path) -> None:
    root = davis17_tree(tmp_path, pictures=True)
    gone = root / "valid" / "Annotations" / "bear" / "00002.png"
    gone.unlink()
    prepared = prepare_mask_dict(root, "davis17", "valid", tmp_path / "a.pkl")
    assert prepared.notes == {"frame without a picture of masks": [str(gone)]}
    assert load_plain_pickle(tmp_path / "a.pkl")["0"][2] is None
    videos = load("davis17_expressions", "meta_expressions.json")["videos"]
    del videos["car"]["expressions"]["2"]["obj_id"]
    write(root / "meta_expressions" / "valid" / "meta_expressions.json", {"videos": videos})
    with pytest.raises(UserError, match=r"'car', expression 2: expected an obj_id in 1\.\.254, got 'None'"):
        prepare_mask_dict(root, "davis17", "valid", tmp_path / "b.pkl")
    with pytest.raises(UserError, match="expected a layout and one of its splits"):
        prepare_mask_dict(root, "mevis", "valid")
    with pytest.raises(UserError, match=r"must end in \.pkl or \.json"):
        prepare_mask_dict(root, "davis17", "valid", tmp_path / "c.npz")


def test_the_foreground_is_that_of_the_public_tool(tmp_path: Path) -> None:
    root = revos_tree(tmp_path, foreground=False)
    assert prepare_revos_foreground(root).counts == {"videos": 4}
    built = json.loads((root / "mask_dict_foreground.json").read_text())
    public = load("revos", "mask_dict_foreground.json")
    assert built.keys() == public.keys()
    for video, entry in public.items():
        codes = [code[0] if isinstance(code, list) else code for code in entry["masks_rle"]]
        assert built[video]["masks_rle"] == codes
        assert built[video]["foreground_ratio"] == pytest.approx(entry["foreground_ratio"], abs=1e-15)
    with pytest.raises(UserError, match="exists; choose another file"):
        prepare_revos_foreground(root)


def test_a_foreground_of_masks_that_do_not_fit_is_refused(tmp_path: Path) -> None:
    root = revos_tree(tmp_path, foreground=False)
    masks = load("revos", "mask_dict.json")
    masks["6"].pop()
    write(root / "mask_dict.json", masks)
    with pytest.raises(UserError, match=r"'b_video': annotation 6 needs 4 masks, .* has 3"):
        prepare_revos_foreground(root)
    assert not (root / "mask_dict_foreground.json").exists()
