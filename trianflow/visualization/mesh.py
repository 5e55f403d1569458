"""Depth maps of known pose fused into a triangle mesh."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trianflow.data.ply import write_ply
from trianflow.errors import TrianflowError
from trianflow.visualization.viewer import import_open3d

# Side of a voxel, and the greatest depth that counts, as shares of the median depth.
_VOXEL, _FARTHEST = 0.005, 3.0
# Blocks of 16^3 voxels, 80 kB each, before voxels grow.
_BLOCKS = 12_000
# A voxel counts where more depth maps than this have seen it: three, as of noisy maps two often agree by chance.
_MORE_VIEWS_THAN = 2.5
# Open3D looks at every so many rows and columns for where the surface is.
_LOOKS = 4


@dataclass(frozen=True)
class DepthView:
    """A depth map with its picture and its place.

    Attributes:
        depth: `(H, W)` float32 along z, in the unit of T_wc; 0 where unknown.
        image: `(H, W, 3)` uint8 RGB.
        T_wc: `(4, 4)` camera to world.
    """

    depth: np.ndarray
    image: np.ndarray
    T_wc: np.ndarray


def fuse_depth(views: Callable[[], Iterable[DepthView]], K: np.ndarray, median: float, blocks: int = _BLOCKS) -> Any:
    """Fuse depth maps into a truncated signed distance field, as sparse as the surface is.

    Args:
        views: gives all views anew with every call: where memory does not suffice, all begins again with larger voxels.
        K: `(3, 3)` intrinsics of depth and image.
        median: of the depths: voxels have a two-hundredth of it, depths beyond three times it do not count.
        blocks: of voxels that are kept at most.

    Returns:
        An `open3d.t.geometry.VoxelBlockGrid`.

    Raises:
        TrianflowError: Open3D is missing.
    """
    voxel = _VOXEL * median
    while (grid := _fused(views(), K, voxel, _FARTHEST * median, blocks)) is None:
        voxel *= 2
    return grid


def _fused(views: Iterable[DepthView], K: np.ndarray, voxel: float, farthest: float, blocks: int) -> Any:
    """The grid for a side of the voxels; None where it takes too many."""
    o3d = import_open3d()
    float32 = o3d.core.float32
    grid = o3d.t.geometry.VoxelBlockGrid(
        ("tsdf", "weight", "color"), (float32, float32, float32), ((1), (1), (3)), voxel, 16, min(blocks, 1000)
    )
    intrinsic = o3d.core.Tensor(np.asarray(K, np.float64))
    for view in views:
        coarse = view.depth[::_LOOKS, ::_LOOKS]
        if not ((coarse > 0) & (coarse < farthest)).any():  # an error to Open3D
            continue
        depth = o3d.t.geometry.Image(np.ascontiguousarray(view.depth, np.float32))
        color = o3d.t.geometry.Image(np.ascontiguousarray(view.image, np.float32) / np.float32(255))
        extrinsic = o3d.core.Tensor(np.linalg.inv(view.T_wc))
        near = grid.compute_unique_block_coordinates(depth, intrinsic, extrinsic, 1.0, farthest)
        grid.integrate(near, depth, color, intrinsic, intrinsic, extrinsic, 1.0, farthest)
        if grid.hashmap().size() > blocks:
            return None
    return grid


def save_mesh(path: str | Path, grid: Any) -> int:
    """Write the surface of a fused grid as a PLY mesh with colours.

    Returns:
        Its number of triangles.

    Raises:
        TrianflowError: there is no surface, or the file cannot be written.
    """
    path = Path(path)
    # a grid without blocks is an error to Open3D
    mesh = grid.extract_triangle_mesh(_MORE_VIEWS_THAN).to_legacy() if grid.hashmap().size() else None
    if mesh is None or not len(mesh.triangles):
        raise TrianflowError(f"{path}: no mesh: no three depth maps agree on a surface")
    colors = np.round(255 * np.asarray(mesh.vertex_colors)).clip(0, 255).astype(np.uint8)
    # Open3D's own writer says that all went well where the disk is full
    write_ply(path, *(np.asarray(x) for x in (mesh.vertices, colors, mesh.vertex_normals, mesh.triangles)))
    return len(mesh.triangles)
