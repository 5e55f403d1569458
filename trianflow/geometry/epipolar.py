"""Epipolar geometry of a pair: eight-point, distances, F <-> E, decomposition and cheirality; all batched.

`F_ba` and `E_ba` satisfy p_b^T F_ba p_a = 0: they go with `T_ba`, which maps camera a to camera b.
Leading dimensions `...` are arbitrary and independent of each other.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from trianflow.geometry.camera import homogeneous
from trianflow.geometry.triangulation import midpoint_depths

# Row k holds d skew(v) / d v_k, flattened.
_LEVI_CIVITA = torch.tensor(
    [[0.0, 0, 0, 0, 0, -1, 0, 1, 0], [0, 0, 1, 0, 0, 0, -1, 0, 0], [0, -1, 0, 1, 0, 0, 0, 0, 0]],
    dtype=torch.float64,
)


def skew(v: Tensor) -> Tensor:
    """Cross-product matrices: `(..., 3)` to `(..., 3, 3)` with `skew(v) @ w == cross(v, w)`."""
    return (v @ _LEVI_CIVITA.to(v)).unflatten(-1, (3, 3))


def skew_array(v: np.ndarray) -> np.ndarray:
    """`skew` of numpy arrays."""
    return np.cross(np.eye(3), v[..., None, :])


def epipolar_design(p_a: Tensor, p_b: Tensor) -> Tensor:
    """Rows of the linear epipolar constraint on vec(F), row-major: `(..., N, 2)` twice to `(..., N, 9)`."""
    return (homogeneous(p_b)[..., :, None] * homogeneous(p_a)[..., None, :]).flatten(-2)


def normalizing_transform(p: Tensor, weight: Tensor) -> Tensor:
    """Hartley's similarity: weighted centroid to the origin, root mean square distance to sqrt(2).

    Args:
        p: `(..., N, 2)` points.
        weight: `(..., N)` non-negative.

    Returns:
        `(..., 3, 3)`; the identity's scale where all points coincide.
    """
    total = weight.sum(-1, keepdim=True).clamp_min(1e-12)
    centre = (p * weight[..., None]).sum(-2) / total
    spread = ((p - centre[..., None, :]).square().sum(-1) * weight).sum(-1, keepdim=True) / total
    scale = torch.where(spread > 1e-12, (2 / spread.clamp_min(1e-12)).sqrt(), torch.ones_like(spread))
    T = torch.diag_embed(torch.cat([scale, scale, torch.ones_like(scale)], dim=-1))
    offset = torch.zeros_like(T)
    offset[..., :2, 2] = -scale * centre
    return T + offset


def eight_point(p_a: Tensor, p_b: Tensor, weight: Tensor | None = None) -> Tensor:
    """Weighted normalised eight-point algorithm.

    Args:
        p_a, p_b: `(..., N, 2)` matching points, N >= 8, in pixels or any other image coordinates.
        weight: `(..., N)` non-negative weights of the squared algebraic error; ones by default.

    Returns:
        `F_ba` `(..., 3, 3)` of rank two and unit Frobenius norm; NaN for an item whose points are not all finite.
        Differentiable.

    Source: Hartley, "In defense of the eight-point algorithm", PAMI 1997.
    """
    if p_a.shape[-2] < 8:
        raise ValueError(f"the eight-point algorithm needs eight matches, got {p_a.shape[-2]}")
    weight = torch.ones_like(p_a[..., 0]) if weight is None else weight
    N_a, N_b = normalizing_transform(p_a, weight), normalizing_transform(p_b, weight)
    q_a = p_a * N_a[..., None, 0, :1] + N_a[..., None, :2, 2]
    q_b = p_b * N_b[..., None, 0, :1] + N_b[..., None, :2, 2]
    A = epipolar_design(q_a, q_b)
    normal = (A.transpose(-1, -2) @ (A * weight[..., None])).nan_to_num(0.0, 0.0, 0.0)
    F = torch.linalg.eigh(normal)[1][..., 0].unflatten(-1, (3, 3))
    F = N_b.transpose(-1, -2) @ rank_two(F) @ N_a
    return F / torch.linalg.matrix_norm(F, keepdim=True)


def rank_two(F: Tensor) -> Tensor:
    """The nearest rank-two matrix in Frobenius norm: `(..., 3, 3)`."""
    U, S, Vh = torch.linalg.svd(F)
    return (U[..., :, :2] * S[..., None, :2]) @ Vh[..., :2, :]


def epipolar_distance(F_ba: Tensor, p_a: Tensor, p_b: Tensor, eps: float = 1e-6) -> Tensor:
    """Distance of p_b to the epipolar line of p_a in image b.

    Args:
        F_ba: `(..., 3, 3)`.
        p_a, p_b: `(..., N, 2)`.
        eps: added to the length of the line's normal, in its units.

    Returns:
        `(..., N)`, non-negative, in the units of p_b (pixels). TrianFlow's D_epi.
    """
    line = homogeneous(p_a) @ F_ba.transpose(-1, -2)
    algebraic = (homogeneous(p_b) * line).sum(-1)
    return algebraic.abs() / (line[..., :2].norm(dim=-1) + eps)


def sampson_distance(F_ba: Tensor, p_a: Tensor, p_b: Tensor) -> Tensor:
    """Signed first-order distance of a match to the epipolar constraint, in the units of the points.

    Its square is the Sampson error: to first order the least sum of squared moves of both points that satisfies F.

    Args:
        F_ba: `(..., 3, 3)`.
        p_a, p_b: `(..., N, 2)`.

    Returns:
        `(..., N)`; 0 where the gradient of the constraint vanishes.

    Source: Hartley & Zisserman, Multiple View Geometry, 2nd ed., eq. 11.9.
    """
    q_a, q_b = homogeneous(p_a), homogeneous(p_b)
    line_b, line_a = q_a @ F_ba.transpose(-1, -2), q_b @ F_ba
    squared = line_b[..., :2].square().sum(-1) + line_a[..., :2].square().sum(-1)
    return (q_b * line_b).sum(-1) * squared.clamp_min(1e-30).rsqrt()


def essential_from_fundamental(F_ba: Tensor, K_a: Tensor, K_b: Tensor) -> Tensor:
    """E = K_b^T F K_a, projected to the essential manifold (singular values 1, 1, 0): `(..., 3, 3)`."""
    U, _, Vh = torch.linalg.svd(K_b.transpose(-1, -2) @ F_ba @ K_a)
    return U[..., :, :2] @ Vh[..., :2, :]


def fundamental_from_essential(E_ba: Tensor, K_a: Tensor, K_b: Tensor) -> Tensor:
    """F = K_b^-T E K_a^-1 of unit Frobenius norm: `(..., 3, 3)`."""
    F = torch.linalg.inv(K_b).transpose(-1, -2) @ E_ba @ torch.linalg.inv(K_a)
    return F / torch.linalg.matrix_norm(F, keepdim=True)


def decompose_essential(E_ba: Tensor) -> tuple[Tensor, Tensor]:
    """The four poses of an essential matrix.

    Args:
        E_ba: `(..., 3, 3)`.

    Returns:
        R `(..., 4, 3, 3)` proper rotations and unit t `(..., 4, 3)`: (R1, t), (R1, -t), (R2, t), (R2, -t).
        With X_b = R X_a + t one of them has generated E.

    Source: Hartley & Zisserman, result 9.19.
    """
    U, _, Vh = torch.linalg.svd(E_ba)
    U = U * torch.linalg.det(U)[..., None, None]
    Vh = Vh * torch.linalg.det(Vh)[..., None, None]
    W = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=E_ba.dtype, device=E_ba.device)
    R1, R2, t = U @ W @ Vh, U @ W.T @ Vh, U[..., :, 2]
    return torch.stack([R1, R1, R2, R2], dim=-3), torch.stack([t, -t, t, -t], dim=-2)


def pose_from_essential(
    E_ba: Tensor,
    rays_a: Tensor,
    rays_b: Tensor,
    weight: Tensor | None = None,
    full_angle: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The pose of E that puts most matches in front of both cameras (cheirality).

    Args:
        E_ba: `(..., 3, 3)`.
        rays_a, rays_b: `(..., N, 3)` unit rays, each in its own camera.
        weight: `(..., N)` of each match's vote; ones by default.
        full_angle: `(...,)` angle between the rays, in radians, from which on a match votes in full. On which side
            a point without parallax lies, as those of the sky, is noise: its vote shrinks with the angle. By default
            every vote is full.

    Returns:
        R `(..., 3, 3)`, unit t `(..., 3)` and the share of votes in front, `(...,)` in [0, 1].
    """
    R, t = decompose_essential(E_ba)
    rays_a, rays_b = rays_a[..., None, :, :], rays_b[..., None, :, :]
    s_a, s_b = midpoint_depths(rays_a, rays_b, R, t)
    power = torch.ones_like(s_a) if weight is None else weight[..., None, :].expand_as(s_a)
    if full_angle is not None:
        apart = (rays_a @ R.transpose(-1, -2) - rays_b).norm(dim=-1)
        power = power * (apart / full_angle[..., None, None]).clamp_max(1)
    votes = (((s_a > 0) & (s_b > 0)) * power).sum(-1)
    best = votes.argmax(-1, keepdim=True)
    R = R.gather(-3, best[..., None, None].expand(*best.shape[:-1], 1, 3, 3))[..., 0, :, :]
    t = t.gather(-2, best[..., None].expand(*best.shape[:-1], 1, 3))[..., 0, :]
    share = votes.gather(-1, best) / power.sum(-1).gather(-1, best).clamp_min(1e-12)
    return R, t, share[..., 0]
