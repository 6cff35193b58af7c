"""LLaVA's conversations, and what is wrong with some of them; large JSON lists without loading them."""

from __future__ import annotations

import json
import logging
import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from refstream.data.collate import collate_clips
from refstream.data.datasets import LLaVADataset, json_rows
from refstream.data.mixture import as_stream
from refstream.errors import UserError
from refstream.registry import DATASETS


def said(*values: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[i % 2], "value": value} for i, value in enumerate(values)]


# As in llava_v1_5_mix665k.json
PICTURE = {
    "id": "000000033471",
    "image": "coco/train2017/000000033471.jpg",
    "conversations": said(
        "<image>\nWhat are the colors of the bus in the image?",
        "The bus in the image is white and red.",
        "What feature can be seen on the back of the bus?",
        "The back of the bus features an advertisement.",
        "Is the bus driving down the street or pulled off to the side?",
        "The bus is driving down the street.",
    ),
}
TEXT = {"id": "wgByO4Y_0", "model": "", "conversations": said("Vérifie ça: «naïf» 漢字?", "C'est exact. ✓")}
PRETRAIN = {"id": "1", "image": "a.png", "conversations": said("Render a summary.\n<image>", "a red bus")}


def tree(root: Path, *records: Any) -> dict[str, Any]:
    folder = root / "images" / "coco" / "train2017"
    folder.mkdir(parents=True)
    Image.new("RGB", (8, 6), (10, 20, 30)).save(folder / "000000033471.jpg", quality=100)
    Image.new("L", (4, 4), 77).save(root / "images" / "a.png")
    path = root / "chat.json"
    path.write_text(json.dumps(list(records), ensure_ascii=False, indent=1), encoding="utf-8")
    return dict(annotations=path, images=root / "images")


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_a_conversation_about_a_picture(tmp_path: Path) -> None:
    data = LLaVADataset(**tree(tmp_path, PICTURE, TEXT, PRETRAIN))
    assert len(data) == 3
    sample = data.sample(0, rng())
    assert sample.frames.shape == (1, 6, 8, 3)
    assert sample.expressions == []
    assert sample.masks.shape == (0, 1, 6, 8)
    assert sample.dialogue[0] == (
        "What are the colors of the bus in the image?",
        "The bus in the image is white and red.",
    )
    assert len(sample.dialogue) == 3
    assert sample.id == "chat 000000033471"
    grey = data.sample(2, rng())
    assert (grey.frames == 77).all()
    assert grey.dialogue == (("Render a summary.", "a red bus"),)


def test_a_conversation_about_nothing_to_see(tmp_path: Path) -> None:
    data = LLaVADataset(**tree(tmp_path, PICTURE, TEXT))
    sample = data.sample(1, rng())
    assert sample.frames.shape == (0, 0, 0, 3)
    assert sample.dialogue == (("Vérifie ça: «naïf» 漢字?", "C'est exact. ✓"),)
    batch = collate_clips([sample, data.sample(0, rng())])
    assert batch.num_frames == 0
    assert [len(d) for d in batch.dialogues] == [1, 3]


def test_report_and_long_conversations(tmp_path: Path) -> None:
    data = LLaVADataset(**tree(tmp_path, PICTURE, TEXT, PRETRAIN), max_turns=2)
    assert data.report() == {
        "conversations": 3,
        "with a picture": 2,
        "without a picture": 1,
        "turns": 4,
        "shortened": 1,
        "left_out": {},
    }
    assert data.sample(0, rng()).dialogue[-1][0] == "What feature can be seen on the back of the bus?"


def changed(**changes: Any) -> dict[str, Any]:
    return {key: value for key, value in {**PICTURE, **changes}.items() if value is not None}


LEFT_OUT: list[tuple[str, Any]] = [
    ("record without conversations", {"id": 1}),
    ("record without conversations", {"id": 1, "conversations": "hello"}),
    ("no question with an answer", changed(conversations=[])),
    ("no question with an answer", changed(conversations=said("<image>\nWhat?"))),
    ("no question with an answer", changed(conversations=said("<image>", "A bus."))),
    ("turns out of order", changed(conversations=said("<image>\na?", "b") + said("c?", "d")[::-1])),
    ("turns out of order", changed(conversations=said("a?")[:1] * 2)),
    ("turn of an unknown speaker", changed(conversations=[{"from": "system", "value": "x"}])),
    ("turn of an unknown speaker", changed(conversations=["hello"])),
    ("several pictures", changed(image=["a.png", "a.png"])),
    ("about a video", changed(video="v.mp4")),
    ("several image markers", changed(conversations=said("<image><image> a?", "b"))),
    (
        "image marker after the first question",
        changed(conversations=said("<image>a?", "b", "<image>c?", "d")),
    ),
    ("image marker without a picture", changed(image=None)),
    ("picture file missing", changed(image="coco/train2017/1.jpg")),
    ("picture file missing", changed(image="nowhere/1.jpg")),
    ("picture outside the folder", changed(image="../images/a.png")),
    ("picture outside the folder", changed(image="/etc/passwd")),
    ("picture outside the folder", changed(image=7)),
]


