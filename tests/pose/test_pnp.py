"""Perspective-n-point: accuracy, outliers, degenerate input, and the derivatives it is made of."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from trianflow.data.synthetic.matches import KITTI_CAMERA, random_match_scene
from trianflow.geometry.camera import backproject, pose_matrix, project, transform
from trianflow.geometry.sampson import rotation_exp
from trianflow.pose.pnp import PnP, refine_pnp, reprojection, solve_pnp

K = KITTI_CAMERA.K()


def problem(
    seed: int, count: int = 500, outliers: float = 0.0, noise: float = 0.0, scale: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """X_a, p_b, T_ba, inlier."""
    scene = random_match_scene(seed, count, 0.0, 0.0)
    rng = np.random.default_rng(seed)
    inlier = rng.uniform(size=count) >= outliers
    p_b = scene.p_b + rng.normal(0, noise, scene.p_b.shape)
    p_b[~inlier] = rng.uniform(0, [1225, 369], ((~inlier).sum(), 2))
    X_a = backproject(torch.from_numpy(scene.p_a), torch.from_numpy(scene.depth_a), K) * scale
    T_ba = torch.from_numpy(scene.T_ba)
    T_ba[:3, 3] *= scale
    return X_a, torch.from_numpy(p_b), T_ba, torch.from_numpy(inlier)


def check_failure(answer: PnP, count: int) -> None:
    assert answer.ok is False
    assert torch.equal(answer.T_ba, torch.eye(4, dtype=torch.float64))
    assert answer.inlier.shape == (count,)
    assert not answer.inlier.any()
    assert answer.noise == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_exact_without_noise(seed: int) -> None:
    X_a, p_b, T_ba, _ = problem(seed)
    answer = solve_pnp(X_a, p_b, K)
    assert answer.ok
    assert answer.inlier.all()
    torch.testing.assert_close(answer.T_ba, T_ba, rtol=0, atol=1e-7)


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("outliers", [0.0, 0.4])
def test_accuracy_in_any_unit(outliers: float, scale: float) -> None:
    errors = []
    for seed in range(10):
        X_a, p_b, T_ba, inlier = problem(seed, 1000, outliers, 0.5, scale)
        answer = solve_pnp(X_a, p_b, K)
        assert answer.ok
        R, t = answer.T_ba[:3, :3], answer.T_ba[:3, 3]
        chord = (R - T_ba[:3, :3]).norm().item() / 8**0.5
        errors.append((np.degrees(2 * np.arcsin(chord)), (t - T_ba[:3, 3]).norm().item() / scale))
        assert (answer.inlier & inlier).sum() > 0.99 * inlier.sum()
        assert (answer.inlier & inlier).sum() > 0.99 * answer.inlier.sum()
        if outliers == 0:
            assert answer.noise == pytest.approx(0.5, rel=0.15)
    assert np.median(errors, axis=0) == pytest.approx([0, 0], abs=0.03)
    assert np.max(errors, axis=0) == pytest.approx([0, 0], abs=0.1)


@pytest.mark.parametrize("outliers", [0.0, 0.2, 0.4, 0.6])
def test_noise_is_that_of_the_inliers(outliers: float) -> None:
    """`PnP.noise`: standard deviation of the inliers' reprojection on each axis."""
    found = [solve_pnp(*problem(s, 1000, outliers, 0.5)[:2], K).noise for s in range(5)]
    assert np.median(found) == pytest.approx(0.5, rel=0.1)


def test_more_outliers_than_inliers() -> None:
    for seed in range(5):
        X_a, p_b, T_ba, _ = problem(seed, 1000, 0.6, 0.5)
        answer = solve_pnp(X_a, p_b, K)
        assert answer.ok
        torch.testing.assert_close(answer.T_ba, T_ba, rtol=0, atol=0.02)


def test_single_precision_input() -> None:
    X_a, p_b, T_ba, _ = problem(1, 500, 0.2, 0.3)
    answer = solve_pnp(X_a.float(), p_b.float(), K.float())
    assert answer.T_ba.dtype == torch.float64
    torch.testing.assert_close(answer.T_ba, solve_pnp(X_a, p_b, K).T_ba, rtol=0, atol=1e-3)
    torch.testing.assert_close(answer.T_ba, T_ba, rtol=0, atol=0.1)


