"""Homographies and rotations against brute force, scipy and OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from trianflow.geometry.camera import homogeneous
from trianflow.geometry.homography import (
    decompose_homography,
    fit_homography,
    fit_rotation,
    homography_design,
    homography_squared,
)

DTYPES = [torch.float32, torch.float64]


def apply(H: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    X = homogeneous(q) @ H.mT
    return X[..., :2] / X[..., 2:]


def problem(seed: int, count: int = 60, noise: float = 0.0) -> tuple[torch.Tensor, ...]:
    """H, q_a, q_b of three items."""
    rng = np.random.default_rng(seed)
    H = torch.from_numpy(np.eye(3) + rng.normal(0, 0.1, (3, 3, 3)))
    q_a = torch.from_numpy(rng.uniform(-1, 1, (3, count, 2)))
    q_b = apply(H, q_a)
    q_a, q_b = (q + torch.from_numpy(rng.normal(0, 1, q.shape)) * noise for q in (q_a, q_b))
    return H / torch.linalg.matrix_norm(H, keepdim=True), q_a, q_b


def gap(A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
    return torch.minimum((A - B).abs().amax((-1, -2)), (A + B).abs().amax((-1, -2))).max()


def test_design_vanishes_at_the_solution() -> None:
    H, q_a, q_b = problem(0)
    rows = homography_design(q_a, q_b)
    assert rows.shape == (3, 120, 9)
    assert (rows @ H.flatten(1)[..., None]).abs().max() < 1e-13
    assert torch.linalg.matrix_rank(rows).tolist() == [8, 8, 8]


@pytest.mark.parametrize("dtype", DTYPES)
def test_fit_homography_without_noise(dtype: torch.dtype) -> None:
    H, q_a, q_b = problem(1)
    found = fit_homography(q_a.to(dtype), q_b.to(dtype), torch.ones(3, 60, dtype=dtype))
    assert found.dtype == dtype
    assert gap(found.double(), H) < (2e-3 if dtype == torch.float32 else 1e-11)


def test_fit_homography_weights_against_svd() -> None:
    _, q_a, q_b = problem(2, noise=0.02)
    weight = torch.rand(3, 60, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weight[:, :20] = 0
    found = fit_homography(q_a, q_b, weight)
    rows = homography_design(q_a, q_b) * weight.sqrt().repeat_interleave(2, dim=1)[..., None]
    expected = torch.linalg.svd(rows)[2][:, -1].unflatten(-1, (3, 3))
    assert gap(found, expected) < 1e-9
    q_a[:, :20] = 7.0
    assert gap(fit_homography(q_a, q_b, weight), expected) < 1e-9


def test_fit_homography_items_are_independent() -> None:
    _, q_a, q_b = problem(3, noise=0.02)
    weight = torch.ones(3, 60, dtype=torch.float64)
    alone = fit_homography(q_a[:1], q_b[:1], weight[:1])
    q_a[1], q_b[2] = 0.5, torch.nan
    found = fit_homography(q_a, q_b, weight)
    assert gap(found[:1], alone) < 1e-12
    assert found.isfinite().all()


def test_homography_squared_is_the_least_correction() -> None:
    """To first order the least sum of squared moves of both points that makes them correspond."""
    H, q_a, q_b = problem(4, 8, noise=0.003)
    ours = homography_squared(H[:, None], q_a, q_b)[:, 0]
    for i in range(3):
        for n in range(8):

            def moves(x: np.ndarray, i: int = i, n: int = n) -> np.ndarray:
                moved = apply(H[i], q_a[i, n : n + 1] + torch.from_numpy(x))[0]
                return np.concatenate([x, (q_b[i, n] - moved).numpy()])

            best = least_squares(moves, np.zeros(2), xtol=1e-14, ftol=1e-14, gtol=1e-14)
            assert ours[i, n] == pytest.approx(2 * best.cost, rel=0.02)


@pytest.mark.parametrize("dtype", DTYPES)
def test_homography_squared_known_values(dtype: torch.dtype) -> None:
    q_a = torch.tensor([[[0.1, 0.2], [0.5, -0.5]]], dtype=dtype)
    q_b = q_a + torch.tensor([0.03, 0.04], dtype=dtype)
    eye = torch.eye(3, dtype=dtype)
    H = torch.stack([eye, torch.diag(torch.tensor([2.0, 2.0, 1.0], dtype=dtype)), -5 * eye])[None]
    squared = homography_squared(H, q_a, q_b)
    assert squared.shape == (1, 3, 2)
    # The identity leaves a gap of 0.05, which both points share: 2 * 0.025^2. Twice the size: gap^2 / 5.
    torch.testing.assert_close(squared[0, 0], torch.full((2,), 0.05**2 / 2, dtype=dtype))
    torch.testing.assert_close(squared[0, 1], (q_b - 2 * q_a)[0].square().sum(-1) / 5)
    torch.testing.assert_close(squared[0, 2], squared[0, 0])


def test_homography_squared_has_a_chi_square_of_two_degrees() -> None:
    H, q_a, q_b = problem(5, 20_000, noise=0.001)
    z = homography_squared(H[:, None], q_a, q_b)[:, 0] / 0.001**2
    torch.testing.assert_close(z.mean(1), torch.full((3,), 2.0).double(), rtol=0.03, atol=0)
    torch.testing.assert_close(z.median(1).values, torch.full((3,), 1.3863).double(), rtol=0.03, atol=0)


def test_homography_squared_items_are_independent() -> None:
    H, q_a, q_b = problem(6, noise=0.01)
    H = torch.stack([H, H.flip(1)], 1)
    alone = homography_squared(H[:1], q_a[:1], q_b[:1])
    H[1], q_a[2] = 0.0, torch.nan
    squared = homography_squared(H, q_a, q_b)
    assert torch.equal(squared[:1], alone)


@pytest.mark.parametrize("dtype", DTYPES)
def test_fit_rotation_against_scipy(dtype: torch.dtype) -> None:
    rng = np.random.default_rng(7)
    rays_a = torch.from_numpy(rng.normal(size=(5, 40, 3)))
    R = torch.from_numpy(Rotation.random(5, rng=rng).as_matrix())
    rays_b = rays_a @ R.mT + torch.from_numpy(rng.normal(0, 0.05, (5, 40, 3)))
    weight = torch.from_numpy(rng.uniform(0, 1, (5, 40)))
    found = fit_rotation(*(x.to(dtype) for x in (rays_a, rays_b, weight)))
    assert found.dtype == dtype
    for i in range(5):
        expected, _ = Rotation.align_vectors(rays_b[i], rays_a[i], weight[i])
        atol = 1e-5 if dtype == torch.float32 else 1e-9
        np.testing.assert_allclose(found[i], expected.as_matrix(), atol=atol)


def test_fit_rotation_is_proper_even_of_degenerate_rays() -> None:
    """Mirrored, planar, collinear, single, zero and missing rays: always a proper rotation."""
    rng = np.random.default_rng(8)
    rays_a = torch.from_numpy(rng.normal(size=(7, 30, 3)))
    rays_b = rays_a.clone()
    rays_b[0] = -rays_a[0]
    rays_b[1, :, 0] *= -1
    rays_a[2, :, 2] = rays_b[2, :, 2] = 0
    rays_a[3] = rays_b[3] = torch.tensor([0.0, 0.6, 0.8])
    rays_a[4] = rays_b[4] = 0
    rays_b[5, 3] = torch.nan
    R = fit_rotation(rays_a, rays_b, torch.ones(7, 30, dtype=torch.float64))
    eye = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(R @ R.mT, eye.expand(7, 3, 3), rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.linalg.det(R), torch.ones(7).double())
    torch.testing.assert_close(R[[2, 6]], eye.expand(2, 3, 3), rtol=0, atol=1e-12)
    torch.testing.assert_close(R[3] @ rays_a[3, 0], rays_b[3, 0])


def plane_problem(seed: int, count: int = 8) -> tuple[torch.Tensor, ...]:
    """H of any scale and sign, R, t over the plane's distance, normal, points in front of both cameras."""
    rng = np.random.default_rng(seed)
    R = torch.from_numpy(Rotation.from_rotvec(rng.normal(0, 0.1, (count, 3))).as_matrix())
    t = torch.from_numpy(rng.normal(0, 0.2, (count, 3)))
    normal = torch.from_numpy(rng.normal([0, 0, 1], 0.4, (count, 3)))
    normal = torch.nn.functional.normalize(normal, dim=-1)
    H = (R + t[:, :, None] * normal[:, None]) * torch.from_numpy(rng.uniform(-3, 3, count))[:, None, None]
    q = torch.from_numpy(rng.uniform(-0.3, 0.3, (count, 50, 2)))
    return H, R, t, normal, q


