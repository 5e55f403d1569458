"""The reader of Make3D's test set."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from trianflow.data.datasets.make3d import open_make3d
from trianflow.errors import TrianflowError
from trianflow.evaluation.depth_protocols import crop_window

NAMES = ("10.21op2-p-046t000", "math10-p-015t000", "op10-p-139t000")


def grid(number: int) -> np.ndarray:
    rows, columns = np.indices((55, 305))
    layers = np.zeros((55, 305, 4))
    layers[..., :3] = -1
    layers[..., 3] = 1 + number + rows + columns / 1000
    return layers


def write(root: Path) -> None:
    (root / "Test134").mkdir(parents=True)
    (root / "Gridlaserdata").mkdir()
    for i, name in enumerate(NAMES):
        cv2.imwrite(str(root / "Test134" / f"img-{name}.jpg"), np.full((2272, 1704, 3), 50 * i, np.uint8))
        savemat(root / "Gridlaserdata" / f"depth_sph_corr-{name}.mat", {"Position3DGrid": grid(i)})


def test_official_layout(tmp_path: Path) -> None:
    write(tmp_path)
    found = open_make3d(tmp_path)
    assert found.problems == ()
    (sequence,) = found.sequences
    assert (sequence.name, len(sequence)) == ("Test134", 3)
    assert [round(f.image.mean()) for f in sequence.frames] == [0, 50, 100]
    assert sequence.problems == ()
    (note,) = sequence.notes
    assert "no calibration: guessed as a field of view of 65 degrees" in note
    camera = sequence.camera
    assert (camera.width, camera.height, camera.cx, camera.cy) == (1704, 2272, 851.5, 1135.5)
    laser = sequence.laser(1)
    assert laser is not None
    assert np.array_equal(laser, grid(1)[..., 3].astype(np.float32))
    depth = sequence.depth(1)
    assert depth is not None
    assert depth.shape == (2272, 1704)
    for row, column in ((0, 0), (2271, 1703), (1000, 1000), (41, 5), (42, 6)):
        # the cell in which the pixel's centre lies
        assert depth[row, column] == laser[int((row + 0.5) * 55 / 2272), int((column + 0.5) * 305 / 1704)]


def test_the_central_crop(tmp_path: Path) -> None:
    """The published figures are predicted and scored on it."""
    write(tmp_path)
    (whole,), (window,) = (open_make3d(tmp_path, crop=crop).sequences for crop in (False, True))
    rows, columns = crop_window("make3d", (2272, 1704))
    assert [frame.image.shape for frame in window.frames] == [(852, 1704, 3)] * 3
    camera = window.camera
    assert (camera.width, camera.height, camera.cx, camera.cy) == (1704, 852, 851.5, 1135.5 - rows.start)
    assert np.array_equal(window.depth(1), whole.depth(1)[rows, columns])
    assert crop_window("make3d", window.depth(1).shape) == (slice(0, 852), slice(0, 1704))


def test_nested_folders(tmp_path: Path) -> None:
    write(tmp_path / "make3d" / "extra")
    (sequence,) = open_make3d(tmp_path / "make3d").sequences
    assert sequence.laser(0) is not None


def test_planted_faults(tmp_path: Path) -> None:
    write(tmp_path)
    images = sorted((tmp_path / "Test134").iterdir())
    laser = sorted((tmp_path / "Gridlaserdata").iterdir())
    images[0].write_bytes(images[0].read_bytes()[:3000])
    cv2.imwrite(str(images[2]), np.zeros((100, 100, 3), np.uint8))
    laser[1].unlink()
    laser[0].write_bytes(laser[0].read_bytes()[:1000])
    savemat(laser[2], {"Position3DGrid": np.zeros((55, 300, 4))})
    savemat(tmp_path / "Gridlaserdata" / "depth_sph_corr-other.mat", {"Position3DGrid": grid(9)})
    (sequence,) = open_make3d(tmp_path).sequences
    text = "\n".join(sequence.problems)
    assert f"{images[1]}: no {laser[1].name}, 1 of 3 images have no depth" in text
    assert "depth_sph_corr-other.mat: no img-other.jpg" in text
    frames = list(sequence.frames)
    assert [f.image is None for f in frames] == [True, False, True]
    assert "truncated JPEG" in frames[0].problem
    assert frames[2].problem == "size 100x100 differs from 1704x2272"
    assert sequence.depth(1) is None
    with pytest.raises(TrianflowError, match="not a readable MATLAB 5 file"):
        sequence.depth(0)
    with pytest.raises(TrianflowError, match=r"a grid of shape \(55, 300, 4\), not \(55, 305, 4\)"):
        sequence.depth(2)
    savemat(laser[2], {"other": 1})
    with pytest.raises(TrianflowError, match="no Position3DGrid"):
        sequence.depth(2)


def test_laser_data_that_is_not_unpacked(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "Test134Depth.tar.gz").write_bytes(b"\x1f\x8b")
    assert open_make3d(tmp_path).problems == ()
    for file in (tmp_path / "Gridlaserdata").iterdir():
        file.unlink()
    found = open_make3d(tmp_path)
    assert "Test134Depth.tar.gz: an archive that is not unpacked" in found.problems[0]
    assert "3 of 3 images have no depth" in found.sequences[0].problems[0]


def test_unknown_depth_is_zero(tmp_path: Path) -> None:
    write(tmp_path)
    layers = grid(0)
    layers[0, 0, 3], layers[0, 1, 3] = np.nan, -1
    savemat(tmp_path / "Gridlaserdata" / f"depth_sph_corr-{NAMES[0]}.mat", {"Position3DGrid": layers})
    laser = open_make3d(tmp_path).sequences[0].laser(0)
    assert laser is not None
    assert (laser[0, 0], laser[0, 1], laser[0, 2]) == (0, 0, np.float32(1.002))


def test_nothing_usable(tmp_path: Path) -> None:
    with pytest.raises(TrianflowError, match=r"expected Test134/img-\*\.jpg"):
        open_make3d(tmp_path)
    (tmp_path / "Test134.tar.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(TrianflowError, match="not unpacked"):
        open_make3d(tmp_path)
