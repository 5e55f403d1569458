"""Window adjustment: derivatives against differences, exact recovery, and what must change nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.odometry.corridor import bent
from trianflow.geometry.camera import invert_pose, pose_matrix
from trianflow.geometry.radial import bend, straighten
from trianflow.geometry.sampson import rotation_exp
from trianflow.odometry.adjustment import Adjusted, Link, Window, adjust, linearise, moved, residuals

FOCAL = torch.tensor([700.0, 690.0], dtype=torch.float64)


def make_window(frames=6, points=80, radial=0.0, seed=0, step=0.8, turn=0.03):
    """A camera that drives a bend past points, seen exactly; a quarter of the observations is missing."""
    g = torch.Generator().manual_seed(seed)

    def rand(*shape):
        return torch.rand(*shape, generator=g, dtype=torch.float64)

    T_cw, T = [], torch.eye(4, dtype=torch.float64)
    for _ in range(frames):
        T_cw.append(T)
        w = torch.tensor([0.002, turn, -0.001], dtype=torch.float64) + 0.004 * rand(3)
        t = torch.tensor([0.05, 0.02, -step], dtype=torch.float64) + 0.02 * rand(3)
        T = pose_matrix(rotation_exp(w), t) @ T
    T_cw = torch.stack(T_cw)
    anchor = torch.randint(0, frames - 1, (points,), generator=g)
    ray = torch.cat([(rand(points, 2) - 0.5) * torch.tensor([1.4, 0.7]), torch.ones(points, 1)], 1)
    depth = 6 + 40 * rand(points)
    T_wc = invert_pose(T_cw)[anchor]
    world = ((T_wc[:, :3, :3] @ (ray * depth[:, None])[..., None])[..., 0]) + T_wc[:, :3, 3]
    X = torch.einsum("fij,mj->fmi", T_cw[:, :3, :3], world) + T_cw[:, None, :3, 3]
    x = bent(X[..., :2] / X[..., 2:], radial)
    inside = (X[..., 2] > 1) & (x.abs() < 0.9).all(-1)
    seen = (rand(frames, points) > 0.25) & inside
    x = torch.where(inside[..., None], x, 0.0)
    seen[anchor, torch.arange(points)] = True
    inf = torch.full((points,), torch.inf, dtype=torch.float64)
    return Window(T_cw, x, seen, anchor, 1 / depth, 1 / depth, inf, radial=radial, radial_prior=radial)


def links_of(window, weight=1e6):
    T = window.T_cw
    eye = weight * torch.eye(5, dtype=torch.float64)
    return [Link(i, i + 1, T[i + 1] @ invert_pose(T[i]), eye) for i in range(len(T) - 1)]


def disturbed(window, share, seed=1, fixed=2):
    """Free poses and depths off by a share of the path's length, of a radian, and of the depth."""
    g = torch.Generator().manual_seed(seed)
    motion = share * (2 * torch.rand(len(window.T_cw) - fixed, 6, generator=g, dtype=torch.float64) - 1)
    depth = share * (2 * torch.rand(len(window.anchor), generator=g, dtype=torch.float64) - 1)
    parameters = torch.cat([motion.flatten(), torch.zeros(1, dtype=torch.float64)])
    return moved(window, parameters, depth * window.inverse_depth, fixed)



@pytest.mark.parametrize("radial", [0.0, -0.05])
def test_gradient_and_normal_matrix_against_differences(radial):
    fixed = 2
    window = make_window(points=12, radial=radial)
    window = replace(
        disturbed(window, 0.002),
        links=links_of(window),
        prior_sigma=torch.full((12,), 0.01, dtype=torch.float64),
        radial=radial + 0.01,
        radial_sigma=0.02,
    )
    normal = linearise(window, FOCAL, 0.5, fixed)
    P, M = len(normal.motion), 12
    step = 1e-6

    def cost(parameters):
        # `moved` is what the solver does with a step, so the gradient by its parameters is what it has to be
        return linearise(moved(window, parameters[:P], parameters[P:], fixed), FOCAL, 0.5, fixed, False).cost

    numeric = torch.zeros(P + M, dtype=torch.float64)
    for i in range(P + M):
        e = torch.zeros(P + M, dtype=torch.float64)
        e[i] = step
        numeric[i] = (cost(e) - cost(-e)) / (2 * step) / 2
    gradient = torch.cat([normal.motion_gradient, normal.points_gradient])
    assert torch.allclose(gradient, numeric, rtol=1e-5, atol=1e-5 * numeric.abs().max())


def test_jacobian_of_the_residuals_against_autograd():
    """The Gauss-Newton matrix of residuals near zero is J^T J with the J of autograd, to 1e-6."""
    fixed, M, radial = 1, 9, -0.03
    window = replace(make_window(frames=4, points=M, radial=radial), radial_sigma=0.01)
    normal = linearise(window, FOCAL, 1.0, fixed)
    P = len(normal.motion)

    def stacked(parameters):
        delta = parameters[: P - 1].reshape(-1, 6)
        free = pose_matrix(rotation_exp(delta[:, :3]), delta[:, 3:]) @ window.T_cw[fixed:]
        T_cw = torch.cat([window.T_cw[:fixed], free])
        rho = window.inverse_depth + parameters[P:]
        radial = window.radial + parameters[P - 1]
        there = replace(window, T_cw=T_cw, inverse_depth=rho, radial=radial)
        mask = window.seen.clone()
        mask[window.anchor, torch.arange(M)] = False
        return (residuals(there, FOCAL) * mask[..., None]).flatten()

    # rotation_exp has no derivative at exactly zero in autograd's eyes: differentiate a hair beside it
    J = torch.autograd.functional.jacobian(stacked, torch.full((P + M,), 1e-9, dtype=torch.float64))
    H = J.mT @ J
    expected_motion = H[:P, :P].clone()
    expected_motion[-1, -1] += 1 / 0.01**2
    for ours, theirs in (
        (normal.motion, expected_motion),
        (normal.mixed, H[:P, P:]),
        (normal.points, H[P:, P:].diagonal()),
    ):
        assert torch.allclose(ours, theirs, rtol=1e-6, atol=1e-6 * float(theirs.abs().max()))


