"""Errors of poses: ATE and RPE (by evo), and of the motion between consecutive frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from trianflow.errors import TrianflowError, UsageError


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


def pair_errors(gt_T_wc: np.ndarray, est_T_wc: np.ndarray, min_motion: float = 0.02) -> tuple[np.ndarray, np.ndarray]:
    """Errors of the motion between consecutive poses, which know no scale.

    Args:
        gt_T_wc: `(N, 4, 4)` float64 true camera-to-world poses, metres.
        est_T_wc: `(N, 4, 4)` float64 estimates, any unit.
        min_motion: true translation in metres above which the direction of a pair counts.

    Returns:
        Rotation error `(N - 1,)`, and the angle between the two translations in the frame of the pair's first
        camera `(P,)` for the P pairs that truly move; degrees, 0 to 180. A pair estimated still counts as 90.
    """
    gt, est = (np.linalg.inv(T[:-1]) @ T[1:] for T in map(_nearest_rotations, (gt_T_wc, est_T_wc)))
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
