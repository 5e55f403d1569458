"""The road's plane from points with noise, one-sided outliers and no road at all; from flow; in a rendered street."""

import math

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from tests.odometry import corridor
from trianflow.data.synthetic import SyntheticSequence
from trianflow.flow.dis import DISFlow
from trianflow.flow.interface import FlowPair
from trianflow.flow.matches import select_matches
from trianflow.flow.occlusion import flow_quality
from trianflow.geometry.camera import Camera, homogeneous, invert_pose, normalize_pixels, pixel_grid, pose_matrix
from trianflow.geometry.warping import rigid_flow
from trianflow.odometry.ground import fit_ground, ground_points
from trianflow.pose.two_view import solve_two_view
from trianflow.trajectory import Trajectory

CAMERA = Camera(707.0, 707.0, 601.9, 183.1, 1226, 370)
K = CAMERA.K()


def road(rng, count, height=1.65, pitch=0.0, roll=0.0, outliers=0.0, noise=0.3, block=0):
    """Points ahead of a car that has moved by 0.8: pixels, inverse depths, their sigma; K, its way, the true normal.

    Outliers stand on the road, by a tenth to nine tenths of the camera's height. Errors are of `noise` pixels,
    of each point or of each block of so many pixels.
    """
    normal = Rotation.from_euler("zx", [roll, pitch], degrees=True).apply([0.0, 1.0, 0.0])
    p = rng.uniform([200, 235], [1000, 360], (count, 2))
    x = np.c_[(p[:, 0] - CAMERA.cx) / CAMERA.fx, (p[:, 1] - CAMERA.cy) / CAMERA.fy, np.ones(count)]
    above = np.where(rng.uniform(size=count) < outliers, rng.uniform(0.1, 0.9, count), 0.0)
    sigma = noise / CAMERA.fx / (0.8 * np.hypot(x[:, 0], x[:, 1]))
    error = rng.normal(size=count)
    if block:
        error = rng.normal(size=(100, 100))[tuple((p / block).astype(int).T)]
    inverse_depth = x @ normal / (height * (1 - above)) + sigma * error
    way = 0.8 * np.cross([1.0, 0.0, 0.0], normal)
    return *(torch.from_numpy(v) for v in (p, inverse_depth, sigma)), K, torch.from_numpy(way), normal


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("pitch", "roll"), [(0.0, 0.0), (3.0, -2.0), (-4.0, 3.0)])
def test_height_with_one_sided_outliers(seed, pitch, roll):
    """A median of the single heights is far off here."""
    *points, normal = road(np.random.default_rng(seed), 4000, 1.65, pitch, roll, outliers=0.4)
    ground = fit_ground(*points)
    assert ground.ok
    assert ground.height == pytest.approx(1.65, rel=0.01)
    assert math.degrees(math.acos(min(float(ground.normal @ torch.from_numpy(normal)), 1.0))) < 1
    assert ground.log_sigma < 0.04
    assert 0.5 < ground.inlier_ratio < 0.75


@pytest.mark.parametrize(("count", "outliers", "block"), [(300, 0.0, 0), (300, 0.4, 0), (3000, 0.4, 20)])
def test_stated_uncertainty_is_the_scatter(count, outliers, block):
    """Of independent errors, of errors that neighbours share, and of the way's direction."""
    found = []
    for seed in range(80):
        rng = np.random.default_rng(seed)
        *points, way, _ = road(rng, count, 1.0, 2.0, 0.5, outliers, noise=0.6, block=block)
        ground = fit_ground(*points, way + 0.8 * torch.tensor([0.0, rng.normal(0, math.radians(0.2)), 0.0]))
        assert ground.ok
        found.append((math.log(ground.height), ground.log_sigma))
    log_height, log_sigma = np.array(found).T
    stated = np.sqrt(np.mean(log_sigma**2))
    assert 0.5 < log_height.std() / stated < 2
    assert abs(log_height.mean()) < 0.5 * stated


def test_flow_that_is_flatter_than_the_road_does_not_turn_the_plane():
    p, inverse_depth, sigma, _, way, _ = road(np.random.default_rng(5), 2000)
    y = (p[:, 1] - CAMERA.cy) / CAMERA.fy
    ground = fit_ground(p, inverse_depth * (1 - (y - 0.2)), sigma, K, way)  # 5 % less in the near, 10 % more far off
    assert ground.height == pytest.approx(1.65, rel=0.03)
    assert math.degrees(math.acos(float(ground.normal[1]))) < 0.3


def test_unit_and_noise_level_do_not_matter():
    p, inverse_depth, sigma, _, way, _ = road(np.random.default_rng(0), 2000, outliers=0.2)
    ground = fit_ground(p, inverse_depth, sigma, K, way)
    far = fit_ground(p, inverse_depth / 250, sigma / 250, K, 250 * way)
    assert far.height == pytest.approx(250 * ground.height, rel=1e-9)
    assert far.log_sigma == pytest.approx(ground.log_sigma, rel=1e-6)
    doubtful = fit_ground(p, inverse_depth, 3 * sigma, K, way)
    assert doubtful.height == pytest.approx(ground.height, rel=0.005)
    assert doubtful.log_sigma == pytest.approx(ground.log_sigma, rel=0.3)