def test_a_large_motion() -> None:
    X_a, _, _, _ = problem(2)
    R = torch.from_numpy(Rotation.from_rotvec([0.1, -0.3, 1.0]).as_matrix())
    T_ba = pose_matrix(R, torch.tensor([2.0, -1.0, 6.0]).double())
    X_b = transform(T_ba, X_a)
    seen = X_b[:, 2] > 1
    answer = solve_pnp(X_a[seen], project(X_b[seen], K), K)
    torch.testing.assert_close(answer.T_ba, T_ba, rtol=0, atol=1e-6)


def test_what_is_not_finite_or_behind_is_ignored() -> None:
    X_a, p_b, _, _ = problem(3, 300, 0.0, 0.2)
    expected = solve_pnp(X_a[40:], p_b[40:], K)
    X_a[:10], X_a[10:20, 1], p_b[20:30, 0] = torch.nan, torch.inf, torch.nan
    X_a[30:40, 2] = -5.0
    answer = solve_pnp(X_a, p_b, K)
    assert answer.ok
    assert not answer.inlier[:40].any()
    assert torch.equal(answer.inlier[40:], expected.inlier)
    torch.testing.assert_close(answer.T_ba, expected.T_ba)


@pytest.mark.parametrize("count", [0, 1, 3, 4, 11])
def test_too_few_points(count: int) -> None:
    X_a, p_b, _, _ = problem(4)
    check_failure(solve_pnp(X_a[:count], p_b[:count], K), count)
    broken = X_a.clone()
    broken[count:] = torch.nan
    check_failure(solve_pnp(broken, p_b, K), 500)
    assert solve_pnp(X_a[:12], p_b[:12], K).ok


@pytest.mark.parametrize("seed", range(10))
def test_pixels_that_mean_nothing_have_no_pose(seed: int) -> None:
    X_a, p_b, _, _ = problem(seed, 500, 1.0)
    check_failure(solve_pnp(X_a, p_b, K), 500)


def test_degenerate_points_never_raise() -> None:
    """One point, a line through the camera, a far away cloud, absurd numbers: an answer that is finite."""
    X_a, p_b, _, _ = problem(5, 100)
    for X, p in (
        (X_a[:1].expand(100, 3), p_b[:1].expand(100, 2)),
        (X_a[:1] * torch.linspace(1, 5, 100)[:, None], p_b[:1].expand(100, 2)),
        (X_a * 1e12, p_b),
        (X_a * 1e-12, p_b),
        (X_a, p_b * 1e9),
        (X_a, p_b[:1].expand(100, 2)),
    ):
        answer = solve_pnp(X.contiguous(), p.contiguous(), K)
        assert answer.T_ba.isfinite().all()
        assert np.isfinite(answer.noise)
        if not answer.ok:
            check_failure(answer, 100)


def test_repeats() -> None:
    X_a, p_b, _, _ = problem(6, 500, 0.4, 1.0)
    first, again = solve_pnp(X_a, p_b, K), solve_pnp(X_a, p_b, K)
    assert torch.equal(first.T_ba, again.T_ba)
    assert torch.equal(first.inlier, again.inlier)


def test_threshold_and_least_share() -> None:
    X_a, p_b, _, _ = problem(7, 400, 0.0, 1.0)
    strict, loose = (solve_pnp(X_a, p_b, K, threshold=t).inlier.sum() for t in (1.0, 4.0))
    assert strict < 0.6 * loose
    assert not solve_pnp(X_a, p_b, K, min_points=401).ok


def test_reprojection_derivative() -> None:
    X_a, p_b, T_ba, _ = problem(8, 20, 0.0, 1.0)
    r, J = reprojection(T_ba, X_a, p_b, K)
    torch.testing.assert_close(r, project(transform(T_ba, X_a), K) - p_b)

    def residual(step: torch.Tensor) -> torch.Tensor:
        moved = pose_matrix(rotation_exp(step[:3]), step[3:]) @ T_ba
        return project(transform(moved, X_a), K) - p_b

    expected = torch.autograd.functional.jacobian(residual, torch.zeros(6, dtype=torch.float64))
    torch.testing.assert_close(J, expected, rtol=1e-7, atol=1e-7)


def moved(T_ba: torch.Tensor, *step: float) -> torch.Tensor:
    """T_ba turned and shifted by a small step."""
    v = torch.tensor(step, dtype=torch.float64)
    return pose_matrix(rotation_exp(v[:3]), v[3:]) @ T_ba


