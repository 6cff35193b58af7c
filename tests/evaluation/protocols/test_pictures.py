"""cIoU, gIoU and Pr@K against three public scripts and against arithmetic by hand."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refstream.data.rle import decode
from refstream.errors import UserError
from refstream.evaluation.predictions.base import Prediction
from refstream.evaluation.protocols.pictures import COMPAT, Pictures
from refstream.evaluation.readers.refcoco import RefCOCOBenchmark
from refstream.evaluation.score import item_score, score
from tests.evaluation.protocols.given import Given, Singles, block, load, refcoco_tree

RUNS = load("refcoco", "case.json")["runs"]
SCRIPTS = {"lisa": "lisa", "res-skipping": "res_streamingrvos", "res_sa2va": "res_sa2va"}
NAMES = [f"{run['split']}-{run['name']}" for run in RUNS]


def predictions(run: dict[str, Any]) -> Given:
    codes = load("refcoco", "predictions.json")
    return Given({key: decode(code) for key, code in codes.items() if key not in run["missing_sent_ids"]})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return refcoco_tree(tmp_path_factory.mktemp("ref_seg"))


@pytest.mark.parametrize("run", RUNS, ids=NAMES)
def test_golden(root: Path, run: dict[str, Any]) -> None:
    benchmark, protocol = RefCOCOBenchmark(root, split=run["split"]), Pictures()
    items = score(benchmark, predictions(run), protocol)
    overall = protocol.summarize(benchmark, items)["overall"]
    assert len(items) == overall["expressions"] == run["sentences"]
    for metric in ("cIoU", "gIoU"):
        assert overall[metric] / 100 == pytest.approx(run["own"][metric], abs=1e-12)
    assert {item.id for item in items if item.missing} == set(run["missing_sent_ids"])
    for sent_id, (inter, union) in run.get("own_per_sentence", {}).items():
        (item,) = (item for item in items if item.id == sent_id)
        assert (item.details["inter"], item.details["union"]) == (inter, union)


@pytest.mark.parametrize("compat", SCRIPTS)
@pytest.mark.parametrize("run", RUNS, ids=NAMES)
def test_public_scripts(root: Path, run: dict[str, Any], compat: str) -> None:
    benchmark = RefCOCOBenchmark(root, split=run["split"], overlap=COMPAT[compat].overlap)
    protocol = Pictures(compat=compat)
    overall = protocol.summarize(benchmark, score(benchmark, predictions(run), protocol))["overall"]
    public = run[SCRIPTS[compat]]
    if "error" in public:  # that script stops at a picture whose predictions are all missing
        public = run["own_rle_of_sum_skipping"]
    for metric in ("cIoU", "gIoU"):
        assert overall[metric] / 100 == pytest.approx(public[metric], abs=1e-6)


def test_a_mode_needs_the_masks_of_its_script(root: Path) -> None:
    benchmark = RefCOCOBenchmark(root, split="testA")
    with pytest.raises(UserError, match=r"'lisa' needs masks with overlap='background'.*overlap='union'"):
        score(benchmark, Given({}), Pictures(compat="lisa"))
    with pytest.raises(UserError, match="no compatibility mode needs masks with overlap='union'"):
        score(RefCOCOBenchmark(root, split="testA", overlap="background"), Given({}), Pictures())


def test_thresholds_include_themselves() -> None:
    """IoUs of exactly 0.5, 0.7 and 0.9, and of 0."""
    truth = Singles({name: block(100) for name in ("half", "seven", "nine", "none")})
    given = Given({"half": block(50), "seven": block(70), "nine": block(90), "none": block(30, 500)})
    protocol = Pictures()
    items = score(truth, given, protocol)
    assert [item.values["IoU"] for item in items] == [0.5, 0.7, 0.9, 0.0]
    overall = protocol.summarize(truth, items)["overall"]
    precisions = {name: overall[f"Pr@{name}"] for name in (0.5, 0.6, 0.7, 0.8, 0.9)}
    assert precisions == {0.5: 75, 0.6: 50, 0.7: 50, 0.8: 25, 0.9: 25}
    assert overall["cIoU"] == pytest.approx(100 * 210 / 430, abs=1e-12)
    assert overall["gIoU"] == pytest.approx(100 * 2.1 / 4, abs=1e-12)


def test_missing_and_empty() -> None:
    masks = {"there": block(10), "absent": block(0), "absent and missing": block(0), "lost": block(40)}
    truth, protocol = Singles(masks), Pictures()
    broken = Prediction(np.zeros((1, 20, 50), dtype=bool), missing=(0,))
    items = score(truth, Given({"there": block(10), "absent": block(0), "lost": broken}), protocol)
    assert [item.values["IoU"] for item in items] == [1, 1, 1, 0]
    assert [item.missing for item in items] == [(), (), ("absent and missing",), ("lost",)]
    overall = protocol.summarize(truth, items)["overall"]
    assert (overall["cIoU"], overall["gIoU"]) == (20, 75)


def test_void_pixels_do_not_count() -> None:
    truth = Singles({"a": block(10)}, void={"a": block(30, 5)})
    (item,) = score(truth, Given({"a": block(35)}), Pictures("gIoU"))
    assert item.details == {"inter": 5, "union": 5}  # what is wrong with the prediction is void
    (item,) = score(truth, Given({"a": block(5, 40)}), Pictures("gIoU"))
    assert item.details == {"inter": 0, "union": 10}
    (item,) = score(Singles({"a": block(5, 7)}, {"a": block(30)}), Given({"a": block(3)}), Pictures("gIoU"))
    assert (item.values["IoU"], item.details["union"]) == (1, 0)


def test_groups_have_rows() -> None:
    truth = Singles({"phrase/a": block(10), "sentence/b": block(10), "sentence/c": block(10)})
    protocol = Pictures("gIoU")
    items = score(truth, Given({"phrase/a": block(10), "sentence/b": block(5)}), protocol)
    summary = protocol.summarize(truth, items)
    assert list(summary) == ["overall", "phrase", "sentence"]
    assert [row["gIoU"] for row in summary.values()] == [50, 100, 25]
    assert [row["expressions"] for row in summary.values()] == [3, 1, 2]
    assert protocol.headline in summary["overall"]


def test_scores_survive_json(root: Path) -> None:
    benchmark, protocol = RefCOCOBenchmark(root, split="testA"), Pictures()
    items = score(benchmark, predictions(RUNS[4]), protocol)
    copied = [item_score(json.loads(json.dumps(asdict(item)))) for item in items]
    assert protocol.summarize(benchmark, copied) == protocol.summarize(benchmark, items)


def test_what_does_not_fit_is_refused() -> None:
    protocol = Pictures()
    with pytest.raises(UserError, match=r"expected masks \(1, 20, 50\) bool"):
        score(Singles({"a": block(10)}), Given({"a": block(10, size=(50, 20))}), protocol)
    with pytest.raises(UserError, match="not public"):
        score(Singles({"a": None}), Given({}), protocol)
    with pytest.raises(UserError, match="cIoU or gIoU"):
        Pictures("J&F")
    with pytest.raises(UserError, match="no compatibility mode 'refer'; choose one of lisa"):
        Pictures(compat="refer")
