"""ATE, RPE and the errors of single pairs: by hand and by their definitions."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tests.evaluation.trajectories import drive, from_steps, noisy, transformed
from trianflow.errors import TrianflowError, UsageError
from trianflow.evaluation.odometry import evaluate_odometry
from trianflow.evaluation.pose_errors import absolute_pose_error, pair_errors, relative_pose_error


def test_pair_errors_by_hand() -> None:
    gt = drive(4)
    steps = np.tile(np.eye(4), (4, 1, 1))
    steps[0, :3, 3] = [1, 0, 1]  # 45 degrees off
    steps[1, :3, 3] = [0, 0, 0.001]  # right, whatever its length
    steps[1, :3, :3] = Rotation.from_euler("y", 2, degrees=True).as_matrix()
    steps[2, :3, 3] = [0, 0, -5]  # backwards; measured in its own camera, so the turn before does not matter
    rotation, direction = pair_errors(gt.T_wc, from_steps(steps).T_wc)
    assert rotation == pytest.approx([0, 2, 0, 0], abs=1e-9)
    assert direction == pytest.approx([45, 0, 180, 90], abs=1e-9)  # the last has no direction: 90


def test_pairs_without_true_motion_have_no_direction() -> None:
    gt = drive(6, step=0.01)
    rotation, direction = pair_errors(gt.T_wc, noisy(gt).T_wc, min_motion=0.02)
    assert (len(rotation), len(direction)) == (6, 0)
    assert len(pair_errors(gt.T_wc, noisy(gt).T_wc, min_motion=0.005)[1]) == 6
    assert evaluate_odometry(gt, gt, with_evo=False).pair_direction_median is None


def test_pair_errors_know_no_scale_and_no_world() -> None:
    gt = drive(200, seed=4)
    est = noisy(gt)
    plain, moved = pair_errors(gt.T_wc, est.T_wc), pair_errors(gt.T_wc, transformed(est, 0.03).T_wc)
    for a, b in zip(plain, moved):
        assert a == pytest.approx(b, abs=1e-7)
    # scipy as the reference for the angle
    relative = [np.linalg.inv(T[:-1]) @ T[1:] for T in (gt.T_wc, est.T_wc)]
    error = Rotation.from_matrix(relative[0][:, :3, :3]).inv() * Rotation.from_matrix(relative[1][:, :3, :3])
    assert plain[0] == pytest.approx(np.rad2deg(error.magnitude()), rel=1e-7)


def test_ate_and_rpe_against_their_definitions() -> None:
    pytest.importorskip("evo")
    gt = drive(80, seed=7)
    est = noisy(gt)
    distance = np.linalg.norm(gt.positions - est.positions, axis=1)
    ate = absolute_pose_error(gt.T_wc, est.T_wc)
    assert [ate.rmse, ate.mean, ate.median, ate.max] == pytest.approx(
        [np.sqrt((distance**2).mean()), distance.mean(), np.median(distance), distance.max()]
    )
    a, b = (np.linalg.inv(t.T_wc[:-1]) @ t.T_wc[1:] for t in (gt, est))
    error = np.linalg.inv(a) @ b
    rpe = relative_pose_error(gt.T_wc, est.T_wc)
    length = np.linalg.norm(error[:, :3, 3], axis=1)
    assert [rpe.translation.rmse, rpe.translation.mean] == pytest.approx([np.sqrt((length**2).mean()), length.mean()])
    assert rpe.rotation.median == pytest.approx(np.median(pair_errors(gt.T_wc, est.T_wc)[0]))
    far = relative_pose_error(gt.T_wc, est.T_wc, 10, "metres")
    assert far.translation.mean > rpe.translation.mean
    with pytest.raises(TrianflowError, match="no two poses lie 1e\\+06 metres apart"):
        relative_pose_error(gt.T_wc, est.T_wc, 1e6, "metres")
    with pytest.raises(UsageError, match="frames or metres"):
        relative_pose_error(gt.T_wc, est.T_wc, 1, "miles")
