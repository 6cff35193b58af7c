"""What is written is valid at every moment: after an exception, on a full disk, and when read by others."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refstream.data import rle
from refstream.errors import OutputError
from refstream.streaming import writers
from refstream.streaming.overlay import (
    PALETTE,
    ContactSheet,
    OverlayCanvas,
    blend_masks,
    caption,
    contact_sheet,
)
from refstream.streaming.writers import (
    EventJsonlWriter,
    MaskPngWriter,
    OverlayVideoWriter,
    folder_name,
)
from refstream.structures import Frame, StreamEvent
from refstream.video import open_video

EXPRESSIONS = {"0": "the red circle", "1": "the blue square"}


def make_frame(index: int, height: int = 40, width: int = 60) -> Frame:
    return Frame(index, index / 10, np.full((height, width, 3), 100, dtype=np.uint8))


def make_event(index: int, query_id: str = "0", **keys: object) -> StreamEvent:
    mask = np.zeros((40, 60), dtype=bool)
    mask[10:20, 5 : 15 + index] = True
    values = {"mask": mask, "pred_iou": 0.9, "consistency": None, "latency_ms": 12.0, "reason": "first"}
    return StreamEvent(query_id, index, index / 10, **{**values, **keys})


def no_space(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# ---------------------------------------------------------------- masks


def test_masks_are_0_and_255_under_query_and_frame(tmp_path):
    writer = MaskPngWriter(tmp_path)
    writer.write([make_event(3), make_event(3, "1", mask=None), make_event(12345, "a/b")])
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.png")) == [
        "0/00003.png",
        "a_b/12345.png",
    ]
    found = np.asarray(Image.open(tmp_path / "0" / "00003.png"))
    assert np.array_equal(found, make_event(3).mask * np.uint8(255))
    with pytest.raises(ValueError, match="share folder"):
        writer.write([make_event(4, "a_b")])


@pytest.mark.parametrize(
    ("query_id", "expected"),
    [
        ("0", "0"),
        ("../up", "_up"),
        ("..", "_"),
        ("", "_"),
        ("日本", "__"),
        (".hidden", "hidden"),
        ("x" * 99, "x" * 80),
    ],
)
def test_folder_names_are_harmless(query_id, expected):
    assert folder_name(query_id) == expected


# ---------------------------------------------------------------- events


def test_events_read_back(tmp_path):
    path = tmp_path / "events.jsonl"
    odd = make_event(1, "1", text="schön\nzwei", pred_iou=float("nan"), extra={"margin": np.float32(0.5)})
    with EventJsonlWriter(path) as writer:
        writer.write([make_event(0), odd])
        lines = path.read_text(encoding="utf-8").splitlines()  # there before closing
    first, second = map(json.loads, lines)
    assert np.array_equal(rle.decode(first["mask"]), make_event(0).mask)
    assert first["mask_area"] == 100
    assert second["pred_iou"] is None
    assert (second["text"], second["extra"]) == ("schön\nzwei", {"margin": 0.5})
    with EventJsonlWriter(path, with_masks=False) as writer:
        writer.write([make_event(0)])
    assert "mask" not in json.loads(path.read_text())


def test_full_disk_leaves_whole_lines(tmp_path, monkeypatch):
    path = tmp_path / "events.jsonl"

    def half(file, data) -> None:
        file.write(data[: len(data) // 2])
        no_space()

    with EventJsonlWriter(path) as writer:
        writer.write([make_event(0), make_event(1)])
        with monkeypatch.context() as patch:
            patch.setattr(writers, "_write_all", half)
            with pytest.raises(OutputError, match="No space left"):
                writer.write([make_event(2)])
        assert [json.loads(line)["frame_index"] for line in path.read_text().splitlines()] == [0, 1]
        writer.write([make_event(3)])
    assert [json.loads(line)["frame_index"] for line in path.read_text().splitlines()] == [0, 1, 3]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this platform")
def test_a_really_full_device():
    with EventJsonlWriter("/dev/full") as writer, pytest.raises(OutputError, match="No space left"):
        writer.write([make_event(0)])


def test_short_writes_are_continued(tmp_path):
    class Slow:
        def __init__(self) -> None:
            self.data = b""

        def write(self, data: memoryview) -> int:
            self.data += bytes(data[:3])
            return min(3, len(data))

    file = Slow()
    writers._write_all(file, b"0123456789")
    assert file.data == b"0123456789"


# ---------------------------------------------------------------- overlay


def test_masks_are_blended_in_the_querys_colour():
    image = np.full((40, 60, 3), 100, dtype=np.uint8)
    mask = make_event(0).mask
    out = blend_masks(image, [None, mask])
    assert (image == 100).all()
    inside = out[15, 10]
    assert np.array_equal(inside, np.round(50 + np.array(PALETTE[1]) / 2))
    assert np.array_equal(out[10, 5], PALETTE[1])  # outline
    assert (out[~mask] == 100).all()
    with pytest.raises(ValueError, match="does not fit"):
        blend_masks(image, [np.ones((4, 4), dtype=bool)])


def test_caption_says_why():
    assert caption(make_event(0, invoked_mllm=True)) == "P_i 0.90 | MLLM (first) | 12 ms"
    assert (
        caption(make_event(1, consistency=0.5, reason="reliable"))
        == "P_i 0.90 | P_c 0.50 | reuse (reliable) | 12 ms"
    )
    assert caption(None) == "no answer"


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(40, 60, (320, 480)), (720, 1280, (720, 1280)), (2160, 3840, (1080, 1920))],
)
def test_canvas_is_readable_and_has_a_strip_per_query(height, width, expected):
    frame = make_frame(0, height, width)
    events = [StreamEvent("0", 0, 0.0, mask=np.ones((height, width), dtype=bool))]
    one = OverlayCanvas({"0": "a"}).draw(frame, events)
    two = OverlayCanvas({"0": "a", "1": "b"}).draw(frame, events)
    assert one.shape[1] == expected[1]
    assert expected[0] < one.shape[0] < two.shape[0]


def test_odd_expressions_can_be_drawn():
    for text in ("word " * 2000, "ما هذا", "🙂 é\u0301", "a\x00b\n\tc", "[SEG]"):
        assert OverlayCanvas({"0": text}).draw(make_frame(0), [make_event(0)]).dtype == np.uint8
    assert OverlayCanvas({"0": "x"}).draw(make_frame(0, 500, 1), []).shape[1] >= 1


def test_overlay_video_and_contact_sheet(tmp_path):
    with OverlayVideoWriter(tmp_path / "o.mp4", 10, EXPRESSIONS, sheet=tmp_path / "s.png") as writer:
        for i in range(5):
            writer.write(make_frame(i), [make_event(i), make_event(i, "1")])
    source = open_video(tmp_path / "o.mp4")
    assert [f.time_s for f in source] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4], abs=1e-3)
    assert np.asarray(Image.open(tmp_path / "s.png")).shape[2] == 3


def test_interrupted_run_leaves_valid_files(tmp_path):
    def run() -> None:
        overlay = OverlayVideoWriter(tmp_path / "o.mp4", 10, EXPRESSIONS, sheet=tmp_path / "s.png")
        with overlay, EventJsonlWriter(tmp_path / "e.jsonl") as events:
            for i in range(9):
                if i == 4:
                    raise KeyboardInterrupt
                overlay.write(make_frame(i), [make_event(i)])
                events.write([make_event(i)])

    with pytest.raises(KeyboardInterrupt):
        run()
    assert sum(1 for _ in open_video(tmp_path / "o.mp4")) == 4
    assert len((tmp_path / "e.jsonl").read_text().splitlines()) == 4
    assert Image.open(tmp_path / "s.png").size[0] > 0


def test_full_disk_under_the_video(tmp_path, monkeypatch):
    writer = OverlayVideoWriter(tmp_path / "no" / "o.mp4", 10, EXPRESSIONS)
    (tmp_path / "no").write_text("a file where a folder should be")
    with pytest.raises(OutputError, match="cannot write the video"):
        writer.write(make_frame(0), [make_event(0)])
    writer.close()


@pytest.mark.parametrize(("count", "tiles"), [(1, 1), (5, 5), (12, 12), (13, 12), (1000, 12)])
def test_contact_sheet_spreads_evenly_and_stays_small(count, tiles):
    sheet = ContactSheet(12, tile_width=8)
    for i in range(count):
        sheet.add(np.full((8, 8, 3), 40 + (i * 200) // count, dtype=np.uint8))
        assert len(sheet._kept) < 24
    picture = sheet.render()
    values = [
        int(picture[8 + 12 * r, 8 + 12 * c, 0])
        for r in range(picture.shape[0] // 12)
        for c in range(picture.shape[1] // 12)
    ]
    shown = [v for v in values if v >= 40]
    assert len(shown) == tiles
    assert shown == sorted(shown)
    assert shown[0] == 40
    if count > 12:
        assert shown[-1] > 200


def test_contact_sheet_of_a_clip():
    frames = [make_frame(i) for i in range(3)]
    sheet = contact_sheet(frames, [[make_event(i)] for i in range(3)], {"0": "it"})
    assert sheet.ndim == 3
    with pytest.raises(ValueError, match="at least one picture"):
        ContactSheet().render()
