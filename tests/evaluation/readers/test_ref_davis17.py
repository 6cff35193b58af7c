"""Ref-DAVIS17: dictionary and pictures, annotators, void, and the ways in which the masks go wrong."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from refstream.errors import UserError
from refstream.evaluation.metrics.jf import contour_accuracy, region_similarity
from refstream.evaluation.readers.ref_davis17 import RefDAVIS17Benchmark
from tests.evaluation.golden_trees import (
    GOLDEN,
    SHARED_DATA,
    davis17_official_tree,
    davis17_tree,
    load,
    write,
)


def predicted(codes: list, size: tuple[int, int]) -> np.ndarray:
    frames = [np.zeros(size, bool) if code is None else coco.decode(code) > 0 for code in codes]
    return np.stack(frames)


def test_truth_gives_the_official_scores_of_every_expression(tmp_path: Path) -> None:
    benchmark = RefDAVIS17Benchmark(davis17_tree(tmp_path))
    case, predictions = (
        load("davis17_expressions", "case.json"),
        load("davis17_expressions", "predictions.json"),
    )
    assert benchmark.settings == {"masks": "pickle"}
    assert benchmark.num_expressions == case["expressions"] == 40
    for video in benchmark.videos:
        for expression in video.expressions:
            truth = benchmark.truth(video, expression)
            assert truth is not None
            assert (truth.dtype, truth.shape) == (np.dtype(bool), (len(video.frames), *video.size))
            codes = predictions[video.id][expression.id]["prediction_masks"]
            masks, official = (
                predicted(codes, video.size),
                case["per_expression"][f"{video.id}_{expression.id}"],
            )
            assert region_similarity(truth, masks).mean() == pytest.approx(official["J"], abs=1e-12)
            assert contour_accuracy(truth, masks).mean() == pytest.approx(official["F"], abs=1e-12)


def test_an_expression_knows_its_annotator_and_object(tmp_path: Path) -> None:
    benchmark = RefDAVIS17Benchmark(davis17_tree(tmp_path))
    walk = next(video for video in benchmark.videos if video.id == "walk")
    asked = {e.id: e for e in walk.expressions}
    assert asked["10"].text == "object 3 by annotator 2"
    assert asked["10"].group == "annotator 2"
    assert asked["10"].details == {"annotator": 2, "object": 3}
    assert asked["0"].group == "annotator 0"
    assert walk.frames == ("00000", "00001", "00002", "00003", "00004")


def test_pictures_and_dictionary_say_the_same(tmp_path: Path) -> None:
    root = davis17_tree(tmp_path, pictures=True)
    coded, pictures = RefDAVIS17Benchmark(root), RefDAVIS17Benchmark(root, masks="pictures")
    assert (coded.settings["masks"], pictures.settings["masks"]) == ("pickle", "pictures")
    assert coded.fingerprint != pictures.fingerprint
    for video, other in zip(coded.videos, pictures.videos, strict=True):
        first = {e.details["object"]: e for e in reversed(video.expressions)}
        one, two = (np.stack(list(b.objects(v))) for b, v in ((coded, video), (pictures, other)))
        assert one.shape == two.shape == (len(first), len(video.frames), *video.size)
        # in the pictures a pixel has one object: later ones lie on top
        assert (two & ~one).sum() == 0
        assert np.array_equal(two[-1], one[-1])
        assert np.array_equal(two.any(axis=0), one.any(axis=0))


def test_label_maps_are_the_pictures_with_void_and_undescribed_objects(tmp_path: Path) -> None:
    benchmark = RefDAVIS17Benchmark(davis17_official_tree(tmp_path))
    assert benchmark.settings == {"masks": "pictures"}
    source = GOLDEN / "davis17_official" / "DAVIS" / "Annotations_unsupervised" / "480p"
    for video in benchmark.videos:
        expected = np.stack([np.array(Image.open(source / video.id / f"{f}.png")) for f in video.frames])
        labels = benchmark.label_map(video)
        assert labels.dtype == np.uint8
        assert np.array_equal(labels, expected)
        assert np.array_equal(benchmark.void(video), expected == 255)
        for expression in video.expressions:
            truth = benchmark.truth(video, expression)
            assert np.array_equal(truth, expected == expression.details["object"])
        assert sum(1 for _ in benchmark.images(video)) == len(expected)
    by_name = {video.id: video for video in benchmark.videos}
    assert (benchmark.label_map(by_name["skate"]) == 255).any()
    assert benchmark.label_map(by_name["crowd-x"])[0].max() == 4
    assert len({e.details["object"] for e in by_name["crowd-x"].expressions}) == 3


def test_label_maps_need_the_pictures(tmp_path: Path) -> None:
    benchmark = RefDAVIS17Benchmark(davis17_tree(tmp_path))
    assert benchmark.void(benchmark.videos[0]) is None
    with pytest.raises(UserError, match=r"label maps of DAVIS are the pictures in .*which are not there"):
        benchmark.label_map(benchmark.videos[0])


def test_a_dictionary_counted_in_numeric_order_is_refused(tmp_path: Path) -> None:
    root = davis17_tree(tmp_path)
    videos = load("davis17_expressions", "meta_expressions.json")["videos"]
    masks = load("davis17_expressions", "mask_dict.json")
    right = [(video, key) for video in sorted(videos) for key in sorted(videos[video]["expressions"])]
    wrong = [
        (video, key) for video in sorted(videos) for key in sorted(videos[video]["expressions"], key=int)
    ]
    by_name = {name: masks[str(number)] for number, name in enumerate(right)}
    write(root / "valid" / "mask_dict.pkl", {str(number): by_name[name] for number, name in enumerate(wrong)})
    with pytest.raises(UserError, match=r"counted in another order than .*masks='pictures'"):
        RefDAVIS17Benchmark(root)


def test_a_dictionary_counted_over_videos_in_file_order_is_refused(tmp_path: Path) -> None:
    root = davis17_tree(tmp_path)
    videos = load("davis17_expressions", "meta_expressions.json")["videos"]
    masks = load("davis17_expressions", "mask_dict.json")
    right = [(video, key) for video in sorted(videos) for key in sorted(videos[video]["expressions"])]
    wrong = [(video, key) for video in videos for key in sorted(videos[video]["expressions"])]
    assert right != wrong
    by_name = {name: masks[str(number)] for number, name in enumerate(right)}
    write(root / "valid" / "mask_dict.pkl", {str(number): by_name[name] for number, name in enumerate(wrong)})
    with pytest.raises(UserError, match=r"annotation 0 has 5 masks, but expression bear/0"):
        RefDAVIS17Benchmark(root)


def test_null_masks_are_empty_frames(tmp_path: Path) -> None:
    root = davis17_tree(tmp_path)
    masks = load("davis17_expressions", "mask_dict.json")
    for number in range(4):  # the one object of "bear"
        masks[str(number)] = [None] * 6
    write(root / "valid" / "mask_dict.pkl", masks)
    benchmark = RefDAVIS17Benchmark(root)
    bear = next(video for video in benchmark.videos if video.id == "bear")
    assert bear.size is None  # neither list nor masks tell it
    with pytest.raises(UserError, match=r"bear/00000\.jpg is not a readable picture"):
        benchmark.truth(bear, bear.expressions[0])
    folder = root / "valid" / "JPEGImages" / "bear"
    folder.mkdir(parents=True)
    Image.new("RGB", (64, 48)).save(folder / "00000.jpg")
    truth = benchmark.truth(bear, bear.expressions[0])
    assert truth.shape == (6, 48, 64)
    assert not truth.any()


def test_masks_of_another_size_are_an_error_that_names_the_file(tmp_path: Path) -> None:
    root = davis17_official_tree(tmp_path)
    path = root / "valid" / "Annotations" / "goose" / "00003.png"
    with Image.open(path) as image:
        image.resize((79, 60), 0).save(path)
    benchmark = RefDAVIS17Benchmark(root)
    with pytest.raises(UserError, match=r"goose/00003\.png is of size \(60, 79\), 00000\.png .* \(60, 80\)"):
        benchmark.label_map(next(video for video in benchmark.videos if video.id == "goose"))


def test_an_alpha_channel_beside_the_numbers_says_nothing(tmp_path: Path) -> None:
    root = davis17_official_tree(tmp_path)
    before = RefDAVIS17Benchmark(root)
    goose = next(video for video in before.videos if video.id == "goose")
    expected = before.label_map(goose).copy()
    path = root / "valid" / "Annotations" / "goose" / "00002.png"
    with Image.open(path) as image:
        grey = Image.fromarray(np.asarray(image))
    Image.merge("LA", (grey, Image.new("L", grey.size, 200))).save(path)
    assert np.array_equal(RefDAVIS17Benchmark(root).label_map(goose), expected)
    grey.convert("RGBA").save(path)
    with pytest.raises(UserError, match=r"00002\.png: expected a palette PNG .* got mode RGBA"):
        RefDAVIS17Benchmark(root).label_map(goose)


def test_missing_frames_are_named(tmp_path: Path) -> None:
    root = davis17_tree(tmp_path, frames=True)
    benchmark = RefDAVIS17Benchmark(root)
    video = benchmark.videos[0]
    shown = [int(image.mean().round()) for image in benchmark.images(video)]
    assert shown == [3 * t for t in range(len(video.frames))]
    gone = root / "valid" / "JPEGImages" / video.id / f"{video.frames[2]}.jpg"
    gone.unlink()
    with pytest.raises(UserError, match=rf"no frame .*{video.id}/{video.frames[2]}\.jpg"):
        list(benchmark.images(video))
    Image.new("RGB", (10, 10)).save(gone)
    with pytest.raises(UserError, match=rf"{video.frames[2]}\.jpg is of size \(10, 10\)"):
        list(benchmark.images(video))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda video: video.pop("frames"), "key 'frames': expected list, got 'None'"),
        (lambda video: video["frames"].append("00000"), "a frame is listed twice"),
        (lambda video: video["frames"].clear(), "no frames are listed"),
        (lambda video: video["expressions"]["0"].pop("obj_id"), "expected an obj_id in 1..254, got None"),
        (
            lambda video: video["expressions"].update(x=video["expressions"].pop("3")),
            "as the expression's id",
        ),
    ],
)
def test_lists_of_another_form_are_refused(tmp_path: Path, change, message: str) -> None:
    root = davis17_official_tree(tmp_path)
    path = root / "meta_expressions" / "valid" / "meta_expressions.json"
    content = json.loads(path.read_text())
    change(content["videos"]["goose"])
    write(path, content)
    with pytest.raises(UserError, match=message):
        RefDAVIS17Benchmark(root)


def test_missing_masks_say_how_to_make_them(tmp_path: Path) -> None:
    root = davis17_tree(tmp_path)
    (root / "valid" / "mask_dict.pkl").unlink()
    with pytest.raises(UserError, match=r"expected valid/mask_dict\.pkl or the folder .*Annotations"):
        RefDAVIS17Benchmark(root)
    with pytest.raises(UserError, match="set masks='pictures'"):
        RefDAVIS17Benchmark(root, masks="pickle")
    with pytest.raises(UserError, match="no dataset folder at"):
        RefDAVIS17Benchmark(root / "davis")


def test_a_dictionary_that_runs_code_is_refused(tmp_path: Path) -> None:
    root = davis17_tree(tmp_path)
    (root / "valid" / "mask_dict.pkl").write_bytes(pickle.dumps(Path))
    with pytest.raises(UserError, match="holds more than plain data"):
        RefDAVIS17Benchmark(root)


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="needs ../shared/data")
def test_the_real_one_object_subset() -> None:
    root = SHARED_DATA / "refdavis17_oneobject"
    benchmark = RefDAVIS17Benchmark(root)
    assert (len(benchmark.videos), benchmark.num_expressions) == (9, 36)
    assert {e.group for video in benchmark.videos for e in video.expressions} == {
        f"annotator {a}" for a in range(4)
    }
    video = benchmark.videos[0]
    truth = benchmark.truth(video, video.expressions[0])
    with Image.open(root / "valid" / "Annotations" / video.id / f"{video.frames[7]}.png") as image:
        assert np.array_equal(truth[7], np.asarray(image) == 1)
    assert next(benchmark.images(video)).shape == (480, 854, 3)
    assert np.array_equal(benchmark.label_map(video) == 1, truth)
