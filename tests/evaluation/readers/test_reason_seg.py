"""ReasonSeg's files: outlines of rectangles, whose pixels are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from refstream.errors import UserError
from refstream.evaluation.protocols.pictures import Pictures
from refstream.evaluation.readers.reason_seg import ReasonSegBenchmark
from refstream.evaluation.score import score
from tests.evaluation.protocols.given import Given

HEIGHT, WIDTH = 30, 40


def rectangle(label: str, x0: float, y0: float, x1: float, y1: float) -> dict[str, Any]:
    return {"label": label, "points": [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]}


def description(*shapes: dict[str, Any], text: tuple[str, ...] = ("which?",), sentence: bool = True) -> Any:
    return {"shapes": list(shapes), "text": list(text), "is_sentence": sentence}


def tree(root: Path, contents: dict[str, Any], split: str = "val", encoding: str = "utf-8") -> Path:
    folder = root / split
    folder.mkdir(parents=True)
    for name, content in contents.items():
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / f"{name}.jpg")
        text = json.dumps(content, ensure_ascii=False)
        (folder / f"{name}.json").write_bytes(text.encode(encoding))
    return root


def area(rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[rows, columns] = True
    return mask


def test_outlines_include_their_edges_and_small_ones_lie_on_top(tmp_path: Path) -> None:
    shapes = (
        rectangle("ignore", 4, 5, 8, 8),  # inside the target, painted after it though listed before
        rectangle("target", 2.9, 3.2, 12.7, 10.9),  # fractions are cut off
        rectangle("Ignore area", 20, 20, 30, 25),
        rectangle("flag", 0, 0, 39, 29),
        rectangle("target", 22, 21, 24, 22),
    )
    benchmark = ReasonSegBenchmark(tree(tmp_path, {"a": description(*shapes)}))
    (video,) = benchmark.videos
    truth, void = benchmark.truth(video, video.expressions[0]), benchmark.void(video)
    hole, island = area(slice(5, 9), slice(4, 9)), area(slice(21, 23), slice(22, 25))
    target = (area(slice(3, 11), slice(2, 13)) & ~hole) | island
    np.testing.assert_array_equal(truth, target[None])
    np.testing.assert_array_equal(void, ((area(slice(20, 26), slice(20, 31)) & ~island) | hole)[None])
    assert truth.dtype == bool


def test_ignored_pixels_do_not_count(tmp_path: Path) -> None:
    shapes = rectangle("target", 0, 0, 9, 9), rectangle("ignore", 20, 0, 29, 9)
    root = tree(tmp_path, {"a": description(*shapes), "b": description(rectangle("target", 0, 0, 9, 9))})
    benchmark = ReasonSegBenchmark(root)
    assert benchmark.void(benchmark.videos[1]) is None
    protocol = Pictures("gIoU")
    found = area(slice(0, 10), slice(0, 30))
    items = score(benchmark, Given({"0": found}), protocol)
    assert [(i.details["inter"], i.details["union"]) for i in items] == [(100, 200), (100, 300)]
    overall = protocol.summarize(benchmark, items)["overall"]
    assert overall["gIoU"] == pytest.approx(100 * (1 / 2 + 1 / 3) / 2)
    assert overall["cIoU"] == pytest.approx(100 * 200 / 500)


def test_texts_and_groups(tmp_path: Path) -> None:
    shape = rectangle("target", 0, 0, 9, 9)
    contents = {
        "b": description(shape, text=("what is it?", "which one?")),
        "a": description(shape, text=("the thing", "it"), sentence=False),
    }
    root = tree(tmp_path / "ReasonSeg", contents).parent
    first, every = ReasonSegBenchmark(root), ReasonSegBenchmark(root / "ReasonSeg", texts="all")
    assert [(v.id, [(e.id, e.text, e.group) for e in v.expressions]) for v in first.videos] == [
        ("a", [("0", "the thing", "phrase")]),
        ("b", [("0", "what is it?", "sentence")]),
    ]
    assert [e.text for v in every.videos for e in v.expressions] == [
        "the thing",
        "it",
        "what is it?",
        "which one?",
    ]
    assert first.fingerprint != every.fingerprint
    (picture,) = first.images(first.videos[0])
    assert picture.shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_both_encodings_are_read(tmp_path: Path, encoding: str) -> None:
    words = "the café’s door"
    contents = {"a": description(rectangle("target", 0, 0, 9, 9), text=(words,))}
    benchmark = ReasonSegBenchmark(tree(tmp_path, contents, encoding=encoding))
    assert benchmark.videos[0].expressions[0].text == words
    assert benchmark.truth(benchmark.videos[0], benchmark.videos[0].expressions[0]).sum() == 100


GOOD = rectangle("target", 0, 0, 9, 9)
BAD: list[tuple[Any, str]] = [
    ([], r"a\.json: expected dict"),
    ({**description(GOOD), "is_sentence": None}, "is_sentence: expected bool"),
    (description(GOOD, text=()), "at least one text"),
    (description({"label": "target", "points": []}), r"a\.json: expected an outline"),
    (description({"label": "target", "points": [[1, 2, 3]]}), "expected an outline"),
    (description({"label": "target", "points": [[1, float("nan")]]}), "expected an outline"),
    (description({"points": [[1, 2]]}), "label: expected str"),
]


@pytest.mark.parametrize(("content", "message"), BAD)
def test_files_of_another_form_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    root = tree(tmp_path, {"a": content})
    with pytest.raises(UserError, match=message):
        score(ReasonSegBenchmark(root), Given({}), Pictures("gIoU"))


def test_half_a_sample_is_not_left_out(tmp_path: Path) -> None:
    root = tree(tmp_path, {"a": description(GOOD), "b": description(GOOD)})
    (root / "val" / "b.jpg").unlink()
    benchmark = ReasonSegBenchmark(root)
    assert len(benchmark.videos) == 2  # it is listed, and named when it is needed
    with pytest.raises(UserError, match=r"b\.jpg"):
        score(benchmark, Given({}), Pictures("gIoU"))
    (root / "val" / "a.json").unlink()
    with pytest.raises(UserError, match=r"a\.jpg has no description a\.json"):
        ReasonSegBenchmark(root)
    (root / "val" / "a.jpg").unlink()
    (root / "val" / "b.json").write_text('{"shapes": [')
    with pytest.raises(UserError, match=r"b\.json is not valid JSON"):
        ReasonSegBenchmark(root)


def test_bad_arguments_say_so(tmp_path: Path) -> None:
    root = tree(tmp_path, {"a": description(GOOD)})
    with pytest.raises(UserError, match="no samples"):
        ReasonSegBenchmark(root, split="test")
    with pytest.raises(UserError, match="'first' or 'all'"):
        ReasonSegBenchmark(root, texts="each")  # type: ignore[arg-type]
