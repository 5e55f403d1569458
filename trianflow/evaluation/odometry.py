"""Odometry metrics: KITTI's segment errors, ATE and RPE (by evo), and the error of single frame pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from trianflow.errors import TrianflowError, UsageError
from trianflow.evaluation.alignment import AlignedPair, Alignment, align_trajectories
from trianflow.trajectory import Trajectory

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
            part = replace(
                self, length=self.length[i], translation=self.translation[i], rotation=self.rotation[i]
            )
            out.append(LengthError(length, part.t_err, part.r_err, len(i)))
        return tuple(out)


@dataclass(frozen=True)
class ErrorStatistics:
    """Statistics of an error, in the error's unit (metres or degrees)."""

    rmse: float
    mean: float
    median: float
    max: float


@dataclass(frozen=True)
class RelativePoseError:
    """RPE: the error of the motion between poses, translation in metres and rotation in degrees."""

    translation: ErrorStatistics
    rotation: ErrorStatistics


@dataclass(frozen=True)
class OdometryMetrics:
    """One estimate against one truth.

    Attributes:
        alignment: how the estimate was laid over the truth; it holds for every number here.
        alignment_status: `ok`, or why the fit is not fully determined (see `Similarity.status`).
        scale: what the estimate's positions were multiplied by.
        association: how poses were put together: `row`, `frame index` or `time stamp`.
        compared, gt_poses, est_poses: how many poses were put together, and how many there were.
        path_length: metres the truth travels from the first to the last compared pose.
        step: frames between the starts of KITTI segments.
        t_err: KITTI translation error in percent; None where no segment fits in.
        r_err: KITTI rotation error in degrees per 100 m; None where no segment fits in.
        segments: how many segments.
        per_length: the same for each length.
        ate: absolute position error in metres (evo); None if left out.
        rpe: relative pose error between consecutive compared poses (evo); None if left out.
        pair_rotation_median: median rotation error between consecutive compared poses, degrees.
        pair_direction_median: median angle between the true and the estimated translation, in the frame of
            the pair's first camera, degrees, over the pairs that truly move; None if none does.
        pair_directions: over how many pairs.
    """

    alignment: Alignment
    alignment_status: str
    scale: float
    association: str
    compared: int
    gt_poses: int
    est_poses: int
    path_length: float
    step: int
    t_err: float | None
    r_err: float | None
    segments: int
    per_length: tuple[LengthError, ...]
    ate: ErrorStatistics | None
    rpe: RelativePoseError | None
    pair_rotation_median: float
    pair_direction_median: float | None
    pair_directions: int

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts, ready for JSON."""
        out = asdict(self)
        out["alignment"] = self.alignment.value
        out["per_length"] = list(out["per_length"])
        return out


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
    return SegmentErrors(
        first, last, length, np.linalg.norm(error[:, :3, 3], axis=1) / length, angle / length, asked
    )


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


def pair_errors(
    gt_T_wc: np.ndarray, est_T_wc: np.ndarray, min_motion: float = 0.02
) -> tuple[np.ndarray, np.ndarray]:
    """Errors of the motion between consecutive poses, which know no scale.

    Args:
        gt_T_wc: `(N, 4, 4)` float64 true camera-to-world poses, metres.
        est_T_wc: `(N, 4, 4)` float64 estimates, any unit.
        min_motion: true translation in metres above which the direction of a pair counts.

    Returns:
        Rotation error `(N - 1,)`, and the angle between the two translations in the frame of the pair's first
        camera `(P,)` for the P pairs that truly move; degrees, 0 to 180. A pair estimated still counts as 90.
    """
    i = np.arange(len(gt_T_wc) - 1)
    gt, est = (_motion(_nearest_rotations(T), i, i + 1) for T in (gt_T_wc, est_T_wc))
    rotation = _rotation_angle(gt[:, :3, :3].transpose(0, 2, 1) @ est[:, :3, :3])
    a, b = gt[:, :3, 3], est[:, :3, 3]
    moves = np.linalg.norm(a, axis=1) > min_motion
    a, b = a[moves], b[moves]
    direction = np.arctan2(np.linalg.norm(np.cross(a, b), axis=1), (a * b).sum(1))
    rounding = 1e-12 * np.abs(est_T_wc[:, :3, 3]).max()
    direction[np.linalg.norm(b, axis=1) <= rounding] = np.pi / 2
    return np.rad2deg(rotation), np.rad2deg(direction)


def absolute_pose_error(gt_T_wc: np.ndarray, est_T_wc: np.ndarray) -> ErrorStatistics:
    """ATE, the distance between true and estimated positions `(N, 4, 4)`, in metres; computed by evo.

    Raises:
        TrianflowError: evo is not installed.
    """
    metrics, path = _evo()
    metric = metrics.APE(metrics.PoseRelation.translation_part)
    metric.process_data((path(gt_T_wc), path(est_T_wc)))
    return _statistics(metric)


def relative_pose_error(
    gt_T_wc: np.ndarray, est_T_wc: np.ndarray, delta: float = 1, unit: str = "frames"
) -> RelativePoseError:
    """RPE, the error of the motion between poses `(N, 4, 4)` that lie `delta` apart; computed by evo.

    Args:
        gt_T_wc: true poses, camera to world, metres.
        est_T_wc: estimates in the same order and unit.
        delta: the distance between the two poses of a pair; pairs follow one another without overlap.
        unit: `frames`, or `metres` along the estimated path.

    Raises:
        TrianflowError: evo is not installed, or no two poses lie that far apart.
    """
    if unit not in ("frames", "metres"):
        raise UsageError(f"the unit of the RPE's delta is frames or metres, not {unit}")
    metrics, path = _evo()
    from evo.core.filters import FilterException

    data = path(gt_T_wc), path(est_T_wc)
    delta_unit = metrics.Unit.frames if unit == "frames" else metrics.Unit.meters
    out = []
    for relation in (metrics.PoseRelation.translation_part, metrics.PoseRelation.rotation_angle_deg):
        metric = metrics.RPE(relation, delta=delta, delta_unit=delta_unit)
        try:
            metric.process_data(data)
        except FilterException as e:
            raise TrianflowError(f"no two poses lie {delta:g} {unit} apart: no RPE") from e
        out.append(_statistics(metric))
    return RelativePoseError(*out)


def evaluate_odometry(
    gt: Trajectory,
    est: Trajectory,
    alignment: Alignment | str = Alignment.SIM3,
    lengths: Sequence[float] = KITTI_LENGTHS,
    step: int = KITTI_STEP,
    *,
    min_motion: float = 0.02,
    max_time_difference: float = 0.02,
    with_evo: bool = True,
) -> OdometryMetrics:
    """Every metric of one estimate against the truth.

    Both are moved to their first common pose and the estimate is aligned over all common poses; every number
    is of that aligned estimate. KITTI segments count frames and metres on the whole truth, except where poses
    are associated by time stamps: there on the common poses, as the two sensors have rates of their own.

    Args:
        gt: the truth, metres.
        est: the estimate; longer, shorter or with gaps is fine, see `associate`.
        alignment: none, scale, se3 (6-DoF) or sim3 (7-DoF).
        lengths: KITTI segment lengths in metres.
        step: frames between the starts of segments.
        min_motion: true metres between two frames above which their direction counts.
        max_time_difference: seconds within which time stamps belong together.
        with_evo: False leaves out ATE and RPE, and with them the need for evo.

    Raises:
        TrianflowError: fewer than two common poses, a pose that is not finite, or evo is not installed.
        UsageError: a segment length or the step is not positive.

    Example:
        >>> import numpy as np
        >>> T_wc = np.tile(np.eye(4), (300, 1, 1))
        >>> T_wc[:, 2, 3] = np.arange(300)
        >>> gt = Trajectory(np.arange(300.0), T_wc)
        >>> T_wc = T_wc.copy()
        >>> T_wc[:, 2, 3] *= 0.98
        >>> est = Trajectory(gt.times, T_wc)
        >>> round(evaluate_odometry(gt, est, "none", [100], with_evo=False).t_err, 2)  # 100 m end at 101 m
        2.02
    """
    pair = align_trajectories(gt, est, alignment, max_time_difference)
    segments = _segments(pair, lengths, step)
    T_gt, T_est = pair.gt.T_wc[pair.gt_index], pair.est.T_wc[pair.est_index]
    rotation, direction = pair_errors(T_gt, T_est, min_motion)
    distances = pair.gt.distances
    return OdometryMetrics(
        alignment=pair.alignment,
        alignment_status=pair.fit.status,
        scale=pair.fit.scale,
        association=pair.association,
        compared=len(pair.gt_index),
        gt_poses=len(gt),
        est_poses=len(est),
        path_length=float(distances[pair.gt_index[-1]] - distances[pair.gt_index[0]]),
        step=step,
        t_err=segments.t_err,
        r_err=segments.r_err,
        segments=len(segments.length),
        per_length=segments.per_length(),
        ate=absolute_pose_error(T_gt, T_est) if with_evo else None,
        rpe=relative_pose_error(T_gt, T_est) if with_evo else None,
        pair_rotation_median=float(np.median(rotation)),
        pair_direction_median=float(np.median(direction)) if len(direction) else None,
        pair_directions=len(direction),
    )


def _segments(pair: AlignedPair, lengths: Sequence[float], step: int) -> SegmentErrors:
    """KITTI segments of an aligned pair, on the frames of the truth."""
    gt, est = pair.gt.T_wc, pair.est.T_wc[pair.est_index]
    if pair.association == "time stamp":
        return kitti_segment_errors(gt[pair.gt_index], est, lengths, step)
    valid = np.zeros(len(gt), dtype=bool)
    valid[pair.gt_index] = True
    full = np.tile(np.eye(4), (len(gt), 1, 1))
    full[pair.gt_index] = est
    return kitti_segment_errors(gt, full, lengths, step, valid)


def _motion(T_wc: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Camera j in camera i, `(M, 4, 4)`."""
    return np.linalg.inv(T_wc[i]) @ T_wc[j]


