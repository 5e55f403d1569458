"""The batched Sampson distance, the rotation exponential, and the refinement of a pose, against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from trianflow.data.synthetic.matches import KITTI_CAMERA, random_match_scene
from trianflow.geometry.epipolar import epipolar_design, sampson_distance, skew
from trianflow.geometry.sampson import MatchProducts, refine_pose, rotation_exp, tangent_basis

DTYPES = [torch.float32, torch.float64]


def normalised_scene(seed: int, count: int = 400, noise: float = 0.5) -> tuple[torch.Tensor, ...]:
    """q_a, q_b (centred pixels over the focal length), R, unit t."""
    s = random_match_scene(seed, count, 0.0, noise)
    q_a, q_b = ((torch.from_numpy(p) - s.camera.K()[:2, 2]) / s.camera.fx for p in (s.p_a, s.p_b))
    T = torch.from_numpy(s.T_ba)
    return q_a, q_b, T[:3, :3], T[:3, 3] / T[:3, 3].norm()


def stack(scenes: int, **options: float) -> tuple[torch.Tensor, ...]:
    return tuple(torch.stack(x) for x in zip(*(normalised_scene(seed, **options) for seed in range(scenes))))


@pytest.mark.parametrize("dtype", DTYPES)
def test_match_products_against_the_plain_formula(dtype: torch.dtype) -> None:
    q_a, q_b, R, t = stack(3, count=100)
    generator = torch.Generator().manual_seed(0)
    F, G = torch.randn(2, 3, 5, 3, 3, dtype=torch.float64, generator=generator).unbind(0)
    F[:, 0] = skew(t) @ R
    products = MatchProducts.of(q_a.to(dtype), q_b.to(dtype))
    rtol = 1e-3 if dtype == torch.float32 else 1e-9
    expected = sampson_distance(F, q_a[:, None], q_b[:, None]).square()
    squared = products.squared_distance(F.to(dtype))
    assert squared.dtype == dtype
    torch.testing.assert_close(squared.double(), expected, rtol=rtol, atol=1e-9)
    algebraic = (epipolar_design(q_a, q_b)[:, None] @ F.flatten(2)[..., None])[..., 0]
    torch.testing.assert_close(products.algebraic(F.to(dtype)).double(), algebraic, rtol=rtol, atol=1e-5)
    if dtype == torch.float64:
        # The gradient of the constraint by both points, by autograd.
        a, b = (q[:, None].repeat(1, 5, 1, 1).requires_grad_() for q in (q_a, q_b))
        gradients = []
        for M in (F, G):
            value = (epipolar_design(a, b) @ M.flatten(2)[..., None]).sum()
            gradients.append(torch.cat(torch.autograd.grad(value, (a, b)), -1))
        torch.testing.assert_close(products.gradient_product(F, G), (gradients[0] * gradients[1]).sum(-1))


def test_match_products_items_are_independent() -> None:
    q_a, q_b, R, t = stack(2, count=50)
    F = (skew(t) @ R)[:, None]
    alone = MatchProducts.of(q_a[:1], q_b[:1]).squared_distance(F[:1])
    q_a[1] = torch.nan
    assert torch.equal(MatchProducts.of(q_a, q_b).squared_distance(F)[:1], alone)
    zero = MatchProducts.of(q_b, q_b).squared_distance(torch.zeros_like(F))
    assert (zero == 0).all()


ANGLES = [0.0, 1e-12, 1e-8, 1e-4, 0.1, 1.0, 3.0, math.pi - 1e-6, math.pi, math.pi + 0.1, 2 * math.pi, 20.0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("angle", ANGLES)
def test_rotation_exp_is_a_rotation_by_the_angle(angle: float, dtype: torch.dtype) -> None:
    """Group axioms near the identity, near pi and beyond, about random axes."""
    rng = np.random.default_rng(0)
    axis = torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(50, 3))), dim=-1)
    w = (angle * axis).to(dtype)
    R = rotation_exp(w)
    tolerance = 2e-5 if dtype == torch.float32 else 1e-13 * max(angle, 1.0)
    expected = Rotation.from_rotvec(w.double().numpy()).as_matrix()
    np.testing.assert_allclose(R, expected, atol=tolerance)
    eye = torch.eye(3, dtype=dtype).expand(50, 3, 3)
    torch.testing.assert_close(R @ R.mT, eye, rtol=0, atol=tolerance)
    torch.testing.assert_close(torch.linalg.det(R), torch.ones(50, dtype=dtype), rtol=0, atol=tolerance)
    torch.testing.assert_close(rotation_exp(-w), R.mT, rtol=0, atol=tolerance)
    torch.testing.assert_close((R @ w[..., None])[..., 0], w, rtol=1e-5, atol=tolerance)
    torch.testing.assert_close(rotation_exp(w / 3) @ rotation_exp(2 * w / 3), R, rtol=0, atol=2 * tolerance)


def test_rotation_exp_near_the_identity_keeps_its_digits() -> None:
    w = torch.tensor([3e-9, -1e-9, 2e-9], dtype=torch.float64)
    torch.testing.assert_close(rotation_exp(w) - torch.eye(3).double(), skew(w), rtol=0, atol=3e-16)


def test_rotation_exp_gradient() -> None:
    rng = np.random.default_rng(1)
    w = torch.from_numpy(rng.normal(size=(6, 3)))
    w[0], w[1], w[2] = 0.0, w[1] * 1e-9, w[2] / w[2].norm() * math.pi
    assert torch.autograd.gradcheck(rotation_exp, (w.requires_grad_(),))


@pytest.mark.parametrize("dtype", DTYPES)
def test_tangent_basis(dtype: torch.dtype) -> None:
    rng = np.random.default_rng(2)
    t = torch.cat([torch.from_numpy(rng.normal(size=(50, 3))), torch.eye(3).double(), -torch.eye(3).double()])
    t = torch.nn.functional.normalize(t, dim=-1).to(dtype)
    basis = tangent_basis(t)
    frame = torch.cat([t[:, None], basis], 1)
    eye = torch.eye(3, dtype=dtype).expand(56, 3, 3)
    torch.testing.assert_close(frame @ frame.mT, eye, rtol=0, atol=1e-6)


def refine(
    q_a: torch.Tensor, q_b: torch.Tensor, R: torch.Tensor, t: torch.Tensor, **options: object
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`refine_pose` of one model an item, with unit S and weights."""
    arguments = {
        "S": torch.ones(len(q_a), 3, dtype=q_a.dtype),
        "weight": torch.ones_like(q_a[:, None, :, 0]),
        "scale": torch.full((len(q_a),), 2.385 * 0.5 / KITTI_CAMERA.fx, dtype=q_a.dtype),
        "steps": 20,
    }
    R, t, A = refine_pose(R[:, None], t[:, None], MatchProducts.of(q_a, q_b), **{**arguments, **options})
    return R[:, 0], t[:, 0], A[:, 0]