def test_refine_minimises_the_cauchy_loss() -> None:
    X_a, p_b, T_ba, _ = problem(9, 200, 0.2, 0.5)
    found = refine_pnp(moved(T_ba, 0.005, -0.004, 0.003, 0.05, 0.05, 0.05), X_a, p_b, K, 0.5, steps=30)

    def root_cost(x: np.ndarray) -> np.ndarray:
        r = project(transform(moved(found, *x), X_a), K) - p_b
        return torch.log1p(r.square().sum(-1) / (2.385 * 0.5) ** 2).sqrt().numpy()

    best = least_squares(root_cost, np.zeros(6), x_scale="jac", xtol=1e-12, ftol=1e-14)
    assert (root_cost(np.zeros(6)) ** 2).sum() <= 2 * best.cost * (1 + 1e-6)


def test_refine_never_leaves_with_a_worse_pose() -> None:
    X_a, p_b, T_ba, _ = problem(10, 100, 0.3, 0.5)

    def cost(T: torch.Tensor) -> float:
        r = reprojection(T, X_a, p_b, K)[0]
        return float(torch.log1p(r.square().sum(-1) / 2.385**2).sum())

    for angle in (0.0, 0.01, 0.3, 2.0):
        start = moved(T_ba, 0, angle, 0, 0, 0, 0)
        found = refine_pnp(start, X_a, p_b, K, 1.0)
        assert cost(found) <= cost(start)
        assert found.isfinite().all()


def test_refine_with_certain_depth_is_refine_without_depth_sigma() -> None:
    X_a, p_b, T_ba, _ = problem(11, 200, 0.1, 0.5)
    start = moved(T_ba, 0.002, 0, 0, 0.02, 0, 0)
    certain = refine_pnp(start, X_a, p_b, K, 0.5, torch.zeros(200, dtype=torch.float64))
    torch.testing.assert_close(certain, refine_pnp(start, X_a, p_b, K, 0.5), rtol=0, atol=1e-12)


def test_refine_knows_what_depths_are_worth() -> None:
    """Depths that are 30 % off, or mean nothing at all, among some that are good."""
    weighed = []
    for seed in range(10):
        X_a, p_b, T_ba, _ = problem(seed, 600, 0.0, 0.3)
        sigma = torch.zeros(600, dtype=torch.float64)
        sigma[100:400], sigma[400:] = 0.3, torch.inf
        rng = np.random.default_rng(seed)
        X_a[100:400] *= torch.from_numpy(np.exp(rng.normal(0, 0.3, (300, 1))))
        X_a[400:] *= torch.from_numpy(rng.uniform(0.2, 5, (200, 1)))
        start = moved(T_ba, 0.002, 0.001, 0, 0.05, 0, 0.05)
        good = refine_pnp(start, X_a[:100], p_b[:100], K, 0.3, steps=20)
        all_of_them = refine_pnp(start, X_a, p_b, K, 0.3, sigma, steps=20)
        weighed.append((all_of_them - T_ba)[:3, 3].norm() / (good - T_ba)[:3, 3].norm())
        assert (all_of_them - T_ba)[:3, 3].norm() < 0.1
    assert np.median(weighed) < 1.0, "the doubtful points help"


def test_refine_without_any_depth_still_has_the_direction() -> None:
    """Depths that mean nothing: the epipolar lines alone set rotation and direction."""
    X_a, p_b, T_ba, _ = problem(12, 2000, 0.0, 0.1)
    X_a = X_a * torch.from_numpy(np.random.default_rng(0).uniform(0.7, 1.5, (2000, 1)))
    unknown = torch.full((2000,), torch.inf, dtype=torch.float64)
    found = refine_pnp(moved(T_ba, 0.001, -0.001, 0, 0.01, 0.01, 0), X_a, p_b, K, 0.1, unknown, steps=30)
    unit, truth = (torch.nn.functional.normalize(T[:3, 3], dim=0) for T in (found, T_ba))
    assert torch.rad2deg(torch.arccos(unit @ truth)) < 0.3
    assert (found - T_ba)[:3, :3].norm() < 3e-4


def test_points_behind_the_second_camera_do_not_stop_the_refinement():
    scene = random_match_scene(3, 300, outliers=0.0, noise=0.0)
    T_ba, K = torch.from_numpy(scene.T_ba), scene.camera.K()
    X_a = backproject(torch.from_numpy(scene.p_a), torch.from_numpy(scene.depth_a), K)
    X_a[:60, 2] = 0.3  # passed on the way
    start = T_ba.clone()
    start[:3, 3] += torch.tensor([0.1, -0.05, 0.05], dtype=torch.float64)
    found = refine_pnp(start, X_a, torch.from_numpy(scene.p_b), K, 0.3, steps=30)
    assert (found - T_ba).abs().max() < 0.01
