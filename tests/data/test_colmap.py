"""COLMAP's text files, parsed by their specification and by our own readers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from trianflow.data.colmap import Reconstruction, write_colmap
from trianflow.errors import TrianflowError
from trianflow.geometry.camera import Camera
from trianflow.trajectory import Trajectory

CAMERA = Camera(700.0, 710.0, 319.5, 239.5, 640, 480)


def model(images: int = 3, points: int = 20) -> Reconstruction:
    """Points before cameras that move to the right; an image sees two thirds of them, in no order."""
    rng = np.random.default_rng(0)
    T_wc = np.tile(np.eye(4), (images, 1, 1))
    T_wc[:, :3, :3] = Rotation.from_rotvec(rng.normal(0, 0.1, (images, 3))).as_matrix()
    T_wc[:, 0, 3] = np.arange(images)
    X = rng.uniform([-3, -2, 8], [3, 2, 12], (points, 3))
    image, point = map(np.ravel, np.meshgrid(np.arange(images), np.arange(points)))
    keep = rng.permutation(len(image))[: 2 * len(image) // 3]
    image, point = image[keep], point[keep]
    T_cw = np.linalg.inv(T_wc)[image]
    X_c = np.einsum("oij,oj->oi", T_cw[:, :3, :3], X[point]) + T_cw[:, :3, 3]
    p = X_c[:, :2] / X_c[:, 2:] * [CAMERA.fx, CAMERA.fy] + [CAMERA.cx, CAMERA.cy]
    color = rng.integers(0, 256, (points, 3)).astype(np.uint8)
    names = [f"{i:06d}.jpg" for i in range(images)]
    return Reconstruction(CAMERA, names, T_wc, X, color, rng.uniform(0, 1, points), image, point, p)


def rows(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text().splitlines() if not line.startswith("#")]


def test_reprojection_of_what_is_read_back(tmp_path: Path) -> None:
    """In COLMAP's own convention, the centre of the first pixel at (0.5, 0.5), by nothing but what the files say."""
    given = model()
    assert write_colmap(tmp_path, given) == ["cameras.txt", "images.txt", "points3D.txt"]
    (camera,) = rows(tmp_path / "cameras.txt")
    assert camera[:4] == ["1", "PINHOLE", "640", "480"]
    fx, fy, cx, cy = map(float, camera[4:])
    assert (cx, cy) == (320.0, 240.0)
    points = {int(row[0]): row for row in rows(tmp_path / "points3D.txt")}
    images = rows(tmp_path / "images.txt")
    observations = 0
    for head, seen in zip(images[::2], images[1::2]):
        qw, qx, qy, qz, *t = map(float, head[1:8])
        R = Rotation.from_quat([qx, qy, qz, qw]).as_matrix()
        assert (head[8], head[9]) == ("1", given.names[int(head[0]) - 1])
        for index, (u, v, number) in enumerate(zip(seen[::3], seen[1::3], seen[2::3])):
            X = R @ np.array(list(map(float, points[int(number)][1:4]))) + t
            np.testing.assert_allclose([fx * X[0] / X[2] + cx, fy * X[1] / X[2] + cy], [float(u), float(v)], atol=2e-3)
            track = points[int(number)][8:]
            assert (head[0], str(index)) in zip(track[::2], track[1::2])
            observations += 1
    assert observations == len(given.p) == sum(len(row[8:]) // 2 for row in points.values())
    for i in range(len(given.X)):
        assert list(map(int, points[i + 1][4:7])) == given.color[i].tolist()
        assert float(points[i + 1][7]) == pytest.approx(given.error[i], abs=1e-4)


def test_our_own_readers(tmp_path: Path) -> None:
    given = model()
    write_colmap(tmp_path, given)
    np.testing.assert_allclose(Trajectory.load(tmp_path / "images.txt").T_wc, given.T_wc, atol=1e-9)
    assert Camera.from_file(tmp_path / "cameras.txt") == CAMERA


def test_images_without_points(tmp_path: Path) -> None:
    none = np.zeros(0, int)
    empty = Reconstruction(
        CAMERA, ["a.jpg"], np.eye(4)[None], np.zeros((0, 3)), np.zeros((0, 3)), none, none, none, np.zeros((0, 2))
    )
    write_colmap(tmp_path, empty)
    assert rows(tmp_path / "images.txt") == [["1", "1", *6 * ["0"], "1", "a.jpg"], []]
    assert rows(tmp_path / "points3D.txt") == []


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TrianflowError, match=r"nowhere/cameras\.txt: cannot write the reconstruction"):
        write_colmap(tmp_path / "nowhere", model())