@pytest.mark.parametrize("dtype", DTYPES)
def test_decompose_homography(dtype: torch.dtype) -> None:
    H, R, t, normal, q = plane_problem(9)
    weight = torch.ones(8, 50, dtype=dtype)
    found_R, found_t, found_n = decompose_homography(H.to(dtype), q.to(dtype), weight)
    assert found_R.dtype == dtype
    tolerance = 5e-3 if dtype == torch.float32 else 1e-9
    found_R, found_t, found_n = found_R.double(), found_t.double(), found_n.double()
    error = (found_R - R[:, None]).abs().amax((-1, -2)) + (found_t - t[:, None]).abs().amax(-1)
    error = error + (found_n - normal[:, None]).abs().amax(-1)
    assert error.min(1).values.max() < tolerance, "the truth is one of the two"
    torch.testing.assert_close(torch.linalg.det(found_R), torch.ones(8, 2).double(), rtol=0, atol=tolerance)
    # Both make the same homography, and see the plane in front.
    both = found_R + found_t[..., None] * found_n[:, :, None]
    unit = H / torch.linalg.svdvals(H)[:, 1, None, None] * torch.linalg.det(H).sign()[:, None, None]
    torch.testing.assert_close(both, unit[:, None].expand_as(both), rtol=0, atol=tolerance)
    assert ((homogeneous(q)[:, None] * found_n[:, :, None]).sum(-1) > 0).float().mean() > 0.99


