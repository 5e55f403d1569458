"""The Sampson distance of many matches to many models, and the pose that minimises it.

With the products of the coordinates of every match laid out once, the epipolar constraint is linear in vec(F) and the
squared length of its gradient is linear in products of F. Scoring a hypothesis and linearising a pose are then small
matrix products, which is what makes them fast.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from trianflow.geometry.camera import homogeneous
from trianflow.geometry.epipolar import skew


@dataclass(frozen=True)
class MatchProducts:
    """Products of the coordinates of matches.

    Attributes:
        cross: `(B, 9, N)` q_b q_a^T, row-major.
        square: `(B, 18, N)` q_a q_a^T, then q_b q_b^T.
    """

    cross: Tensor
    square: Tensor

    @classmethod
    def of(cls, q_a: Tensor, q_b: Tensor) -> MatchProducts:
        """From matches `(B, N, 2)`, best in coordinates of order one."""
        h_a, h_b = homogeneous(q_a).mT, homogeneous(q_b).mT
        cross = (h_b[:, :, None] * h_a[:, None]).flatten(1, 2)
        square = torch.cat(
            [(h_a[:, :, None] * h_a[:, None]).flatten(1, 2), (h_b[:, :, None] * h_b[:, None]).flatten(1, 2)],
            1,
        )
        return cls(cross, square)

    def algebraic(self, F: Tensor) -> Tensor:
        """q_b^T F q_a: F `(B, M, 3, 3)` to `(B, M, N)`."""
        return F.flatten(-2) @ self.cross

    def gradient_product(self, F: Tensor, G: Tensor) -> Tensor:
        """Inner product of the constraint's gradients of F and G, `(B, M, 3, 3)` each: `(B, M, N)`."""
        at_b = F[..., :2, :].mT @ G[..., :2, :]
        at_a = F[..., :, :2] @ G[..., :, :2].mT
        return torch.cat([at_b.flatten(-2), at_a.flatten(-2)], dim=-1) @ self.square

    def squared_distance(self, F: Tensor) -> Tensor:
        """Squared Sampson distances: F `(B, M, 3, 3)` to `(B, M, N)`, in squared units of the points."""
        return self.algebraic(F).square() / self.gradient_product(F, F).clamp_min(1e-20)


def rotation_exp(w: Tensor) -> Tensor:
    """Rotation vectors in radians `(..., 3)` to rotations `(..., 3, 3)`, by Rodrigues' formula; smooth at zero."""
    angle = w.norm(dim=-1)[..., None, None] / math.pi
    wx = skew(w)
    eye = torch.eye(3, dtype=w.dtype, device=w.device)
    return eye + torch.sinc(angle) * wx + torch.sinc(angle / 2).square() / 2 * (wx @ wx)


def tangent_basis(t: Tensor) -> Tensor:
    """Two unit vectors orthogonal to each unit vector and to each other: `(..., 3)` to `(..., 2, 3)`.

    Source: Duff et al., Building an Orthonormal Basis, Revisited, JCGT 2017.
    """
    x, y, z = t.unbind(-1)
    sign = torch.where(z < 0, -1.0, 1.0).to(t)
    a = -1 / (sign + z)
    b = x * y * a
    first = torch.stack([1 + sign * x * x * a, sign * b, -sign * x], dim=-1)
    return torch.stack([first, torch.stack([b, sign + y * y * a, -y], dim=-1)], dim=-2)


def refine_pose(
    R: Tensor,
    t: Tensor,
    matches: MatchProducts,
    S: Tensor,
    weight: Tensor,
    scale: Tensor,
    steps: int,
    damping: float = 1e-6,
) -> tuple[Tensor, Tensor, Tensor]:
    """Minimise the robust Sampson error over rotation and direction of translation, for M starts an item.

    Iteratively re-weighted least squares with a Cauchy loss by damped Gauss-Newton steps on the five degrees of
    freedom; a step that raises the cost is taken back and damped more.

    Args:
        R, t: `(B, M, 3, 3)` and unit `(B, M, 3)`, the starts: X_b = R X_a + t.
        matches: products of N matches in the coordinates whose Sampson distance is to be small.
        S: `(B, 3)` diagonal of the map from normalised image coordinates to those of the matches.
        weight: `(B, M or 1, N)` non-negative, 0 for a match that does not count.
        scale: `(B,)` distance at which a match begins to count as an outlier.
        steps: number of Gauss-Newton steps.
        damping: initial, relative to the diagonal of the normal matrix.

    Returns:
        R, t and the information matrix `(B, M, 5, 5)` (rotation, then two tangents of t) in units of
        1 / distance^2: divided by the noise variance it is the inverse covariance.
    """
    M = R.shape[1]
    inverse_S = ((1 / S)[:, :, None] * (1 / S)[:, None, :])[:, None, None]
    generators = skew(torch.eye(3, dtype=R.dtype, device=R.device))
    eye = torch.eye(5, dtype=R.dtype, device=R.device)
    inverse_variance = 1 / scale[:, None, None].square()

    def linearise(R: Tensor, t: Tensor, basis: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        tx, turned = skew(t)[:, :, None], R[:, :, None]
        # F and its derivatives by the five parameters, of which everything else is linear or quadratic.
        F6 = torch.cat([tx @ turned, tx @ generators @ turned, skew(basis) @ turned], dim=2) * inverse_S
        c6 = (F6.flatten(1, 2).flatten(-2) @ matches.cross).unflatten(1, (M, 6))
        g6 = matches.gradient_product(F6[:, :, :1].expand_as(F6).flatten(1, 2), F6.flatten(1, 2)).unflatten(1, (M, 6))
        c = c6[:, :, 0]
        inverse_square = 1 / g6[:, :, 0].clamp_min(1e-20)
        z = c.square() * inverse_square * inverse_variance
        w = weight * inverse_square / (1 + z)
        J = torch.addcmul(c6[:, :, 1:], g6[:, :, 1:], (c * inverse_square)[:, :, None], value=-1)
        Jw = J * w[:, :, None]
        return (weight * torch.log1p(z)).sum(-1), Jw @ J.mT, (Jw @ c[..., None])[..., 0]

    basis = tangent_basis(t)
    cost, A, g = linearise(R, t, basis)
    lam = torch.full_like(cost, damping)
    for _ in range(steps):
        diagonal = torch.diagonal(A, dim1=-2, dim2=-1)
        ridge = lam[..., None] * diagonal + 1e-9 * diagonal.amax(-1, keepdim=True) + 1e-30
        step = -torch.linalg.solve_ex(A + ridge[..., None] * eye, g)[0].nan_to_num(0.0)
        step = step * (0.3 / step.norm(dim=-1, keepdim=True).clamp_min(0.3))
        new_R = rotation_exp(step[..., :3]) @ R
        new_t = torch.nn.functional.normalize(t + (step[..., None, 3:] @ basis)[..., 0, :], dim=-1)
        new_basis = tangent_basis(new_t)
        new_cost, new_A, new_g = linearise(new_R, new_t, new_basis)
        better = new_cost <= cost
        cost = torch.where(better, new_cost, cost)
        vector, matrix = better[..., None], better[..., None, None]
        R, A, basis = (torch.where(matrix, *x) for x in ((new_R, R), (new_A, A), (new_basis, basis)))
        t, g = torch.where(vector, new_t, t), torch.where(vector, new_g, g)
        lam = torch.where(better, lam / 4, lam * 16).clamp(1e-9, 1e3)
    return R, t, A
