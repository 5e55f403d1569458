"""A pair of frames where its motion has come from elsewhere than two-view geometry."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from tests.odometry.corridor import CAMERA, CONFIG, Corridor
from trianflow.odometry.motion import MotionSolver
from trianflow.odometry.preparation import Preparation
from trianflow.odometry.structure import Structure
from trianflow.pose.two_view import TwoViewStatus


def pair_of(T_ba):
    """The pair of a corridor and its motion, `T_ba` in numpy."""
    world = Corridor([np.eye(4), np.linalg.inv(T_ba)])
    solver = MotionSolver(CAMERA.K(), CONFIG, Preparation(CAMERA, CONFIG, world, None))
    return solver.compare(world.flow(0, 1), Structure.empty()), torch.from_numpy(T_ba)


def moved(turn=(0.0, 0.0, 0.0), shift=(0.0, 0.0, 0.0)):
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = Rotation.from_euler("xyz", turn, degrees=True).as_matrix(), shift
    return T


def test_rotation_alone_has_no_parallax():
    pair, T_ba = pair_of(moved(turn=(0.5, 2.0, 0.0)))
    assert pair.near_parallax(T_ba, CAMERA.K()) < 0.1


def test_the_parallax_of_what_is_near_is_that_of_nine_tenths_of_the_inliers():
    pair, T_ba = pair_of(moved(turn=(0.0, 1.0, 0.0), shift=(0.2, 0.0, -0.1)))
    p_a, p_b = (p[0].double()[pair.view.inlier[0]].numpy() for p in (pair.matches.p_a, pair.matches.p_b))
    K = CAMERA.K().numpy()
    far = (K @ T_ba[:3, :3].numpy() @ np.linalg.inv(K) @ np.c_[p_a, np.ones(len(p_a))].T).T
    apart = np.linalg.norm(p_b - far[:, :2] / far[:, 2:], axis=1)
    found = pair.near_parallax(T_ba, CAMERA.K())
    assert np.isclose(found, np.quantile(apart, 0.9), rtol=1e-3)
    assert found > 1.5 * np.median(apart)


def test_a_pair_without_inliers_has_no_parallax():
    pair, T_ba = pair_of(moved(shift=(0.0, 0.0, -0.5)))
    nothing = pair.explained_by(T_ba, CAMERA.K(), 0.0)
    assert not nothing.view.inlier.any()
    assert nothing.near_parallax(T_ba, CAMERA.K()) == 0.0
    assert (nothing.view.noise, nothing.view.parallax, nothing.view.motion) == (0, 0, 0)


def test_the_inliers_of_another_motion_are_those_that_lie_on_its_epipolar_lines():
    pair, T_ba = pair_of(moved(shift=(0.0, 0.0, -0.5)))
    unknown = torch.zeros_like(pair.view.noise)
    failed = replace(pair, view=replace(pair.view, noise=unknown, parallax=unknown, motion=unknown))
    right = failed.explained_by(T_ba, CAMERA.K(), 1.0)
    for key in ("parallax", "motion"):
        assert float(getattr(right.view, key)) == pytest.approx(float(getattr(pair.view, key)), rel=0.02)
    assert float(right.view.noise) < 0.05
    assert float(right.view.inlier.double().mean()) > 0.99
    sideways = torch.from_numpy(moved(shift=(0.5, 0.0, 0.0)))
    wrong = pair.explained_by(sideways, CAMERA.K(), 0.2)
    inlier = wrong.view.inlier[0]
    rise = (pair.matches.p_b[0] - pair.matches.p_a[0])[:, 1].abs()
    assert float(rise[inlier].max()) < 0.3 < float(rise[~inlier].max())  # moving sideways, no match rises
    for other in (right, wrong):
        assert other.status is TwoViewStatus.NO_CONSENSUS
        assert float(other.view.information.abs().max()) == 0.0
