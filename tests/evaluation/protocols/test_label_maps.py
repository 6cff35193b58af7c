"""Label maps: what wins where, and folders of PNG."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refstream.errors import UserError
from refstream.evaluation.benchmark import EvalExpression, EvalVideo
from refstream.evaluation.protocols.label_maps import LabelMapFolder, merge_masks, merge_scores

VIDEO = EvalVideo("set/v", ("00000", "00001", "00002"), (), scored=(0, 2))
LABELS = np.arange(2 * 4 * 5, dtype=np.uint8).reshape(2, 4, 5) % 4


def one_row(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)[None, None]


def test_the_highest_score_of_at_least_one_half_wins() -> None:
    below = np.nextafter(np.float32(0.5), np.float32(0))
    first = one_row(0.0, 0.5, below, 0.7, 0.7, 0.9, 1.0)
    second = one_row(0.0, 0.0, below, 0.8, 0.7, 0.6, 1.0)
    assert merge_scores(np.stack([first, second])).tolist() == [[[0, 1, 0, 2, 1, 1, 1]]]
    assert merge_scores(iter([second, first]), [2, 7]).tolist() == [[[0, 7, 0, 2, 2, 7, 2]]]


def test_the_first_mask_wins() -> None:
    first = np.array([[[True, True, False, False]]])
    second = np.array([[[True, False, True, False]]])
    assert merge_masks([(3, first), (9, second)], (1, 1, 4)).tolist() == [[[3, 3, 9, 0]]]
    assert merge_masks([], (1, 1, 4)).tolist() == [[[0, 0, 0, 0]]]


def test_scores_and_masks_that_do_not_fit_are_an_error() -> None:
    ones = np.ones((1, 1, 4), dtype=bool)
    with pytest.raises(ValueError, match="at least one object, got none"):
        merge_scores(iter([]))
    for bad in (1.01, -0.01, np.nan):
        with pytest.raises(ValueError, match=r"expected scores in \[0, 1\] of object 2"):
            merge_scores([one_row(0.3), one_row(bad)])
    with pytest.raises(ValueError, match="object 2: expected"):
        merge_scores([one_row(0.3), one_row(0.3, 0.4)])
    with pytest.raises(ValueError, match="1 to 254, got 255"):
        merge_masks([(255, ones)], (1, 1, 4))
    with pytest.raises(ValueError, match="object 1: expected"):
        merge_masks([(1, ones)], (1, 4, 1))
    with pytest.raises(ValueError, match="expected bool masks"):
        merge_masks([(1, ones.astype(np.uint8))], (1, 1, 4))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "anno_1" / "set" / "v"
    folder.mkdir(parents=True)
    for frame, labels in zip(("00000", "00002"), LABELS, strict=True):
        picture = Image.fromarray(labels, "P")
        picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0])
        picture.save(folder / f"{frame}.png")
    return tmp_path


def test_a_folder_is_read_by_annotator_and_by_expression(root: Path) -> None:
    source = LabelMapFolder(root)
    maps = source.read_labels(VIDEO, 1, (4, 5))
    assert maps is not None
    assert (maps.labels == LABELS).all()
    assert maps.missing == ()
    answer = source.read(VIDEO, EvalExpression("5", "x", details={"annotator": 1, "object": 2}), (4, 5))
    assert answer is not None
    assert (answer.masks == (LABELS == 2)).all()
    assert answer.masks.any()


def test_missing_maps_are_told(root: Path) -> None:
    (root / "anno_1" / "set" / "v" / "00002.png").unlink()
    source = LabelMapFolder(root)
    maps = source.read_labels(VIDEO, 1, (4, 5))
    assert maps is not None
    assert maps.missing == (1,)
    assert not maps.labels[1].any()
    assert source.read_labels(VIDEO, 0, (4, 5)) is None
    expression = EvalExpression("0", "x", details={"annotator": 0, "object": 1})
    assert source.read(VIDEO, expression, (4, 5)) is None


def test_the_fingerprint_changes_with_the_maps(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    before = LabelMapFolder(root).fingerprint
    assert LabelMapFolder(root).fingerprint == before
    copy = tmp_path_factory.mktemp("copy") / "maps"
    shutil.copytree(root, copy)  # keeps times
    assert LabelMapFolder(copy).fingerprint == before
    Image.fromarray(LABELS[0] + 1, "L").save(root / "anno_1" / "set" / "v" / "00000.png")
    changed = LabelMapFolder(root).fingerprint
    (root / "anno_1" / "set" / "v" / "00000.png").unlink()
    assert len({before, changed, LabelMapFolder(root).fingerprint}) == 3


def test_maps_that_do_not_fit_are_an_error_that_names_the_file(root: Path, tmp_path: Path) -> None:
    source = LabelMapFolder(root)
    with pytest.raises(UserError, match=r"00000\.png is of size \(4, 5\), the truth of \(5, 4\)"):
        source.read_labels(VIDEO, 1, (5, 4))
    Image.new("RGB", (5, 4)).save(root / "anno_1" / "set" / "v" / "00002.png")
    with pytest.raises(UserError, match=r"00002\.png: expected a palette PNG"):
        source.read_labels(VIDEO, 1, (4, 5))
    with pytest.raises(UserError, match="expected folders of label maps anno_0"):
        LabelMapFolder(root / "anno_1")
