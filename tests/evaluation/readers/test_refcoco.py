"""RefCOCO's and gRefCOCO's files for evaluation: every sentence is there, and its mask."""

from __future__ import annotations

import json
import pickle
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from refstream.data.layouts import write_layout
from refstream.data.rle import decode, from_polygons
from refstream.errors import UserError
from refstream.evaluation.protocols.gres import GRES
from refstream.evaluation.protocols.pictures import Pictures
from refstream.evaluation.readers.refcoco import GRefCOCOBenchmark, RefCOCOBenchmark
from refstream.evaluation.score import score
from refstream.synthetic.minirvos import MiniRVOS
from tests.evaluation.protocols.given import Given, grefcoco_tree, load, refcoco_tree

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
SQUARE = [5, 4, 25, 4, 25, 24, 5, 24]


def ref(ref_id: int, ann_id: Any, image_id: int, texts: dict[int, str], split: str = "val") -> dict[str, Any]:
    return {
        "ref_id": ref_id,
        "ann_id": ann_id,
        "image_id": image_id,
        "split": split,
        "file_name": f"COCO_train2014_{image_id:012d}_{ref_id}.jpg",
        "sentences": [{"sent_id": number, "sent": text} for number, text in texts.items()],
    }


def instances(images: list[int], annotations: dict[int, tuple[int, Any]]) -> dict[str, Any]:
    return {
        "images": [
            {"id": i, "file_name": f"COCO_train2014_{i:012d}.jpg", "height": 40, "width": 60} for i in images
        ],
        "annotations": [
            {"id": i, "image_id": image, "segmentation": segmentation, "iscrowd": 0}
            for i, (image, segmentation) in annotations.items()
        ],
    }


def tree(root: Path, refs: list[dict[str, Any]], content: dict[str, Any], name: str = "refcoco") -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "instances.json").write_text(json.dumps(content))
    if name == "grefcoco":
        (folder / "grefs(unc).json").write_text(json.dumps(refs))
    else:
        by = "umd" if name == "refcocog" else "unc"
        (folder / f"refs({by}).p").write_bytes(pickle.dumps(refs, protocol=0))
    return root


def test_every_sentence_of_the_golden_case(tmp_path: Path) -> None:
    rows = load("refcoco", "refs(unc).json")
    refcoco_tree(tmp_path)
    for split in ("val", "testA"):
        benchmark = RefCOCOBenchmark(tmp_path, split=split)
        told = {
            str(s["sent_id"]): (s["sent"], f"COCO_train2014_{r['image_id']:012d}", r["ann_id"])
            for r in rows
            if r["split"] == split
            for s in r["sentences"]
        }
        found = {
            e.id: (e.text, video.id, e.details["annotations"][0])
            for video in benchmark.videos
            for e in video.expressions
        }
        assert found == told
        assert benchmark.num_expressions == len(told)
        assert all(video.frames == (video.id,) for video in benchmark.videos)


def test_masks_of_the_golden_case(tmp_path: Path) -> None:
    """Overlapping polygons (62) are joined, RLE in a list (65) is read, no segmentation (68) is no pixel."""
    benchmark = RefCOCOBenchmark(refcoco_tree(tmp_path), split="testA")
    entries = {a["id"]: a["segmentation"] for a in load("refcoco", "instances.json")["annotations"]}
    seen = set()
    for video in benchmark.videos:
        assert video.size is not None
        for expression in video.expressions:
            (number,) = expression.details["annotations"]
            parts = entries[number]
            if parts and isinstance(parts[0], dict):
                expected = decode(parts[0])
            else:
                expected = from_polygons(parts, *video.size)
            truth = benchmark.truth(video, expression)
            assert truth.shape == (1, *video.size)
            assert truth.dtype == bool
            np.testing.assert_array_equal(truth[0], expected)
            seen.add(number)
    assert {62, 65, 68} <= seen
    assert not expected_of(benchmark, 68).any()
    twice = [decode(code) for code in coco.frPyObjects(entries[62], *expected_of(benchmark, 62).shape)]
    assert (sum(part.astype(int) for part in twice) == 2).any()  # the trap is there


