"""What the papers' odometry tables presuppose: which sequence the truth is, and how frames were left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from trianflow.errors import TrianflowError, UsageError
from trianflow.evaluation.alignment import Alignment
from trianflow.evaluation.odometry import OdometryMetrics
from trianflow.evaluation.published import Choice, published_rows
from trianflow.evaluation.segments import KITTI_LENGTHS, KITTI_STEP
from trianflow.evaluation.table import Row
from trianflow.trajectory import Trajectory

_POSES_AND_METRES = {"09": (1591, 1705.05), "10": (1201, 919.52)}
WHOLE = 0.99  # share of a sequence from which on it is set beside figures of all of it


@dataclass(frozen=True)
class StridedPair:
    """A truth and an estimate of every n-th frame.

    Attributes:
        gt, est: with the number of the kept frame (0, 1, 2, ...) as `times`.
        resampled: whether the estimate was of all frames and was thinned out like the truth.
    """

    gt: Trajectory
    est: Trajectory
    resampled: bool


def take_every(gt: Trajectory, est: Trajectory, stride: int) -> StridedPair:
    """Every `stride`-th frame of the truth and of the estimate, beginning with the first.

    The protocol of W. Zhao et al., CVPR 2020, section 4.4: the video is sampled with a stride, which makes the camera
    faster, and the result is compared with the truth of the same frames. An estimate with as many poses as the truth
    is of all frames and is thinned out; one with as many poses as the thinned truth is of the strided video. Frame
    numbers, of the whole sequence, tell where frames are missing.

    Args:
        gt: the truth, one pose for each frame of the whole sequence.
        est: the estimate.
        stride: frames from one that is kept to the next.

    Raises:
        UsageError: the stride is less than one.
        TrianflowError: it cannot be told of which frames the estimate is.
    """
    if stride < 1:
        raise UsageError(f"the stride must be at least one frame, not {stride}")
    kept = np.arange(0, len(gt), stride)
    truth = Trajectory(np.arange(len(kept)), gt.T_wc[kept], times_are_indices=True)
    numbered = est.times_are_indices and not np.array_equal(est.times, np.arange(len(est)))
    if len(est) == len(kept) and (not numbered or np.array_equal(est.times, kept)):
        return StridedPair(truth, replace(truth, T_wc=est.T_wc), False)
    if len(est) == len(gt) and not numbered:
        return StridedPair(truth, replace(truth, T_wc=est.T_wc[kept]), True)
    if numbered and len(kept) <= est.times[-1] < len(gt):
        on_grid = est.times % stride == 0
        found = Trajectory(est.times[on_grid] // stride, est.T_wc[on_grid], times_are_indices=True)
        return StridedPair(truth, found, not on_grid.all())
    if gt.times_are_indices:
        remedy = "with a stride, missing frames need the frame number in front of each row (13 columns, KITTI)"
    else:
        remedy = "without --stride, time stamps tell which belong together"
    raise TrianflowError(
        f"{len(est)} poses are neither one for each of {len(gt)} frames nor one for every {nth(stride)} of them"
        f" ({len(kept)}): {remedy}"
    )


def kitti_sequence(gt: Trajectory | Mapping[int, Trajectory]) -> str | None:
    """`09` or `10` where a truth has the number of poses and the length of that KITTI sequence; None for any other.

    Args:
        gt: a trajectory, or all snippets of one by the number of their first frame.
    """
    if isinstance(gt, Trajectory):
        poses, metres = len(gt), gt.path_length
    else:  # of each snippet the first step, of the last one all
        *before, last = (gt[number] for number in sorted(gt))
        poses = len(before) + len(last)
        metres = sum(snippet.distances[:2][-1] for snippet in before) + last.path_length
    for name, (its_poses, its_metres) in _POSES_AND_METRES.items():
        if poses == its_poses and abs(metres - its_metres) < 0.1:
            return name
    return None


def comparable_rows(
    sequence: str | None, results: Sequence[OdometryMetrics], stride: int = 1, choice: Choice = "few"
) -> list[Row]:
    """The published figures of a KITTI sequence that were computed in the same way; none where one result was not.

    Args:
        sequence: `09`, `10`, or None for any other.
        results: published figures are of `sim3`, of segments of 100 to 800 m from every tenth frame, and of whole
            sequences; of these a hundredth may be missing, as methods begin late.
        stride: 1 or 3.
        choice: see `published_rows`.
    """
    for m in results:
        lengths = tuple(error.length for error in m.per_length)
        alike = m.alignment is Alignment.SIM3 and lengths == KITTI_LENGTHS and m.step == KITTI_STEP
        if not alike or m.compared < WHOLE * m.gt_poses:
            return []
    if sequence is None or stride not in (1, 3):
        return []
    return published_rows(f"kitti_odometry_{'' if stride == 1 else 'stride3_'}{sequence}", choice)


def nth(n: int) -> str:
    """`10th`, `2nd`; `single` for one."""
    if n == 1:
        return "single"
    suffix = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{suffix}"