def _nearest_rotations(T: np.ndarray) -> np.ndarray:
    """Poses `(N, 4, 4)` with the closest rotations: files keep six or seven digits."""
    out = T.copy()
    U, _, Vt = np.linalg.svd(T[:, :3, :3])
    out[:, :3, :3] = U @ Vt
    return out


def _rotation_angle(R: np.ndarray) -> np.ndarray:
    """Angle of rotations `(N, 3, 3)` in radians, exact down to the smallest."""
    axis = np.stack([R[:, 2, 1] - R[:, 1, 2], R[:, 0, 2] - R[:, 2, 0], R[:, 1, 0] - R[:, 0, 1]], axis=1)
    return np.arctan2(np.linalg.norm(axis, axis=1), np.trace(R, axis1=1, axis2=2) - 1)


def _evo() -> tuple[Any, Any]:
    """Evo's metrics, and what makes its path of `(N, 4, 4)` poses."""
    try:
        from evo.core import metrics
        from evo.core.trajectory import PosePath3D
    except ImportError as e:
        raise TrianflowError("ATE and RPE are computed by evo: pip install 'trianflow[eval]'") from e
    return metrics, lambda T_wc: PosePath3D(poses_se3=list(_nearest_rotations(T_wc)))


def _statistics(metric: Any) -> ErrorStatistics:
    """The statistics of a processed evo metric."""
    found = metric.get_all_statistics()
    return ErrorStatistics(*(float(found[name]) for name in ("rmse", "mean", "median", "max")))
