"""GRES against ReLA's evaluator and arithmetic by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from refstream.data.rle import decode
from refstream.errors import UserError
from refstream.evaluation.predictions.base import Prediction
from refstream.evaluation.protocols.gres import GRES
from refstream.evaluation.protocols.pictures import Pictures
from refstream.evaluation.readers.refcoco import GRefCOCOBenchmark
from refstream.evaluation.score import score
from tests.evaluation.protocols.given import Given, Singles, block, grefcoco_tree, load

RUNS = load("grefcoco", "case.json")["runs"]
METRICS = {"gIoU": 1, "cIoU": 1, "Pr@0.7": 1, "Pr@0.8": 1, "Pr@0.9": 1, "N_acc": 100, "T_acc": 100}
by_split = pytest.mark.parametrize("run", RUNS, ids=[run["split"] for run in RUNS])


def predictions(flags: bool) -> Given:
    codes = load("grefcoco", "predictions.json")
    return Given(
        {
            name: Prediction(decode(one["mask"])[None], no_target=one["no_target"] if flags else None)
            for name, one in codes.items()
        }
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return grefcoco_tree(tmp_path_factory.mktemp("ref_seg"))


@by_split
@pytest.mark.parametrize(("key", "flags"), [("rela", True), ("own", True), ("own_flag_is_empty_mask", False)])
def test_golden(root: Path, run: dict[str, Any], key: str, flags: bool) -> None:
    benchmark, protocol = GRefCOCOBenchmark(root, run["split"]), GRES(compat="rela")
    items = score(benchmark, predictions(flags), protocol)
    overall = protocol.summarize(benchmark, items)["overall"]
    assert overall["expressions"] == run["samples"]
    for metric, scale in METRICS.items():
        assert overall[metric.replace("_", "-")] == pytest.approx(scale * run[key][metric], abs=1e-9)


@by_split
def test_without_a_mode_only_the_undefined_differs(root: Path, run: dict[str, Any]) -> None:
    benchmark = GRefCOCOBenchmark(root, run["split"])
    given = predictions(flags=True)
    rela, ours = (
        protocol.summarize(benchmark, score(benchmark, given, protocol))["overall"]
        for protocol in (GRES(compat="rela"), GRES())
    )
    if run["split"] == "val":
        assert ours == rela
        return
    assert ours["no-target expressions"] == 0
    assert (rela.pop("N-acc"), rela.pop("T-acc")) == (0, 0)
    targets = load("grefcoco", "predictions.json"), load("grefcoco", "grefs(unc).json")
    ids = [str(s["sent_id"]) for ref in targets[1] if ref["split"] == run["split"] for s in ref["sentences"]]
    unflagged = sum(not targets[0][name]["no_target"] for name in ids)
    assert ours.pop("T-acc") == pytest.approx(100 * unflagged / len(ids), abs=1e-12)
    assert ours == rela


@by_split
def test_the_res_script_on_grefcoco(root: Path, run: dict[str, Any]) -> None:
    """It knows no flags: flagged samples were given to it as missing."""
    codes = load("grefcoco", "predictions.json")
    given = Given({name: decode(one["mask"]) for name, one in codes.items() if not one["no_target"]})
    compat = Pictures(compat="res_sa2va")
    benchmark = GRefCOCOBenchmark(root, run["split"], overlap="rle_of_sum")
    public = compat.summarize(benchmark, score(benchmark, given, compat))["overall"]
    plain, proper = Pictures(), GRefCOCOBenchmark(root, run["split"])
    own = plain.summarize(proper, score(proper, given, plain))["overall"]
    for metric in ("cIoU", "gIoU"):
        assert public[metric] / 100 == pytest.approx(run["res_sa2va"][metric], abs=1e-6)
        assert own[metric] / 100 == pytest.approx(run["own_res_rule"][metric], abs=1e-12)


def test_a_missing_prediction_is_an_empty_mask_and_listed() -> None:
    truth, protocol = Singles({"target": block(40), "none": block(0), "seen": block(10)}), GRES()
    items = score(truth, Given({"seen": block(10)}), protocol)
    assert [item.missing for item in items] == [("target",), ("none",), ()]
    overall = protocol.summarize(truth, items)["overall"]
    assert {name: overall[name] for name in ("gIoU", "cIoU", "N-acc", "T-acc", "Pr@0.7")} == {
        "gIoU": pytest.approx(200 / 3),
        "cIoU": 20,
        "N-acc": 100,
        "T-acc": 50,
        "Pr@0.7": 50,
    }


def test_only_samples_without_target() -> None:
    truth, protocol = Singles({"a": block(0), "b": block(0)}), GRES()
    given = Given({"a": Prediction(block(7)[None], no_target=True), "b": block(7)})
    overall = protocol.summarize(truth, score(truth, given, protocol))["overall"]
    assert overall == {
        "gIoU": 50,
        "cIoU": 0,  # the pixels of b are in the unions
        "N-acc": 50,
        "expressions": 2,
        "no-target expressions": 2,
    }


def test_other_masks_and_modes_are_refused(root: Path) -> None:
    with pytest.raises(UserError, match="needs masks with overlap='union'"):
        score(GRefCOCOBenchmark(root, overlap="rle_of_sum"), Given({}), GRES())
    with pytest.raises(UserError, match="no compatibility mode 'lisa'"):
        GRES(compat="lisa")
