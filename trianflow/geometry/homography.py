"""Homographies of a plane and of a pure rotation: fits on many matches, and the poses a plane allows."""

from __future__ import annotations

import torch
from torch import Tensor

from trianflow.geometry.camera import homogeneous


def homography_design(q_a: Tensor, q_b: Tensor) -> Tensor:
    """Rows of the linear constraints on vec(H), row-major: `(..., N, 2)` twice to `(..., 2 N, 9)`."""
    x, y = q_a.unbind(-1)
    u, v = q_b.unbind(-1)
    o, i = torch.zeros_like(x), torch.ones_like(x)
    row_u = torch.stack([x, y, i, o, o, o, -u * x, -u * y, -u], dim=-1)
    row_v = torch.stack([o, o, o, x, y, i, -v * x, -v * y, -v], dim=-1)
    return torch.stack([row_u, row_v], dim=-2).flatten(-3, -2)


def homography_squared(H: Tensor, q_a: Tensor, q_b: Tensor) -> Tensor:
    """Squared Sampson distance of every match to every homography q_b ~ H q_a.

    To first order the least sum of squared moves of both points that makes them correspond: for noise of
    variance s^2 on every coordinate it is s^2 times a chi-square of two degrees of freedom.

    Args:
        H: `(B, M, 3, 3)`.
        q_a, q_b: `(B, N, 2)`.

    Returns:
        `(B, M, N)`.
    """
    B, M = H.shape[:2]
    x, y = q_a[:, None, :, 0], q_a[:, None, :, 1]
    u, v = q_b[:, None, :, 0], q_b[:, None, :, 1]
    h = H.reshape(B, M, 9, 1)
    w = h[:, :, 6] * x + h[:, :, 7] * y + h[:, :, 8]
    w = torch.where(w.abs() < 1e-12, torch.full_like(w, 1e-12), w)
    px = (h[:, :, 0] * x + h[:, :, 1] * y + h[:, :, 2]) / w
    py = (h[:, :, 3] * x + h[:, :, 4] * y + h[:, :, 5]) / w
    ex, ey = u - px, v - py
    a, b = (h[:, :, 0] - px * h[:, :, 6]) / w, (h[:, :, 1] - px * h[:, :, 7]) / w
    c, d = (h[:, :, 3] - py * h[:, :, 6]) / w, (h[:, :, 4] - py * h[:, :, 7]) / w
    # e^T (I + J J^T)^-1 e with J the derivative [[a, b], [c, d]] of the mapping, written as sums of squares.
    residual = ex * ex + ey * ey + (c * ex - a * ey).square() + (d * ex - b * ey).square()
    return residual / (1 + a * a + b * b + c * c + d * d + (a * d - b * c).square())


def fit_homography(q_a: Tensor, q_b: Tensor, weight: Tensor) -> Tensor:
    """Weighted direct linear transform, q_b ~ H q_a.

    Args:
        q_a, q_b: `(B, N, 2)` in coordinates of order one.
        weight: `(B, N)` non-negative.

    Returns:
        `(B, 3, 3)` of unit norm; without meaning, but finite, for an item whose input is not finite.

    Source: Hartley & Zisserman, algorithm 4.1.
    """
    A = homography_design(q_a, q_b).unflatten(-2, (-1, 2))
    M = (A * weight[..., None, None]).flatten(-3, -2).transpose(-1, -2) @ A.flatten(-3, -2)
    return torch.linalg.eigh(M.nan_to_num(0.0, 0.0, 0.0))[1][..., 0].unflatten(-1, (3, 3))


def fit_rotation(rays_a: Tensor, rays_b: Tensor, weight: Tensor) -> Tensor:
    """The rotation that best turns rays of a onto rays of b, by least squares.

    Args:
        rays_a, rays_b: `(..., N, 3)`.
        weight: `(..., N)` non-negative.

    Returns:
        `(..., 3, 3)` proper rotation; without meaning for an item whose input is not finite.

    Source: Kabsch 1976; Umeyama 1991 for the sign.
    """
    M = (rays_b * weight[..., None]).transpose(-1, -2) @ rays_a
    U, _, Vh = torch.linalg.svd(M.nan_to_num(0.0, 0.0, 0.0))
    sign = torch.ones_like(U[..., 0])
    sign[..., 2] = torch.linalg.det(U) * torch.linalg.det(Vh)
    return (U * sign[..., None, :]) @ Vh


def decompose_homography(H: Tensor, q_a: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The poses that a plane's homography allows, in the camera's normalised coordinates.

    Args:
        H: `(B, 3, 3)` with q_b ~ H q_a, of any scale and sign.
        q_a: `(B, N, 2)` normalised image coordinates.
        weight: `(B, N)` of each point's vote that the plane lies in front of camera a.

    Returns:
        R `(B, 2, 3, 3)`, t `(B, 2, 3)` in units of the plane's distance (zero for a pure rotation), and unit
        normals `(B, 2, 3)` in camera a: the two solutions that are left when points have to lie in front.

    Source: Ma, Soatto, Kosecka, Sastry, An Invitation to 3-D Vision, section 5.3.
    """
    H = H / torch.linalg.svdvals(H)[..., 1, None, None].clamp_min(1e-12)
    H = H * torch.where(torch.linalg.det(H) < 0, -1.0, 1.0).to(H)[..., None, None]
    squares, V = torch.linalg.eigh(H.transpose(-1, -2) @ H)
    s3, s1 = squares[..., 0].clamp(max=1), squares[..., 2].clamp(min=1)
    v3, v2, v1 = V.unbind(-1)
    # A pure rotation has three equal singular values; any plane will do.
    turned = s1 - s3 < 1e-12
    gap = torch.where(turned, torch.ones_like(s1), s1 - s3)
    along = torch.where(turned, torch.ones_like(s1), (1 - s3) / gap).sqrt()[..., None] * v1
    across = torch.where(turned, torch.zeros_like(s1), (s1 - 1) / gap).sqrt()[..., None] * v3
    rotations, translations, normals = [], [], []
    for u in (along + across, along - across):
        U = torch.stack([v2, u, torch.linalg.cross(v2, u)], dim=-1)
        Hv, Hu = (H @ v2[..., None])[..., 0], (H @ u[..., None])[..., 0]
        W = torch.stack([Hv, Hu, torch.linalg.cross(Hv, Hu)], dim=-1)
        R, normal = W @ U.transpose(-1, -2), U[..., 2]
        t = ((H - R) @ normal[..., None])[..., 0]
        front = ((homogeneous(q_a) @ normal[..., None])[..., 0].sign() * weight).sum(-1, keepdim=True)
        flip = torch.where(front < 0, -1.0, 1.0).to(H)
        rotations.append(R)
        translations.append(t * flip)
        normals.append(normal * flip)
    return torch.stack(rotations, 1), torch.stack(translations, 1), torch.stack(normals, 1)
