"""Window adjustment: derivatives against differences, exact recovery, what is remembered, what must change nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.odometry.corridor import bent
from trianflow.geometry.camera import homogeneous, invert_pose, pose_matrix
from trianflow.geometry.radial import bend, straighten
from trianflow.geometry.sampson import rotation_exp, tangent_basis
from trianflow.odometry.adjustment import Adjusted, adjust, without_oldest
from trianflow.odometry.bundle import Equations, Link, State, Window

FOCAL = torch.tensor([700.0, 690.0], dtype=torch.float64)


def make_window(frames=6, points=80, radial=0.0, seed=0, step=0.8, turn=0.03, anchors=None):
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
    anchor = torch.randint(0, anchors or frames - 1, (points,), generator=g)
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
    weight = torch.ones_like(seen, dtype=torch.float64)
    return Window(T_cw, x, seen, weight, anchor, 1 / depth, 1 / depth, inf, radial=radial, radial_prior=radial)


def links_of(window, weight=1e6):
    T = window.T_cw
    eye = weight * torch.eye(5, dtype=torch.float64)
    return [Link(i, i + 1, T[i + 1] @ invert_pose(T[i]), eye) for i in range(len(T) - 1)]


def state_of(window):
    return State(window.T_cw.numpy(), window.inverse_depth.numpy(), window.radial)


def disturbed(window, share, seed=1, fixed=2):
    """Free poses and depths off by a share of the path's length, of a radian, and of the depth."""
    g = torch.Generator().manual_seed(seed)
    motion = share * (2 * torch.rand(len(window.T_cw) - fixed, 6, generator=g, dtype=torch.float64) - 1)
    depth = share * (2 * torch.rand(len(window.anchor), generator=g, dtype=torch.float64) - 1)
    state = state_of(window).moved(np.append(motion.numpy().ravel(), 0.0), (depth * window.inverse_depth).numpy())
    return replace(window, T_cw=torch.from_numpy(state.T_cw), inverse_depth=torch.from_numpy(state.inverse_depth))


def weighed(window, seed=2):
    """The window with weights of all sizes."""
    g = torch.Generator().manual_seed(seed)
    return replace(window, weight=0.3 + 0.7 * torch.rand(window.seen.shape, generator=g, dtype=torch.float64))


def gradients(window, fixed, step=1e-6):
    """Gradient of half the cost by motion and points: as the normal equations have it, and by differences."""
    equations, state = Equations(window, FOCAL, 0.5, fixed), state_of(window)
    normal = equations.normal(state, equations.look(state))
    P = len(normal.motion_gradient)
    analytic = np.append(normal.motion_gradient, normal.points_gradient)
    numeric = np.zeros_like(analytic)
    for i in range(len(analytic)):
        e = np.zeros_like(analytic)
        e[i] = step
        ahead, behind = (equations.look(state.moved(s * e[:P], s * e[P:])).cost for s in (1, -1))
        numeric[i] = (ahead - behind) / (4 * step)
    return analytic, numeric


@pytest.mark.parametrize("radial", [0.0, -0.05])
def test_gradient_against_differences(radial):
    window = weighed(make_window(points=12, radial=radial))
    window = replace(
        disturbed(window, 0.002),
        links=links_of(window),
        prior_sigma=torch.full((12,), 0.01, dtype=torch.float64),
        radial=radial + 0.01,
        radial_sigma=0.02,
    )
    analytic, numeric = gradients(window, fixed=2)
    np.testing.assert_allclose(analytic, numeric, rtol=1e-5, atol=1e-5 * np.abs(numeric).max())


def test_gradient_of_links_that_are_far_off():
    window = make_window(frames=4, points=1)
    window = replace(window, seen=window.seen & False)
    g = torch.Generator().manual_seed(0)
    half = torch.randn(3, 5, 5, generator=g, dtype=torch.float64)
    links = [
        Link(a, b, pose_matrix(rotation_exp(turn), shift), A @ A.mT)
        for (a, b), A, turn, shift in zip(
            ((0, 1), (1, 2), (1, 3)),
            half,
            0.7 * torch.randn(3, 3, generator=g, dtype=torch.float64),
            torch.randn(3, 3, generator=g, dtype=torch.float64),
        )
    ]
    analytic, numeric = gradients(replace(window, links=links), fixed=1)
    assert np.abs(numeric[:18]).min() > 0
    np.testing.assert_allclose(analytic, numeric, rtol=1e-6, atol=1e-6)


