"""Pose of a camera from points with known depth (perspective-n-point): robust, refined, and never an exception."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from trianflow.geometry.camera import pose_matrix, project, transform
from trianflow.geometry.epipolar import skew
from trianflow.geometry.sampson import rotation_exp
from trianflow.pose.selection import robust_noise


@dataclass(frozen=True)
class PnP:
    """Pose of camera b in which points known in frame a appear at given pixels.

    Attributes:
        T_ba: `(4, 4)` float64 in the unit of the points; the identity where `ok` is False.
        inlier: `(N,)` bool.
        ok: False with too few points or no consensus.
        noise: standard deviation of the inliers' reprojection on each axis, pixels.
    """

    T_ba: Tensor
    inlier: Tensor
    ok: bool
    noise: float


def reprojection(T_ba: Tensor, X_a: Tensor, p_b: Tensor, K: Tensor) -> tuple[Tensor, Tensor]:
    """Reprojection residuals and their derivatives by a motion on the left of T_ba (rotation, then translation).

    Args:
        T_ba: `(4, 4)`.
        X_a: `(N, 3)` points in frame a.
        p_b: `(N, 2)` pixels.
        K: `(3, 3)`.

    Returns:
        `(N, 2)` pixels and `(N, 2, 6)`.
    """
    X = transform(T_ba, X_a)
    inverse = 1 / X[:, 2].clamp_min(1e-6)
    x, y, zero = X[:, 0] * inverse, X[:, 1] * inverse, torch.zeros_like(inverse)
    by_X = torch.stack(
        [
            K[0, 0] * torch.stack([inverse, zero, -x * inverse], -1),
            K[1, 1] * torch.stack([zero, inverse, -y * inverse], -1),
        ],
        1,
    )
    return project(X, K) - p_b, torch.cat([-by_X @ skew(X), by_X], -1)


# Squared distance, in scales of the loss, that a point behind the camera is charged.
_BEHIND = 100.0


def _linearise(
    T_ba: Tensor, X_a: Tensor, p_b: Tensor, K: Tensor, noise: float, depth_sigma: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Cauchy cost of the weighed reprojection error, and its normal equations `(6, 6)`, `(6,)`."""
    r, J = reprojection(T_ba, X_a, p_b, K)
    # A point behind b has no picture: it costs as much as a far outlier, and pulls at nothing.
    front = transform(T_ba, X_a)[:, 2] > 1e-3 * X_a[:, 2].abs()
    r, J = r / noise, torch.where(front[:, None, None], J / noise, 0.0)
    weighed, weighed_J = r, J
    if depth_sigma is not None:
        # What a relative error of the depth does to the pixel: the point's ray, turned into frame b.
        u = noise * (J[:, :, 3:] @ (X_a @ T_ba[:3, :3].mT)[..., None])[..., 0]
        length = u.square().sum(-1).clamp_min(1e-12)
        # (I + v u u^T)^-1 = I - u u^T / (1 / v + |u|^2)
        k = 1 / ((noise / depth_sigma).square() + length)
        weighed = r - (k * (u * r).sum(-1))[:, None] * u
        weighed_J = J - k[:, None, None] * u[..., None] * (u[:, None] @ J)
    z = torch.where(front, (r * weighed).sum(-1) / 2.385**2, _BEHIND)
    w = (1 / (1 + z))[:, None, None]
    A = (w * J).flatten(0, 1).mT @ weighed_J.flatten(0, 1)
    g = (w * weighed_J).flatten(0, 1).mT @ r.flatten()
    return torch.log1p(z).sum(), A, g


def pnp_cost(
    T_ba: Tensor, X_a: Tensor, p_b: Tensor, K: Tensor, noise: float, depth_sigma: Tensor | None = None
) -> float:
    """What `refine_pnp` minimises, at a pose: to compare two of them. Arguments as there."""
    return float(_linearise(T_ba, X_a, p_b, K, noise, depth_sigma)[0])