def test_points_that_are_no_measurement_are_ignored():
    p, inverse_depth, sigma, _, way, _ = road(np.random.default_rng(1), 1000)
    ground = fit_ground(p, inverse_depth, sigma, K, way)
    nan, some = torch.tensor(torch.nan), torch.arange(1000) % 2 == 0
    sky = p.clone()
    sky[:, 1] = 100.0
    with_more = fit_ground(
        torch.cat([p, p, p, sky]),
        torch.cat([inverse_depth, torch.where(some, nan, inverse_depth), inverse_depth, inverse_depth]),
        torch.cat([sigma, torch.where(some, sigma, nan), torch.zeros_like(sigma), sigma]),
        K,
        way,
    )
    assert with_more.height == pytest.approx(ground.height, rel=1e-9)
    assert torch.equal(with_more.inliers[:1000], ground.inliers)
    assert not with_more.inliers[1000:].any()
    assert ground.inliers.sum() > 300


def test_equal_input_gives_equal_output():
    *points, _ = road(np.random.default_rng(2), 1000, outliers=0.4)
    a, b = fit_ground(*points, seed=3), fit_ground(*points, seed=3)
    assert (a.height, a.log_sigma) == (b.height, b.log_sigma)


def nothing(p, inverse_depth, sigma, way):
    ground = fit_ground(p, inverse_depth, sigma, K, way)
    return not ground.ok and math.isnan(ground.height) and math.isinf(ground.log_sigma) and not ground.inliers.any()


@pytest.mark.parametrize("seed", range(3))
def test_no_road(seed):
    rng = np.random.default_rng(seed)
    p, inverse_depth, sigma, _, way, _ = road(rng, 2000)
    noise = sigma * torch.from_numpy(rng.normal(size=2000))
    assert nothing(p, 0.12 + noise, sigma, way)  # a wall across
    assert nothing(p, 0.12 + noise, 0.001 + 0 * sigma, way)
    x = (p[:, 0] - CAMERA.cx) / CAMERA.fx
    assert nothing(p, (0.5 + x) / 6 + noise, sigma, way)  # a wall beside
    assert nothing(p, torch.from_numpy(rng.uniform(0.01, 0.3, 2000)), sigma, way)  # anything
    assert nothing(p, -inverse_depth, sigma, way)
    for not_along in ([0.0, 1.0, 0.0], [0.0, 0.5, 1.0], [0.0, 0.0, 0.0]):
        assert nothing(p, inverse_depth, sigma, torch.tensor(not_along))


def test_few_points_and_points_of_one_place():
    p, inverse_depth, sigma, _, way, _ = road(np.random.default_rng(4), 4000)
    assert nothing(p[:25], inverse_depth[:25], sigma[:25], way)
    assert nothing(p[:0], inverse_depth[:0], sigma[:0], way)
    near = ((p - p.new_tensor([600.0, 300.0])).abs() < 30).all(-1)
    assert near.sum() > 30
    assert nothing(p[near], inverse_depth[near], sigma[near], way)


def plane_flow(T_ba, height=1.65):
    """The flow of a plane below the horizon (whatever is above it lies a kilometre away), and its inverse depth."""
    normal = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    x = homogeneous(normalize_pixels(pixel_grid(CAMERA.height, CAMERA.width, torch.float64).permute(1, 2, 0), K))

    def inverse_depth(normal, height):
        return (x @ normal / height).clamp_min(1e-3)

    normal_b = T_ba[:3, :3] @ normal
    rho_a, rho_b = inverse_depth(normal, height), inverse_depth(normal_b, height + normal_b @ T_ba[:3, 3])
    flow_ab = rigid_flow(1 / rho_a[None, None], T_ba[None], K)
    return FlowPair(flow_ab, rigid_flow(1 / rho_b[None, None], invert_pose(T_ba)[None], K)), rho_a


def forward(step=0.8):
    R = torch.from_numpy(Rotation.from_euler("yx", [1.0, 0.2], degrees=True).as_matrix())
    return pose_matrix(R, R @ torch.tensor([0.02, 0.0, -step], dtype=torch.float64))


def test_inverse_depths_of_an_exact_flow():
    flow, truth = plane_flow(forward())
    p, inverse_depth, sigma = ground_points(flow, forward(), K)
    column, row = p.long().T
    assert len(p) > 1000
    assert row.min() > CAMERA.cy
    np.testing.assert_allclose(inverse_depth, truth[row, column], rtol=1e-9)
    assert (sigma > 0).all()
    ground = fit_ground(p, inverse_depth, sigma, K, invert_pose(forward())[:3, 3])
    assert ground.height == pytest.approx(1.65, rel=1e-6)