def expected_of(benchmark: RefCOCOBenchmark, annotation: int) -> np.ndarray:
    for video in benchmark.videos:
        for expression in video.expressions:
            if expression.details["annotations"] == [annotation]:
                return benchmark.truth(video, expression)[0]
    raise AssertionError(annotation)


def test_grefcoco_joins_instances_and_leaves_out_crowds(tmp_path: Path) -> None:
    benchmark = GRefCOCOBenchmark(grefcoco_tree(tmp_path), "val")
    entries = {a["id"]: a for a in load("grefcoco", "instances.json")["annotations"]}
    crowds, absent, several = 0, 0, 0
    for video in benchmark.videos:
        assert video.size is not None
        for expression in video.expressions:
            numbers = expression.details["annotations"]
            single = [entries[i] for i in numbers if not entries[i]["iscrowd"]]
            expected = np.zeros(video.size, dtype=bool)
            for entry in single:
                expected |= from_polygons(entry["segmentation"], *video.size)
            np.testing.assert_array_equal(benchmark.truth(video, expression)[0], expected)
            assert expression.details.get("no_target", False) == (not numbers)
            crowds, absent = crowds + (len(single) < len(numbers)), absent + (not numbers)
            several += len(single) > 1
    assert min(crowds, absent, several) > 0
    assert benchmark.num_expressions == 30


@pytest.mark.parametrize(
    ("name", "split"),
    [("refcoco", "testB"), ("refcoco+", "val"), ("refcoco_plus", "testA"), ("refcocog", "test")],
)
def test_minirvos_as_refcoco_scores_100(tmp_path: Path, name: str, split: str) -> None:
    source = MiniRVOS("test", seed=5, num_clips=4, size=64)
    folder = name.replace("_plus", "+")
    report = write_layout(folder, source, tmp_path / folder, split=split)
    benchmark = RefCOCOBenchmark(tmp_path, name, split)
    assert (len(benchmark.videos), benchmark.num_expressions) == (report.clips, report.expressions)
    known = {}
    for video in benchmark.videos:
        (picture,) = benchmark.images(video)
        assert picture.shape == (64, 64, 3)
        assert picture.dtype == np.uint8
        stills = [source.still(i) for i in range(4)]
        (still,) = (s for s in stills if np.abs(picture.astype(int) - s.frames[0]).mean() < 8)  # JPEG
        for expression in video.expressions:
            (e,) = (e for e in still.expressions if e.text == expression.text and len(e.object_ids) == 1)
            known[expression.id] = still.target_mask(e)[0]
    assert len(known) == report.expressions > 3
    protocol = Pictures()
    overall = protocol.summarize(benchmark, score(benchmark, Given(known), protocol))["overall"]
    assert overall["cIoU"] == overall["gIoU"] == overall["Pr@0.9"] == 100
    worst = protocol.summarize(benchmark, score(benchmark, Given({}), protocol))["overall"]
    assert worst["cIoU"] == worst["gIoU"] == 0


def test_pictures_are_needed_to_run_but_not_to_score(tmp_path: Path) -> None:
    root = tree(tmp_path, [ref(0, 7, 1, {0: "a square"})], instances([1], {7: (1, [SQUARE])}))
    benchmark = RefCOCOBenchmark(root)
    (video,) = benchmark.videos
    assert score(benchmark, Given({}), Pictures())[0].details == {"inter": 0, "union": 400}
    with pytest.raises(UserError, match="no pictures at"):
        next(benchmark.images(video))
    folder = root / "coco2014" / "train2014"
    folder.mkdir(parents=True)
    with pytest.raises(UserError, match=r"COCO_train2014_000000000001\.jpg"):
        next(benchmark.images(video))
    Image.new("RGB", (60, 41)).save(folder / "COCO_train2014_000000000001.jpg")
    with pytest.raises(UserError, match=r"is of size \(41, 60\), .*instances.json says \(40, 60\)"):
        next(benchmark.images(video))


