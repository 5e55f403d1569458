"""Epipolar geometry against its definition, OpenCV, and scenes with exact truth."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from trianflow.data.synthetic.matches import KITTI_CAMERA, random_match_scene
from trianflow.geometry.camera import homogeneous, pixel_rays
from trianflow.geometry.epipolar import (
    decompose_essential,
    eight_point,
    epipolar_design,
    epipolar_distance,
    essential_from_fundamental,
    fundamental_from_essential,
    normalizing_transform,
    pose_from_essential,
    rank_two,
    sampson_distance,
    skew,
)

DTYPES = [torch.float32, torch.float64]
K = KITTI_CAMERA.K()


def scenes(
    count: int, matches: int = 200, noise: float = 0.0, outliers: float = 0.0
) -> tuple[torch.Tensor, ...]:
    """p_a, p_b, R, unit t, inlier of random scenes, stacked."""
    drawn = [random_match_scene(seed, matches, outliers, noise) for seed in range(count)]
    p_a, p_b = (torch.stack([torch.from_numpy(getattr(s, k)) for s in drawn]) for k in ("p_a", "p_b"))
    T_ba = torch.stack([torch.from_numpy(s.T_ba) for s in drawn])
    t = torch.nn.functional.normalize(T_ba[:, :3, 3], dim=-1)
    return p_a, p_b, T_ba[:, :3, :3], t, torch.stack([torch.from_numpy(s.inlier) for s in drawn])


def same_up_to_sign(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Largest difference of two stacks of matrices of unit norm, either sign."""
    a, b = (x / torch.linalg.matrix_norm(x, keepdim=True) for x in (a, b))
    return torch.minimum((a - b).abs().amax((-1, -2)), (a + b).abs().amax((-1, -2))).max()


def test_skew() -> None:
    v, w = torch.randn(2, 6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).unbind(0)
    torch.testing.assert_close((skew(v) @ w[..., None])[..., 0], torch.linalg.cross(v, w))
    assert torch.autograd.gradcheck(skew, (v.requires_grad_(),))


