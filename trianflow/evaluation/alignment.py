"""Which poses of two trajectories belong together, and the transform that lays one over the other."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from trianflow.errors import TrianflowError
from trianflow.trajectory import Trajectory

_RANK_TOLERANCE = 1e-12  # singular values below this share of the largest count as zero
_SPREAD_TOLERANCE = 1e-12  # positions that spread by less than this share of their size stand still


class Alignment(str, Enum):
    """How an estimate is laid over the truth, once both begin at the identity (their first common pose)."""

    NONE = "none"
    SCALE = "scale"
    SE3 = "se3"
    SIM3 = "sim3"

    @property
    def label(self) -> str:
        """The name to print beside a number."""
        return {
            "none": "none (first poses agree)",
            "scale": "scale only",
            "se3": "SE(3), 6-DoF",
            "sim3": "Sim(3), 7-DoF",
        }[self.value]


@dataclass(frozen=True)
class Similarity:
    """A similarity transform `x -> scale R x + t` and how far the points determined it.

    Attributes:
        scale: positive.
        R: `(3, 3)` float64 rotation.
        t: `(3,)` float64, in the unit of the target.
        status: `ok`; `collinear`: the turn about the line is not determined, the smallest is taken; `static`:
            the points of one side all lie at one place, only `t` was fitted; `opposed`: the best scale is not
            positive (the estimate runs against the truth), 1 is taken.
    """

    scale: float
    R: np.ndarray
    t: np.ndarray
    status: str = "ok"

    def apply(self, T_wc: np.ndarray) -> np.ndarray:
        """Camera-to-world poses `(N, 4, 4)` in the target's world; rotations stay rotations."""
        out = np.array(T_wc, dtype=np.float64)
        out[:, :3, :3] = self.R @ T_wc[:, :3, :3]
        out[:, :3, 3] = self.scale * T_wc[:, :3, 3] @ self.R.T + self.t
        return out


