"""The measuring itself: differences are found, rows are complete, memory and processes are counted."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from refstream.errors import UserError
from refstream.evaluation.metrics import bench, jf
from refstream.evaluation.metrics.mask_pairs import (
    blob_clip,
    blob_pairs,
    fuzz_pairs,
    labelled_frames,
    shifted,
)
from refstream.evaluation.metrics.official import VARIABLE, OfficialMetrics, load_official
from refstream.evaluation.metrics.parity import compare_with_golden, compare_with_official


def _oracle(offset=0.0):
    """Our own figures behind the official names, off by a known amount: what is tested is comparing."""
    return OfficialMetrics(
        lambda gt, result, void: jf.region_similarity(gt, result, void) + offset,
        lambda gt, result, void, bound_th: jf.contour_accuracy(gt, result, void, bound_th) - 2 * offset,
    )


def _pairs(num=3):
    return list(blob_pairs(num, 0, (48, 70)))


def test_speed_row():
    threads = cv2.getNumThreads(), torch.get_num_threads()
    row = bench.compare_speed("blobs", _pairs(), _oracle(), rounds=2)
    assert (row["what"], row["size"], row["pairs"], row["rounds"]) == ("blobs", "48 x 70", 3, 2)
    assert row["official_ms"] > 0
    assert row["ours_ms"] > 0
    assert row["max_abs_difference"] == 0
    assert (cv2.getNumThreads(), torch.get_num_threads()) == threads


def test_differences_are_found():
    row = bench.compare_speed("blobs", _pairs(), _oracle(0.125), rounds=1)
    assert row["max_abs_difference"] == pytest.approx(0.25)
    row = compare_with_official("blobs", _pairs(), _oracle(0.125), "seed 0")
    assert row["max_abs_dj"] == row["torch_max_abs_dj"] == pytest.approx(0.125)
    assert row["max_abs_df"] == row["torch_max_abs_df"] == pytest.approx(0.25)
    assert row["worst"].startswith("blobs")


def test_a_nan_or_no_pair_is_no_agreement():
    with pytest.raises(UserError, match="blobs 0 scores NaN"):
        compare_with_official("blobs", _pairs(), _oracle(float("nan")), "seed 0")
    with pytest.raises(UserError, match="no pair"):
        compare_with_official("nothing", [], _oracle(), "")


def test_golden_row(golden, tmp_path):
    row = compare_with_golden(golden / "davis")
    assert row["pairs"] >= 60
    assert max(row["max_abs_dj"], row["max_abs_df"]) <= 1e-12
    assert max(row["torch_max_abs_dj"], row["torch_max_abs_df"]) <= 1e-12
    with pytest.raises(UserError, match=r"case\.json"):
        compare_with_golden(tmp_path)


def test_torch_row():
    row = bench.torch_speed(_pairs(), "cpu", rounds=1)
    assert row["pairs"] == 3
    assert row["max_abs_difference"] == 0


@pytest.mark.slow
def test_scaling_rows():
    rows = bench.scaling([1, 2], num_pairs=20, seed=0)
    assert [row["processes"] for row in rows] == [1, 2]
    assert [row["pairs"] for row in rows] == [20, 40]
    assert rows[0]["speedup"] == 1


@pytest.mark.slow
def test_memory_is_flat():
    rows = bench.memory(num_expressions=40, num_frames=5, seed=0, size=(240, 320))
    assert [row["pairs"] for row in rows] == [0, 5, 50, 100, 200]
    assert rows[-1]["rss_mb"] - rows[1]["rss_mb"] < 20


def test_blobs_and_fuzz_are_seeded_and_varied():
    clip = blob_clip(np.random.default_rng(0), 4, (60, 80))
    assert clip.shape == (4, 60, 80)
    assert clip.any(axis=(1, 2)).all()
    pairs, again = list(fuzz_pairs(60, 5)), list(fuzz_pairs(60, 5))
    for pair, same in zip(pairs, again, strict=True):
        assert pair.name == same.name
        assert (pair.gt == same.gt).all()
        assert pair.gt.shape == pair.result.shape
        assert pair.gt.dtype == pair.result.dtype == bool
    assert any(pair.void is not None for pair in pairs)
    assert any(1 in pair.gt.shape for pair in pairs)


def test_shifted_does_not_wrap():
    mask = np.eye(4, dtype=bool)
    assert np.argwhere(shifted(mask, 1, 0)).tolist() == [[0, 1], [1, 2], [2, 3]]
    assert np.argwhere(shifted(mask, 0, -2)).tolist() == [[0, 2], [1, 3]]


def _save(path, labels, mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(labels, dtype=np.uint8), mode="L").convert(mode).save(path)


def test_labelled_frames(tmp_path):
    _save(tmp_path / "gt" / "a" / "00000.png", [[0, 1, 2]])
    _save(tmp_path / "gt" / "a" / "00001.png", [[0, 0, 0]])
    _save(tmp_path / "result" / "a" / "00000.png", [[3, 1, 0]])
    found = list(labelled_frames(tmp_path / "gt", tmp_path / "result"))
    assert [pair.name for pair in found] == ["a/00000"]
    assert found[0].gt.tolist() == [[False, True, True]]
    assert found[0].result.tolist() == [[True, True, False]]
    found = list(labelled_frames(tmp_path / "gt", tmp_path / "result", objects=True))
    assert [pair.name for pair in found] == [f"a/00000, object {label}" for label in (1, 2, 3)]
    assert not found[2].gt.any()
    assert found[2].result.tolist() == [[True, False, False]]


def test_unusable_folders(tmp_path):
    _save(tmp_path / "gt" / "a" / "00000.png", [[0, 1, 2]])
    with pytest.raises(UserError, match="in common"):
        list(labelled_frames(tmp_path / "gt", tmp_path / "nothing"))
    _save(tmp_path / "small" / "a" / "00000.png", [[0, 1]])
    with pytest.raises(UserError, match="size"):
        list(labelled_frames(tmp_path / "gt", tmp_path / "small"))
    _save(tmp_path / "colour" / "a" / "00000.png", [[0, 1, 2]], mode="RGB")
    with pytest.raises(UserError, match="mode RGB"):
        list(labelled_frames(tmp_path / "gt", tmp_path / "colour"))
    broken = tmp_path / "broken" / "a" / "00000.png"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"no picture")
    with pytest.raises(UserError, match="cannot be read"):
        list(labelled_frames(tmp_path / "gt", tmp_path / "broken"))


def test_clone_of_the_official_code(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(UserError, match="clone"):
        load_official()
    with pytest.raises(UserError, match="not found"):
        load_official(tmp_path)
    file = tmp_path / "davis2017" / "metrics.py"
    file.parent.mkdir()
    file.write_text("db_eval_iou = len\n")
    with pytest.raises(UserError, match="db_eval_boundary"):
        load_official(tmp_path)
    file.write_text(
        "def db_eval_iou(a, b, void): return 0.5\ndef db_eval_boundary(a, b, void, th): return th\n"
    )
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    mask = np.ones((2, 2), dtype=bool)
    assert load_official().scores(mask, mask) == (0.5, 0.008)