def test_epipolar_design_is_the_constraint() -> None:
    p_a, p_b, *_ = scenes(2, 20)
    F = torch.randn(2, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = torch.einsum("bni,bij,bnj->bn", homogeneous(p_b), F, homogeneous(p_a))
    torch.testing.assert_close((epipolar_design(p_a, p_b) @ F.flatten(1)[..., None])[..., 0], expected)


def test_normalizing_transform() -> None:
    p_a, *_ = scenes(3, 100, noise=1.0)
    weight = torch.rand(3, 100, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    T = normalizing_transform(p_a, weight)
    q = (homogeneous(p_a) @ T.mT)[..., :2]
    total = weight.sum(-1)
    torch.testing.assert_close((weight[..., None] * q).sum(1), torch.zeros(3, 2).double(), rtol=0, atol=1e-9)
    torch.testing.assert_close((weight * q.square().sum(-1)).sum(-1) / total, torch.full((3,), 2.0).double())
    assert torch.equal(T[:, 0, 0], T[:, 1, 1])
    single = normalizing_transform(torch.full((1, 9, 2), 5.0), torch.ones(1, 9))
    assert single.tolist() == [[[1, 0, -5], [0, 1, -5], [0, 0, 1]]]
    assert normalizing_transform(p_a, torch.zeros(3, 100)).isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_eight_point_without_noise(dtype: torch.dtype) -> None:
    p_a, p_b, R, t, _ = scenes(6)
    F = eight_point(p_a.to(dtype), p_b.to(dtype))
    assert F.dtype == dtype
    torch.testing.assert_close(torch.linalg.matrix_norm(F), torch.ones(6, dtype=dtype))
    # The normal matrix squares the condition number: float32 has little left of it.
    within = 1e-9 if dtype == torch.float64 else 0.5
    assert sampson_distance(F.double(), p_a, p_b).abs().max() < within
    assert torch.linalg.svdvals(F)[:, 2].max() < (1e-15 if dtype == torch.float64 else 1e-7)
    if dtype == torch.float64:
        assert same_up_to_sign(F, fundamental_from_essential(skew(t) @ R, K, K)) < 1e-8


def test_eight_point_against_numpy_and_opencv() -> None:
    p_a, p_b, *_ = scenes(5, 300, noise=0.5)
    ours = eight_point(p_a, p_b)
    for i in range(5):
        a, b = p_a[i].numpy(), p_b[i].numpy()
        T = []
        for p in (a, b):
            s = np.sqrt(2 / ((p - p.mean(0)) ** 2).sum(1).mean())
            T.append(np.array([[s, 0, -s * p[:, 0].mean()], [0, s, -s * p[:, 1].mean()], [0, 0, 1]]))
        h_a, h_b = (np.column_stack([p, np.ones(300)]) @ S.T for p, S in zip((a, b), T))
        rows = np.stack([np.kron(y, x) for x, y in zip(h_a, h_b)])
        U, S, Vh = np.linalg.svd(np.linalg.svd(rows)[2][-1].reshape(3, 3))
        expected = T[1].T @ (U @ np.diag([S[0], S[1], 0]) @ Vh) @ T[0]
        assert same_up_to_sign(ours[i : i + 1], torch.from_numpy(expected)[None]) < 1e-8
        # OpenCV normalises by the mean distance instead, so F differs a little and fits as well.
        theirs = torch.from_numpy(cv2.findFundamentalMat(a, b, cv2.FM_8POINT)[0])
        mean, reference = (sampson_distance(F, p_a[i], p_b[i]).square().mean() for F in (ours[i], theirs))
        assert mean / reference == pytest.approx(1, abs=0.05)


def test_eight_point_weights() -> None:
    """Weight zero removes a match, weight two counts it twice."""
    p_a, p_b, _, _, inlier = scenes(4, 100, noise=0.3, outliers=0.3)
    F = eight_point(p_a, p_b, inlier.double())
    for i in range(4):
        alone = eight_point(p_a[i, inlier[i]], p_b[i, inlier[i]])
        assert same_up_to_sign(F[i : i + 1], alone[None]) < 1e-9
    weight = torch.ones(4, 100, dtype=torch.float64)
    weight[:, :30] = 2
    doubled = eight_point(torch.cat([p_a, p_a[:, :30]], 1), torch.cat([p_b, p_b[:, :30]], 1))
    assert same_up_to_sign(eight_point(p_a, p_b, weight), doubled) < 1e-9


def test_eight_point_items_are_independent() -> None:
    p_a, p_b, *_ = scenes(3, 50, noise=0.5)
    alone = eight_point(p_a[1:2], p_b[1:2])
    p_a[0] = 5.0
    p_b[0] = 5.0
    p_a[2] = p_b[2]
    assert same_up_to_sign(eight_point(p_a, p_b)[1:2], alone) < 1e-10
    p_b[0, 3] = torch.nan
    p_a[2, 4] = torch.inf
    F = eight_point(p_a, p_b)
    assert same_up_to_sign(F[1:2], alone) < 1e-10
    assert F[::2].isnan().all()


def test_eight_point_gradient() -> None:
    p_a, p_b, *_ = scenes(2, 12, noise=1.0)
    p_a, p_b = (p / 700 for p in (p_a, p_b))
    weight = torch.rand(2, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) + 0.5

    def up_to_sign(*args: torch.Tensor) -> torch.Tensor:
        F = eight_point(*args).flatten(1)
        return F[:, :, None] * F[:, None, :]

    inputs = tuple(x.requires_grad_() for x in (p_a, p_b, weight))
    assert torch.autograd.gradcheck(up_to_sign, inputs, atol=1e-4, rtol=1e-3)


def test_eight_point_needs_eight() -> None:
    with pytest.raises(ValueError, match="eight matches, got 7"):
        eight_point(torch.zeros(1, 7, 2), torch.zeros(1, 7, 2))


def test_rank_two_is_the_nearest() -> None:
    F = torch.randn(5, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    G = rank_two(F)
    assert torch.linalg.det(G).abs().max() < 1e-13
    # Eckart-Young: the distance is the smallest singular value.
    torch.testing.assert_close(torch.linalg.matrix_norm(F - G), torch.linalg.svdvals(F)[:, 2])
    assert torch.autograd.gradcheck(rank_two, (F.requires_grad_(),))


@pytest.mark.parametrize("dtype", DTYPES)
def test_epipolar_distance_is_the_distance_to_the_line(dtype: torch.dtype) -> None:
    p_a, p_b, R, t, _ = scenes(3, 60, noise=2.0)
    F = fundamental_from_essential(skew(t) @ R, K, K)
    ours = epipolar_distance((F * 1e4).to(dtype), p_a.to(dtype), p_b.to(dtype))
    assert ours.dtype == dtype
    for i in range(3):
        # Two points of the epipolar line: the epipole e_b, and the projection of one point of the ray.
        e_b = (K @ t[i])[:2] / (K @ t[i])[2]
        x = (homogeneous(p_a[i]) @ torch.linalg.inv(K).T * 5) @ R[i].T + t[i]
        on_line = (x @ K.T)[:, :2] / (x @ K.T)[:, 2:]
        along = torch.nn.functional.normalize(on_line - e_b, dim=-1)
        off = p_b[i] - e_b
        expected = (along[:, 0] * off[:, 1] - along[:, 1] * off[:, 0]).abs()
        atol = 2e-3 if dtype == torch.float32 else 1e-5
        torch.testing.assert_close(ours[i].double(), expected, rtol=1e-4, atol=atol)


def test_sampson_distance_against_opencv_and_the_least_correction() -> None:
    p_a, p_b, R, t, _ = scenes(1, 40, noise=0.5)
    F = fundamental_from_essential(skew(t) @ R, K, K)
    ours = sampson_distance(F, p_a, p_b)[0]
    for i in range(40):
        a, b = homogeneous(p_a[0, i]).numpy(), homogeneous(p_b[0, i]).numpy()
        assert ours[i] ** 2 == pytest.approx(cv2.sampsonDistance(a, b, F[0].numpy()), rel=1e-9)
    # To first order its square is the least sum of squared moves that satisfies F: brute force.
    for i in range(10):

        def moves(x: np.ndarray, i: int = i) -> np.ndarray:
            a = np.append(p_a[0, i].numpy() + x[:2], 1)
            b = np.append(p_b[0, i].numpy() + x[2:], 1)
            return np.append(x, 1e6 * (b @ F[0].numpy() @ a))

        best = least_squares(moves, np.zeros(4), x_scale=1.0, xtol=1e-14, ftol=1e-14, gtol=1e-14)
        assert ours[i].abs() == pytest.approx(np.linalg.norm(best.x[:4]), rel=0.02, abs=1e-4)


def test_sampson_distance_is_finite_at_a_zero_matrix_and_spoils_no_neighbour() -> None:
    p_a, p_b, R, t, _ = scenes(2, 10, noise=0.5)
    F = fundamental_from_essential(skew(t) @ R, K, K)
    alone = sampson_distance(F[:1], p_a[:1], p_b[:1])
    F[1] = 0
    both = sampson_distance(F, p_a, p_b)
    assert torch.equal(both[:1], alone)
    assert (both[1] == 0).all()


def test_distances_gradient() -> None:
    p_a, p_b, R, t, _ = scenes(2, 5, noise=2.0)
    F = fundamental_from_essential(skew(t) @ R, K, K) * 1e5
    inputs = tuple(x.requires_grad_() for x in (F, p_a, p_b))
    assert torch.autograd.gradcheck(epipolar_distance, inputs)
    assert torch.autograd.gradcheck(sampson_distance, inputs)


def test_essential_and_fundamental_are_inverse() -> None:
    _, _, R, t, _ = scenes(5)
    E = skew(t) @ R
    K_b = torch.tensor([[300.0, 0, 150], [0, 320, 100], [0, 0, 1]], dtype=torch.float64)
    F = fundamental_from_essential(E, K, K_b)
    torch.testing.assert_close(torch.linalg.matrix_norm(F), torch.ones(5).double())
    back = essential_from_fundamental(F, K, K_b)
    assert same_up_to_sign(back, E) < 1e-12
    torch.testing.assert_close(torch.linalg.svdvals(back), torch.tensor([1.0, 1, 0]).double().expand(5, 3))


def test_essential_projection_is_the_nearest_of_its_kind() -> None:
    noisy = torch.randn(4, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    eye = torch.eye(3, dtype=torch.float64)
    E = essential_from_fundamental(noisy, eye, eye)
    # Unit singular values, and no nearer one among small changes of its two factors.
    torch.testing.assert_close(torch.linalg.svdvals(E), torch.tensor([1.0, 1, 0]).double().expand(4, 3))
    best = (noisy * E).sum((-1, -2))
    rng = np.random.default_rng(6)
    for _ in range(200):
        turn = [torch.from_numpy(Rotation.from_rotvec(rng.normal(0, 0.05, 3)).as_matrix()) for _ in range(2)]
        assert (((turn[0] @ E @ turn[1]) * noisy).sum((-1, -2)) <= best + 1e-12).all()


def random_essentials(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    R = torch.from_numpy(Rotation.random(count, rng=rng).as_matrix())
    t = torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(count, 3))), dim=-1)
    return skew(t) @ R, R, t


@pytest.mark.parametrize("dtype", DTYPES)
def test_decompose_essential_of_any_motion(dtype: torch.dtype) -> None:
    """Rotations of any angle: proper, generating +-E, the truth among them, t the baseline's direction."""
    E, R_true, t_true = random_essentials(300, 7)
    special = torch.eye(3, dtype=torch.float64).expand(3, 3, 3)
    E, R_true = torch.cat([E, skew(special[0])]), torch.cat([R_true, special])
    t_true = torch.cat([t_true, special[0]])
    sign = torch.where(torch.arange(len(E)) % 2 == 0, 1.0, -1.0).double()[:, None, None]
    R, t = decompose_essential((E * sign * 3.7).to(dtype))
    assert R.shape == (303, 4, 3, 3)
    assert t.shape == (303, 4, 3)
    assert R.dtype == dtype
    R, t = R.double(), t.double()
    tolerance = {torch.float32: 2e-5, torch.float64: 1e-11}[dtype]
    eye = torch.eye(3, dtype=torch.float64).expand(303, 4, 3, 3)
    torch.testing.assert_close(R @ R.mT, eye, rtol=0, atol=tolerance)
    torch.testing.assert_close(torch.linalg.det(R), torch.ones(303, 4).double(), rtol=0, atol=tolerance)
    torch.testing.assert_close(t.norm(dim=-1), torch.ones(303, 4).double(), rtol=0, atol=tolerance)
    generated = skew(t) @ R
    either = torch.minimum(
        (generated - E[:, None]).abs().amax((-1, -2)), (generated + E[:, None]).abs().amax((-1, -2))
    )
    assert either.max() < tolerance
    gap = (R - R_true[:, None]).abs().amax((-1, -2)) + (t - t_true[:, None]).abs().amax(-1)
    assert gap.min(1).values.max() < tolerance
    assert torch.equal(t[:, 0], -t[:, 1])
    assert torch.equal(t[:, 2], -t[:, 3])


@pytest.mark.parametrize("dtype", DTYPES)
def test_pose_from_essential(dtype: torch.dtype) -> None:
    p_a, p_b, R, t, _ = scenes(8, 100)
    rays_a, rays_b = pixel_rays(p_a, K).to(dtype), pixel_rays(p_b, K).to(dtype)
    sign = torch.where(torch.arange(8) % 2 == 0, 1.0, -1.0)[:, None, None]
    found_R, found_t, share = pose_from_essential((skew(t) @ R * sign).to(dtype), rays_a, rays_b)
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-12}[dtype]
    torch.testing.assert_close(found_R.double(), R, rtol=0, atol=tolerance)
    torch.testing.assert_close(found_t.double(), t, rtol=0, atol=tolerance)
    assert share.min() > (0.95 if dtype == torch.float32 else 1 - 1e-12)


def test_pose_from_essential_against_opencv() -> None:
    """With noise and wrong matches the vote is OpenCV's; each item of the batch has its own."""
    p_a, p_b, R, t, inlier = scenes(6, 400, noise=0.5, outliers=0.2)
    E = skew(t) @ R
    rays_a, rays_b = pixel_rays(p_a, K), pixel_rays(p_b, K)
    found_R, found_t, share = pose_from_essential(E, rays_a, rays_b, inlier.double())
    for i in range(6):
        mask = inlier[i].numpy().astype(np.uint8)[:, None]
        a, b = p_a[i].numpy(), p_b[i].numpy()
        votes, R_cv, t_cv, *_ = cv2.recoverPose(E[i].numpy(), a, b, K.numpy(), distanceThresh=1e9, mask=mask)
        np.testing.assert_allclose(found_R[i], R_cv, atol=1e-9)
        np.testing.assert_allclose(found_t[i], t_cv[:, 0], atol=1e-9)
        assert share[i] == pytest.approx(votes / inlier[i].sum().item(), abs=0.02)
        alone = pose_from_essential(E[i], rays_a[i], rays_b[i], inlier[i].double())
        assert torch.equal(alone[0], found_R[i])
        torch.testing.assert_close(alone[2], share[i])


def test_pose_from_essential_votes_by_weight() -> None:
    """Points behind the cameras speak for -t: with all the weight they win."""
    p_a, p_b, R, t, _ = scenes(1, 60)
    rays_a, rays_b = pixel_rays(p_a, K), pixel_rays(p_b, K)
    back_a, back_b = torch.cat([rays_a, -rays_a], 1), torch.cat([rays_b, -rays_b], 1)
    weight = torch.cat([torch.ones(1, 60), torch.full((1, 60), 2.0)], 1).double()
    E = skew(t) @ R
    _, front, share = pose_from_essential(E, back_a, back_b, weight.flip(1))
    torch.testing.assert_close(front, t)
    assert share.item() == pytest.approx(2 / 3)
    torch.testing.assert_close(pose_from_essential(E, back_a, back_b, weight)[1], -t)
    assert pose_from_essential(E, back_a, back_b, weight * 0)[2].item() == 0


def test_pose_from_essential_is_finite_on_nothing() -> None:
    p_a, p_b, R, t, _ = scenes(2, 30)
    E = skew(t) @ R
    E[1] = 0
    found_R, found_t, _ = pose_from_essential(E, pixel_rays(p_a, K), pixel_rays(p_b, K))
    assert found_R.isfinite().all()
    assert found_t.isfinite().all()
    torch.testing.assert_close(found_R[0], R[0])
