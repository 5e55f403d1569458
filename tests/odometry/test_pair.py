"""A pair of frames where its motion has come from elsewhere than two-view geometry."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from tests.odometry.corridor import CAMERA, CONFIG, Corridor
from trianflow.geometry.camera import backproject, project, transform
from trianflow.odometry.motion import MotionSolver
from trianflow.odometry.pair import KnownPoints
from trianflow.odometry.preparation import Preparation
from trianflow.odometry.structure import Structure
from trianflow.pose.two_view import TwoViewStatus


def solver_of(world):
    return MotionSolver(CAMERA.K(), CONFIG, Preparation(CAMERA, CONFIG, world, None))


def pair_of(T_ba, structure=None):
    """The pair of a corridor and its motion, `T_ba` in numpy."""
    world = Corridor([np.eye(4), np.linalg.inv(T_ba)])
    pair = solver_of(world).compare(world.flow(0, 1), Structure.empty() if structure is None else structure)
    return pair, torch.from_numpy(T_ba)


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


def structure_at(columns, sigma):
    """Points at 10 m in the middle row."""
    p = torch.tensor([[column, 60.0] for column in columns], dtype=torch.float64)
    return Structure(p, torch.full((len(p),), 10.0).double().log(), torch.tensor(sigma).double().square())


def test_what_arrives_counts_by_what_it_knows():
    """Half of the points are at the borders, which are left, and know three times as much."""
    known = structure_at([100, 140] * 30 + [2, 237] * 30, [0.3] * 60 + [0.3 / 3**0.5] * 60)
    pair, _ = pair_of(moved(shift=(0.0, 0.0, -1.0)), known)
    assert pair.followed.tolist() == [True] * 60 + [False] * 60
    assert pair.arriving == pytest.approx(0.25)


def test_a_few_points_that_are_left_end_no_key_frame():
    pair, _ = pair_of(moved(shift=(0.0, 0.0, -1.0)), structure_at([100] + [2] * 48, [0.3] * 49))
    assert pair.followed.sum() == 1
    assert pair.arriving == 1


def under_clouds(shift):
    """Clouds, too far away to move, believed to be near but with much doubt: most points, and none of them is right."""
    generator = torch.Generator().manual_seed(0)
    clouds, stones = 900, 45
    is_cloud = torch.arange(clouds + stones) < clouds
    p, depth = torch.rand(2, clouds + stones, 2, generator=generator, dtype=torch.float64)
    p, depth = p * torch.tensor([CAMERA.width, CAMERA.height]), depth[:, 0]
    T_ba = torch.from_numpy(moved(shift=shift))
    X_a = backproject(p, torch.where(is_cloud, 5000.0, 8 + 6 * depth), CAMERA.K())
    p_b = project(transform(T_ba, X_a), CAMERA.K())
    p_b = p_b + 0.3 * torch.randn(p_b.shape, generator=generator, dtype=torch.float64)
    believed = backproject(p, torch.where(is_cloud, 15 + 20 * depth, 8 + 6 * depth), CAMERA.K())
    return KnownPoints(believed, p_b, torch.where(is_cloud, 1.5, 0.02).double(), "structure"), T_ba


STILL, BEFORE = (torch.from_numpy(moved(shift=(0.0, 0.0, z))) for z in (0.0, -1.5))


def test_a_sky_that_seems_to_stand_does_not_stop_the_camera():
    """To PnP, which knows nothing of doubt, the clouds say that it does. The few points that are known know better."""
    known, T_ba = under_clouds((0.05, 0.0, -2.0))
    solver = solver_of(Corridor([np.eye(4)]))
    found = [solver.pose_of_known(known, None, predicted, 0.3)[:3, 3] for predicted in (STILL, BEFORE)]
    assert found[0].norm() < 0.05, "then the prediction is not needed here"
    torch.testing.assert_close(found[1], T_ba[:3, 3], atol=0.05, rtol=0)


@pytest.mark.parametrize("stones_too", [True, False])
def test_a_prediction_does_not_move_a_camera_that_stands(stones_too):
    """Neither where some points say so, nor where all that there are say next to nothing."""
    known, _ = under_clouds((0.0, 0.0, 0.0))
    if not stones_too:
        known = KnownPoints(known.X_a[:900], known.p_b[:900], known.log_sigma[:900], "structure")
    found = solver_of(Corridor([np.eye(4)])).pose_of_known(known, None, BEFORE, 0.3)
    assert found[:3, 3].norm() < 0.05
