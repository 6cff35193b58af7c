from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from refstream.evaluation.benchmarks import BENCHMARKS
from refstream.evaluation.published import DATA, all_published, published, published_tables

PROTOCOLS = {
    "ref_davis17": {"per-expression", "davis-official"},
    "ref_youtube_vos": {"per-expression"},
    "mevis": {"per-expression"},
    "revos": {"revos"},
    "refcoco": {"cIoU+gIoU"},
    "refcoco+": {"cIoU+gIoU"},
    "refcocog": {"cIoU+gIoU"},
    "grefcoco": {"gres"},
    "a2d": {"a2d"},
    "jhmdb": {"a2d"},
    "ovo": {"official"},
    "mvbench": {"official"},
    "tempcompass": {"official"},
    "videomme": {"official"},
    "longvideobench": {"official"},
}


def test_every_row_has_a_source_and_figures_in_percent():
    assert len(all_published()) > 100
    for row in all_published():
        assert len(row.source) > 10, row
        assert row.method, row
        assert row.values, row
        assert all(0 < value <= 100 for value in row.values.values()), row
        assert not row.doubtful or row.note, f"{row} does not say what is in doubt"


def test_every_row_is_of_a_benchmark_and_protocol_of_ours():
    for row in all_published():
        assert row.protocol in PROTOCOLS[row.benchmark], row
    known = {row.benchmark for row in all_published()} & set(BENCHMARKS)
    for name in known - {"ovo", "mvbench", "tempcompass", "videomme", "longvideobench"}:
        rows = published(name)
        assert {row.protocol for row in rows} <= set(BENCHMARKS[name].protocols), name
        assert {row.split for row in rows} <= set(BENCHMARKS[name].splits), name


def test_no_row_stands_twice():
    keys = [(r.benchmark, r.split, r.protocol, r.method, r.backbone, r.source) for r in all_published()]
    assert len(keys) == len(set(keys))
    sources = json.loads(DATA.read_text(encoding="utf-8"))["sources"]
    assert len(set(sources.values())) == len(sources)


def test_robustness_of_papers_is_on_the_scale_of_their_script():
    rows = published("revos", "valid", "revos")
    assert {row.method: row.values["R_visa255"] for row in rows if "R_visa255" in row.values} == {
        "VISA-13B": 15.1,
        "SPOT-7B": 16.5,
        "SPOT-13B": 18.0,
        "VIRST": 21.8,
    }
    assert not any("R" in row.values or "A" in row.values for row in rows)


def test_means_of_j_and_f_agree():
    pairs = [("J&F", "J", "F"), ("J&F-Mean", "J-Mean", "F-Mean")]
    pairs += [(f"{group} J&F", f"{group} J", f"{group} F") for group in ("referring", "reasoning")]
    checked = 0
    for values in (row.values for row in all_published()):
        for mean, j, f in pairs:
            if {mean, j, f} <= values.keys():
                assert values[mean] == pytest.approx((values[j] + values[f]) / 2, abs=0.1)
                checked += 1
    assert checked >= 10


def test_totals_of_three_modes_agree_unless_doubted():
    names = [f"mode/{mode} accuracy" for mode in ("Backward", "Realtime", "Forward")]
    rows = [row for row in published("ovo") if set(names) <= row.values.keys()]
    assert len(rows) >= 5
    for row in rows:
        mean = sum(row.values[name] for name in names) / 3
        assert abs(mean - row.values["accuracy"]) < 0.02 or row.doubtful, row


def test_selection():
    assert {row.protocol for row in published("ref_davis17", "valid")} == {"per-expression", "davis-official"}
    assert {row.protocol for row in published("ref_davis17", "valid", "davis-official")} == {"davis-official"}
    assert {row.split for row in published("mevis")} == {"valid", "valid_u"}
    assert published("minirvos", "test", "families") == []
    assert published_tables("minirvos", "test") is None


@pytest.mark.parametrize(("form", "width"), [(0, 200), (1, 80)], ids=["wide", "narrow"])
def test_the_tables_mark_every_row(form, width):
    tables = published_tables("mevis", "valid_u", "per-expression")
    assert tables is not None
    out = io.StringIO()
    Console(file=out, width=width).print(tables[form])
    text = out.getvalue()
    assert text.count("published") == len(published("mevis", "valid_u")) == tables[form].row_count
    assert "PUBLISHED, not measured here: mevis valid_u" in text
    assert "72.6 ?" in text
    assert "59.5 " in text
    assert "59.5 ?" not in text
    assert "CVPR 2026" in text
    assert "…" not in text


def test_methods_of_the_same_name_can_be_told_apart():
    tables = published_tables("ref_davis17", "valid")
    assert tables is not None
    names = [str(cell) for cell in tables[0].columns[1].cells]
    assert len(set(names)) == len(names)
    assert "ReferFormer, Swin-L (7)" in names
    assert "\n(7) ReferFormer (CVPR 2022)" in str(tables[0].caption)
