"""RefCOCO, RefCOCO+ and RefCOCOg as written, read as lichengunc/refer does."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from refstream.data.layouts import write_layout

from .reading import REAL, form, load, load_pickle

REFS = {"refcoco": "refs(unc).p", "refcoco+": "refs(unc).p", "refcocog": "refs(umd).p"}


def get_mask(annotation, image):
    """(H, W) uint8: polygons rasterised one by one and summed, so an overlap would show as 2."""
    parts = coco.frPyObjects(annotation["segmentation"], image["height"], image["width"])
    return coco.decode(parts).sum(axis=2)


@pytest.mark.parametrize(("name", "count"), [("refcoco", 12), ("refcoco+", 11), ("refcocog", 12)])
def test_sentences_and_masks(tmp_path, source, name, count):
    report = write_layout(name, source, tmp_path)
    assert (report.split, report.clips, report.expressions) == ("train", 2, count)
    relation = {"family relation": 1} if name == "refcoco+" else {}
    assert report.left_out == {"several targets": 2, "no target": 2, "target not visible": 1} | relation
    refs, instances = load_pickle(tmp_path / REFS[name]), load(tmp_path / "instances.json")
    images = {image["id"]: image for image in instances["images"]}
    annotations = {annotation["id"]: annotation for annotation in instances["annotations"]}
    stills = dict(zip(images, (source.still(0), source.still(2)), strict=True))
    said = {image_id: {e.text: e.object_ids for e in still.expressions} for image_id, still in stills.items()}
    sent_ids = []
    for number, ref in enumerate(refs):
        assert (ref["ref_id"], ref["split"]) == (number, "train")
        annotation, image = annotations[ref["ann_id"]], images[ref["image_id"]]
        assert annotation["image_id"] == image["id"]
        for sentence in ref["sentences"]:
            (target,) = said[ref["image_id"]][sentence["sent"]]
            mask = stills[ref["image_id"]].object_masks[target, 0]
            assert (get_mask(annotation, image) == mask).all()
            assert sentence["tokens"] == sentence["sent"].split()
        assert ref["sent_ids"] == [sentence["sent_id"] for sentence in ref["sentences"]]
        sent_ids += ref["sent_ids"]
    assert sent_ids == list(range(count))


def test_annotations_and_pictures(tmp_path, source):
    write_layout("refcoco", source, tmp_path)
    instances = load(tmp_path / "instances.json")
    assert [a["id"] for a in instances["annotations"]] == list(range(1, 7))  # two objects are not visible
    images = {image["id"]: image for image in instances["images"]}
    for annotation in instances["annotations"]:
        mask = get_mask(annotation, images[annotation["image_id"]]).astype(bool)
        assert annotation["area"] == mask.sum()
        x, y, width, height = (int(value) for value in annotation["bbox"])
        box = np.zeros_like(mask)
        box[y : y + height, x : x + width] = True
        assert not (mask & ~box).any()
        rows, columns = mask[y : y + height, x : x + width].any(1), mask[y : y + height, x : x + width].any(0)
        assert rows[[0, -1]].all()
        assert columns[[0, -1]].all()
    for image in images.values():
        assert re.fullmatch(r"COCO_train2014_\d{12}\.jpg", image["file_name"])
        with Image.open(tmp_path / "coco2014" / "train2014" / image["file_name"]) as picture:
            assert picture.format == "JPEG"
            assert picture.size == (image["width"], image["height"])
            assert np.abs(np.array(picture).astype(int) - source.still(0).frames[0]).max() <= 6


def test_splits_share_the_files(tmp_path, sources):
    write_layout("refcoco", sources("train"), tmp_path)
    for split in ("testA", "testB"):
        write_layout("refcoco", sources("test"), tmp_path, split=split)
    refs, instances = load_pickle(tmp_path / "refs(unc).p"), load(tmp_path / "instances.json")
    assert {ref["split"]: ref["image_id"] for ref in refs} == {"train": 2, "testA": 4, "testB": 6}
    for key, entries in (("id", instances["images"]), ("id", instances["annotations"]), ("ref_id", refs)):
        assert len({entry[key] for entry in entries}) == len(entries)
    assert [s["sent_id"] for ref in refs for s in ref["sentences"]] == list(range(36))
    assert {ref["ann_id"] for ref in refs} <= {a["id"] for a in instances["annotations"]}


def test_file_names_of_refs_are_not_those_of_pictures(tmp_path, source):
    """The official trap: COCO_train2014_000000581857_16.jpg is no file."""
    write_layout("refcoco", source, tmp_path)
    for ref in load_pickle(tmp_path / "refs(unc).p"):
        assert re.fullmatch(rf"COCO_train2014_{ref['image_id']:012d}_\d+\.jpg", ref["file_name"])
        assert not (tmp_path / "coco2014" / "train2014" / ref["file_name"]).exists()


def test_form_of_a_real_ref(tmp_path, source):
    """The first entry of the official refs(unc).p, shortened."""
    real = json.loads(
        '{"sent_ids": [0], "file_name": "COCO_train2014_000000581857_16.jpg", "ann_id": 1719310, "ref_id": 0,'
        '"image_id": 581857, "split": "train", "sentences": [{"tokens": ["the", "lady"], "raw": "THE LADY",'
        '"sent_id": 0, "sent": "the lady"}], "category_id": 1}'
    )
    write_layout("refcoco", source, tmp_path)
    assert all(form(ref) == form(real) for ref in load_pickle(tmp_path / "refs(unc).p"))


@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data")
def test_form_of_real_instances(tmp_path, source):
    write_layout("refcoco", source, tmp_path)
    ours = load(tmp_path / "instances.json")
    real = load(REAL / "coco_small" / "icevision_samples" / "samples" / "annotations.json")
    assert set(ours) >= {"images", "annotations", "categories"}
    polygons = next(a for a in real["annotations"] if isinstance(a["segmentation"], list))
    assert set(ours["annotations"][0]) >= set(polygons)
    assert form(ours["annotations"][0]["segmentation"]) == form(polygons["segmentation"])
    assert form(ours["annotations"][0]["bbox"]) == form(polygons["bbox"])
    assert set(ours["images"][0]) <= set(real["images"][0])
    assert set(ours["categories"][0]) <= set(real["categories"][0])
    pictures = {item["image"] for item in load(REAL / "refcoco_text" / "val.json")["items"]}
    assert all(re.fullmatch(r"images/COCO_train2014_\d{12}\.jpg", name) for name in pictures)
