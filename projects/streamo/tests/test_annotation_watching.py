"""Which frame stands for which second, at odd frame rates and with gaps; what is kept of a video."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from refstream_projects.streamo.annotation.watching import evenly, watch
from refstream_projects.streamo.clock import StreamClock

from refstream.errors import VideoError
from refstream.files import write_png
from refstream.video import VideoWriter, open_video


def encode(path: Path, times: list[float], level, rate: float = 25.0) -> Path:
    """A grey video with frames at these seconds, frame i of level(i)."""
    with VideoWriter(path, fps=rate) as writer:
        for i, time_s in enumerate(times):
            writer.write(np.full((32, 32, 3), level(i), dtype=np.uint8), time_s)
    return path


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(24000, 1001), Fraction(60000, 1001), 2])
def test_frames_are_those_of_the_clock_at_any_rate(tmp_path, rate):
    """The oracle is ``StreamClock.frames`` over the timestamps that the reader gives."""
    times = [float(i / rate) for i in range(round(2.6 * rate))]
    path = encode(tmp_path / "a.mp4", times, lambda i: 20 + i % 200, float(rate))
    read = list(open_video(path))
    for fps in (0.5, 1.0, 2.0):
        expected = StreamClock(fps).frames([frame.time_s for frame in read])
        with watch(path, "a.mp4", fps=fps) as video:
            assert len(video.frames) == len(video.times) == len(expected)
            for k, index in enumerate(expected):
                assert np.array_equal(video.frames[k], read[index].image)
                assert video.times[k] == k / fps
                assert read[index].time_s - k / fps < float(1 / rate) + 1e-3
            assert video.duration_s == pytest.approx(len(times) / rate, abs=0.01)


def test_a_gap_is_filled_by_the_next_frame(tmp_path):
    path = encode(tmp_path / "gap.mp4", [0.0, 0.5, 1.0, 3.6, 4.0], lambda i: 40 * i + 20)
    with watch(path, "gap.mp4") as video:
        assert [round((int(frame[0, 0, 0]) - 20) / 40) for frame in video.frames] == [0, 2, 3, 3, 4]


def test_clips_and_overviews(tmp_path):
    path = encode(tmp_path / "a.mp4", [i / 10 for i in range(80)], lambda i: 20 + 2 * i)
    with watch(path, "a.mp4") as video:
        for start_s, end_s, expected in [(2, 5, [2, 3, 4]), (2.5, 2.7, [2]), (0, 0, [0]), (7.5, 99, [7])]:
            frames, times = video.clip(start_s, end_s)
            assert times.tolist() == expected
            assert frames.shape == (len(expected), 32, 32, 3)
            assert np.array_equal(frames, video.frames[expected])
        frames, times = video.thinned(3)
        assert times.tolist() == [0, 4, 7]
        assert len(video.thinned(100)[0]) == 8
        assert isinstance(video.frames, np.memmap)  # a long video does not fill the memory
    assert evenly(1, 4).tolist() == [0]


def test_a_cut_in_a_real_file_is_found_where_it_is(tmp_path):
    path = encode(tmp_path / "cut.mp4", [i / 25 for i in range(150)], lambda i: 50 if i < 80 else 180)
    with watch(path, "cut.mp4") as video:
        ((start_s, end_s),) = [(c.start_s, c.end_s) for c in video.changes]
        assert (start_s, end_s) == (3.0, 3.25)  # at 3.2 s; looked at 4 times a second
        assert [(m.start_s, m.end_s) for m in video.motions] == [(3.0, 3.25)]


def test_folders_have_the_rate_that_is_given(tmp_path):
    for i in range(9):
        write_png(tmp_path / "frames" / f"{i}.png", np.full((16, 24, 3), 10 * i, dtype=np.uint8))
    with watch(tmp_path / "frames", "frames", folder_fps=2.0, max_side=12) as video:
        assert [int(frame[0, 0, 0]) for frame in video.frames] == [0, 20, 40, 60, 80]
        assert video.frames.shape == (5, 8, 12, 3)
        assert video.duration_s == 4.5


def test_a_broken_video_is_named(tmp_path):
    path = encode(tmp_path / "a.mp4", [i / 10 for i in range(80)], lambda i: 20 + 2 * i)
    data = path.read_bytes()
    (tmp_path / "broken.mp4").write_bytes(data[: len(data) // 3])
    with pytest.raises(VideoError, match=r"broken\.mp4"), watch(tmp_path / "broken.mp4", "b"):
        pass
