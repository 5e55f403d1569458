"""A camera trajectory and its file formats."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from trianflow.errors import TrianflowError, UsageError

READABLE = ("tum", "kitti", "colmap")
WRITABLE = ("tum", "kitti", "colmap", "ply")
_SUFFIXES = {".tum": "tum", ".kitti": "kitti", ".colmap": "colmap", ".ply": "ply"}
_QUATERNION_TOLERANCE = 1e-3  # | |q| - 1 |: files with four decimals lie within 2e-4
_ROTATION_TOLERANCE = 1e-2  # max |R'R - I|: chained float32 poses drift to 1e-3
_HEADERS = {"tum": "# timestamp tx ty tz qx qy qz qw (seconds, camera to world)\n", "kitti": ""}


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Camera poses over time.

    Attributes:
        times: `(N,)` float64, not decreasing: seconds, or frame numbers.
        T_wc: `(N, 4, 4)` float64, camera to world (the world is the first camera unless aligned), metres or,
            for a monocular trajectory, an arbitrary unit.
        times_are_indices: whether the times are frame numbers, as those of files without time stamps are (KITTI,
            COLMAP). Values alone do not tell: seconds can be whole.

    Raises:
        ValueError: the shapes do not belong together.

    Example:
        >>> import numpy as np
        >>> len(Trajectory(np.arange(3.0), np.tile(np.eye(4), (3, 1, 1))))
        3
    """

    times: np.ndarray
    T_wc: np.ndarray
    times_are_indices: bool = False

    def __post_init__(self) -> None:
        times, T_wc = np.asarray(self.times, dtype=np.float64), np.asarray(self.T_wc, dtype=np.float64)
        if times.ndim != 1 or T_wc.shape != (len(times), 4, 4):
            raise ValueError(f"expected times (N,) and T_wc (N, 4, 4), not {times.shape} and {T_wc.shape}")
        object.__setattr__(self, "times", times)
        object.__setattr__(self, "T_wc", T_wc)

    def __len__(self) -> int:
        """The number of poses."""
        return len(self.times)

    @property
    def positions(self) -> np.ndarray:
        """Camera centres in the world, `(N, 3)` float64."""
        return self.T_wc[:, :3, 3]

    @property
    def distances(self) -> np.ndarray:
        """The way travelled up to each pose, `(N,)` float64 from 0, in the unit of the poses."""
        steps = np.linalg.norm(np.diff(self.positions, axis=0), axis=1)
        return np.concatenate([np.zeros(min(1, len(self))), np.cumsum(steps)])

    @property
    def path_length(self) -> float:
        """The sum of the distances between consecutive camera centres, in the unit of the poses."""
        return float(self.distances[-1]) if len(self) else 0.0

    def relative_to_first(self) -> Trajectory:
        """The same motion in the frame of the first camera, so that the first pose is the identity."""
        if not len(self):
            return self
        T_0c = np.linalg.inv(self.T_wc[0]) @ self.T_wc
        T_0c[0] = np.eye(4)
        return Trajectory(self.times, T_0c, self.times_are_indices)

    @classmethod
    def load(cls, path: str | Path, format: str | None = None) -> Trajectory:
        """Read a trajectory file.

        Blank lines and lines that begin with `#` are skipped. A last line that a killed writer left
        unfinished (no newline, and not a pose) is dropped.

        Args:
            path: the file.
            format: None goes by the suffix (`.tum`, `.kitti`, `.colmap`, `images.txt`), else by the number of
                columns:

                - `tum`: `t x y z qx qy qz qw`, camera to world.
                - `kitti`: the upper three rows of camera to world, 12 numbers; `times` are row numbers. With
                  13 numbers the first is the frame index, which becomes `times`, and frames may be missing.
                - `colmap`: COLMAP's `images.txt`, world to camera, sorted by image name; `times` are the
                  numbers at the end of the names, or the rank where the names have none.

        Returns:
            The trajectory as it stands in the file; quaternions are normalised, matrices kept to the digit.

        Raises:
            TrianflowError: no such file, no pose in it, or a row that is malformed, not finite, not a
                rotation or goes back in time; the message names file and line.
            UsageError: an unknown format.
        """
        path = Path(path)
        kind = _format_of(path, format, READABLE)
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as e:
            reason = e.strerror if isinstance(e, OSError) else "not a text file"
            raise TrianflowError(f"{path}: cannot read the trajectory: {reason}") from e
        lines = text.split("\n")
        unfinished = len(lines) if lines[-1].strip() else 0  # its number, where the last line has no newline
        rows = [(i, line.split()) for i, line in enumerate(lines, 1) if not line.startswith("#")]
        rows = [(i, row) for i, row in rows if row]
        kind = kind or _sniff(path, rows)
        if kind == "colmap":
            times, T_wc = _parse_colmap(path, lines)
        else:
            times, T_wc = _parse_rows(path, rows, kind, unfinished)
        if not len(times):
            raise TrianflowError(f"{path}: no pose in it; expected {_EXPECTED[kind]}")
        return cls(times, T_wc, kind != "tum")

    def save(self, path: str | Path, format: str | None = None) -> None:
        """Write a trajectory file.

        Args:
            path: the file; its folder must exist.
            format: as for `load`, or `ply`: camera centres as vertices joined by edges (ASCII). None goes by
                the suffix (`.tum`, `.kitti`, `.colmap`, `.ply`, `images.txt`; any other `.txt` is TUM). KITTI
                rows carry no time; frame indices with gaps are written as the 13-number variant.

        Raises:
            TrianflowError: the file cannot be written.
            UsageError: an unknown format, or none that the suffix tells.
        """
        path = Path(path)
        kind = _format_of(path, format, WRITABLE) or ("tum" if path.suffix.lower() == ".txt" else "")
        if not kind:
            raise UsageError(f"{path}: unknown trajectory format; use one of {', '.join(_SUFFIXES)}")
        if kind == "ply":
            text: Iterable[str] = _ply_lines(self.positions)
        elif kind == "colmap":
            text = _colmap_lines(self)
        else:
            gaps = self.times_are_indices and not np.array_equal(self.times, np.arange(len(self)))
            index = kind == "kitti" and gaps
            text = [_HEADERS[kind], *_rows(kind, self.times, self.T_wc, index)]
        try:
            with open(path, "w", encoding="utf-8", newline="\n") as f:
                f.writelines(text)
        except OSError as e:
            raise TrianflowError(f"{path}: cannot write the trajectory: {e.strerror}") from e


