"""The errors of the KITTI odometry benchmark, over segments of the true path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from trianflow.errors import UsageError

KITTI_LENGTHS = (100.0, 200.0, 300.0, 400.0, 500.0, 600.0, 700.0, 800.0)
KITTI_STEP = 10


@dataclass(frozen=True)
class LengthError:
    """The mean error over the segments of one length; None where the trajectory has no such segment.

    Attributes:
        length: metres.
        t_err: percent of the length.
        r_err: degrees per 100 m.
        segments: how many.
    """

    length: float
    t_err: float | None
    r_err: float | None
    segments: int


@dataclass(frozen=True)
class SegmentErrors:
    """Errors of the relative pose over segments of the truth, sorted by first frame, then length.

    Attributes:
        first, last: `(S,)` int64, the frames at the ends.
        length: `(S,)` float64, the nominal length in metres.
        translation: `(S,)` float64, a fraction of the length.
        rotation: `(S,)` float64, radians per metre.
        lengths: every length that was asked for, with segments or without.
    """

    first: np.ndarray
    last: np.ndarray
    length: np.ndarray
    translation: np.ndarray
    rotation: np.ndarray
    lengths: tuple[float, ...]

    @property
    def t_err(self) -> float | None:
        """The mean translation error over all segments in percent; None without a segment."""
        return float(100 * self.translation.mean()) if len(self.length) else None

    @property
    def r_err(self) -> float | None:
        """The mean rotation error over all segments in degrees per 100 m; None without a segment."""
        return float(100 * np.rad2deg(self.rotation.mean())) if len(self.length) else None

    def per_length(self) -> tuple[LengthError, ...]:
        """The averages for each length asked for."""
        out = []
        for length in self.lengths:
            i = np.flatnonzero(self.length == length)
            part = replace(self, length=self.length[i], translation=self.translation[i], rotation=self.rotation[i])
            out.append(LengthError(length, part.t_err, part.r_err, len(i)))
        return tuple(out)


def kitti_segment_errors(
    gt_T_wc: np.ndarray,
    est_T_wc: np.ndarray,
    lengths: Sequence[float] = KITTI_LENGTHS,
    step: int = KITTI_STEP,
    valid: np.ndarray | None = None,
) -> SegmentErrors:
    """The segment errors of the KITTI odometry benchmark (A. Geiger et al., CVPR 2012; the development kit).

    From every `step`-th frame a segment of each length runs to the first frame that is farther along the true
    path than that length. The error is that of the relative pose between the two ends: its translation over
    the length, and its angle, arccos((trace - 1) / 2), over the length. Matrices are taken as they stand in
    the file, as the kit does: the seven digits of the published truth move r_err in its fifth.

    Args:
        gt_T_wc: `(N, 4, 4)` float64 true camera-to-world poses, metres.
        est_T_wc: `(N, 4, 4)` float64 estimates of the same frames, any world frame, scaled already.
        lengths: segment lengths in metres.
        step: frames between the starts of segments.
        valid: `(N,)` bool, which frames have an estimate; None for all. Segments need it at both ends.

    Raises:
        ValueError: the shapes differ.
        UsageError: a length is not positive, or the step is less than one.
    """
    if gt_T_wc.shape != est_T_wc.shape or gt_T_wc.shape[1:] != (4, 4):
        raise ValueError(f"expected two (N, 4, 4) arrays of poses, not {gt_T_wc.shape} and {est_T_wc.shape}")
    if not len(lengths) or not all(0 < length < np.inf for length in lengths):
        raise UsageError(f"segment lengths must be positive metres, not {list(lengths)}")
    if step < 1:
        raise UsageError(f"the step between segments must be at least one frame, not {step}")
    n = len(gt_T_wc)
    asked = tuple(float(x) for x in lengths)
    valid = np.ones(n, dtype=bool) if valid is None else np.asarray(valid, dtype=bool)
    steps = np.linalg.norm(np.diff(gt_T_wc[:, :3, 3], axis=0), axis=1)
    distance = np.concatenate([[0.0], np.cumsum(steps)])[:n]
    first, length = (x.ravel() for x in np.meshgrid(np.arange(0, n, step), asked, indexing="ij"))
    last = np.searchsorted(distance, distance[first] + length, side="right")
    fits = last < n
    fits[fits] = valid[first[fits]] & valid[last[fits]]
    first, last, length = first[fits], last[fits], length[fits]
    error = np.linalg.inv(_motion(est_T_wc, first, last)) @ _motion(gt_T_wc, first, last)
    cosine = (np.trace(error[:, :3, :3], axis1=1, axis2=2) - 1) / 2
    angle = np.arccos(np.clip(cosine, -1, 1))
    return SegmentErrors(first, last, length, np.linalg.norm(error[:, :3, 3], axis=1) / length, angle / length, asked)


def fitting_lengths(path_length: float) -> tuple[float, ...]:
    """Round segment lengths for a path that is too short for KITTI's: eight even ones, the last within the path.

    Args:
        path_length: metres.

    Returns:
        Metres, multiples of 1, 2 or 5 times a power of ten; empty for a path without length.

    Example:
        >>> fitting_lengths(91.2)
        (10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0)
    """
    if not path_length > 0:
        return ()
    most = path_length / 8.5 * (1 + 1e-9)
    power = 10.0 ** np.floor(np.log10(most))
    unit = max(u for u in (1, 2, 5) if u * power <= most) * power
    return tuple(float(f"{i * unit:.6g}") for i in range(1, 9))


def _motion(T_wc: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Camera j in camera i, `(M, 4, 4)`."""
    return np.linalg.inv(T_wc[i]) @ T_wc[j]
