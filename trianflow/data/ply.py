"""Point clouds and meshes as binary PLY files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trianflow.errors import TrianflowError
from trianflow.files import replacing


def write_ply(
    path: str | Path,
    points: np.ndarray,
    colors: np.ndarray,
    normals: np.ndarray | None = None,
    faces: np.ndarray | None = None,
) -> None:
    """Write a point cloud or a mesh: binary little-endian PLY, float32 positions and normals, 8-bit colours.

    Args:
        path: the file; its folder must exist.
        points: `(N, 3)`.
        colors: `(N, 3)` uint8 RGB.
        normals: `(N, 3)`.
        faces: `(M, 3)` numbers of points.

    Raises:
        TrianflowError: the file cannot be written.
    """
    path = Path(path)
    parts = [(("x", "y", "z"), "f4", "float", points)]
    if normals is not None:
        parts.append((("nx", "ny", "nz"), "f4", "float", normals))
    parts.append((("red", "green", "blue"), "u1", "uchar", colors))
    vertices = np.zeros(len(points), [(name, f"<{kind}") for names, kind, *_ in parts for name in names])
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    for names, _, kind, values in parts:
        header += [f"property {kind} {name}" for name in names]
        for i, name in enumerate(names):
            vertices[name] = values[:, i]
    content = vertices.tobytes()
    if faces is not None:
        header += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
        rows = np.zeros(len(faces), [("number", "u1"), ("corners", "<i4", 3)])
        rows["number"], rows["corners"] = 3, faces
        content += rows.tobytes()
    try:
        with replacing(path) as beside:
            beside.write_bytes("\n".join([*header, "end_header", ""]).encode() + content)
    except OSError as e:
        what = "point cloud" if faces is None else "mesh"
        raise TrianflowError(f"{path}: cannot write the {what}: {e.strerror}") from e
