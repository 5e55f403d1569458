"""Laser scans of KITTI: the files, and their projection into a camera."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trianflow.errors import TrianflowError
from trianflow.geometry.camera import Camera

_POINT_BYTES = 16  # x, y, z, reflectance


def read_scan(path: str | Path) -> np.ndarray:
    """Read one scan.

    Args:
        path: `.bin`: four little-endian float32 a point and nothing else.

    Returns:
        `(N, 4)` float32: x forward, y left, z up in metres, and reflectance in [0, 1].

    Raises:
        TrianflowError: the file is missing, empty, truncated inside a point, or has values that are not finite.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TrianflowError(f"{path}: cannot read the laser scan: {error.strerror}") from None
    if not data or len(data) % _POINT_BYTES:
        raise TrianflowError(
            f"{path}: truncated laser scan ({len(data)} bytes are no whole number of points of {_POINT_BYTES});"
            " unpack its archive again"
        )
    scan = np.frombuffer(data, "<f4").reshape(-1, 4).astype(np.float32)
    if not np.isfinite(scan).all():
        raise TrianflowError(f"{path}: damaged laser scan, with values that are not finite; unpack its archive again")
    return scan


def project_scan(scan: np.ndarray, camera: Camera, T_cv: np.ndarray, eigen: bool = False) -> np.ndarray:
    """Depth of the pixels that laser points fall on.

    Points behind the scanner (x < 0) or the camera are left out; of several on one pixel the nearest counts. What the
    laser sees and the camera does not is not removed.

    Args:
        scan: `(N, 3)` or `(N, 4)` metres in the frame of the scanner (x forward); further columns are not looked at.
        camera: pinhole without distortion, with its size.
        T_cv: `(4, 4)` scanner to camera. For KITTI's `P_rect` and `R_rect_00` this is `[I | K^-1 P[:, 3]] R T_velo`.
        eigen: as the public code does with which the figures on Eigen's split were computed, from SfMLearner and
            Monodepth to TrianFlow: depth is the forward distance x of the scanner, about 0.3 m more than z of the
            camera on KITTI, and stands one pixel further left and up, as Matlab counts from 1. (That code also
            confuses the last pixel of a row with the first of the next, where two points fall on both.)

    Returns:
        `(height, width)` float32 metres, 0 where no point fell.
    """
    points = scan[scan[:, 0] >= 0, :3].astype(np.float64)
    X = points @ T_cv[:3, :3].T + T_cv[:3, 3]
    points, X = points[X[:, 2] > 0], X[X[:, 2] > 0]
    shift = -1 if eigen else 0
    u = np.rint(camera.fx * X[:, 0] / X[:, 2] + camera.cx) + shift
    v = np.rint(camera.fy * X[:, 1] / X[:, 2] + camera.cy) + shift
    values = points[:, 0] if eigen else X[:, 2]
    seen = (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
    depth = np.full((camera.height, camera.width), np.inf)
    np.minimum.at(depth, (v[seen].astype(int), u[seen].astype(int)), values[seen])
    depth[np.isinf(depth)] = 0
    return depth.astype(np.float32)
