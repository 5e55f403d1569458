"""The way that a car's own sensors have measured, from a file of speeds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trianflow.data.datasets.oxts import OXTS_FIELDS, read_oxts, speed_over_ground
from trianflow.errors import TrianflowError, UsageError

# Between samples further apart than this nothing is known, seconds.
_LARGEST_GAP = 2.0
# Error of a speed: a share of it, and metres a second.
_RELATIVE_ERROR, _ABSOLUTE_ERROR = 0.01, 0.05
_EXPECTED = "expected rows of seconds and metres a second, such as 12.50 8.31"


@dataclass(frozen=True)
class _Row:
    """A line of a file, and what stands in it."""

    number: int
    line: str
    fields: list[str]


@dataclass(frozen=True, eq=False)
class SpeedFile:
    """Speeds over time.

    Attributes:
        times: `(N,)` float64 seconds, rising, of the clock of the frames.
        speeds: `(N,)` float64 metres a second, not negative.
    """

    times: np.ndarray
    speeds: np.ndarray

    @classmethod
    def load(cls, path: str | Path) -> SpeedFile:
        """Read a text file, or a drive of KITTI raw.

        Args:
            path: rows of seconds and metres a second, parted by blanks, commas or semicolons, with or without a line
                of names above; `#` begins a comment. Backward speeds may be negative. Or one speed a row, `nan` where
                it is unknown, as `trianflow prepare` writes them: the times, as many, stand in `times.txt` beside it.
                Or the folder of a drive of KITTI raw or the `oxts` folder in it; its times are seconds since 1970, as
                those of the drive's frames.

        Raises:
            UsageError: no such file or folder.
            TrianflowError: it cannot be read, or a row is not what it should be.
        """
        path = Path(path)
        if path.is_dir():
            return _read_oxts(path / "oxts" if (path / "oxts").is_dir() else path)
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder of speeds")
        return _read_text(path)

    def distance(self, t0: float, t1: float) -> float | None:
        """Metres travelled from time `t0` to `t1`, the speed taken as linear between samples.

        None outside the samples, and across a gap of more than two seconds between them.
        """
        if not self.times[0] <= t0 <= t1 <= self.times[-1]:
            return None
        first = np.searchsorted(self.times, t0, side="right") - 1
        last = np.searchsorted(self.times, t1, side="left")
        if (np.diff(self.times[first : last + 1]) > _LARGEST_GAP).any():
            return None
        at = np.concatenate([[t0], self.times[first + 1 : last], [t1]])
        speed = np.interp(at, self.times, self.speeds)
        return float(np.sum(np.diff(at) * (speed[1:] + speed[:-1]) / 2))

    def sigma(self, t0: float, t1: float) -> float | None:
        """Standard deviation of `distance`, metres: 1 % of it, and 0.05 m in every second; None where that is."""
        distance = self.distance(t0, t1)
        return None if distance is None else _RELATIVE_ERROR * distance + _ABSOLUTE_ERROR * (t1 - t0)


def _read_text(path: Path) -> SpeedFile:
    rows = _rows(path)
    if rows and len(rows[0].fields) == 1:
        return _one_a_frame(path, rows)
    for row in rows:
        if len(row.fields) != 2 or not all(map(_is_number, row.fields)):
            raise TrianflowError(f"{path}:{row.number}: {row.line.strip()[:60]!r} is no speed; {_EXPECTED}")
    values = np.array([row.fields for row in rows], dtype=np.float64).reshape(-1, 2)
    _check_order(path, rows, values[:, 0])
    return _known(path, values[:, 0], values[:, 1])


def _one_a_frame(path: Path, rows: list[_Row]) -> SpeedFile:
    """A speed for each frame, whose times stand beside; `nan` is a gap."""
    beside = path.with_name("times.txt")
    if not beside.is_file():
        raise TrianflowError(f"{path}: one number a row, and no times.txt beside it that tells when; {_EXPECTED}")
    moments = _rows(beside)
    for file, lines in ((path, rows), (beside, moments)):
        for row in lines:
            if len(row.fields) != 1 or not (_is_number(row.fields[0]) or (file is path and _is_nan(row.fields[0]))):
                raise TrianflowError(f"{file}:{row.number}: {row.line.strip()[:60]!r}: expected one number")
    if len(moments) != len(rows):
        counts = f"{len(moments)} times for the {len(rows)} speeds of {path.name}"
        raise TrianflowError(f"{beside}: {counts}: both must have a row a frame; prepare the sequence again")
    times, speeds = (np.array([float(row.fields[0]) for row in lines]) for lines in (moments, rows))
    _check_order(beside, moments, times)
    return _known(path, times, speeds)


def _known(path: Path, times: np.ndarray, speeds: np.ndarray) -> SpeedFile:
    """What is known of the speeds of a file."""
    known = np.isfinite(speeds)
    if known.sum() < 2:
        raise TrianflowError(f"{path}: fewer than two speeds in it; {_EXPECTED}")
    return SpeedFile(times[known], np.abs(speeds[known]))


def _check_order(path: Path, rows: list[_Row], times: np.ndarray) -> None:
    """The times in the rows of a file must rise."""
    for k in np.flatnonzero(np.diff(times) <= 0)[:1]:
        raise TrianflowError(f"{path}:{rows[k + 1].number}: not later than the row before; sort the rows by time")


def _rows(path: Path) -> list[_Row]:
    """The rows of a text file, without comments, empty lines, and names above."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror or error) if isinstance(error, OSError) else "not a text file"
        raise TrianflowError(f"{path}: cannot read the speeds: {reason}") from None
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if fields := [field for field in re.split(r"[,;\s]+", line.split("#")[0]) if field]:
            rows.append(_Row(number, line, fields))
    is_names = bool(rows) and not any(_is_number(field) or _is_nan(field) for field in rows[0].fields)
    return rows[1:] if is_names else rows


def _read_oxts(folder: Path) -> SpeedFile:
    """Speed over ground; rows that are missing or damaged are gaps."""
    stamps = folder / "timestamps.txt"
    if not stamps.is_file():
        raise TrianflowError(f"{folder}: no timestamps.txt in it; give a text file, or the folder of a KITTI raw drive")
    rows: dict[float, float] = {}
    measured = {number: float(speed_over_ground(row)) for number, row in read_oxts(folder / "data").items()}
    for number, line in enumerate(stamps.read_text(encoding="utf-8", errors="replace").split("\n")):
        speed = measured.get(number, np.nan)
        if np.isnan(speed):
            continue
        try:
            moment = np.datetime64(line.strip() or "none", "ns")
        except ValueError:
            raise TrianflowError(f"{stamps}:{number + 1}: no date with a time; unpack the drive again") from None
        rows[int(moment.astype(np.int64)) / 1e9] = speed
    times = np.array(sorted(rows))
    if len(times) < 2:
        raise TrianflowError(f"{folder / 'data'}: fewer than two files of {OXTS_FIELDS} numbers; unpack the drive")
    return SpeedFile(times, np.array([rows[time] for time in times]))


def _is_nan(text: str) -> bool:
    return text.lower() == "nan"


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False
