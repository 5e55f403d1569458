"""What a calibration leaves of radial distortion: one coefficient, and what two views say of it.

A rectified image is rarely straight to a tenth of a pixel. The rest hardly shows in the pose of a pair, but where the
camera turns it makes every point seem to come nearer on its way across the image: the scale of a trajectory then
drifts by ten per cent and more in a single bend.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trianflow.geometry.camera import homogeneous
from trianflow.geometry.epipolar import skew
from trianflow.geometry.sampson import rotation_exp, tangent_basis


def straighten(x: Tensor, radial: float | Tensor) -> Tensor:
    """Normalised image coordinates `(..., 2)` freed of radial distortion: x (1 + radial |x|^2).

    Args:
        x: as the calibration gives them.
        radial: the coefficient, or coefficients that broadcast with `(..., 1)`.
    """
    return x * (1 + radial * x.square().sum(-1, keepdim=True))


def bend(v: Tensor, x: Tensor, radial: float | Tensor) -> Tensor:
    """Small displacements `(..., 2)` of straightened coordinates, as displacements of the coordinates x `(..., 2)`.

    The inverse of the derivative of `straighten` at x. Residuals are measured there: in straightened coordinates a
    coefficient would lower them by shrinking the image.
    """
    r2 = x.square().sum(-1, keepdim=True)
    a = 1 + radial * r2
    return (v - 2 * radial * x * (x * v).sum(-1, keepdim=True) / (a + 2 * radial * r2)) / a


def radial_of_pair(
    x_a: Tensor, x_b: Tensor, T_ba: Tensor, noise: float, steps: int = 3, step: float = 1e-6
) -> tuple[float, float]:
    """The radial coefficient that two views suggest, their relative pose being free to change with it.

    Gauss-Newton on a Cauchy loss of the Sampson distances over the five degrees of freedom of the pose and the
    coefficient. Without rotation a radial displacement looks like a change of depth, and the answer means nothing.

    Args:
        x_a, x_b: `(N, 2)` float64 normalised coordinates of matches.
        T_ba: `(4, 4)` their relative pose; the length of its translation does not matter, unless it is zero.
        noise: standard deviation of the matches in these coordinates.
        steps: of Gauss-Newton.
        step: of the differences that the derivatives are taken by.

    Returns:
        The coefficient, and its information (1 / variance, the matches taken as independent): zero where the views
        do not tell.
    """
    R, t, radial = T_ba[:3, :3], torch.nn.functional.normalize(T_ba[:3, 3], dim=0), x_a.new_zeros(())
    information = 0.0
    for _ in range(steps):
        basis = tangent_basis(t)
        turns = torch.zeros(7, 3, dtype=x_a.dtype)
        turns[1:4] = step * torch.eye(3, dtype=x_a.dtype)
        directions = t.repeat(7, 1)
        directions[4:6] += step * basis
        radials = radial.repeat(7)
        radials[6] += step
        E = skew(torch.nn.functional.normalize(directions, dim=-1)) @ (rotation_exp(turns) @ R)
        distance = _sampson(E, x_a, x_b, radials[:, None, None]) / noise
        r, J = distance[0], (distance[1:] - distance[:1]) / step
        Jw = J / (1 + (r / 2.385).square())
        A, g = Jw @ J.mT, Jw @ r
        delta, failed = torch.linalg.solve_ex(A + 1e-9 * A.diagonal().mean() * torch.eye(6, dtype=A.dtype), -g)
        cross, singular = torch.linalg.solve_ex(A[:5, :5], A[:5, 5])
        if failed or singular or not delta.isfinite().all():
            return 0.0, 0.0
        information = float(A[5, 5] - A[:5, 5] @ cross)
        R = rotation_exp(delta[:3]) @ R
        t = torch.nn.functional.normalize(t + delta[3:5] @ basis, dim=0)
        radial = radial + delta[5]
    return float(radial), max(information, 0.0)


def _sampson(E: Tensor, x_a: Tensor, x_b: Tensor, radial: Tensor) -> Tensor:
    """Signed Sampson distances `(B, N)` in the given coordinates, of essential matrices on straightened ones."""
    a, b = homogeneous(straighten(x_a, radial)), homogeneous(straighten(x_b, radial))
    line_b, line_a = a @ E.mT, b @ E
    gradient = _pull(line_a[..., :2], x_a, radial).square() + _pull(line_b[..., :2], x_b, radial).square()
    return (b * line_b).sum(-1) / gradient.sum(-1).clamp_min(1e-20).sqrt()


def _pull(g: Tensor, x: Tensor, radial: Tensor) -> Tensor:
    """A gradient by straightened coordinates, as one by x."""
    return (1 + radial * x.square().sum(-1, keepdim=True)) * g + 2 * radial * x * (x * g).sum(-1, keepdim=True)
