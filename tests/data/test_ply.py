"""Point clouds and meshes written, and read by an independent reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trianflow.data.ply import write_ply
from trianflow.errors import TrianflowError

POINTS = np.array([[0.5, -1.25, 3.0], [1e3, 0.0, -7.75]])
COLORS = np.array([[255, 0, 10], [1, 2, 3]], np.uint8)


def test_layout(tmp_path: Path) -> None:
    write_ply(tmp_path / "a.ply", POINTS, COLORS)
    header, body = (tmp_path / "a.ply").read_bytes().split(b"end_header\n")
    assert header.decode().splitlines() == [
        "ply",
        "format binary_little_endian 1.0",
        "element vertex 2",
        *(f"property float {axis}" for axis in "xyz"),
        *(f"property uchar {name}" for name in ("red", "green", "blue")),
    ]
    assert len(body) == 2 * 15
    np.testing.assert_array_equal(np.frombuffer(body[15:27], "<f4"), POINTS[1].astype(np.float32))
    assert list(body[27:]) == COLORS[1].tolist()


def test_open3d_reads_it(tmp_path: Path) -> None:
    o3d = pytest.importorskip("open3d")
    write_ply(tmp_path / "a.ply", POINTS, COLORS)
    cloud = o3d.io.read_point_cloud(str(tmp_path / "a.ply"))
    np.testing.assert_allclose(np.asarray(cloud.points), POINTS)
    np.testing.assert_allclose(np.asarray(cloud.colors), COLORS / 255)


def test_open3d_reads_a_mesh(tmp_path: Path) -> None:
    o3d = pytest.importorskip("open3d")
    points = np.concatenate([POINTS, -POINTS])
    normals, colors, faces = np.roll(points, 1, 1), np.concatenate([COLORS, COLORS]), np.array([[0, 1, 2], [3, 2, 0]])
    write_ply(tmp_path / "a.ply", points, colors, normals, faces)
    mesh = o3d.io.read_triangle_mesh(str(tmp_path / "a.ply"))
    np.testing.assert_allclose(np.asarray(mesh.vertices), points)
    np.testing.assert_allclose(np.asarray(mesh.vertex_normals), normals)
    np.testing.assert_allclose(np.asarray(mesh.vertex_colors), colors / 255)
    np.testing.assert_array_equal(np.asarray(mesh.triangles), faces)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TrianflowError, match=r"nowhere/a\.ply: cannot write the point cloud"):
        write_ply(tmp_path / "nowhere" / "a.ply", POINTS, COLORS)