def test_a_link_costs_its_stated_deviations_and_most_for_the_opposite_direction():
    window = replace(make_window(frames=2, points=1), links=[])
    T_ba = window.T_cw[1] @ invert_pose(window.T_cw[0])
    t = torch.nn.functional.normalize(T_ba[:3, 3], dim=0)
    axis = tangent_basis(t)[0]
    sigma = 0.01

    def cost(angle):
        off = T_ba.clone()
        off[:3, 3] = rotation_exp(float(angle) * axis) @ t
        link = Link(0, 1, off, torch.eye(5, dtype=torch.float64) / sigma**2)
        equations = Equations(replace(window, links=[link]), FOCAL, 0.5, 1)
        return equations.look(state_of(window)).cost - Equations(window, FOCAL, 0.5, 1).look(state_of(window)).cost

    loss = 5 * 2.385**2
    assert cost(0.02) == pytest.approx(loss * np.log1p(4 / loss), rel=1e-3)
    costs = [cost(angle) for angle in np.linspace(0, np.pi, 12)]
    assert (np.diff(costs) > 0).all()


def test_normal_matrix_against_autograd():
    """Near zero the Gauss-Newton matrix is J^T J, with the J of residuals that are written down plainly; to 1e-6."""
    fixed, M, radial = 1, 9, -0.03
    window = weighed(replace(make_window(frames=4, points=M, radial=radial), radial_sigma=0.01))
    equations, state = Equations(window, FOCAL, 1.0, fixed), state_of(window)
    normal = equations.normal(state, equations.look(state))
    P = len(normal.motion)
    every = torch.arange(M)

    def residuals(parameters):
        delta = parameters[: P - 1].reshape(-1, 6)
        free = window.T_cw[fixed:] @ pose_matrix(rotation_exp(delta[:, :3]), delta[:, 3:])
        T_cw, k = torch.cat([window.T_cw[:fixed], free]), window.radial + parameters[P - 1]
        ray = homogeneous(straighten(window.x[window.anchor, every], k))
        X_a = ray / (window.inverse_depth + parameters[P:])[:, None]
        X_c = T_cw[:, None] @ invert_pose(T_cw)[window.anchor] @ homogeneous(X_a)[..., None]
        predicted = X_c[..., :2, 0] / X_c[..., 2:3, 0]
        error = bend(predicted - straighten(window.x, k), window.x, k) * FOCAL
        mask = window.seen.clone()
        mask[window.anchor, every] = False
        return (error * mask[..., None] * window.weight.sqrt()[..., None]).flatten()

    # rotation_exp has no derivative at exactly zero in autograd's eyes: differentiate a hair beside it
    J = torch.autograd.functional.jacobian(residuals, torch.full((P + M,), 1e-9, dtype=torch.float64)).numpy()
    H = J.T @ J
    H[P - 1, P - 1] += 1 / 0.01**2
    for ours, theirs in ((normal.motion, H[:P, :P]), (normal.mixed, H[:P, P:]), (np.diag(normal.points), H[P:, P:])):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6 * np.abs(theirs).max())


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


def with_a_turned_link(truth, weight):
    links = links_of(truth, weight)
    turned = links[-1].T_ba.clone()
    turned[:3, :3] = rotation_exp(torch.tensor([0.0, 0.002, 0.0], dtype=torch.float64)) @ turned[:3, :3]
    return replace(truth, links=[*links[:-1], replace(links[-1], T_ba=turned)])


def test_a_wrong_link_does_not_overrule_many_points():
    truth = make_window(frames=5, points=200)
    result = adjust(with_a_turned_link(truth, 1e9), FOCAL, steps=30)
    assert (result.window.T_cw - truth.T_cw).abs().max() < 1e-3


def test_links_hold_what_few_points_say():
    truth = make_window(frames=5, points=200)
    doubtful = replace(with_a_turned_link(truth, 1e7), weight=torch.full_like(truth.weight, 1e-5))
    result = adjust(doubtful, FOCAL, steps=30)
    relative = result.window.T_cw[-1] @ invert_pose(result.window.T_cw[-2])
    assert torch.allclose(relative[:3, :3], doubtful.links[-1].T_ba[:3, :3], atol=1e-4)


def test_priors_carry_the_scale_where_one_frame_is_held():
    truth = make_window(frames=6, points=200)
    shrunk = truth.T_cw.clone()
    shrunk[:, :3, 3] *= 0.95
    start = replace(
        truth, T_cw=shrunk, inverse_depth=truth.inverse_depth / 0.95, prior_sigma=0.02 * truth.inverse_depth
    )
    result = adjust(start, FOCAL, fixed=1, steps=30)
    assert (result.window.T_cw - truth.T_cw).abs().max() < 1e-4


@pytest.mark.parametrize("case", ["few frames", "few points", "new points", "still", "turning"])
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
    if case == "new points":  # whatever the length of a step, they agree with it
        every = torch.arange(100)
        seen = torch.zeros_like(window.seen)
        seen[window.anchor, every] = seen[window.anchor + 1, every] = True
        window = replace(window, seen=seen)
    if case == "few frames":
        window = make_window(frames=2)
    result = adjust(window, FOCAL)
    assert isinstance(result, Adjusted)
    assert not result.ok
    assert result.note
    assert torch.equal(result.window.T_cw, window.T_cw)
    assert torch.equal(result.window.inverse_depth, window.inverse_depth)
    assert result.error.isfinite().all()