def disturbed(R: torch.Tensor, t: torch.Tensor, angle: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    w, v = torch.nn.functional.normalize(torch.randn(2, *t.shape, dtype=t.dtype, generator=generator), dim=-1)
    return rotation_exp(angle * w) @ R, torch.nn.functional.normalize(t + 10 * angle * v, dim=-1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_refine_pose_reaches_the_truth_without_noise(dtype: torch.dtype) -> None:
    q_a, q_b, R, t = stack(5, noise=0.0)
    start = disturbed(R, t, 0.005)
    found_R, found_t, _ = refine(*(x.to(dtype) for x in (q_a, q_b, *start)))
    assert found_R.dtype == dtype
    tolerance = 2e-5 if dtype == torch.float32 else 1e-10
    torch.testing.assert_close(found_R.double(), R, rtol=0, atol=tolerance)
    torch.testing.assert_close(found_t.double(), t, rtol=0, atol=50 * tolerance)
    eye = torch.eye(3, dtype=dtype).expand(5, 3, 3)
    torch.testing.assert_close(found_R @ found_R.mT, eye, rtol=0, atol=tolerance)


def test_refine_pose_minimises_the_cauchy_loss() -> None:
    """Against scipy's Levenberg-Marquardt of its own Cauchy loss, with weights and an anisotropic camera."""
    q_a, q_b, R, t = stack(3, noise=0.5)
    weight = torch.rand(3, 1, 400, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    weight[..., :50] = 0
    S = torch.tensor([[0.98, 1.02, 1.0]]).double().expand(3, 3)
    q_a, q_b = q_a * S[:, None, :2], q_b * S[:, None, :2]
    scale = torch.full((3,), 1.2e-3, dtype=torch.float64)
    start = disturbed(R, t, 0.003)
    found_R, found_t, information = refine(q_a, q_b, *start, weight=weight, S=S, scale=scale)
    for i in range(3):
        inverse_S, basis = torch.diag(1 / S[i]), tangent_basis(found_t[i])

        def residuals(x: np.ndarray, i: int = i, inverse_S=inverse_S, basis=basis) -> np.ndarray:
            step = torch.from_numpy(x)
            moved = torch.nn.functional.normalize(found_t[i] + step[3:] @ basis, dim=0)
            F = inverse_S @ skew(moved) @ rotation_exp(step[:3]) @ found_R[i] @ inverse_S
            return (sampson_distance(F, q_a[i], q_b[i]) / scale[i]).numpy()

        def root_cost(x: np.ndarray, i: int = i, residuals=residuals) -> np.ndarray:
            return np.sqrt(weight[i, 0].numpy() * np.log1p(residuals(x) ** 2))

        best = least_squares(root_cost, np.zeros(5), x_scale="jac", xtol=1e-12, ftol=1e-14)
        assert (root_cost(np.zeros(5)) ** 2).sum() <= 2 * best.cost * (1 + 1e-7)
        # The information is J^T W J of the distances at the solution, W with the Cauchy weights.
        J = np.stack([(residuals(1e-6 * e) - residuals(-1e-6 * e)) / 2e-6 * 1.2e-3 for e in np.eye(5)], 1)
        w = weight[i, 0].numpy() / (1 + residuals(np.zeros(5)) ** 2)
        atol = 1e-3 * information[i].max().item()
        np.testing.assert_allclose(information[i], J.T @ (w[:, None] * J), rtol=1e-3, atol=atol)


def test_refine_pose_never_raises_the_cost() -> None:
    q_a, q_b, R, t = stack(4, noise=0.5)
    scale = 1e-3

    def cost(R: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        d = sampson_distance(skew(t) @ R, q_a, q_b) / scale
        return torch.log1p(d.square()).sum(-1)

    generator = torch.Generator().manual_seed(6)
    for angle in (0.0, 0.01, 0.1, 0.5, 3.0):
        for _ in range(5):
            w, v = torch.randn(2, 4, 3, dtype=torch.float64, generator=generator)
            start_R = rotation_exp(angle * torch.nn.functional.normalize(w, dim=-1)) @ R
            start = start_R, torch.nn.functional.normalize(t + 10 * angle * v, dim=-1)
            before = cost(*start)
            for steps in range(6):
                after = cost(*refine(q_a, q_b, *start, steps=steps, scale=torch.full((4,), scale).double())[:2])
                assert (after <= before * (1 + 1e-9)).all()
                before = after


def test_refine_pose_covariance() -> None:
    """The information over the noise variance predicts the scatter of the direction."""
    sigma = 0.5 / KITTI_CAMERA.fx
    clean_a, clean_b, R, t = (x.expand(100, *x.shape) for x in normalised_scene(0, noise=0.0))
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn(2, 100, 400, 2, dtype=torch.float64, generator=generator) * sigma
    _, found, information = refine(clean_a + noise[0], clean_b + noise[1], R, t)
    error = ((found - t)[:, None] * tangent_basis(t)).sum(-1)
    predicted = torch.linalg.inv(information)[:, 3:, 3:].mean(0) * sigma**2
    # The Cauchy weights make the plain inverse optimistic by less than half.
    ratio = torch.linalg.eigvals(torch.linalg.solve(predicted, error.T @ error / 100)).real.sqrt()
    assert (ratio > 0.5).all()
    assert (ratio < 1.5).all()


def test_refine_pose_items_are_independent() -> None:
    q_a, q_b, R, t = stack(4, noise=0.5)
    alone = refine(q_a[:1], q_b[:1], R[:1], t[:1])
    q_a[1] = q_b[1] = 0
    q_b[2] = torch.nan
    q_b[3] = q_a[3]
    found = refine(q_a, q_b, R, t)
    for x, y in zip(found, alone):
        torch.testing.assert_close(x[:1], y, rtol=1e-7, atol=1e-9)
    for i in (1, 2, 3):
        torch.testing.assert_close(torch.linalg.det(found[0][i]), torch.ones(()).double())
        torch.testing.assert_close(found[1][i].norm(), torch.ones(()).double())