def test_perfect_matches_lead_back_to_the_truth_from_five_per_cent_off():
    truth = make_window(frames=8, points=400)
    result = adjust(disturbed(truth, 0.05), FOCAL, steps=30)
    assert result.ok
    assert result.cost[1] < 1e-12 < result.cost[0]
    assert (result.window.T_cw - truth.T_cw).abs().max() < 1e-8
    used = (truth.seen.sum(0) >= 2).nonzero()[:, 0]
    error = (result.window.inverse_depth / truth.inverse_depth - 1).abs()[used]
    assert error.max() < 1e-6


def test_a_radial_coefficient_is_found_where_the_camera_turns():
    truth = make_window(frames=8, points=300, radial=-0.02)
    start = replace(truth, radial=0.0, radial_prior=0.0, radial_sigma=0.05)
    result = adjust(start, FOCAL, noise=0.5, steps=30)
    assert result.ok
    assert abs(result.window.radial + 0.02) < 1e-4
    assert result.radial_information > 1 / 0.003**2
    held = adjust(replace(start, radial_sigma=0.0), FOCAL, noise=0.5, steps=30)
    assert held.window.radial == 0
    assert held.cost[1] > 10 * result.cost[1]


def test_outliers_and_noise_leave_the_poses_within_their_uncertainty():
    truth = make_window(frames=8, points=400)
    g = torch.Generator().manual_seed(3)
    noise = 0.3 * torch.randn(truth.x.shape, generator=g, dtype=torch.float64)
    gross = torch.rand(truth.seen.shape, generator=g) < 0.1
    noise[gross] *= 100
    at_home = torch.zeros_like(truth.seen)
    at_home[truth.anchor, torch.arange(400)] = True
    noise[at_home] = 0
    result = adjust(disturbed(replace(truth, x=truth.x + noise / FOCAL), 0.02), FOCAL, 0.3, steps=20)
    assert result.ok
    length = torch.linalg.norm(invert_pose(truth.T_cw)[-1, :3, 3])
    error = torch.linalg.norm((invert_pose(result.window.T_cw) - invert_pose(truth.T_cw))[-1, :3, 3])
    assert error < 0.01 * length


def test_links_hold_what_points_do_not_say():
    """With links of great weight, the directions stay theirs; lengths still follow the points."""
    truth = make_window(frames=5, points=200)
    wrong = [replace(link, T_ba=link.T_ba.clone()) for link in links_of(truth, 1e14)]
    turned = rotation_exp(torch.tensor([0.0, 0.002, 0.0], dtype=torch.float64))
    wrong[-1].T_ba[:3, :3] = turned @ wrong[-1].T_ba[:3, :3]
    result = adjust(replace(truth, links=wrong), FOCAL, steps=30)
    relative = result.window.T_cw[-1] @ invert_pose(result.window.T_cw[-2])
    assert torch.allclose(relative[:3, :3], wrong[-1].T_ba[:3, :3], atol=1e-6)


def test_priors_carry_the_scale_where_one_frame_is_held():
    truth = make_window(frames=6, points=200)
    shrunk = truth.T_cw.clone()
    shrunk[:, :3, 3] *= 0.95
    start = replace(
        truth, T_cw=shrunk, inverse_depth=truth.inverse_depth / 0.95, prior_sigma=0.02 * truth.inverse_depth
    )
    result = adjust(start, FOCAL, fixed=1, steps=30)
    assert (result.window.T_cw - truth.T_cw).abs().max() < 1e-4


@pytest.mark.parametrize("case", ["few frames", "few points", "still", "turning"])
def test_what_cannot_be_adjusted_is_left_as_it_is(case):
    window = make_window(frames=6, points=100, step=0.0 if case in ("still", "turning") else 0.8)
    if case in ("still", "turning"):
        T_cw = window.T_cw.clone()
        if case == "still":
            T_cw[:, :3, :3] = torch.eye(3, dtype=torch.float64)
        T_cw[:, :3, 3] = 0
        window = replace(window, T_cw=T_cw)
    if case == "few points":
        window = make_window(points=10)
    if case == "few frames":
        window = make_window(frames=2)
    result = adjust(window, FOCAL)
    assert isinstance(result, Adjusted)
    assert not result.ok
    assert result.note
    assert torch.equal(result.window.T_cw, window.T_cw)
    assert torch.equal(result.window.inverse_depth, window.inverse_depth)
    assert result.error.isfinite().all()


def test_nonsense_changes_nothing_and_is_finite():
    window = make_window(frames=6, points=100)
    x = torch.rand(window.x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    result = adjust(replace(window, x=x), FOCAL)
    assert result.window.T_cw.isfinite().all()
    assert result.window.inverse_depth.gt(0).all()
    assert result.cost[1] <= result.cost[0]


def test_straighten_and_bend_undo_each_other():
    x = torch.from_numpy(np.random.default_rng(0).uniform(-0.8, 0.8, (50, 2)))
    v = 1e-6 * torch.from_numpy(np.random.default_rng(1).normal(size=(50, 2)))
    moved_by = straighten(x + v, -0.1) - straighten(x, -0.1)
    assert torch.allclose(bend(moved_by, x, -0.1), v, atol=1e-11)