def test_rotations_stay_rotations():
    """What a rotation is off by is not handed on, else it would double with every key frame."""
    window = make_window(frames=6, points=100)
    T_cw = window.T_cw.clone()
    T_cw[:, :3, :3] *= 1 + 1e-9
    result = adjust(disturbed(replace(window, T_cw=T_cw), 0.01), FOCAL)
    assert result.ok
    R = result.window.T_cw[2:, :3, :3]
    assert (R @ R.mT - torch.eye(3, dtype=torch.float64)).abs().max() < 1e-13


def test_nonsense_changes_nothing_and_is_finite():
    window = make_window(frames=6, points=100)
    x = torch.rand(window.x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    result = adjust(replace(window, x=x), FOCAL)
    assert result.window.T_cw.isfinite().all()
    assert result.window.inverse_depth.gt(0).all()
    assert result.cost[1] <= result.cost[0]


def narrow(points=60):
    """Points of the first frame with a prior, which the second sees with a little noise, and no other."""
    window = make_window(frames=5, points=points, anchors=1)
    g = torch.Generator().manual_seed(4)
    x = window.x.clone()
    x[1] += 1e-7 * torch.randn(points, 2, generator=g, dtype=torch.float64)
    rho = window.inverse_depth
    seen = window.seen.clone()
    seen[1] = (window.x[1] != 0).all(-1)
    seen[2:] = False
    prior = rho * (1 + 2e-5 * torch.randn(points, generator=g, dtype=torch.float64))
    return replace(window, x=x, seen=seen, inverse_depth=rho * (1 + 1e-5), prior=prior, prior_sigma=0.05 * rho)


def test_forgetting_the_oldest_frame_changes_neither_what_is_known_of_a_depth_nor_how_well():
    """Depths by all that was seen and by what is left of it, the poses being known."""
    f = torch.tensor([700.0, 700.0], dtype=torch.float64)
    window = replace(narrow(), weight=weighed(narrow()).weight)
    shorter, kept = without_oldest(window, f, 0.5, memory=1.0)
    T_ba = window.T_cw[1] @ invert_pose(window.T_cw[0])
    far = homogeneous(window.x[0]) @ T_ba[2, :3]
    assert kept.sum() > 40
    assert torch.equal(kept, window.seen[1])

    def solved(window):
        equations, state = Equations(window, f, 0.5, 1), state_of(window)
        normal = equations.normal(state, equations.look(state))
        step = -torch.from_numpy(normal.points_gradient / normal.points)
        return (window.inverse_depth + step)[kept], torch.from_numpy(normal.points)[kept]

    batch, batch_information = solved(window)
    rest, rest_information = solved(shorter)
    z = far[kept] + batch * T_ba[2, 3]
    rate = far[kept] / z.square()
    assert (rate - 1).abs().max() > 0.1  # a wrong derivative would show
    shift = (batch / z - shorter.inverse_depth[kept]).abs()
    assert ((rest - batch / z).abs() < 1e-2 * shift.max()).all()
    torch.testing.assert_close(rest_information, batch_information / rate.square(), rtol=1e-3, atol=0)


def test_what_the_oldest_frame_saw_of_another_point_is_not_remembered():
    window = narrow()
    x = window.x.clone()
    x[1, :10] *= 1.2  # along the epipolar lines, about
    window = replace(window, x=x, prior_sigma=torch.full_like(window.prior, torch.inf))
    shorter, kept = without_oldest(window, FOCAL, 0.5, memory=1.0)
    assert shorter.prior_sigma[:10][kept[:10]].isinf().all()
    assert shorter.prior_sigma[10:][kept[10:]].isfinite().all()
    assert torch.equal(shorter.seen, window.seen[1:])


def test_points_of_later_frames_are_left_alone_when_the_oldest_is_forgotten():
    window = replace(make_window(), links=links_of(make_window()))
    shorter, kept = without_oldest(window, FOCAL, 0.5, memory=0.9)
    later = window.anchor > 0
    assert kept[later].all()
    assert torch.equal(shorter.anchor[later], window.anchor[later] - 1)
    assert torch.equal(shorter.inverse_depth[later], window.inverse_depth[later])
    assert [(link.first, link.second) for link in shorter.links] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    # those that moved on are the same points
    moved = kept & ~later
    T_ba = window.T_cw[1] @ invert_pose(window.T_cw[0])
    X = homogeneous(window.x[0]) / window.inverse_depth[:, None] @ T_ba[:3, :3].mT + T_ba[:3, 3]
    torch.testing.assert_close(1 / shorter.inverse_depth[moved], X[moved, 2])


def test_straighten_and_bend_undo_each_other():
    x = torch.from_numpy(np.random.default_rng(0).uniform(-0.8, 0.8, (50, 2)))
    v = 1e-6 * torch.from_numpy(np.random.default_rng(1).normal(size=(50, 2)))
    moved_by = straighten(x + v, -0.1) - straighten(x, -0.1)
    assert torch.allclose(bend(moved_by, x, -0.1), v, atol=1e-11)
