"""The text of trajectory files: their rows to times and poses, and back."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trianflow.errors import TrianflowError

if TYPE_CHECKING:
    from trianflow.trajectory import Trajectory

_QUATERNION_TOLERANCE = 1e-3  # | |q| - 1 |: files with four decimals lie within 2e-4
_ROTATION_TOLERANCE = 1e-2  # max |R'R - I|: chained float32 poses drift to 1e-3
EXPECTED = {
    "tum": "rows of 8 numbers: t x y z qx qy qz qw",
    "kitti": "rows of 12 numbers (3 x 4 pose), or 13 with the frame index first",
    "colmap": "IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME and a line of points for every image",
}


def sniff(path: Path, rows: list[tuple[int, list[str]]]) -> str:
    """The format by the number of columns in the first row."""
    if not rows:
        raise TrianflowError(f"{path}: empty, no pose in it")
    line, row = rows[0]
    kind = {8: "tum", 12: "kitti", 13: "kitti"}.get(len(row))
    if kind is None:
        raise TrianflowError(f"{path}:{line}: {len(row)} columns; a trajectory has 8 (TUM), 12 or 13 (KITTI)")
    return kind


def parse_rows(
    path: Path, rows: list[tuple[int, list[str]]], kind: str, unfinished: int
) -> tuple[np.ndarray, np.ndarray]:
    """TUM or KITTI rows to times `(N,)` and poses `(N, 4, 4)`; `unfinished` as in `load`."""
    values: list[list[float]] = []
    numbers: list[int] = []
    columns = {8} if kind == "tum" else {12, 13}
    for line, row in rows:
        try:
            values.append(_parse_row(row, columns, kind))
        except ValueError as e:
            if line == unfinished:
                break
            raise TrianflowError(f"{path}:{line}: {e}") from None
        columns = {len(row)}
        numbers.append(line)
    T_wc = np.tile(np.eye(4), (len(values), 1, 1))
    if not values:
        return np.zeros(0), T_wc
    table = np.array(values, dtype=np.float64)
    if kind == "tum":
        times = table[:, 0]
        norm = np.linalg.norm(table[:, 4:], axis=1)
        good = np.abs(norm - 1) < _QUATERNION_TOLERANCE
        if good.all():
            T_wc[:, :3, :3], T_wc[:, :3, 3] = _rotations(table[:, 4:]), table[:, 1:4]
        faults = [f"not a unit quaternion (qx qy qz qw has length {n:.4g})" for n in norm]
    else:
        times = table[:, 0] if table.shape[1] == 13 else np.arange(len(table), dtype=np.float64)
        T_wc[:, :3] = table[:, -12:].reshape(-1, 3, 4)
        R = T_wc[:, :3, :3]
        off = np.abs(R.transpose(0, 2, 1) @ R - np.eye(3)).max((1, 2))
        det = np.linalg.det(R)
        good = (off < _ROTATION_TOLERANCE) & (det > 0)
        faults = [f"not a rotation (R'R is {o:.2g} off the identity, det {d:.3g})" for o, d in zip(off, det)]
    back = np.concatenate([[False], np.diff(times) < (0 if kind == "tum" else 1)])
    for i in np.flatnonzero(~good | back):
        if numbers[i] == unfinished:
            return times[:i], T_wc[:i]
        what = faults[i] if not good[i] else f"time goes back from {times[i - 1]:.15g} to {times[i]:.15g}"
        raise TrianflowError(f"{path}:{numbers[i]}: {what}")
    return times, T_wc


def _parse_row(row: list[str], columns: set[int], kind: str) -> list[float]:
    """One row of finite numbers; ValueError says what is wrong."""
    if len(row) not in columns:
        expected = " or ".join(map(str, sorted(columns)))
        raise ValueError(f"{len(row)} columns where {expected} were expected ({kind})")
    try:
        values = [float(v) for v in row]
    except ValueError:
        raise ValueError(f"not a row of numbers: {' '.join(row)[:60]}") from None
    if not all(map(math.isfinite, values)):
        raise ValueError("a number that is not finite")
    if len(row) == 13 and (values[0] < 0 or not values[0].is_integer()):
        raise ValueError(f"the first of 13 columns is a frame index, not {row[0]}")
    return values


def parse_colmap(path: Path, lines: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """COLMAP's `images.txt` to times `(N,)` and camera-to-world poses `(N, 4, 4)`, by name."""
    body = [(i, line) for i, line in enumerate(lines, 1) if not line.startswith("#")]
    found: dict[str, np.ndarray] = {}
    at = 0
    while at < len(body):
        number, line = body[at]
        at += 1
        if not line.strip():
            continue
        row = line.split(maxsplit=9)
        try:
            if len(row) < 10:
                raise ValueError(f"{len(row)} columns where 10 were expected (colmap)")
            qw, qx, qy, qz, *t = _parse_row(row[1:8], {7}, "colmap")
            q = np.array([[qx, qy, qz, qw]])
            if abs(np.linalg.norm(q) - 1) >= _QUATERNION_TOLERANCE:
                raise ValueError(f"not a unit quaternion (length {np.linalg.norm(q):.4g})")
        except ValueError as e:
            if number == len(lines):
                break  # the last line, unfinished
            raise TrianflowError(f"{path}:{number}: {e}") from None
        T_cw = np.eye(4)
        T_cw[:3, :3], T_cw[:3, 3] = _rotations(q)[0], t
        found[row[9].strip()] = np.linalg.inv(T_cw)
        at += 1  # the line of image points, blank or not
    names = sorted(found)
    ends = [re.search(r"(\d+)$", Path(name).stem) for name in names]
    numbers = [int(end.group(1)) for end in ends if end]
    if len(numbers) < len(names) or any(b <= a for a, b in itertools.pairwise(numbers)):
        numbers = list(range(len(names)))
    return np.array(numbers, dtype=np.float64), np.array([found[name] for name in names]).reshape(-1, 4, 4)


