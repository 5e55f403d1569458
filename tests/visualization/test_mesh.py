"""Depth maps of a sphere fused into its surface."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from trianflow.errors import TrianflowError
from trianflow.visualization.mesh import DepthView, fuse_depth, save_mesh
from trianflow.visualization.viewer import read_ply

pytest.importorskip("open3d")

RADIUS, AWAY = 1.0, 3.0
K = np.array([[150.0, 0, 79.5], [0, 150.0, 59.5], [0, 0, 1]])


def view(angle: float) -> DepthView:
    """A sphere about the origin, orange, seen from around it."""
    row, column = np.mgrid[:120, :160]
    rays = np.stack([(column - K[0, 2]) / K[0, 0], (row - K[1, 2]) / K[1, 1], np.ones(row.shape)], -1)
    a, b, c = (rays**2).sum(-1), -2 * AWAY * rays[..., 2], AWAY**2 - RADIUS**2
    root = b**2 - 4 * a * c
    depth = np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / (2 * a), 0).astype(np.float32)
    T_wc = np.eye(4)
    T_wc[:3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    T_wc[:3, 3] = -AWAY * T_wc[:3, 2]
    return DepthView(depth, np.tile(np.array([255, 128, 0], np.uint8), (*row.shape, 1)), T_wc)


def views() -> Iterator[DepthView]:
    return (view(angle) for angle in np.linspace(0, 2 * np.pi, 16, endpoint=False))


def test_a_sphere(tmp_path: Path) -> None:
    triangles = save_mesh(tmp_path / "sphere.ply", fuse_depth(views, K, 2.5))
    mesh = read_ply(tmp_path / "sphere.ply")
    assert len(mesh.faces) == triangles > 10_000
    off = np.abs(np.linalg.norm(mesh.vertices, axis=1) - RADIUS)
    assert np.quantile(off, 0.95) < 0.01  # a voxel has 0.0125
    np.testing.assert_allclose(np.median(mesh.vertex_colors, axis=0), [1, 0.5, 0], atol=0.02)
    assert [path.name for path in tmp_path.iterdir()] == ["sphere.ply"]


def test_voxels_grow_where_memory_does_not_suffice() -> None:
    fine, coarse = fuse_depth(views, K, 2.5), fuse_depth(views, K, 2.5, blocks=300)
    assert coarse.hashmap().size() <= 300 < fine.hashmap().size()
    points = coarse.extract_point_cloud(3.0).point.positions.numpy()
    assert np.median(np.abs(np.linalg.norm(points, axis=1) - RADIUS)) < 0.02


def test_three_depth_maps_that_agree_make_a_mesh_and_two_do_not(tmp_path: Path) -> None:
    path = tmp_path / "mesh.ply"
    with pytest.raises(TrianflowError, match="no three depth maps agree"):
        save_mesh(path, fuse_depth(lambda: [view(0), view(0.1)], K, 10.0))
    assert list(tmp_path.iterdir()) == []
    assert save_mesh(path, fuse_depth(lambda: [view(0), view(0.1), view(-0.1)], K, 10.0)) > 100


def test_the_file_of_a_mesh_is_replaced_as_all_others_are(tmp_path: Path) -> None:
    """A link is written through; and what a killed process leaves is no PLY file by its name."""
    grid, target, link = fuse_depth(views, K, 10.0), tmp_path / "target.ply", tmp_path / "link.ply"
    target.touch()
    link.symlink_to(target)
    number = save_mesh(link, grid)
    assert link.is_symlink()
    assert len(read_ply(target).faces) == number
    full = tmp_path / "full.ply"
    full.symlink_to("/dev/full")
    with pytest.raises(TrianflowError, match=r"full\.ply: cannot write the mesh: No space left on device"):
        save_mesh(full, grid)


def test_nothing_to_be_seen(tmp_path: Path) -> None:
    blank = DepthView(np.zeros((120, 160), np.float32), np.zeros((120, 160, 3), np.uint8), np.eye(4))
    with pytest.raises(TrianflowError, match=r"mesh\.ply: no mesh: no three depth maps"):
        save_mesh(tmp_path / "mesh.ply", fuse_depth(lambda: [blank], K, 2.5))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TrianflowError, match="cannot write the mesh"):
        save_mesh(tmp_path / "nowhere" / "mesh.ply", fuse_depth(views, K, 2.5, blocks=300))
