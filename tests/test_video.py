"""Made-up odd videos: what comes in, in which size and at which time, and what is refused how."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from refstream.errors import VideoError
from refstream.video import ContainerSource, VideoWriter, open_video, write_video

REAL_VIDEOS = Path(__file__).resolve().parents[2] / "shared" / "data" / "videos"


def picture(number: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Grey level that tells the number, with a bright red top left corner."""
    image = np.full((height, width, 3), 20 + 8 * (number % 20), dtype=np.uint8)
    image[: height // 3, : width // 3] = (250, 10, 10)
    return image


def encode(
    path: Path,
    images: list[np.ndarray],
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    times_ms: list[int] | None = None,
    rotation: int = 0,
    options: dict[str, str] | None = None,
) -> Path:
    """Write a video with PyAV directly, so that FFmpeg, not our writer, tests the reader."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        for i, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = (times_ms[i] if times_ms else 100 * i), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def is_red(pixel: np.ndarray) -> bool:
    return bool(pixel[0] > 180 and pixel[1] < 90 and pixel[2] < 90)


# ---------------------------------------------------------------- files


def test_frames_come_in_order_with_their_times(tmp_path):
    source = open_video(encode(tmp_path / "a.mp4", [picture(i) for i in range(6)]))
    assert (source.width, source.height, source.num_frames, source.is_live) == (64, 48, 6, False)
    assert source.fps == pytest.approx(10)
    assert source.name == "a.mp4"
    for _ in range(2):  # a file can be read again
        frames = list(source)
        assert [f.index for f in frames] == list(range(6))
        assert [f.time_s for f in frames] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])
        for i, frame in enumerate(frames):
            assert frame.image.shape == (48, 64, 3)
            assert abs(int(frame.image[40, 50, 0]) - (20 + 8 * i)) <= 3
            assert is_red(frame.image[3, 3])


def test_variable_frame_rate_keeps_the_streams_times(tmp_path):
    times = [0, 40, 300, 310, 900]
    source = open_video(encode(tmp_path / "vfr.mp4", [picture(i) for i in range(5)], times_ms=times))
    assert [f.time_s for f in source] == pytest.approx([t / 1000 for t in times], abs=1e-3)


@pytest.mark.parametrize(("metadata", "turns"), [(90, 1), (-90, -1), (180, 2)])
def test_rotation_metadata_is_applied(tmp_path, metadata, turns):
    source = open_video(encode(tmp_path / "phone.mp4", [picture(0)] * 3, rotation=metadata))
    expected = np.rot90(picture(0), turns)  # both count counter-clockwise
    assert (source.height, source.width) == expected.shape[:2]
    for frame in source:
        assert np.abs(frame.image.astype(int) - expected).mean() < 6


def test_odd_size(tmp_path):
    path = encode(tmp_path / "odd.mp4", [picture(i, 179, 321) for i in range(3)], pix_fmt="yuv444p")
    source = open_video(path)
    assert (source.width, source.height) == (321, 179)
    assert all(f.image.shape == (179, 321, 3) for f in source)


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "name"),
    [
        ("ffv1", "gray", "grey.mkv"),
        ("libx264", "yuv420p10le", "ten_bit.mp4"),
        ("ffv1", "yuva444p", "alpha.mkv"),
        ("mjpeg", "yuvj420p", "camera.avi"),
        ("libvpx-vp9", "yuv420p", "web.webm"),
    ],
)
def test_pixel_formats_become_rgb(tmp_path, codec, pix_fmt, name):
    frames = list(open_video(encode(tmp_path / name, [picture(5)] * 2, codec=codec, pix_fmt=pix_fmt)))
    assert len(frames) == 2
    assert np.abs(frames[1].image[40, 50].astype(int) - 60).max() <= 6
    if pix_fmt == "gray":
        assert (frames[0].image[3, 3] == frames[0].image[3, 3, 0]).all()


def test_one_frame(tmp_path):
    frames = list(open_video(encode(tmp_path / "one.mp4", [picture(3)])))
    assert [(f.index, f.time_s) for f in frames] == [(0, 0.0)]


def test_max_side_shrinks_and_never_enlarges(tmp_path):
    path = encode(tmp_path / "a.mp4", [picture(0, 48, 64)] * 2)
    small = open_video(path, max_side=32)
    assert (small.width, small.height) == (32, 24)
    assert {f.size for f in small} == {(24, 32)}
    assert open_video(path, max_side=500).width == 64
    with pytest.raises(ValueError, match="max_side"):
        open_video(path, max_side=0)


# ---------------------------------------------------------------- damaged files


def collect(source, into: list[int]) -> None:
    """Indices of the frames, kept also if the source raises."""
    for frame in source:
        into.append(frame.index)


@pytest.fixture
def damaged(tmp_path) -> Path:
    """A film of 40 noisy frames, index first, cut after 60 % of its bytes."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (96, 128, 3), dtype=np.uint8) for _ in range(40)]
    whole = encode(tmp_path / "whole.mp4", images, options={"movflags": "faststart"})
    data = whole.read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(data[: int(len(data) * 0.6)])
    return path


def test_truncated_file_gives_its_good_frames_then_an_error(damaged):
    seen = []
    with pytest.raises(VideoError, match=r"cut\.mp4, frame \d+: ") as caught:
        collect(open_video(damaged), seen)
    assert seen == list(range(len(seen)))
    assert 10 <= len(seen) < 40
    assert caught.value.frame_index == len(seen)


def test_truncated_file_under_skip_stops_with_a_warning(damaged, caplog):
    source = open_video(damaged, on_error="skip")
    assert 10 <= len(list(source)) < 40
    assert source.problems
    assert "cut.mp4" in caplog.text


def test_flipped_bytes_never_crash(tmp_path):
    data = encode(tmp_path / "a.mp4", [picture(i) for i in range(8)]).read_bytes()
    rng = np.random.default_rng(1)
    for case in range(60):
        broken = bytearray(data)
        for place in rng.integers(0, len(data), 1 + case % 8):
            broken[place] = int(rng.integers(256))
        path = tmp_path / "broken.mp4"
        path.write_bytes(broken[: int(len(broken) * rng.uniform(0.3, 1.0))] if case % 3 == 0 else broken)
        try:
            count = sum(1 for _ in open_video(path, on_error="skip"))
        except VideoError:
            continue
        assert count > 0


def test_truncated_before_the_index_is_refused(tmp_path):
    path = encode(tmp_path / "a.mp4", [picture(i) for i in range(10)])
    path.write_bytes(path.read_bytes()[:800])
    with pytest.raises(VideoError, match=r"a\.mp4"):
        open_video(path)


def test_text_named_mp4(tmp_path):
    path = tmp_path / "notes.mp4"
    path.write_text("not a film\n" * 100)
    with pytest.raises(VideoError, match="cannot be opened as a video"):
        open_video(path)


def test_plain_text_is_not_a_video(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("FFmpeg would draw this as a terminal\n" * 10)
    with pytest.raises(VideoError):
        open_video(path)


def test_empty_file(tmp_path):
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(VideoError, match="empty"):
        open_video(tmp_path / "empty.mp4")


def test_missing_file():
    with pytest.raises(VideoError, match="no such file"):
        open_video("no/such/film.mp4")


def test_sound_only(tmp_path):
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate, frame.pts = 8000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(VideoError, match="no video stream"):
        open_video(path)


def test_missing_camera_and_dead_address():
    with pytest.raises(VideoError, match=r"video97|camera|97"):
        open_video("97")
    with pytest.raises(VideoError, match="cannot be opened"):
        open_video("http://127.0.0.1:9/none.mp4")


def test_a_live_source_is_read_once(tmp_path):
    source = ContainerSource(str(encode(tmp_path / "a.mp4", [picture(0)] * 2)))
    source.is_live = True
    assert len(list(source)) == 2
    with pytest.raises(VideoError, match="only once"):
        list(source)


def test_fps_is_for_folders(tmp_path):
    with pytest.raises(ValueError, match="folder of frames only"):
        open_video(encode(tmp_path / "a.mp4", [picture(0)]), fps=5)


# ---------------------------------------------------------------- writing


@pytest.mark.parametrize(("height", "width"), [(48, 64), (179, 321), (1, 1)])
def test_written_video_reads_back(tmp_path, height, width):
    images = [picture(i, height, width) for i in range(7)]
    path = write_video(tmp_path / "new" / "out.mp4", images, fps=12.5)
    source = open_video(path)
    frames = list(source)
    assert (source.num_frames, len(frames)) == (7, 7)
    assert (source.height, source.width) == (height + height % 2, width + width % 2)
    assert [f.time_s for f in frames] == pytest.approx([i / 12.5 for i in range(7)], abs=1e-4)
    for image, frame in zip(images, frames, strict=True):
        inside = frame.image[:height, :width].astype(int)
        assert np.abs(inside[height // 2 :] - image[height // 2 :]).mean() < 4
    assert [p.name for p in path.parent.iterdir()] == ["out.mp4"]


def test_writer_keeps_given_times_and_finishes_after_an_exception(tmp_path):
    path = tmp_path / "out.mp4"

    def interrupted() -> None:
        with VideoWriter(path, 10) as writer:
            for i, time_s in enumerate((0.0, 0.5, 0.6)):
                writer.write(picture(i), time_s)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [f.time_s for f in open_video(path)] == pytest.approx([0.0, 0.5, 0.6], abs=1e-3)


def test_part_file_is_playable_while_writing(tmp_path):
    writer = VideoWriter(tmp_path / "out.mp4", 10)
    rng = np.random.default_rng(0)
    for _ in range(150):  # 15 s: beyond the encoder's look-ahead and several fragments
        writer.write(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8))
    assert sum(1 for _ in open_video(tmp_path / "out.part.mp4", on_error="skip")) > 10
    writer.close()
    writer.close()
    assert sum(1 for _ in open_video(tmp_path / "out.mp4")) == 150


def test_writer_refuses_nonsense(tmp_path):
    with pytest.raises(ValueError, match=r"\.mp4"):
        VideoWriter(tmp_path / "out.avi", 10)
    with pytest.raises(ValueError, match="fps"):
        VideoWriter(tmp_path / "out.mp4", 0)
    with pytest.raises(ValueError, match="no frames"):
        write_video(tmp_path / "out.mp4", [], 10)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="all frames"):
        write_video(tmp_path / "out.mp4", [picture(0), picture(0, 50, 64)], 10)


@pytest.mark.skipif(not REAL_VIDEOS.is_dir(), reason=f"no real videos at {REAL_VIDEOS}")
def test_real_video_decodes_whole():
    path = sorted(REAL_VIDEOS.glob("*.mp4"), key=lambda p: p.stat().st_size)[0]
    source = open_video(path)
    times = [frame.time_s for frame in source]
    assert len(times) == source.num_frames
    assert times == sorted(times)
    assert times[-1] == pytest.approx((len(times) - 1) / source.fps, abs=2 / source.fps)
