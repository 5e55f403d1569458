"""Triangulation of points that many views have seen."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trianflow.geometry.camera import pixel_rays, project, transform


@dataclass(frozen=True)
class SeenPoints:
    """Points with what their views say of them.

    Attributes:
        X_w: `(N, 3)` in the world.
        error: `(N,)` largest reprojection error, pixels; infinite where a point is not in front of all its views.
        sigma: `(N,)` standard deviation of the position in its least certain direction for a noise of one pixel, as a
            share of the distance from the first view; infinite where the rays are parallel.
    """

    X_w: Tensor
    error: Tensor
    sigma: Tensor


def triangulate_views(p: Tensor, seen: Tensor, T_cw: Tensor, K: Tensor, rounds: int = 3) -> SeenPoints:
    """The point nearest to the rays of all views, each weighed by its distance: about the least reprojection error.

    Args:
        p: `(N, L, 2)` pixels; the first view must have seen each point.
        seen: `(N, L)` bool, which views have; the pixels of others are ignored.
        T_cw: `(N, L, 4, 4)` world to camera of each view of each point; their translations set the unit.
        K: `(3, 3)`, of all views.
        rounds: of weighing anew.

    Returns:
        `SeenPoints` in the dtype of p. A point that fewer than two views have seen has an infinite sigma.

    Source: Hartley & Sturm, Triangulation, CVIU 1997 (mid-point and its reweighting), for L views.
    """
    seen = seen & p.isfinite().all(-1)
    p = torch.where(seen[..., None], p, torch.zeros_like(p))
    R_wc = T_cw[..., :3, :3].mT
    centre = -(R_wc @ T_cw[..., :3, 3:])[..., 0]
    ray = (R_wc @ pixel_rays(p, K)[..., None])[..., 0]
    across = torch.eye(3, dtype=p.dtype, device=p.device) - ray[..., :, None] * ray[..., None, :]
    origin = centre[:, :1]
    foot = (across @ (centre - origin)[..., None])[..., 0]
    weight = seen.to(p.dtype)
    eye = torch.eye(3, dtype=p.dtype, device=p.device)
    for _ in range(rounds):
        A = (weight[..., None, None] * across).sum(1)
        trace = A.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None]
        b = (weight[..., None] * foot).sum(1)[..., None]
        X = torch.linalg.solve(A + (8 * torch.finfo(p.dtype).eps * trace + 1e-30) * eye, b)[..., 0]
        distance = (X[:, None] + origin - centre).norm(dim=-1).clamp_min(1e-12)
        weight = seen / distance.square()
    X_w = X + origin[:, 0]
    X_c = transform(T_cw, X_w[:, None, None])[:, :, 0]
    error = (project(X_c, K) - p).norm(dim=-1).masked_fill(X_c[..., 2] <= 0, torch.inf)
    information = (weight[..., None, None] * across).sum(1) * K[0, 0] * K[1, 1]
    least = torch.linalg.eigvalsh(information)[:, 0]
    known = (seen.sum(-1) >= 2) & (least > 1e-9 * information.diagonal(dim1=-2, dim2=-1).sum(-1))
    sigma = least.clamp_min(1e-30).rsqrt() / distance[:, 0]
    return SeenPoints(
        X_w, error.masked_fill(~seen, 0.0).amax(-1), torch.where(known, sigma, torch.full_like(sigma, torch.inf))
    )
