"""RefCOCO's files, as lichengunc/refer has them, and what is wrong with some of their entries."""

from __future__ import annotations

import copy
import json
import pickle
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from refstream.data.datasets import RefCOCODataset
from refstream.data.layouts.refcoco import write_refcoco
from refstream.data.rle import encode
from refstream.errors import UserError
from refstream.registry import DATASETS
from refstream.synthetic.minirvos import MiniRVOS

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
HEIGHT, WIDTH = 40, 60
SQUARE = [5, 4, 25, 4, 25, 24, 5, 24]


def ref(ref_id: int, ann_id: int, image_id: int, texts: list[str], split: str = "train") -> dict[str, Any]:
    return {
        "ref_id": ref_id,
        "ann_id": ann_id,
        "image_id": image_id,
        "category_id": 1,
        "file_name": f"COCO_train2014_{image_id:012d}_{ref_id}.jpg",  # no such picture: take instances.json
        "split": split,
        "sent_ids": [10 * ref_id + i for i in range(len(texts))],
        "sentences": [
            {"sent_id": 10 * ref_id + i, "sent": text, "raw": text.upper(), "tokens": text.split()}
            for i, text in enumerate(texts)
        ],
    }


def annotation(ann_id: int, image_id: int, segmentation: Any, iscrowd: int = 0) -> dict[str, Any]:
    return {
        "id": ann_id,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": iscrowd,
        "area": 1.0,
        "bbox": [0, 0, 1, 1],
        "segmentation": segmentation,
    }


def crowd() -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[30:38, 2:50] = True
    return mask


def runs_of(mask: np.ndarray) -> dict[str, Any]:
    """An uncompressed RLE, as COCO's crowds have."""
    flat = mask.T.ravel().astype(int)
    changes = np.flatnonzero(np.diff(flat)) + 1
    return {"size": list(mask.shape), "counts": np.diff([0, *changes, flat.size]).tolist()}


REFS = [
    ref(0, 100, 1, ["left square", "the box", "grey thing"]),
    ref(1, 101, 1, ["two bars"]),
    ref(2, 102, 2, ["the crowd"]),
    ref(3, 103, 2, ["compressed"], "testA"),
]
INSTANCES = {
    "info": {},
    "images": [
        {"id": i, "file_name": f"COCO_train2014_{i:012d}.jpg", "height": HEIGHT, "width": WIDTH}
        for i in (1, 2, 3)
    ],
    "annotations": [
        annotation(100, 1, [SQUARE]),
        annotation(101, 1, [[30, 2, 40, 2, 40, 30, 30, 30], [36, 10, 55, 10, 55, 20, 36, 20]]),
        annotation(102, 2, runs_of(crowd()), iscrowd=1),
        annotation(103, 2, encode(crowd())),
        annotation(999, 3, "of no interest"),
    ],
    "categories": [{"id": 1, "name": "thing"}],
}


def tree(
    root: Path,
    refs: Any = None,
    instances: Any = None,
    folder: str = "refcoco",
    refs_name: str = "refs(unc).p",
    images: str = "coco2014/train2014",
) -> Path:
    place = root / folder
    pictures = place / images
    pictures.mkdir(parents=True)
    (place / refs_name).write_bytes(pickle.dumps(REFS if refs is None else refs, protocol=0))
    (place / "instances.json").write_text(json.dumps(INSTANCES if instances is None else instances))
    for i in (1, 2):
        picture = np.full((HEIGHT, WIDTH, 3), 60 * i, np.uint8)
        Image.fromarray(picture).save(pictures / f"COCO_train2014_{i:012d}.jpg")
    return root


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_picture_has_all_its_refs(tmp_path: Path) -> None:
    data = RefCOCODataset(tree(tmp_path))
    assert data.report() == {"pictures": 2, "objects": 3, "expressions": 5, "left_out": {}}
    sample = data.sample(0, rng())
    assert sample.frames.shape == (1, HEIGHT, WIDTH, 3)
    assert (sample.frames == 60).all()
    square, bars = np.zeros((2, HEIGHT, WIDTH), bool)
    square[4:24, 5:25] = True
    bars[2:30, 30:40] = bars[10:20, 36:55] = True  # overlapping polygons are one mask
    truth = {"two bars": bars} | dict.fromkeys(["left square", "the box", "grey thing"], square)
    for seed in range(10):
        sample = data.sample(0, rng(seed))
        assert len(sample.expressions) == 5
        assert set(sample.expressions) == set(truth)  # four sentences, one of them twice
        for text, mask in zip(sample.expressions, sample.masks, strict=True):
            np.testing.assert_array_equal(mask[0], truth[text])


