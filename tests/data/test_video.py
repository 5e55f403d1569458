"""Videos: times, colours, and files that end early or are none."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.data.frame_files import HEIGHT, WIDTH, write_video
from trianflow.data.frames import open_frames
from trianflow.errors import TrianflowError, UsageError


def boxes(data: bytes) -> dict[bytes, tuple[int, int]]:
    """Top-level boxes of an MP4 file: name to (start, end)."""
    found, at = {}, 0
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        found[data[at + 4 : at + 8]] = (at, at + length)
        at += length
    return found


def index_first(data: bytes) -> bytes:
    """The same MP4 with its index before the pictures ("fast start"), as streaming services write it."""
    place = boxes(data)
    (moov, moov_end), (mdat, _) = place[b"moov"], place[b"mdat"]
    index = bytearray(data[moov:moov_end])
    at = index.find(b"stco")
    for i in range(int.from_bytes(index[at + 8 : at + 12], "big")):
        spot = slice(at + 12 + 4 * i, at + 16 + 4 * i)
        index[spot] = (int.from_bytes(index[spot], "big") + len(index)).to_bytes(4, "big")
    return data[:mdat] + bytes(index) + data[mdat:moov]


def test_video(tmp_path: Path) -> None:
    path = write_video(tmp_path / "drive.mp4")
    source = open_frames(path)
    assert (source.kind, source.name, len(source)) == ("video", "drive.mp4", 30)
    assert source.first_image_size() == (WIDTH, HEIGHT)
    frames = list(source)
    assert [f.index for f in frames] == list(range(30))
    np.testing.assert_allclose([f.time for f in frames], np.arange(30) / 20, atol=1e-6)
    assert frames[12].name == "drive.mp4#12"
    level = [float(f.image.mean()) for f in frames if f.image is not None]
    np.testing.assert_allclose(np.diff(level), 8, atol=4)  # every frame once, in order
    assert source.notes == []
    part = list(open_frames(path, start=5, end=20, stride=5))
    assert [f.index for f in part] == [5, 10, 15]
    for frame in part:
        np.testing.assert_array_equal(frame.image, frames[frame.index].image)
        assert frame.time == frames[frame.index].time
    assert [f.time for f in open_frames(path, fps=10, stride=15)] == [0, 1.5]
    with pytest.raises(UsageError, match="beyond the end"):
        open_frames(path, start=30)


def test_video_colour_is_rgb(tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "red.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for _ in range(3):
        writer.write(np.full((48, 64, 3), (0, 0, 255), np.uint8))
    writer.release()
    frames = list(open_frames(tmp_path / "red.avi"))
    assert len(frames) == 3
    for frame in frames:
        assert frame.image is not None
        assert frame.image[..., 0].mean() > 200
        assert frame.image[..., 2].mean() < 50
    assert np.all(np.diff([f.time for f in frames]) > 0)


def test_truncated_video_gives_what_is_there(tmp_path: Path) -> None:
    data = index_first(write_video(tmp_path / "a.mp4").read_bytes())
    (tmp_path / "whole.mp4").write_bytes(data)
    assert len(list(open_frames(tmp_path / "whole.mp4"))) == 30
    place = boxes(data)[b"mdat"]
    (tmp_path / "cut.mp4").write_bytes(data[: place[0] + (place[1] - place[0]) // 2])
    source = open_frames(tmp_path / "cut.mp4")
    for _ in range(2):
        read = list(source)
        assert 3 < len(read) < 30
        assert len(source.notes) == 1
        assert f"promises 30 frames but {len(read)} could be read" in source.notes[0]
    late = open_frames(tmp_path / "cut.mp4", start=29)
    with pytest.raises(TrianflowError, match="before --start 29"):
        list(late)


def test_video_that_does_not_know_its_length(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4").rename(tmp_path / "a.mpg")  # FFmpeg goes by content, we by the name
    source = open_frames(path)
    assert source.length is None
    assert source
    with pytest.raises(TypeError):
        len(source)
    assert len(list(source)) == 30
    assert [f.index for f in open_frames(path, start=29)] == [29]
    with pytest.raises(TrianflowError, match="ends after 30 frames, before --start 30"):
        list(open_frames(path, start=30))


def test_video_without_its_index(tmp_path: Path) -> None:
    data = write_video(tmp_path / "a.mp4").read_bytes()
    assert boxes(data)[b"moov"][0] > boxes(data)[b"mdat"][0]
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(TrianflowError, match=r"cut short.*moov"):
        open_frames(tmp_path / "cut.mp4")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"hello world\n" * 50, "text file"),
        (b"\0\1\2\3" * 500, "ffmpeg -i"),
        (b"#EXTM3U\n", "text file"),
    ],
)
def test_files_that_are_no_video(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(TrianflowError, match=message):
        open_frames(tmp_path / "a.mp4")


@pytest.mark.data
def test_shared_video(shared_data: Path) -> None:
    source = open_frames(shared_data / "video_malaga_120.mp4")
    assert source.first_image_size() == (800, 600)
    times = [f.time for f in source if f.image is not None]
    assert len(times) == 120
    np.testing.assert_allclose(np.diff(times), 0.05, atol=1e-6)