def test_stated_sigma_of_inverse_depth_is_the_scatter_and_wild_matches_are_left_out():
    flow, truth = plane_flow(forward())
    noise = torch.randn(flow.flow_ab.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noisy = flow.flow_ab + 0.2 * noise
    noisy[:, 0, 300:, 560:600] += 20
    p, inverse_depth, sigma = ground_points(FlowPair(noisy, flow.flow_ba), forward(), K)
    column, row = p.long().T
    assert not ((row >= 300) & (column >= 560) & (column < 600)).any()
    z = (inverse_depth - truth[row, column]) / sigma
    assert 0.85 < z.std() < 1.15
    assert z.mean().abs() < 0.1


@pytest.mark.parametrize("agrees", [True, False])
def test_wrong_matches_are_left_out(agrees):
    """Across the epipolar lines, with a way back that agrees; and along them, with one that does not."""
    flow, _ = plane_flow(forward())
    there, back = flow.flow_ab.clone(), flow.flow_ba.clone()
    there[:, 0 if agrees else 1, 280:, 560:640] += 3
    if agrees:
        back[:, 0, 270:, 540:660] -= 3
    p, _, _ = ground_points(FlowPair(there, back), forward(), K)
    assert not ((p[:, 1] >= 280) & (p[:, 0] >= 560) & (p[:, 0] < 640)).any()
    assert len(p) > 1000


def test_standing_camera_sees_no_ground():
    still = torch.eye(4, dtype=torch.float64)
    zeros = torch.zeros(1, 2, CAMERA.height, CAMERA.width)
    assert nothing(*ground_points(FlowPair(zeros, zeros), still, K), forward()[:3, 3])
    flow, _ = plane_flow(forward())
    backwards = invert_pose(forward())
    assert nothing(*ground_points(flow, backwards, K), backwards[:3, 3])


@pytest.mark.parametrize("step", [0.1, 3.6])
def test_steps_of_any_length_will_do_where_the_flow_is_right(step):
    """At 3.6 m, two heights of the camera, most of the near road is out of the second picture."""
    flow, _ = plane_flow(forward(step))
    ground = fit_ground(*ground_points(flow, forward(step), K), K, invert_pose(forward(step))[:3, 3])
    assert ground.height == pytest.approx(1.65, rel=1e-5)
    assert ground.log_sigma < 0.06


def test_the_distortion_that_was_found_is_taken_out():
    world, small = corridor.Corridor(corridor.drive(4), radial=-0.1, bays=1.0), corridor.CAMERA.K()
    T_ba = torch.from_numpy(np.linalg.inv(world.T_wc[3]) @ world.T_wc[2])
    heights = []
    for radial in (0.0, -0.1):
        points = ground_points(world.flow(2, 3), T_ba, small, radial)
        heights.append(fit_ground(*points, small, invert_pose(T_ba)[:3, 3], radial).height)
    assert heights[1] == pytest.approx(1.6, rel=0.003)
    assert abs(heights[0] - 1.6) > 0.016


@pytest.mark.parametrize("seed", [0, 1])
def test_height_in_a_rendered_street(seed):
    camera = Camera(240.0, 240.0, 207.5, 63.5, 416, 128)
    drive = SyntheticSequence.make("street", "driving", 6, camera, seed=seed, moving_objects=3)
    generator = torch.Generator().manual_seed(seed)
    for i, pair in enumerate(drive):
        flow = FlowPair(pair.flow_ab + 0.15 * torch.randn(pair.flow_ab.shape, generator=generator), pair.flow_ba)
        points = ground_points(flow, pair.T_ba[0], camera.K(), stride=2)
        way = drive.T_wc[i + 1, :3, 3] - drive.T_wc[i, :3, 3]
        way[1] = 0  # the camera bobs, by up to half a degree of its way
        ground = fit_ground(*points, camera.K(), drive.T_wc[i, :3, :3].T @ way)
        assert ground.ok
        assert ground.height == pytest.approx(-float(drive.T_wc[i, 1, 3]), rel=0.02)
        assert float(ground.normal @ drive.T_wc[i, 1, :3]) > math.cos(math.radians(1))


@pytest.mark.data
def test_height_over_a_real_road(shared_data):
    """KITTI's camera stands 1.65 m high; flow of DIS, poses of two views, and only their length from the truth."""
    folder = shared_data / "kitti_odom_06_000-050"
    camera, poses = Camera.from_file(folder / "calib.yaml"), Trajectory.load(folder / "poses.txt")
    files, dis, found = sorted((folder / "images").glob("*.png")), DISFlow("fast"), []
    for i in range(0, 50, 7):
        flow = dis.flow(*(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE) for file in files[i : i + 2]))
        matches = select_matches(flow.flow_ab, flow_quality(flow, stride=4).score, 2000, stride=4)
        view = solve_two_view(matches.p_a.double(), matches.p_b.double(), camera.K(), matches.valid)
        T_ba = view.T_ba[0]
        T_ba[:3, 3] *= np.linalg.norm(poses.positions[i + 1] - poses.positions[i])
        ground = fit_ground(*ground_points(flow, T_ba, camera.K()), camera.K(), invert_pose(T_ba)[:3, 3])
        if ground.ok:
            found.append(ground.height)
    assert len(found) >= 6
    assert np.median(found) == pytest.approx(1.65, rel=0.04)
