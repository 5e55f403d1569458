"""A point cloud as it is shown on a page."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trianflow.errors import TrianflowError

_VERTEX = np.dtype([("X", "<f4", 3), ("color", "u1", 3)])


def read_cloud(path: str | Path, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Some points of a PLY file that `data.ply.write_ply` has written.

    Args:
        path: the file.
        limit: of the points; of more, some are drawn at random, always the same.

    Returns:
        `(N, 3)` float64 points and `(N, 3)` uint8 RGB.

    Raises:
        TrianflowError: it cannot be read, or is not of this kind.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as e:
        raise TrianflowError(f"{path}: cannot read the point cloud: {e.strerror}") from e
    body = content.partition(b"end_header\n")[2]
    if not content.startswith(b"ply\nformat binary_little_endian") or len(body) % _VERTEX.itemsize:
        raise TrianflowError(f"{path}: not a point cloud that trianflow has written")
    vertices = np.frombuffer(body, _VERTEX)
    if len(vertices) > limit:
        vertices = vertices[np.sort(np.random.default_rng(0).choice(len(vertices), limit, replace=False))]
    return vertices["X"].astype(np.float64), vertices["color"]