def rows_of(kind: str, times: np.ndarray, T_wc: np.ndarray, index: bool = False) -> Iterable[str]:
    """The lines of a TUM or KITTI file: nanoseconds in the time, 15 digits in the rest."""
    if kind == "tum":
        table = np.concatenate([T_wc[:, :3, 3], _quaternions(T_wc[:, :3, :3])], axis=1)
    else:
        table = T_wc[:, :3].reshape(len(T_wc), 12)
    for time, values in zip(times.tolist(), (table + 0.0).tolist()):  # + 0.0: no minus zeros
        first = [f"{time:.9f}"] if kind == "tum" else [f"{time:.0f}"] if index else []
        yield " ".join([*first, *(f"{v:.15g}" for v in values)]) + "\n"


def colmap_lines(trajectory: Trajectory) -> Iterable[str]:
    """The lines of COLMAP's `images.txt`, one camera, no image points; images are named by frame."""
    yield "# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME (world to camera)\n# POINTS2D[]: none\n"
    T_cw = np.linalg.inv(trajectory.T_wc)
    q = _quaternions(T_cw[:, :3, :3])[:, [3, 0, 1, 2]]
    values = (np.concatenate([q, T_cw[:, :3, 3]], axis=1) + 0.0).tolist()
    frames = trajectory.times.astype(int).tolist() if trajectory.times_are_indices else range(len(trajectory))
    for i, (frame, row) in enumerate(zip(frames, values), 1):
        yield f"{i} {' '.join(f'{v:.15g}' for v in row)} 1 {frame:06d}.png\n\n"


def ply_lines(positions: np.ndarray) -> Iterable[str]:
    """An ASCII PLY file of camera centres joined by edges."""
    n = len(positions)
    yield "ply\nformat ascii 1.0\ncomment camera centres in the world, in the order of time\n"
    yield f"element vertex {n}\nproperty double x\nproperty double y\nproperty double z\n"
    yield f"element edge {max(n - 1, 0)}\nproperty int vertex1\nproperty int vertex2\nend_header\n"
    for p in (positions + 0.0).tolist():
        yield " ".join(f"{v:.15g}" for v in p) + "\n"
    for i in range(n - 1):
        yield f"{i} {i + 1}\n"


def _rotations(xyzw: np.ndarray) -> np.ndarray:
    """Quaternions `(N, 4)` to rotation matrices `(N, 3, 3)`."""
    return _rotation_class().from_quat(xyzw).as_matrix()


def _quaternions(R: np.ndarray) -> np.ndarray:
    """Rotation matrices `(N, 3, 3)`, the closest rotation where one is off, to `(N, 4)` xyzw with w >= 0."""
    return _rotation_class().from_matrix(R).as_quat(canonical=True)


def _rotation_class() -> Any:
    """Scipy's Rotation, imported when a file needs it."""
    from scipy.spatial.transform import Rotation

    return Rotation