def test_both_kinds_of_rle_are_read(tmp_path: Path) -> None:
    root = tree(tmp_path)
    for split, index in (("train", 1), ("testA", 0)):
        sample = RefCOCODataset(root, split=split).sample(index, rng())
        np.testing.assert_array_equal(sample.masks[:, 0], np.broadcast_to(crowd(), (5, HEIGHT, WIDTH)))


def test_sentences_go_round_the_objects(tmp_path: Path) -> None:
    data = RefCOCODataset(tree(tmp_path), expressions=2)
    firsts = set()
    for seed in range(40):
        sample = data.sample(0, rng(seed))
        assert "two bars" in sample.expressions  # each object once before any is named twice
        firsts.add(tuple(sample.expressions))
    assert len(firsts) == 6
    fewer = RefCOCODataset(tmp_path, expressions=9, repeat=False)
    assert sorted(fewer.sample(0, rng()).expressions) == ["grey thing", "left square", "the box", "two bars"]
    assert len(RefCOCODataset(tmp_path, expressions=9).sample(0, rng()).expressions) == 9


def test_the_generator_decides_alone(tmp_path: Path) -> None:
    data = RefCOCODataset(tree(tmp_path), expressions=2)
    copied = copy.deepcopy(data)
    assert [data.sample(0, rng(s)).id for s in range(9)] == [copied.sample(0, rng(s)).id for s in range(9)]


@pytest.mark.parametrize(
    ("name", "folder", "refs_name"),
    [
        ("refcoco", "refcoco", "refs(unc).p"),
        ("refcoco_plus", "refcoco+", "refs(unc).p"),
        ("refcoco+", "refcoco+", "refs(unc).p"),
        ("refcocog", "refcocog", "refs(umd).p"),
    ],
)
def test_names_and_folders(tmp_path: Path, name: str, folder: str, refs_name: str) -> None:
    tree(tmp_path, folder=folder, refs_name=refs_name)
    data = DATASETS.build(dict(type="RefCOCODataset", root=str(tmp_path), name=name, split="train"))
    assert len(data) == 2


def test_google_s_split_and_shared_pictures(tmp_path: Path) -> None:
    tree(tmp_path, folder="refcocog", refs_name="refs(google).p")
    (tmp_path / "refcocog" / "coco2014").rename(tmp_path / "coco2014")
    data = RefCOCODataset(tmp_path, "refcocog", split_by="google")
    assert data.sample(0, rng()).frames.shape == (1, HEIGHT, WIDTH, 3)


TRAPS: list[tuple[str, dict[str, Any], dict[str, Any] | None]] = [
    ("picture not in instances.json", ref(7, 100, 77, ["a"]), None),
    ("no such picture file", ref(7, 999, 3, ["a"]), None),
    ("annotation not in instances.json", ref(7, 4711, 1, ["a"]), None),
    ("annotation of another picture", ref(7, 102, 1, ["a"]), None),
    ("ref without sentences", ref(7, 100, 1, []), None),
    ("sentence without words", ref(7, 100, 1, ["", "  "]), None),
    ("polygon that encloses nothing or is none", ref(7, 7, 1, ["a"]), annotation(7, 1, [[1, 1, 9, 9]])),
    ("polygon that encloses nothing or is none", ref(7, 7, 1, ["a"]), annotation(7, 1, [[1, 1, 9, 9, 5]])),
    ("polygon that encloses nothing or is none", ref(7, 7, 1, ["a"]), annotation(7, 1, ["x"])),
    ("mask without a pixel", ref(7, 7, 1, ["a"]), annotation(7, 1, [[3, 3, 3, 3, 3, 3]])),
    ("mask without a pixel", ref(7, 7, 1, ["a"]), annotation(7, 1, [])),
    ("mask that cannot be read", ref(7, 7, 1, ["a"]), annotation(7, 1, {"size": [40, 60], "counts": [3]})),
    ("mask that cannot be read", ref(7, 7, 1, ["a"]), annotation(7, 1, runs_of(np.ones((9, 9), bool)))),
]