@pytest.mark.parametrize(("reason", "record"), LEFT_OUT)
def test_what_cannot_be_used_is_counted(
    tmp_path: Path, reason: str, record: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        data = LLaVADataset(**tree(tmp_path, TEXT, record, PICTURE))
    assert data.report()["left_out"][reason]["count"] == 1
    assert reason in caplog.text
    assert [data.sample(i, rng()).id for i in range(len(data))] == ["chat wgByO4Y_0", "chat 000000033471"]


@pytest.mark.parametrize(
    ("conversations", "kept", "reason"),
    [
        ([{"from": "gpt", "value": "Hi"}, *said("<image>a?", "b")], 1, "answer before"),
        (said("<image>a?", "b", "c?"), 1, "question without answer"),
        (said("<image>a?", "b", "c?", " ", "e?", "f"), 1, "question without answer"),
        (said("<image>a?", "b", "", "d", "e?", "f"), 1, "question without answer"),
        ([{"from": "user", "value": "a?"}, {"from": "assistant", "value": "b"}], 1, None),
        (said("a?", "b", "c?", "d"), 2, None),  # no marker: the picture stands first anyway
        ([*said("<image>a?"), {"from": "gpt", "value": None}], 0, "question without answer"),
    ],
)
def test_what_remains_is_used(
    tmp_path: Path, conversations: list[Any], kept: int, reason: str | None
) -> None:
    data = LLaVADataset(**tree(tmp_path, TEXT, changed(conversations=conversations)))
    assert len(data) == 1 + (kept > 0)
    if kept:
        assert data.sample(1, rng()).dialogue == (("a?", "b"), ("c?", "d"))[:kept]
    reasons = data.report()["left_out"]
    assert any(key.startswith(reason) for key in reasons) if reason else not reasons


def test_one_picture_in_a_list_is_one_picture(tmp_path: Path) -> None:
    data = LLaVADataset(
        **tree(tmp_path, changed(image=["a.png"]), changed(image=[], conversations=said("a", "b")))
    )
    assert data.sample(0, rng()).frames.shape == (1, 4, 4, 3)
    assert data.sample(1, rng()).frames.shape == (0, 0, 0, 3)


def test_a_mixture_builds_and_draws_it(tmp_path: Path) -> None:
    config = {key: str(value) for key, value in tree(tmp_path, PICTURE, TEXT).items()}
    mixture = as_stream(DATASETS.build(dict(type="LLaVADataset", **config)))
    assert {mixture[draw].id for draw in range(2)} == {"chat wgByO4Y_0", "chat 000000033471"}


def test_errors_say_what_is_missing(tmp_path: Path) -> None:
    config = tree(tmp_path, PICTURE)
    with pytest.raises(UserError, match=r"no file at .*none\.json"):
        LLaVADataset(tmp_path / "none.json", config["images"])
    with pytest.raises(UserError, match=r"no folder of pictures at .*absent"):
        LLaVADataset(config["annotations"], tmp_path / "absent")
    with pytest.raises(UserError, match="max_turns"):
        LLaVADataset(**config, max_turns=0)
    (tmp_path / "images" / "coco" / "train2017" / "000000033471.jpg").unlink()
    with pytest.raises(UserError, match="no conversation can be used: 1 x picture file missing"):
        LLaVADataset(**config)


def test_text_alone_needs_no_folder_of_pictures(tmp_path: Path) -> None:
    config = tree(tmp_path, TEXT)
    assert len(LLaVADataset(config["annotations"], tmp_path / "absent")) == 1


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(UserError, match="it is empty"):
        LLaVADataset(tmp_path / "list.json", tmp_path)


def test_a_large_list_costs_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_rows, "CHUNK", 1 << 14)
    number = 2_000
    path = tmp_path / "large.json"
    record = {"id": "x", "conversations": said("q" * 300, "a" * 300)}
    path.write_text(json.dumps([record] * number))
    tracemalloc.start()
    data = LLaVADataset(path, tmp_path)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(data) == number
    assert path.stat().st_size > 1_300_000
    assert held < 20 * number + 20_000
    assert peak < 300_000
    assert len(pickle.dumps(data)) < 20 * number