@pytest.mark.parametrize(
    ("refs", "content", "message"),
    [
        ([ref(0, 7, 2, {0: "a"})], instances([1], {7: (1, [SQUARE])}), r"lacks 2 things .*ref 0: image 2"),
        ([ref(0, 8, 1, {0: "a"})], instances([1], {7: (1, [SQUARE])}), "annotation 8 of image 1"),
        ([ref(0, 7, 2, {0: "a"})], instances([1, 2], {7: (1, [SQUARE])}), "annotation 7 of image 2"),
        ([ref(i, 7, 1, {0: "a"}) for i in (0, 1)], instances([1], {7: (1, [])}), "sentence 0 occurs twice"),
        ([ref(0, 7, 1, {"x": "a"})], instances([1], {7: (1, [])}), "sent_id: expected int"),  # type: ignore[dict-item]
    ],
)
def test_files_that_disagree_are_refused(
    tmp_path: Path, refs: list[dict[str, Any]], content: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        RefCOCOBenchmark(tree(tmp_path, refs, content))


@pytest.mark.parametrize("bad", [[[1, 2, float("inf"), 4, 5, 6]], ["x"], [{"size": [3, 3], "counts": [9]}]])
def test_a_broken_outline_names_its_annotation(tmp_path: Path, bad: Any) -> None:
    root = tree(tmp_path, [ref(0, 7, 1, {0: "a"})], instances([1], {7: (1, bad)}))
    with pytest.raises(UserError, match=r"instances\.json, annotation 7: "):
        score(RefCOCOBenchmark(root), Given({}), Pictures())


def test_a_sentence_without_words_counts(tmp_path: Path) -> None:
    root = tree(tmp_path, [ref(0, 7, 1, {0: " ", 1: "b"})], instances([1], {7: (1, [SQUARE])}))
    assert [e.text for e in RefCOCOBenchmark(root).videos[0].expressions] == ["", "b"]


def test_bad_arguments_say_so(tmp_path: Path) -> None:
    refcoco_tree(tmp_path)
    for arguments, message in (
        ({"name": "refclef"}, "name must be one of"),
        ({"split": "test"}, r"no split 'test'; it has \['testA', 'testB', 'train', 'val'\]"),
        ({"split_by": "google"}, r"refs\(google\)\.p"),
        ({"overlap": "sum"}, "overlap must be one of union, background, rle_of_sum"),
        ({"name": "refcocog"}, "no dataset folder"),
    ):
        with pytest.raises(UserError, match=message):
            RefCOCOBenchmark(tmp_path, **arguments)  # type: ignore[arg-type]


def test_the_folder_of_the_data_set_will_do_too(tmp_path: Path) -> None:
    refcoco_tree(tmp_path / "family")
    there = tmp_path / "family" / "refcoco"
    above, itself = (RefCOCOBenchmark(root) for root in (tmp_path / "family", there))
    assert itself.fingerprint == above.fingerprint
    other = there.rename(tmp_path / "family" / "of my own")
    assert RefCOCOBenchmark(other).fingerprint == above.fingerprint
    with pytest.raises(UserError, match="no dataset folder"):  # it is not taken for another one
        RefCOCOBenchmark(other.rename(there), "refcoco+")


def test_data_and_rules_have_fingerprints(tmp_path: Path) -> None:
    refcoco_tree(tmp_path)
    made = [
        RefCOCOBenchmark(tmp_path, split="testA"),
        RefCOCOBenchmark(tmp_path),
        RefCOCOBenchmark(tmp_path, overlap="rle_of_sum"),
    ]
    assert len({benchmark.fingerprint for benchmark in made}) == 3
    assert made[1].fingerprint == RefCOCOBenchmark(tmp_path).fingerprint


@pytest.mark.skipif(not (SHARED / "refcoco_text").is_dir(), reason="needs ../shared/data/refcoco_text")
@pytest.mark.parametrize(
    ("split", "pictures", "sentences"), [("val", 1500, 10834), ("testA", 750, 5657), ("testB", 750, 5095)]
)
def test_the_real_sentences_are_all_there(tmp_path: Path, split: str, pictures: int, sentences: int) -> None:
    items = json.loads((SHARED / "refcoco_text" / f"{split}.json").read_text())["items"]
    texts: dict[tuple[int, int], dict[int, str]] = defaultdict(dict)
    for item in items:
        stem = item["mask"].removeprefix(f"masks/{split}/").removesuffix(".png")
        image, ref_id, sent_id = (int(part) for part in stem.split("_"))
        texts[image, ref_id][sent_id] = item["text"]
    refs = [ref(ref_id, ref_id, image, words, split) for (image, ref_id), words in texts.items()]
    images = sorted({image for image, _ in texts})
    content = instances(images, {ref_id: (image, [SQUARE]) for image, ref_id in texts})
    benchmark = RefCOCOBenchmark(tree(tmp_path, refs, content), split=split)
    assert (len(benchmark.videos), benchmark.num_expressions) == (pictures, sentences)


@pytest.mark.skipif(not (SHARED / "coco_small").is_dir(), reason="needs ../shared/data/coco_small")
@pytest.mark.parametrize("name", ["refcoco", "grefcoco"])
def test_real_pictures_and_polygons(tmp_path: Path, name: str) -> None:
    """Masks equal pycocotools' union of the polygons; for gRefCOCO, of all objects of a picture."""
    samples = SHARED / "coco_small" / "icevision_samples" / "samples"
    content = json.loads((samples / "annotations.json").read_text())
    by_image: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for entry in content["annotations"]:
        by_image[entry["image_id"]].append(entry)
    if name == "refcoco":
        refs = [
            ref(i, entry["id"], entry["image_id"], {i: f"thing {i}"})
            for i, entry in enumerate(content["annotations"])
        ]
    else:
        refs = [
            ref(i, [e["id"] for e in entries], image, {i: "all"})
            for i, (image, entries) in enumerate(by_image.items())
        ]
        refs.append(ref(99, [-1], refs[0]["image_id"], {99: "the unicorn"}))
    tree(tmp_path, refs, content, name)
    folder = tmp_path / "coco2014" / "train2014"
    folder.mkdir(parents=True)
    for image in content["images"]:
        (folder / image["file_name"]).symlink_to(samples / "images" / image["file_name"])
    benchmark = RefCOCOBenchmark(tmp_path) if name == "refcoco" else GRefCOCOBenchmark(tmp_path)
    entries_of = {entry["id"]: entry for entry in content["annotations"]}
    masks = {}
    for video in benchmark.videos:
        assert next(benchmark.images(video)).shape[:2] == video.size
        for expression in video.expressions:
            expected = np.zeros(video.size or (0, 0), dtype=bool)
            for number in expression.details["annotations"]:
                entry = entries_of[number]
                if name == "grefcoco" and entry.get("iscrowd"):
                    continue
                outline = entry["segmentation"]
                codes = coco.frPyObjects(outline, *expected.shape)
                expected |= coco.decode(coco.merge(codes) if isinstance(codes, list) else codes).astype(bool)
            masks[expression.id] = benchmark.truth(video, expression)[0]
            np.testing.assert_array_equal(masks[expression.id], expected)
    assert len(masks) == (36 if name == "refcoco" else len(by_image) + 1)
    protocol = Pictures() if name == "refcoco" else GRES()
    overall = protocol.summarize(benchmark, score(benchmark, Given(masks), protocol))["overall"]
    assert overall["cIoU"] == overall["gIoU"] == overall["Pr@0.9"] == 100
    if name == "grefcoco":
        assert (overall["N-acc"], overall["T-acc"]) == (100, 100)
