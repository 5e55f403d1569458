"""Recordings of several sensors: which depth image belongs to which colour image, where the camera was at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trianflow.errors import TrianflowError
from trianflow.trajectory import Trajectory

LARGEST_GAP = 0.1  # seconds between two measured poses across which no pose is interpolated


def associate(times_a: np.ndarray, times_b: np.ndarray, tolerance: float) -> dict[int, int]:
    """Pairs of entries that are closer in time than a tolerance, each in one pair at most, the closest first.

    This is the rule of the association script of the TUM RGB-D benchmark.

    Args:
        times_a, times_b: `(N,)` and `(M,)` seconds, not decreasing.
        tolerance: seconds, exclusive.

    Returns:
        Index in `times_b` by index in `times_a`, rising; empty where nothing is close.
    """
    first = np.searchsorted(times_b, times_a - tolerance, side="left")
    last = np.searchsorted(times_b, times_a + tolerance, side="right")
    near = [(abs(times_a[a] - times_b[b]), a, b) for a in range(len(times_a)) for b in range(first[a], last[a])]
    partner: dict[int, int] = {}
    taken: set[int] = set()
    for distance, a, b in sorted(near):
        if distance < tolerance and a not in partner and b not in taken:
            partner[a] = b
            taken.add(b)
    return dict(sorted(partner.items()))


def poses_at(trajectory: Trajectory, times: np.ndarray, largest_gap: float = LARGEST_GAP) -> Trajectory | None:
    """The poses at given times: positions linear, rotations spherical (slerp) between the two measured neighbours.

    Args:
        trajectory: measured poses, of a higher rate than the times.
        times: `(N,)` seconds, not decreasing.
        largest_gap: seconds between the neighbours from which on a time gets no pose.

    Returns:
        Poses of those times that lie between two close measurements (or on one), with exactly these times; None where
        there is none.
    """
    from scipy.spatial.transform import Rotation

    measured, keep = np.unique(trajectory.times, return_index=True)
    T_wc = trajectory.T_wc[keep]
    after = np.searchsorted(measured, times, side="left").clip(0, len(measured) - 1)
    exact = measured[after] == times
    before = np.where(exact, after, after - 1)
    usable = exact | ((before >= 0) & (times < measured[-1]) & (measured[after] - measured[before] <= largest_gap))
    if not usable.any():
        return None
    before, after, at = before[usable], after[usable], np.asarray(times, dtype=np.float64)[usable]
    span = measured[after] - measured[before]
    share = np.where(span > 0, (at - measured[before]) / np.where(span > 0, span, 1), 0.0)
    R_before = Rotation.from_matrix(T_wc[before, :3, :3])
    turn = (R_before.inv() * Rotation.from_matrix(T_wc[after, :3, :3])).as_rotvec()
    poses = np.tile(np.eye(4), (len(at), 1, 1))
    poses[:, :3, :3] = (R_before * Rotation.from_rotvec(share[:, None] * turn)).as_matrix()
    poses[:, :3, 3] = (1 - share[:, None]) * T_wc[before, :3, 3] + share[:, None] * T_wc[after, :3, 3]
    return Trajectory(at, poses)


def read_listing(path: Path, separator: str | None = None) -> tuple[np.ndarray, list[str], list[str]]:
    """A text file with a time stamp and a file name in every row; rows with `#` are comments.

    Args:
        path: the file.
        separator: of the columns; None is white space.

    Returns:
        Time stamps `(N,)` float64 and names as they stand there, rows that do not fit left out; and one problem for
        each kind of them.

    Raises:
        TrianflowError: it cannot be read, or has no row that fits.
    """
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise TrianflowError(
            f"{path}: {error.strerror or error}; it belongs to the sequence, unpack or download it again"
        ) from None
    times: list[float] = []
    names: list[str] = []
    bad: list[int] = []
    for number, line in enumerate(text.splitlines(), 1):
        fields = [field.strip() for field in line.split("#")[0].split(separator)]
        if not any(fields):
            continue
        try:
            time, name = float(fields[0]), fields[1]
        except (ValueError, IndexError):
            bad.append(number)
            continue
        if not name or not np.isfinite(time) or (times and time <= times[-1]):
            bad.append(number)
            continue
        times.append(time)
        names.append(name)
    if not times:
        raise TrianflowError(f"{path}: no row with a time and a file name; download it again")
    problems = [f"{path}:{bad[0]}: not a time later than the one before and a file name"] if bad else []
    if bad:
        problems[0] += f" ({len(bad)} such rows are left out); download the file again"
    return np.array(times), names, problems