@pytest.mark.parametrize(("reason", "bad_ref", "bad_annotation"), TRAPS)
def test_what_cannot_be_used_is_counted(
    tmp_path: Path, reason: str, bad_ref: dict[str, Any], bad_annotation: dict[str, Any] | None
) -> None:
    instances = copy.deepcopy(INSTANCES)
    instances["annotations"] += [bad_annotation] if bad_annotation else []  # type: ignore[operator]
    instances["annotations"][4]["segmentation"] = [SQUARE]  # type: ignore[index]
    data = RefCOCODataset(tree(tmp_path, [*REFS, bad_ref], instances))
    report = data.report()
    assert report["objects"] == 3
    counts = {key: entry["count"] for key, entry in report["left_out"].items() if key.startswith(reason)}
    assert sum(counts.values()) == (2 if reason == "sentence without words" else 1)
    for index in range(len(data)):
        data.sample(index, rng())


def test_a_broken_polygon_beside_a_sound_one(tmp_path: Path) -> None:
    instances = copy.deepcopy(INSTANCES)
    instances["annotations"][0]["segmentation"] = [[1, 2], SQUARE, [0, 0, 1e12, 0, 5, 5]]  # type: ignore[index]
    data = RefCOCODataset(tree(tmp_path, instances=instances))
    assert data.report()["left_out"]["polygon that encloses nothing or is none"]["count"] == 2
    sample = data.sample(0, rng())
    assert sample.masks[sample.expressions.index("the box")].sum() == 400