def refine_pnp(
    T_ba: Tensor,
    X_a: Tensor,
    p_b: Tensor,
    K: Tensor,
    noise: float,
    depth_sigma: Tensor | None = None,
    steps: int = 8,
) -> Tensor:
    """The pose that best explains pixels of points whose depth is known, doubtful or unknown.

    Gauss-Newton on a Cauchy loss of the reprojection error. An error of the depth moves a point along its epipolar
    line, so the residual is weighed by a covariance that is wide in that direction: a point of certain depth counts
    in full, one of unknown depth by its distance to the epipolar line alone, and all between them as they deserve.

    Args:
        T_ba: `(4, 4)` start, in the unit of the points.
        X_a: `(N, 3)` points in frame a, in front of it.
        p_b: `(N, 2)` pixels in b.
        K: `(3, 3)`.
        noise: standard deviation of the pixels on each axis.
        depth_sigma: `(N,)` standard deviation of the points' log depth; infinite where unknown; zero by default.
        steps: at most.

    Returns:
        `(4, 4)`: the best pose met, the start included.
    """
    best, best_cost = T_ba, torch.inf
    eye = torch.eye(6, dtype=T_ba.dtype)
    for _ in range(steps + 1):
        cost, A, g = _linearise(T_ba, X_a, p_b, K, noise, depth_sigma)
        if not float(cost) < best_cost * (1 - 1e-9):
            break
        best, best_cost = T_ba, float(cost)
        delta, failed = torch.linalg.solve_ex(A + 1e-9 * A.diagonal().max() * eye, -g)
        if failed or not delta.isfinite().all():
            break
        T_ba = pose_matrix(rotation_exp(delta[:3]), delta[3:]) @ T_ba
    return best


def solve_pnp(
    X_a: Tensor, p_b: Tensor, K: Tensor, threshold: float = 2.0, min_points: int = 12, iterations: int = 200
) -> PnP:
    """Pose from 3D points and their pixels, with outliers.

    Args:
        X_a: `(N, 3)` points in frame a, any unit; not finite or behind the camera: ignored.
        p_b: `(N, 2)` pixels in camera b.
        K: `(3, 3)` intrinsics.
        threshold: reprojection error of an inlier, pixels.
        min_points: fewer usable points, or inliers, is a failure.
        iterations: of the sampling (OpenCV's P3P in RANSAC, with its fixed seed).

    Returns:
        `PnP`, float64.
    """
    X_a, p_b, K = X_a.double(), p_b.double(), K.double()
    usable = X_a.isfinite().all(-1) & p_b.isfinite().all(-1) & (X_a[:, 2] > 0)
    failure = PnP(torch.eye(4, dtype=torch.float64), torch.zeros_like(usable), False, 0.0)
    if int(usable.sum()) < min_points:
        return failure
    X, p = X_a[usable], p_b[usable]
    try:
        found, rotation, translation, _ = cv2.solvePnPRansac(
            X.numpy(),
            p.numpy(),
            K.numpy(),
            None,
            None,
            None,
            False,
            iterations,
            threshold,
            0.999,
            None,
            cv2.SOLVEPNP_AP3P,
        )
    except cv2.error:
        return failure
    if not found or not (np.isfinite(rotation).all() and np.isfinite(translation).all()):
        return failure
    T_ba = pose_matrix(torch.from_numpy(cv2.Rodrigues(rotation)[0]), torch.from_numpy(translation[:, 0]))
    noise = threshold / 3
    reach, floor = torch.tensor([threshold], dtype=torch.float64), torch.tensor([1e-3], dtype=torch.float64)
    for _ in range(2):
        T_ba = refine_pnp(T_ba, X, p, K, noise)
        squared = reprojection(T_ba, X, p, K)[0].square().sum(-1)
        noise = float(robust_noise(squared[None], torch.ones_like(squared[None], dtype=torch.bool), reach, 2, floor))
    inlier = torch.zeros_like(usable)
    inlier[usable] = (squared < threshold**2) & (transform(T_ba, X)[:, 2] > 0)
    if int(inlier.sum()) < max(min_points, 0.2 * len(X)):
        return failure
    return PnP(T_ba, inlier, True, noise)
