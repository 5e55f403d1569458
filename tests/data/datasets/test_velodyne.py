"""Laser scans."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trianflow.data.calibration import read_calibration
from trianflow.data.datasets.kitti_files import from_rectified, read_matrices, rigid
from trianflow.data.datasets.velodyne import project_scan, read_scan
from trianflow.data.depth import read_depth
from trianflow.errors import TrianflowError
from trianflow.geometry.camera import Camera

from .kitti_trees import HEIGHT, VELO_TO_CAM, WIDTH, K, projection, rectification, scan_of

CAMERA = Camera(70.0, 70.0, 47.0, 15.0, WIDTH, HEIGHT)


def in_loops(scan: np.ndarray, P: np.ndarray, eigen: bool) -> np.ndarray:
    """Point by point with the whole `(3, 4)` matrix; for `eigen` as the public code with `vel_depth`."""
    shift = -1 if eigen else 0
    depth = np.zeros((HEIGHT, WIDTH))
    for x, y, z, _ in scan.astype(np.float64):
        if x < 0:
            continue
        a, b, c = P @ np.array([x, y, z, 1.0])
        column, row = int(np.round(a / c)) + shift, int(np.round(b / c)) + shift
        inside = 0 <= column < WIDTH and 0 <= row < HEIGHT
        value = x if eigen else c
        if c > 0 and inside and (depth[row, column] == 0 or value < depth[row, column]):
            depth[row, column] = value
    return depth


@pytest.mark.parametrize("eigen", [False, True])
def test_projection_agrees_with_the_matrix_product_in_loops(eigen: bool) -> None:
    scan = np.concatenate([scan_of(seed) for seed in range(20)])
    R = rigid(rectification())
    expected = in_loops(scan, projection(3) @ R @ VELO_TO_CAM, eigen)
    depth = project_scan(scan, CAMERA, from_rectified(projection(3)) @ R @ VELO_TO_CAM, eigen)
    assert depth.dtype == np.float32
    assert depth.shape == (HEIGHT, WIDTH)
    assert (expected > 0).sum() > 500
    np.testing.assert_allclose(depth, expected, rtol=1e-6)


def test_the_nearest_point_counts_and_depth_is_z_of_the_camera() -> None:
    ray = np.linalg.inv(K) @ (50.0, 10.0, 1.0)
    cam = np.array([ray * z for z in (9.0, 4.0, 6.0)])
    velo = (np.c_[cam, np.ones(3)] @ np.linalg.inv(VELO_TO_CAM).T)[:, :3]
    velo = np.vstack([velo, [-0.1, 0.0, 0.0], [0.2, 0.0, 0.0]])  # behind the scanner; before it, behind the camera
    depth = project_scan(velo, CAMERA, VELO_TO_CAM)
    assert np.argwhere(depth).tolist() == [[10, 50]]
    assert depth[10, 50] == pytest.approx(4.0)
    eigen = project_scan(velo, CAMERA, VELO_TO_CAM, eigen=True)
    assert np.argwhere(eigen).tolist() == [[9, 49]]
    assert eigen[9, 49] == pytest.approx(velo[1, 0]), "the scanner's forward distance"
    assert velo[1, 0] == pytest.approx(4.27, abs=0.01)


def test_no_point_in_sight_gives_no_depth() -> None:
    assert not project_scan(np.zeros((0, 4), np.float32), CAMERA, VELO_TO_CAM).any()
    assert not project_scan(np.array([[-5.0, 0.0, 0.0, 1.0]]), CAMERA, VELO_TO_CAM).any()


def test_scan_files(tmp_path: Path) -> None:
    path = tmp_path / "000000.bin"
    scan_of(3).tofile(path)
    np.testing.assert_array_equal(read_scan(path), scan_of(3))
    path.write_bytes(path.read_bytes()[:-6])
    with pytest.raises(TrianflowError, match=r"000000\.bin: truncated laser scan \(3194 bytes.*unpack"):
        read_scan(path)
    path.write_bytes(b"")
    with pytest.raises(TrianflowError, match=r"000000\.bin: truncated"):
        read_scan(path)
    np.full((2, 4), np.nan, np.float32).tofile(path)
    with pytest.raises(TrianflowError, match=r"000000\.bin: damaged"):
        read_scan(path)
    with pytest.raises(TrianflowError, match=r"no\.bin: cannot read"):
        read_scan(tmp_path / "no.bin")


@pytest.mark.data
@pytest.mark.parametrize("number", [0, 1])
def test_real_scans_give_the_depth_that_was_made_of_them_by_others(shared_data: Path, number: int) -> None:
    folder = shared_data / "kitti_odom_10_color_velodyne"
    matrices = read_matrices(folder / "calib_kitti.txt", {"P2": (3, 4), "Tr": (3, 4)}, "")
    expected = read_depth(shared_data / f"kitti_mini_depth/10/depth/{number:06d}.png", 256)
    camera = replace(read_calibration(folder / "calib_kitti.txt", "P2"), width=1226, height=370)
    T_cv = from_rectified(matrices["P2"]) @ np.vstack([matrices["Tr"], [0, 0, 0, 1]])
    depth = project_scan(read_scan(folder / f"velodyne/{number:06d}.bin"), camera, T_cv)
    assert (depth > 0).sum() > 16000
    np.testing.assert_array_equal(depth > 0, expected > 0)
    assert np.abs(depth - expected).max() <= 0.5 / 256 + 1e-4  # the file is rounded to 1/256 m