def test_words_of_python_2_are_utf_8(tmp_path: Path) -> None:
    texts = ["caf\xc3\xa9  sign ", "na\xefve man"]  # the bytes of an e with an accent; an i that is a letter
    refs = [ref(0, 100, 1, texts)]
    sample = RefCOCODataset(tree(tmp_path, refs), repeat=False).sample(0, rng())
    assert sorted(sample.expressions) == ["café sign", "naïve man"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(name="refcocoplus"), "name must be one of"),
        (dict(split="test"), r"no split 'test'; it has \['testA', 'train'\]"),
        (dict(expressions=0), "at least 1"),
        (dict(name="refcocog"), "no dataset folder .*refcocog"),
        (dict(split_by="google"), r"refs\(google\)\.p"),
        (dict(images="train2014"), "no pictures at"),
    ],
)
def test_bad_arguments_say_so(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    tree(tmp_path)
    with pytest.raises(UserError, match=message):
        RefCOCODataset(tmp_path, **arguments)


@pytest.mark.parametrize(
    ("refs", "instances", "message"),
    [
        ({"refs": []}, None, "expected list"),
        ([{**REFS[0], "ann_id": [1, 2]}], None, "ann_id: expected int"),
        ([{**REFS[0], "sentences": None}], None, "sentences: expected list"),
        (None, {"annotations": []}, "images: expected list"),
        (None, {**INSTANCES, "images": [{"id": 1, "file_name": "a.jpg"}]}, "images 1 has no proper 'height'"),
        ([ref(0, 5, 1, ["a"])], None, "no picture can be used: 1 x annotation not in"),
    ],
)
def test_files_of_another_form_are_refused(tmp_path: Path, refs: Any, instances: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        RefCOCODataset(tree(tmp_path, refs, instances))


def test_a_hostile_pickle_is_refused(tmp_path: Path) -> None:
    tree(tmp_path)
    mark = tmp_path / "executed"
    program = f"cposix\nsystem\n(Vtouch {mark}\ntR.".encode()
    (tmp_path / "refcoco" / "refs(unc).p").write_bytes(program)
    with pytest.raises(UserError, match="pickles can run code"):
        RefCOCODataset(tmp_path)
    assert not mark.exists()


def test_a_picture_of_another_size_is_refused(tmp_path: Path) -> None:
    data = RefCOCODataset(tree(tmp_path))
    Image.new("RGB", (WIDTH, HEIGHT + 1)).save(data.image_folder / "COCO_train2014_000000000001.jpg")
    with pytest.raises(UserError, match=r"is of size \(41, 60\), instances.json says \(40, 60\)"):
        data.sample(0, rng())


def test_minirvos_written_as_refcoco_comes_back(tmp_path: Path) -> None:
    source = MiniRVOS("train", seed=4, num_clips=3, size=64)
    stills = [source.still(i, 6) for i in range(3)]
    write_refcoco(stills, tmp_path / "refcoco", "train")
    data = RefCOCODataset(tmp_path, expressions=99, repeat=False)
    truth = [{e.text: s.target_mask(e) for e in s.expressions} for s in stills]
    compared = 0
    for index in range(len(data)):
        sample = data.sample(index, rng())
        (known,) = (t for t in truth if set(sample.expressions) <= set(t) and _fits(sample, t))
        compared += len(known)
    assert compared >= 3


def _fits(sample: Any, known: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(m, known[t]) for t, m in zip(sample.expressions, sample.masks, strict=True))


@pytest.mark.skipif(not (SHARED / "refcoco_text").is_dir(), reason="needs ../shared/data/refcoco_text")
def test_the_real_sentences_are_all_kept(tmp_path: Path) -> None:
    """RefCOCO (unc) val: 1,500 pictures, 3,811 objects, 10,834 sentences."""
    items = json.loads((SHARED / "refcoco_text" / "val.json").read_text())["items"]
    texts: dict[tuple[int, int], list[str]] = defaultdict(list)
    for item in items:
        image, ref_id, _ = (int(part) for part in item["mask"][len("masks/val/") : -len(".png")].split("_"))
        texts[image, ref_id].append(item["text"])
    refs = [ref(ref_id, ref_id, image, words, "val") for (image, ref_id), words in texts.items()]
    images = sorted({image for image, _ in texts})
    instances = {
        "images": [
            {"id": i, "file_name": "COCO_train2014_000000000001.jpg", "height": HEIGHT, "width": WIDTH}
            for i in images
        ],
        "annotations": [annotation(ref_id, image, [SQUARE]) for image, ref_id in texts],
    }
    tree(tmp_path, refs, instances)
    report = RefCOCODataset(tmp_path, split="val").report()
    assert report == {"pictures": 1500, "objects": 3811, "expressions": 10834, "left_out": {}}


@pytest.mark.skipif(not (SHARED / "coco_small").is_dir(), reason="needs ../shared/data/coco_small")
def test_real_polygons_agree_with_their_areas_and_boxes(tmp_path: Path) -> None:
    samples = SHARED / "coco_small" / "icevision_samples" / "samples"
    instances = json.loads((samples / "annotations.json").read_text())
    refs = [
        ref(i, entry["id"], entry["image_id"], [f"thing {entry['id']}"])
        for i, entry in enumerate(instances["annotations"])
    ]
    tree(tmp_path, refs, instances)
    for image in instances["images"]:
        link = tmp_path / "refcoco/coco2014/train2014" / image["file_name"]
        link.symlink_to(samples / "images" / image["file_name"])
    data = RefCOCODataset(tmp_path, expressions=99, repeat=False)
    assert data.report()["left_out"] == {}
    known = {f"thing {entry['id']}": entry for entry in instances["annotations"]}
    compared = 0
    for index in range(len(data)):
        sample = data.sample(index, rng())
        for text, mask in zip(sample.expressions, sample.masks[:, 0], strict=True):
            x, y, width, height = known[text]["bbox"]
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            box = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
            np.testing.assert_allclose(box, (x, y, x + width, y + height), atol=2)
            assert abs(mask.sum() - known[text]["area"]) <= 0.15 * known[text]["area"] + 30
            compared += 1
    assert compared == 36
