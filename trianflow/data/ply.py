"""Point clouds as binary PLY files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trianflow.errors import TrianflowError
from trianflow.files import replacing


def write_ply(path: str | Path, points: np.ndarray, colors: np.ndarray) -> None:
    """Write a point cloud: binary little-endian PLY, float32 positions and 8-bit colours.

    Args:
        path: the file; its folder must exist.
        points: `(N, 3)`.
        colors: `(N, 3)` uint8 RGB.

    Raises:
        TrianflowError: the file cannot be written.
    """
    path, names = Path(path), ("red", "green", "blue")
    vertices = np.zeros(len(points), [*((axis, "<f4") for axis in "xyz"), *((name, "u1") for name in names)])
    for i, (axis, name) in enumerate(zip("xyz", names)):
        vertices[axis], vertices[name] = points[:, i], colors[:, i]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    header += [f"property float {axis}" for axis in "xyz"] + [f"property uchar {name}" for name in names]
    try:
        with replacing(path) as beside:
            beside.write_bytes("\n".join([*header, "end_header", ""]).encode() + vertices.tobytes())
    except OSError as e:
        raise TrianflowError(f"{path}: cannot write the point cloud: {e.strerror}") from e