def fit_similarity(source: np.ndarray, target: np.ndarray, alignment: Alignment | str) -> Similarity:
    """The transform of the given kind that brings `source` closest to `target`, in the least-squares sense.

    The closed form of S. Umeyama, "Least-squares estimation of transformation parameters between two point
    patterns", PAMI 13(4), 1991, eqs. 34-43, for `se3` (scale 1) and `sim3`; for `scale`, R = I and t = 0.

    Args:
        source: `(N, 3)` float64 points.
        target: `(N, 3)` float64 points, in the same order.
        alignment: what may change.

    Returns:
        The fit; never NaN, a degenerate case is told by its `status`.

    Raises:
        ValueError: the shapes differ, there is no point, or a number is not finite.
    """
    source, target = np.asarray(source, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 3 or not len(source):
        raise ValueError(f"expected two (N, 3) arrays of points, not {source.shape} and {target.shape}")
    if not (np.isfinite(source).all() and np.isfinite(target).all()):
        raise ValueError("a point that is not finite cannot be aligned")
    alignment = Alignment(alignment)
    eye, zero = np.eye(3), np.zeros(3)
    if alignment is Alignment.NONE:
        return Similarity(1.0, eye, zero)
    if alignment is Alignment.SCALE:
        extent, dot = float((source**2).sum()), float((source * target).sum())
        if extent == 0 or not target.any():
            return Similarity(1.0, eye, zero, "static")
        return Similarity(dot / extent, eye, zero) if dot > 0 else Similarity(1.0, eye, zero, "opposed")

    mean_s, mean_t = source.mean(0), target.mean(0)
    s, t = source - mean_s, target - mean_t
    if _stands(s, source) or _stands(t, target):
        return Similarity(1.0, eye, mean_t - mean_s, "static")
    size_s, size_t = np.abs(s).max(), np.abs(t).max()  # keeps the products of tiny or huge units in range
    s, t = s / size_s, t / size_t
    covariance = t.T @ s / len(s)
    U, D, Vt = np.linalg.svd(covariance)
    status = "ok"
    if D[1] <= _RANK_TOLERANCE * D[0]:  # a trace of the identity prefers the smallest of the equal rotations
        status = "collinear"
        U, _, Vt = np.linalg.svd(covariance + 1e-9 * D[0] * eye)
    sign = np.array([1.0, 1.0, 1.0 if np.linalg.det(U) * np.linalg.det(Vt) > 0 else -1.0])
    R = (U * sign) @ Vt
    scale = 1.0
    if alignment is Alignment.SIM3:
        fitted = float((D * sign).sum() / (s**2).sum(1).mean() * size_t / size_s)
        scale, status = (fitted, status) if fitted > 0 else (1.0, "opposed")
    return Similarity(scale, R, mean_t - scale * R @ mean_s, status)


def _stands(centred: np.ndarray, points: np.ndarray) -> bool:
    """Whether the points all lie at one place, up to rounding."""
    return bool(np.abs(centred).max() <= _SPREAD_TOLERANCE * np.abs(points).max())


@dataclass(frozen=True)
class AlignedPair:
    """A truth and an estimate in one world, that of the truth's first common camera.

    Attributes:
        gt: the whole truth.
        est: the whole estimate, aligned.
        gt_index, est_index: `(M,)` int64, the poses that belong together, both growing.
        association: `row` (same number of poses), `frame index` or `time stamp`.
        alignment: what was fitted, over the common poses.
        fit: the transform that was applied to the estimate.
    """

    gt: Trajectory
    est: Trajectory
    gt_index: np.ndarray
    est_index: np.ndarray
    association: str
    alignment: Alignment
    fit: Similarity


def associate(gt: Trajectory, est: Trajectory, max_time_difference: float = 0.02) -> tuple[np.ndarray, np.ndarray, str]:
    """Which poses of two trajectories belong together.

    Trajectories of the same length go row by row, unless both carry frame indices and these differ. Otherwise
    frame indices must be equal, and time stamps go to the nearest within `max_time_difference` seconds.

    Returns:
        `gt_index` and `est_index`, `(M,)` int64, both growing, and `row`, `frame index` or `time stamp`.

    Raises:
        TrianflowError: nothing belongs together, or one side has time stamps and the other has none.
    """
    indices = gt.times_are_indices, est.times_are_indices
    if len(gt) == len(est) and not (all(indices) and not np.array_equal(gt.times, est.times)):
        rows = np.arange(len(gt))
        return rows, rows, "row"
    if all(indices):
        _, gt_index, est_index = np.intersect1d(gt.times, est.times, return_indices=True)
        how = "frame index"
    elif any(indices):
        a, b = ("ground truth", "estimate") if indices[0] else ("estimate", "ground truth")
        raise TrianflowError(
            f"the {a} has no time stamps, the {b} has, and they differ in length ({len(gt)} true poses,"
            f" {len(est)} estimated): cannot tell which belong together"
        )
    else:
        gt_index, est_index = _nearest(gt.times, est.times, max_time_difference)
        how = "time stamp"
    if not len(gt_index):
        ranges = [f"{x.times[0]:.13g} to {x.times[-1]:.13g}" if len(x) else "no pose" for x in (gt, est)]
        raise TrianflowError(f"no common {how}: ground truth {ranges[0]}, estimate {ranges[1]}")
    return gt_index, est_index, how


def time_gap(gt: Trajectory, est: Trajectory, gt_index: np.ndarray, est_index: np.ndarray) -> float:
    """The largest difference in seconds between poses `(M,)` that were put together; 0 where a side has no stamps."""
    if gt.times_are_indices or est.times_are_indices:
        return 0.0
    return float(np.abs(gt.times[gt_index] - est.times[est_index]).max())


def _nearest(a: np.ndarray, b: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices of mutually nearest sorted numbers within the tolerance; each is used once."""
    if not len(a) or not len(b):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)

    def nearest(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        right = np.clip(np.searchsorted(x, y), 1, max(len(x) - 1, 1))
        left = right - 1
        right = np.minimum(right, len(x) - 1)
        return np.where(np.abs(y - x[left]) <= np.abs(x[right] - y), left, right)

    a_of_b = nearest(a, b)
    keep = (np.abs(a[a_of_b] - b) <= tolerance) & (nearest(b, a)[a_of_b] == np.arange(len(b)))
    return a_of_b[keep], np.flatnonzero(keep)


def align_trajectories(
    gt: Trajectory,
    est: Trajectory,
    alignment: Alignment | str = Alignment.SIM3,
    max_time_difference: float = 0.02,
) -> AlignedPair:
    """Associate two trajectories, move both to their first common pose and align the estimate.

    Args:
        gt: the truth.
        est: the estimate, any length; its unit is arbitrary where the alignment fits a scale.
        alignment: what may change.
        max_time_difference: seconds within which time stamps belong together.

    Raises:
        TrianflowError: fewer than two common poses, or a pose that is not finite.
    """
    for name, trajectory in (("ground truth", gt), ("estimate", est)):
        bad = np.flatnonzero(~np.isfinite(trajectory.T_wc).all((1, 2)) | ~np.isfinite(trajectory.times))
        if len(bad):
            raise TrianflowError(f"the {name} holds a pose that is not finite, the first in row {bad[0] + 1}")
    gt_index, est_index, how = associate(gt, est, max_time_difference)
    if len(gt_index) < 2:
        raise TrianflowError(f"{len(gt_index)} pose in common (by {how}): at least two are needed to compare")
    T_gt, T_est = _begin_at(gt.T_wc, gt_index[0]), _begin_at(est.T_wc, est_index[0])
    alignment = Alignment(alignment)
    fit = fit_similarity(T_est[est_index, :3, 3], T_gt[gt_index, :3, 3], alignment)
    aligned = Trajectory(est.times, fit.apply(T_est))
    return AlignedPair(Trajectory(gt.times, T_gt), aligned, gt_index, est_index, how, alignment, fit)


def _begin_at(T_wc: np.ndarray, i: int) -> np.ndarray:
    """Poses `(N, 4, 4)` in the frame of camera `i`; unchanged where they are, up to a file's digits."""
    return T_wc if np.allclose(T_wc[i], np.eye(4), atol=1e-6) else np.linalg.inv(T_wc[i]) @ T_wc
