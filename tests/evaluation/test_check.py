"""``refstream data check`` on trees with one thing wrong at a time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from refstream.cli import main
from refstream.errors import UserError
from refstream.evaluation.check import check_dataset
from refstream.evaluation.findings import CheckReport
from refstream.evaluation.official_counts import official_counts
from tests.evaluation.golden_trees import (
    SHARED_DATA,
    davis17_official_tree,
    davis17_tree,
    load,
    mevis_tree,
    revos_tree,
    write,
)


def found(report: CheckReport) -> dict[tuple[str, str], list[str]]:
    return {(finding.kind, finding.problem): finding.examples for finding in report.findings}


def only(report: CheckReport) -> tuple[str, str, str]:
    """(kind, problem, example) of a report with one finding."""
    (finding,) = report.findings
    assert finding.count == 1
    return finding.kind, finding.problem, finding.examples[0]


def trees(root: Path) -> dict[str, Path]:
    return {
        "ref_davis17": davis17_tree(root / "davis", frames=True),
        "mevis": mevis_tree(root / "mevis", frames=True),
        "revos": revos_tree(root / "revos", frames=True),
    }


def test_sound_trees_have_nothing_to_mend_but_their_size(tmp_path: Path) -> None:
    for name, root in trees(tmp_path).items():
        assert check_dataset(name, root, subset=True, all_pictures=True).clean, name
    report = check_dataset("ref_davis17", tmp_path / "davis")
    assert report.facts["videos"] == 4
    assert report.facts["objects"] == 10
    assert report.facts["groups"] == {f"annotator {a}": 10 for a in range(4)}
    (finding,) = report.findings
    assert (finding.kind, finding.count) == ("count", 3)
    assert finding.examples[1].startswith("10 objects, officially 61")


def test_counts_that_are_assumed_are_notes(tmp_path: Path) -> None:
    report = check_dataset("revos", revos_tree(tmp_path, frames=True))
    assert report.clean
    assert any(
        "416 (" in example and "assumed" in example for note in report.notes for example in note.examples
    )
    assert report.counts[0]["found"] == 4


def test_a_misspelt_folder_is_recognised(tmp_path: Path) -> None:
    root = davis17_official_tree(tmp_path)
    (root / "valid" / "JPEGImages" / "goose").rename(root / "valid" / "JPEGImages" / "Gose")
    kind, problem, text = only(check_dataset("ref_davis17", root, subset=True))
    assert (kind, problem) == ("misspelt", "folder of a video")
    assert text.endswith("goose is not there; is Gose meant?")


def test_the_folder_of_a_video_below_another_is_recognised(tmp_path: Path) -> None:
    root = revos_tree(tmp_path, frames=True)
    (root / "JPEGImages" / "set_a" / "v_002").rename(root / "JPEGImages" / "set_a" / "V-002")
    kind, _, text = only(check_dataset("revos", root, subset=True))
    assert kind == "misspelt"
    assert text.endswith("is set_a/V-002 meant?")


def test_a_root_that_is_misspelt(tmp_path: Path) -> None:
    davis17_official_tree(tmp_path / "Davis17")
    report = check_dataset("ref_davis17", tmp_path / "davis-17")
    assert [finding.kind for finding in report.findings] == ["missing", "misspelt"]
    assert report.findings[1].examples[0].endswith("Davis17 is beside it")


Change = Callable[[Path], Any]
CHANGES: list[tuple[str, Change, str, str, str]] = [
    (
        "frame missing",
        lambda f: (f / "JPEGImages/goose/00003.jpg").unlink(),
        "missing",
        "frame",
        "goose/00003.jpg",
    ),
    (
        "frame of another kind",
        lambda f: (f / "JPEGImages/goose/00003.jpg").rename(f / "JPEGImages/goose/00003.JPEG"),
        "misspelt",
        "frame",
        "goose/00003.jpg is not there; 00003.JPEG is",
    ),
    (
        "frame cut off",
        lambda f: cut(f / "JPEGImages/goose/00003.jpg"),
        "unreadable",
        "frame",
        "goose/00003.jpg",
    ),
    (
        "frame is no picture",
        lambda f: (f / "JPEGImages/goose/00001.jpg").write_text("<html>"),
        "unreadable",
        "frame",
        "goose/00001.jpg is not a readable picture",
    ),
    (
        "picture of masks missing",
        lambda f: (f / "Annotations/skate/00004.png").unlink(),
        "missing",
        "picture of masks",
        "skate/00004.png",
    ),
    (
        "folder of masks missing",
        lambda f: shutil.rmtree(f / "Annotations/skate"),
        "missing",
        "folder of masks",
        "Annotations/skate",
    ),
    (
        "folder of masks misspelt",
        lambda f: (f / "Annotations/skate").rename(f / "Annotations/skatee"),
        "misspelt",
        "folder of masks",
        "is skatee meant?",
    ),
    (
        "mask of another size",
        lambda f: resize(f / "Annotations/goose/00002.png"),
        "misaligned",
        "mask of another size than its frame",
        "goose/00002.png: (60, 79), frame (60, 80)",
    ),
    (
        "masks without a frame",
        lambda f: shutil.copy(f / "Annotations/goose/00002.png", f / "Annotations/goose/00009.png"),
        "misaligned",
        "masks without a frame in the list",
        "goose: 1 more masks than frames, such as 00009.png",
    ),
    (
        "mask in colours",
        lambda f: recolour(f / "Annotations/goose/00000.png"),
        "unreadable",
        "picture of masks",
        "goose/00000.png: expected a palette PNG",
    ),
]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def resize(path: Path) -> None:
    with Image.open(path) as image:
        image.resize((79, 60), 0).save(path)


def recolour(path: Path) -> None:
    with Image.open(path) as image:
        image.convert("RGB").save(path)


@pytest.mark.parametrize(
    ("change", "kind", "problem", "example"), [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES]
)
def test_each_fault_is_found(tmp_path: Path, change: Change, kind: str, problem: str, example: str) -> None:
    root = davis17_official_tree(tmp_path)
    assert check_dataset("ref_davis17", root, subset=True).clean
    change(root / "valid")
    report = check_dataset("ref_davis17", root, subset=True)
    assert not report.clean
    assert any(example in text for text in found(report)[kind, problem])


def test_a_dictionary_that_says_otherwise_than_the_pictures(tmp_path: Path) -> None:
    """A dictionary with all objects exchanged is consistent in itself; the pictures tell."""
    root = davis17_official_tree(tmp_path)
    assert main(["data", "prepare", "mask_dict", "davis17", str(root), "--quiet"]) == 0
    report = check_dataset("ref_davis17", root, subset=True)
    assert report.clean
    path = root / "meta_expressions" / "valid" / "meta_expressions.json"
    content = json.loads(path.read_text())
    for entry in content["videos"]["goose"]["expressions"].values():
        entry["obj_id"] = {"1": "2", "2": "1"}[entry["obj_id"]]
    write(path, content)
    problems = found(check_dataset("ref_davis17", root, subset=True))
    (examples,) = problems.values()
    assert list(problems) == [("misaligned", "mask that the dictionary and the picture have different")]
    assert examples[0] == "goose/0, frame 00000, object 2"
    assert len(examples) == 8


def test_a_numerically_sorted_dictionary_is_a_finding(tmp_path: Path) -> None:
    root = davis17_tree(tmp_path, frames=True)
    videos = load("davis17_expressions", "meta_expressions.json")["videos"]
    masks = load("davis17_expressions", "mask_dict.json")
    right = [(video, key) for video in sorted(videos) for key in sorted(videos[video]["expressions"])]
    wrong = sorted(right, key=lambda name: (name[0], int(name[1])))
    by_name = {name: masks[str(number)] for number, name in enumerate(right)}
    write(root / "valid" / "mask_dict.pkl", {str(i): by_name[name] for i, name in enumerate(wrong)})
    kind, problem, text = only(check_dataset("ref_davis17", root))
    assert (kind, problem) == ("form", "it cannot be opened")
    assert "counted in another order" in text


def test_faults_of_coded_masks_are_all_found(tmp_path: Path) -> None:
    root = mevis_tree(tmp_path, frames=True)
    videos, masks = load("mevis", "meta_expressions.json")["videos"], load("mevis", "mask_dict.json")
    masks["100"].pop()
    masks["109"] = [None] * 3
    del masks["112"]
    masks["118"][0] = {"size": [72, 100], "counts": "0"}
    videos["empty9"]["frames"].reverse()
    videos["c0ffee"]["expressions"]["0"]["exp"] = " "
    write(root / "valid_u" / "meta_expressions.json", {"videos": videos})
    write(root / "valid_u" / "mask_dict.json", masks)
    report = check_dataset("mevis", root, subset=True)
    problems = found(report)
    assert problems["misaligned", "fewer masks than the video has frames"][0] == "f00d5a/0: 100"
    assert problems["missing", "expression whose annotation has no masks"][0] == "absent/0: 112"
    assert problems["missing", "expression without words"] == ["c0ffee/0"]
    assert [where for (_, text), where in problems.items() if "out of order" in text] == [["empty9"]]
    assert any("wrong7" in text for text in problems["masks", "masks that cannot be used"])
    assert {note.problem: note.examples for note in report.notes}["targets that no frame shows"] == [
        "beef01/0"
    ]
    assert report.facts["expressions without a target"] == 3


def test_a_list_without_frames_cannot_be_opened(tmp_path: Path) -> None:
    root = mevis_tree(tmp_path)
    videos = load("mevis", "meta_expressions.json")["videos"]
    del videos["beef01"]["frames"]
    write(root / "valid_u" / "meta_expressions.json", {"videos": videos})
    _, problem, text = only(check_dataset("mevis", root))
    assert problem == "it cannot be opened"
    assert "'beef01', key 'frames': expected list" in text


def test_the_foreground_of_revos(tmp_path: Path) -> None:
    root = revos_tree(tmp_path, frames=True)
    content = load("revos", "mask_dict_foreground.json")
    content["set_a/v_001"]["masks_rle"].pop()
    del content["b_video"]
    write(root / "mask_dict_foreground.json", content)
    problems = found(check_dataset("revos", root))
    assert problems["missing", "video in the foreground file"] == ["b_video"]
    assert problems["misaligned", "foreground of another number of frames"] == ["set_a/v_001: 4 for 5 frames"]
    (root / "mask_dict_foreground.json").unlink()
    report = check_dataset("revos", root)
    assert report.clean
    assert "no mask_dict_foreground.json" in {note.problem for note in report.notes}


def test_training_datasets_say_what_they_leave_out(tmp_path: Path) -> None:
    root = mevis_tree(tmp_path, frames=True) / "valid_u"
    shutil.rmtree(root / "JPEGImages" / "absent")
    report = check_dataset("MeViSDataset", root)
    problems = found(report)
    assert problems["left out", "video without its folder"] == ["absent"]
    assert len(problems["left out", "expression without a target"]) == 3
    assert report.facts["videos"] == 6
    assert not check_dataset("MeViSDataset", tmp_path).clean
    with pytest.raises(UserError, match="has no splits"):
        check_dataset("MeViSDataset", root, "train")
    with pytest.raises(UserError, match="did you mean mevis"):
        check_dataset("mevi", root)
    with pytest.raises(UserError, match="mevis has no split 'val'"):
        check_dataset("mevis", root, "val")


def test_exit_codes_and_the_report_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out = davis17_official_tree(tmp_path / "d"), tmp_path / "report.json"
    words = ["data", "check", "ref_davis17", str(root), "--out", str(out)]
    assert main([*words, "--subset"]) == 0
    assert "nothing to mend" in capsys.readouterr().out
    assert json.loads(out.read_text())["clean"] is True
    assert main(words) == 1
    text = capsys.readouterr().out
    assert "count: another size than the official split, 3 x" in text
    report = json.loads(out.read_text())
    assert report["clean"] is False
    assert report["counts"][0] | {"source": ""} == {
        "what": "videos", "found": 3, "official": 30, "source": "",
    }  # fmt: skip
    assert main(["data", "check", "nothing", str(root)]) == 2


def test_generic_checks_reach_every_benchmark() -> None:
    report = check_dataset("minirvos", num_clips=2, num_frames=3, size=64, all_pictures=True)
    assert report.clean
    assert report.facts["videos"] == 2


def test_official_counts_agree_with_each_other() -> None:
    davis = official_counts("ref_davis17", "valid")
    assert davis is not None
    assert davis.counts["expressions"] == 4 * davis.counts["objects"]
    assert official_counts("mevis", "valid_u") != official_counts("mevis_v2", "valid_u")
    assert official_counts("nothing", "valid") is None


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="needs ../shared/data")
def test_the_real_one_object_subset_is_sound() -> None:
    report = check_dataset("ref_davis17", SHARED_DATA / "refdavis17_oneobject", subset=True)
    assert report.clean, list(report.lines())
    assert (report.facts["videos"], report.facts["objects"], report.facts["expressions"]) == (9, 9, 36)
