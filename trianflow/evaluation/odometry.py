"""All odometry metrics of one estimate: KITTI's segment errors, ATE and RPE, and the error of single frame pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from trianflow.evaluation.alignment import AlignedPair, Alignment, align_trajectories, time_gap
from trianflow.evaluation.pose_errors import (
    ErrorStatistics,
    RelativePoseError,
    absolute_pose_error,
    pair_errors,
    relative_pose_error,
)
from trianflow.evaluation.segments import (
    KITTI_LENGTHS,
    KITTI_STEP,
    LengthError,
    SegmentErrors,
    kitti_segment_errors,
)
from trianflow.trajectory import Trajectory


@dataclass(frozen=True)
class OdometryMetrics:
    """One estimate against one truth.

    Attributes:
        alignment: how the estimate was laid over the truth; it holds for every number here.
        alignment_status: `ok`, or why the fit is not fully determined (see `Similarity.status`).
        scale: what the estimate's positions were multiplied by.
        association: how poses were put together: `row`, `frame index` or `time stamp`.
        time_gap: the largest difference between their time stamps, seconds; 0 where a side has none.
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
    time_gap: float
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
        time_gap=time_gap(gt, est, pair.gt_index, pair.est_index),
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
