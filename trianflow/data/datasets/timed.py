"""Recordings of several sensors: which depth image belongs to which colour image, where the camera was at a time."""

from __future__ import annotations

from bisect import bisect_left
from pathlib import Path

import numpy as np

from trianflow.errors import TrianflowError
from trianflow.trajectory import Trajectory

LARGEST_GAP = 0.1  # seconds between two measured poses across which no pose is interpolated


def rising(values: np.ndarray) -> np.ndarray:
    """The most values that rise strictly from one to the next, so that what is out of order costs no others.

    Args:
        values: `(N,)`; what is not finite is left out.

    Returns:
        `(M,)` int64, rising: their indices. Of two that exclude each other the earlier stays.
    """
    # the longest rising subsequence, from the end on: `least[k]` begins the best one of k + 1 values
    least: list[int] = []
    keys: list[float] = []
    following = np.full(len(values), -1)
    for index in reversed(np.flatnonzero(np.isfinite(values)).tolist()):
        place = bisect_left(keys, -values[index])
        following[index] = least[place - 1] if place else -1
        keys[place : place + 1] = [-values[index]]
        least[place : place + 1] = [index]
    found = [least[-1]] if least else []
    while found and following[found[-1]] >= 0:
        found.append(int(following[found[-1]]))
    return np.array(found, np.int64)


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


def poses_at(trajectory: Trajectory, times: np.ndarray) -> Trajectory | None:
    """The poses at given times: positions linear, rotations spherical (slerp) between the two measured neighbours.

    Args:
        trajectory: measured poses, of a higher rate than the times.
        times: `(N,)` seconds, not decreasing.

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
    usable = exact | ((before >= 0) & (times < measured[-1]) & (measured[after] - measured[before] <= LARGEST_GAP))
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


def poses_of_images(
    measured: Trajectory, times: np.ndarray, path: Path, problems: list[str], notes: list[str]
) -> Trajectory | None:
    """Measured poses at the times of the images, as of `poses_at`; None where not one image has a pose.

    Args:
        measured: poses, of a higher rate than the images.
        times: `(N,)` seconds of the images, not decreasing.
        path: the file of the poses, for messages.
        problems: gets a line where most images have no pose.
        notes: gets a line where fewer have none: motion capture begins late, ends early and has gaps.
    """
    poses = poses_at(measured, times)
    if poses is None:
        problems.append(f"{path}: no pose at the time of an image; take the times and the poses of one recording")
    elif len(poses) < len(times):
        missing = len(times) - len(poses)
        line = f"{path}: no pose for {missing} of {len(times)} images, which are used without"
        if missing > len(times) / 2:
            problems.append(f"{line}; download the file again")
        else:
            notes.append(line)
    return poses


def read_listing(path: Path, separator: str | None = None) -> tuple[np.ndarray, list[str], list[str]]:
    """A text file with a time stamp and a file name in every row; rows with `#` are comments.

    Args:
        path: the file.
        separator: of the columns; None is white space.

    Returns:
        Time stamps `(N,)` float64, rising, and names as they stand there, rows that do not fit left out; and a problem
        where there are such rows.

    Raises:
        TrianflowError: it cannot be read, or has no row that fits.
    """
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise TrianflowError(
            f"{path}: {error.strerror or error}; it belongs to the sequence, unpack or download it again"
        ) from None
    numbers: list[int] = []
    stamps: list[float] = []
    names: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        fields = [field.strip() for field in line.split("#")[0].split(separator)]
        if not any(fields):
            continue
        try:
            stamp = float(fields[0])
        except ValueError:
            stamp = np.nan
        name = fields[1] if len(fields) > 1 else ""
        numbers.append(number)
        stamps.append(stamp if name else np.nan)
        names.append(name)
    times = np.array(stamps, np.float64)
    good = rising(times)
    if not len(good):
        raise TrianflowError(f"{path}: no row with a time and a file name; download it again")
    bad = sorted(set(range(len(times))) - set(good.tolist()))
    problems = [f"{path}:{numbers[bad[0]]}: not a time between its neighbours' and a file name"] if bad else []
    if bad:
        problems[0] += f" ({len(bad)} such rows are left out); download the file again"
    return times[good], [names[i] for i in good], problems