class TrajectoryWriter:
    """Writes a trajectory one pose at a time; each row is flushed, so a killed run leaves a readable file.

    Args:
        path: the file, begun anew; its folder must exist.
        format: `tum` or `kitti`; None goes by the suffix (`.txt` is TUM).

    Raises:
        TrianflowError: the file cannot be opened (at construction) or a row cannot be written.
        UsageError: an unknown format.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with TrajectoryWriter(f"{folder}/out.tum") as writer:
        ...         writer.write(0.1, np.eye(4))
        ...     len(Trajectory.load(f"{folder}/out.tum"))
        1
    """

    def __init__(self, path: str | Path, format: str | None = None) -> None:
        self.path = Path(path)
        self.format = _format_of(self.path, format, tuple(_HEADERS)) or "tum"
        try:
            self._file = open(self.path, "w", encoding="utf-8", newline="\n")  # noqa: SIM115
        except OSError as e:
            raise TrianflowError(f"{self.path}: cannot write the trajectory: {e.strerror}") from e
        self._put(_HEADERS[self.format])

    def write(self, time: float, T_wc: np.ndarray) -> None:
        """Append one pose: `time` in seconds (KITTI rows do not carry it), `T_wc` `(4, 4)` camera to world.

        Raises:
            ValueError: the pose or the time is not finite.
            TrianflowError: the disk is full or gone.
        """
        T_wc = np.asarray(T_wc, dtype=np.float64).reshape(1, 4, 4)
        if not (math.isfinite(time) and np.isfinite(T_wc).all()):
            raise ValueError(f"not a finite pose: time {time}, T_wc {T_wc.tolist()}")
        self._put(next(iter(_rows(self.format, np.array([time], dtype=np.float64), T_wc))))

    def _put(self, text: str) -> None:
        try:
            self._file.write(text)
            self._file.flush()
        except OSError as e:
            raise TrianflowError(f"{self.path}: cannot write the trajectory: {e.strerror}") from e

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._file.close()

    def __enter__(self) -> TrajectoryWriter:
        """The writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()


_EXPECTED = {
    "tum": "rows of 8 numbers: t x y z qx qy qz qw",
    "kitti": "rows of 12 numbers (3 x 4 pose), or 13 with the frame index first",
    "colmap": "IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME and a line of points for every image",
}


def _format_of(path: Path, format: str | None, known: tuple[str, ...]) -> str | None:
    """The format by name or by suffix; None where the suffix does not tell."""
    by_name = "colmap" if path.name == "images.txt" else _SUFFIXES.get(path.suffix.lower())
    kind = format.lower() if format else by_name
    if kind is not None and kind not in known:
        raise UsageError(f"{path}: trajectory format '{kind}' is not one of {', '.join(known)}")
    return kind


def _sniff(path: Path, rows: list[tuple[int, list[str]]]) -> str:
    """The format by the number of columns in the first row."""
    if not rows:
        raise TrianflowError(f"{path}: empty, no pose in it")
    line, row = rows[0]
    kind = {8: "tum", 12: "kitti", 13: "kitti"}.get(len(row))
    if kind is None:
        raise TrianflowError(f"{path}:{line}: {len(row)} columns; a trajectory has 8 (TUM), 12 or 13 (KITTI)")
    return kind


def _parse_rows(
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


def _parse_colmap(path: Path, lines: list[str]) -> tuple[np.ndarray, np.ndarray]:
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


def _rows(kind: str, times: np.ndarray, T_wc: np.ndarray, index: bool = False) -> Iterable[str]:
    """The lines of a TUM or KITTI file: nanoseconds in the time, 15 digits in the rest."""
    if kind == "tum":
        table = np.concatenate([T_wc[:, :3, 3], _quaternions(T_wc[:, :3, :3])], axis=1)
    else:
        table = T_wc[:, :3].reshape(len(T_wc), 12)
    for time, values in zip(times.tolist(), (table + 0.0).tolist()):  # + 0.0: no minus zeros
        first = [f"{time:.9f}"] if kind == "tum" else [f"{time:.0f}"] if index else []
        yield " ".join([*first, *(f"{v:.15g}" for v in values)]) + "\n"


def _colmap_lines(trajectory: Trajectory) -> Iterable[str]:
    """The lines of COLMAP's `images.txt`, one camera, no image points; images are named by frame."""
    yield "# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME (world to camera)\n# POINTS2D[]: none\n"
    T_cw = np.linalg.inv(trajectory.T_wc)
    q = _quaternions(T_cw[:, :3, :3])[:, [3, 0, 1, 2]]
    values = (np.concatenate([q, T_cw[:, :3, 3]], axis=1) + 0.0).tolist()
    frames = trajectory.times.astype(int).tolist() if trajectory.times_are_indices else range(len(trajectory))
    for i, (frame, row) in enumerate(zip(frames, values), 1):
        yield f"{i} {' '.join(f'{v:.15g}' for v in row)} 1 {frame:06d}.png\n\n"


def _ply_lines(positions: np.ndarray) -> Iterable[str]:
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
