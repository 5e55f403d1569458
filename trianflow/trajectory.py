"""A camera trajectory and its file formats."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from trianflow.errors import TrianflowError, UsageError
from trianflow.trajectory_text import EXPECTED, colmap_lines, parse_colmap, parse_rows, ply_lines, rows_of, sniff

READABLE = ("tum", "kitti", "colmap")
WRITABLE = ("tum", "kitti", "colmap", "ply")
_SUFFIXES = {".tum": "tum", ".kitti": "kitti", ".colmap": "colmap", ".ply": "ply"}
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
        kind = kind or sniff(path, rows)
        if kind == "colmap":
            times, T_wc = parse_colmap(path, lines)
        else:
            times, T_wc = parse_rows(path, rows, kind, unfinished)
        if not len(times):
            raise TrianflowError(f"{path}: no pose in it; expected {EXPECTED[kind]}")
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
            text: Iterable[str] = ply_lines(self.positions)
        elif kind == "colmap":
            text = colmap_lines(self)
        else:
            gaps = self.times_are_indices and not np.array_equal(self.times, np.arange(len(self)))
            index = kind == "kitti" and gaps
            text = [_HEADERS[kind], *rows_of(kind, self.times, self.T_wc, index)]
        try:
            with open(path, "w", encoding="utf-8", newline="\n") as f:
                f.writelines(text)
        except OSError as e:
            raise TrianflowError(f"{path}: cannot write the trajectory: {e.strerror}") from e

    def plot(self, truth: Trajectory | None = None, title: str = "", unit: str | None = None) -> Any:
        """The trajectory from above and its height, as a figure that notebooks show.

        Args:
            truth: the true trajectory in metres, to which this one is aligned (7-DoF) and by whose distance it is
                coloured.
            title: over the picture.
            unit: of the axes; None for metres with a truth and an arbitrary unit without.

        Returns:
            A matplotlib `Figure`; `savefig` writes it.

        Raises:
            TrianflowError: no pose to draw, or nothing in common with the truth.
        """
        from trianflow.visualization.trajectory_plot import trajectory_figure

        return trajectory_figure(self, truth, title=title, unit=unit)

    def _repr_html_(self) -> str:
        """A small drawing from above, for notebooks."""
        from trianflow.visualization.trajectory_svg import trajectory_svg

        return trajectory_svg(self.positions, self.path_length)


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
        self._put(next(iter(rows_of(self.format, np.array([time], dtype=np.float64), T_wc))))

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


def _format_of(path: Path, format: str | None, known: tuple[str, ...]) -> str | None:
    """The format by name or by suffix; None where the suffix does not tell."""
    by_name = "colmap" if path.name == "images.txt" else _SUFFIXES.get(path.suffix.lower())
    kind = format.lower() if format else by_name
    if kind is not None and kind not in known:
        raise UsageError(f"{path}: trajectory format '{kind}' is not one of {', '.join(known)}")
    return kind
