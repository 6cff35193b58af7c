"""Average precision by hand, and what is refused; the golden figures are in the protocol's tests."""

from __future__ import annotations

import numpy as np
import pytest

from refstream.data.rle import encode
from refstream.evaluation.metrics.coco_ap import NAMES, ScoredMask, average_precision


def strip(width: int) -> dict[str, object]:
    mask = np.zeros((4, 200), dtype=bool)
    mask[0, :width] = True
    return encode(mask)


def test_one_of_two_found() -> None:
    """IoU 0.82 passes 7 of the 10 thresholds; recall 1/2 covers 51 of the 101 points."""
    figures = average_precision({"a": strip(100), "b": strip(100)}, [ScoredMask("a", strip(82), 0.5)])
    assert list(figures) == list(NAMES)
    assert figures["AP50"] == pytest.approx(51 / 101)
    assert figures["mAP"] == pytest.approx(0.7 * 51 / 101)
    assert figures["AR1"] == pytest.approx(0.35)
    assert figures["AP_large"] == -1


def test_the_order_of_scores_decides(capsys: pytest.CaptureFixture[str]) -> None:
    truth = {"a": strip(100), "b": strip(100)}
    right, wrong = ScoredMask("a", strip(100), 0.9), ScoredMask("b", strip(10), 0.1)
    assert average_precision(truth, [right, wrong])["AP50"] == pytest.approx(51 / 101)
    swapped = [ScoredMask("a", strip(100), 0.1), ScoredMask("b", strip(10), 0.9)]
    assert average_precision(truth, swapped)["AP50"] == pytest.approx(51 / 101 / 2)
    assert capsys.readouterr().out == ""


def test_nothing_found() -> None:
    assert average_precision({"a": strip(100)}, [])["mAP"] == 0


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (ScoredMask("c", strip(1), 0.5), "image 'c', which is not among the 1"),
        (ScoredMask("a", strip(1), float("nan")), "score must be finite"),
        (ScoredMask("a", encode(np.ones((2, 2), bool)), 0.5), r"of size \[2, 2\]"),
        (ScoredMask("a", {"size": [4, 200], "counts": "zz"}, 0.5), "RLE"),
    ],
)
def test_what_is_refused(found: ScoredMask, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        average_precision({"a": strip(100)}, [found])


def test_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="no image"):
        average_precision({}, [])