def test_decompose_homography_against_opencv() -> None:
    H, _, _, _, q = plane_problem(10)
    found_R, found_t, found_n = decompose_homography(H, q, torch.ones(8, 50).double())
    for i in range(8):
        _, Rs, ts, ns = cv2.decomposeHomographyMat(H[i].numpy(), np.eye(3))
        theirs = [np.column_stack([R, t, n]) for R, t, n in zip(Rs, ts, ns)]
        for k in range(2):
            mine = np.column_stack([found_R[i, k], found_t[i, k], found_n[i, k]])
            assert min(np.abs(mine - other).max() for other in theirs) < 1e-6


def test_decompose_homography_of_a_rotation_and_of_nothing() -> None:
    H, R, _, _, q = plane_problem(11, 4)
    alone = decompose_homography(H[:1], q[:1], torch.ones(1, 50).double())
    H[1] = 2 * R[1]
    H[2] = torch.eye(3)
    H[3] = 0
    found = decompose_homography(H, q, torch.ones(4, 50).double())
    for x, y in zip(found, alone):
        torch.testing.assert_close(x[:1], y)
        assert x.isfinite().all()
    torch.testing.assert_close(found[0][1], R[1].expand(2, 3, 3), rtol=0, atol=1e-6)
    assert found[1][1:3].abs().max() < 1e-6, "no translation"
