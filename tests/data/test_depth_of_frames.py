"""Measured depth beside the frames."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.data.frame_files import HEIGHT, WIDTH, picture, write_folder, write_video
from trianflow.data.decoding import UnreadableImage
from trianflow.data.depth import read_depth
from trianflow.data.frames import open_frames
from trianflow.errors import TrianflowError, UsageError


def write_depth(path: Path, value: int = 5000, size: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    depth = np.full(size, value, np.uint16)
    depth[0, :3] = (0, 65535, 1)
    cv2.imwrite(str(path), depth)


def test_depth_by_order(tmp_path: Path) -> None:
    images = write_folder(tmp_path / "rgb", 3)
    (tmp_path / "depth").mkdir()
    for i in range(3):
        write_depth(tmp_path / "depth" / f"d{i}.png", 5000 * (i + 1))
    frames = list(open_frames(images, depth=tmp_path / "depth", depth_scale=5000))
    for i, frame in enumerate(frames):
        assert frame.depth is not None
        assert frame.depth.dtype == np.float32
        assert frame.depth[5, 5] == i + 1
        np.testing.assert_allclose(frame.depth[0, :3], [0, 0, 1 / 5000])
    strided = list(open_frames(images, depth=tmp_path / "depth", depth_scale=5000, start=2))
    assert strided[0].depth is not None
    assert strided[0].depth[5, 5] == 3


def test_depth_by_name_and_by_time(tmp_path: Path) -> None:
    images = write_folder(tmp_path / "rgb", 3)
    (tmp_path / "depth").mkdir()
    for i in (0, 2):
        write_depth(tmp_path / "depth" / f"{i:06d}.png", 5000 * (i + 1))
    source = open_frames(images, depth=tmp_path / "depth", depth_scale=5000)
    depths = [None if f.depth is None else f.depth[5, 5] for f in source]
    assert depths == [1, None, 3]
    assert "depth for 2 of 3 images" in source.notes[0]
    assert "000001.png" in source.notes[0]

    (tmp_path / "tum").mkdir()
    (tmp_path / "tum_depth").mkdir()
    for i in range(3):
        Image.fromarray(picture(i)).save(tmp_path / "tum" / f"1305031102.{100000 * (i + 1)}.png")
    for i in range(4):
        write_depth(tmp_path / "tum_depth" / f"1305031102.{100000 * (i + 1) + 15000}.png", 1000 * (i + 1))
    source = open_frames(tmp_path / "tum", depth=tmp_path / "tum_depth", depth_scale=1000)
    assert [None if f.depth is None else f.depth[5, 5] for f in source] == [1, 2, 3]


def test_as_many_depth_files_of_other_frames_are_paired_by_name(tmp_path: Path) -> None:
    images = write_folder(tmp_path / "rgb", 5)
    (images / "000001.png").unlink()
    (tmp_path / "depth").mkdir()
    for i in (0, 1, 2, 4):
        write_depth(tmp_path / "depth" / f"{i:06d}.png", 5000 * (i + 1))
    source = open_frames(images, depth=tmp_path / "depth", depth_scale=5000)
    assert [None if f.depth is None else f.depth[5, 5] for f in source] == [1, 3, None, 5]
    assert source.notes[0] == f"{tmp_path / 'depth'}: depth for 3 of 4 images; none for 000003.png"


def test_depth_in_npy_needs_no_scale(tmp_path: Path) -> None:
    images = write_folder(tmp_path / "rgb", 1)
    (tmp_path / "depth").mkdir()
    depth = np.full((HEIGHT, WIDTH), 2.5)
    depth[0, :4] = (np.nan, np.inf, -1, 0)
    np.save(tmp_path / "depth" / "0.npy", depth)
    (frame,) = open_frames(images, depth=tmp_path / "depth")
    assert frame.depth is not None
    np.testing.assert_array_equal(frame.depth[0, :5], [0, 0, 0, 0, 2.5])


def test_unusable_depth_is_none_with_a_note(tmp_path: Path) -> None:
    images = write_folder(tmp_path / "rgb", 5)
    folder = tmp_path / "depth"
    folder.mkdir()
    for i in range(5):
        write_depth(folder / f"{i}.png")
    write_depth(folder / "1.png", size=(24, 32))
    (folder / "2.png").write_bytes((folder / "0.png").read_bytes()[:60])
    cv2.imwrite(str(folder / "3.png"), np.full((HEIGHT, WIDTH), 9, np.uint8))
    source = open_frames(images, depth=folder, depth_scale=1000)
    frames = list(source)
    assert [f.depth is not None for f in frames] == [True, False, False, False, True]
    assert all(f.image is not None and not f.problem for f in frames)
    assert source.notes == ["no depth for 3 frames, the first: 1.png: 32x24, but the image is 64x48"]


def test_depth_that_cannot_be(tmp_path: Path) -> None:
    images = write_folder(tmp_path / "rgb", 3)
    folder = tmp_path / "depth"
    with pytest.raises(UsageError, match="no such folder"):
        open_frames(images, depth=folder)
    folder.mkdir()
    with pytest.raises(TrianflowError, match="no depth files"):
        open_frames(images, depth=folder)
    write_depth(folder / "x.png")
    with pytest.raises(TrianflowError, match=r"1 depth files for 3 images, none named like 000000.png; .* x.png"):
        open_frames(images, depth=folder)
    write_depth(folder / "000001.png")
    with pytest.raises(UsageError, match=r"--depth-scale \(KITTI 256, TUM 5000"):
        open_frames(images, depth=folder)
    with pytest.raises(UsageError, match="positive"):
        open_frames(images, depth=folder, depth_scale=-1)
    with pytest.raises(TrianflowError, match="3 frames"):
        open_frames(write_video(tmp_path / "v.mp4", 3), depth=folder, depth_scale=1)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00", b"text"])
def test_damaged_npy(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(UnreadableImage):
        read_depth(tmp_path / "a.npy")


@pytest.mark.data
def test_shared_rgbd_folder(shared_data: Path) -> None:
    folder = shared_data / "tum_fr1_desk_9frames"
    source = open_frames(folder, depth=folder / "depth", depth_scale=5000)
    frames = list(source)
    assert len(frames) == 9
    assert frames[0].time == pytest.approx(1305031453.359684, abs=1e-6)
    for frame in frames:
        assert frame.image is not None
        assert frame.depth is not None
        known = frame.depth[frame.depth > 0]
        assert 0.3 < np.median(known) < 5
