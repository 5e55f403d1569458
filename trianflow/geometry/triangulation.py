"""Mid-point triangulation of two rays, differentiable, and the angle between them."""

from __future__ import annotations

import torch
from torch import Tensor

from trianflow.geometry.camera import homogeneous, normalize_pixels, transform


def midpoint(c_a: Tensor, r_a: Tensor, c_b: Tensor, r_b: Tensor, eps: float = 1e-12) -> Tensor:
    """The middle of the shortest segment between two lines.

    Args:
        c_a, c_b: `(..., 3)` a point on each line (the camera centres), in one frame.
        r_a, r_b: `(..., 3)` directions of any positive length, in the same frame.
        eps: added to |r_a x r_b|^2, so parallel lines give a finite point.

    Returns:
        `(..., 3)` in that frame. Differentiable.

    Source: TrianFlow (Zhao et al., CVPR 2020), section 3.3; see also Hartley & Sturm, Triangulation, CVIU 1997.
    """
    n = torch.linalg.cross(r_a, r_b)
    baseline = c_b - c_a
    inverse = 1 / (n.square().sum(-1, keepdim=True) + eps)
    s_a = (torch.linalg.cross(baseline, r_b) * n).sum(-1, keepdim=True) * inverse
    s_b = (torch.linalg.cross(baseline, r_a) * n).sum(-1, keepdim=True) * inverse
    return (c_a + s_a * r_a + c_b + s_b * r_b) / 2


def midpoint_depths(
    rays_a: Tensor, rays_b: Tensor, R_ba: Tensor, t_ba: Tensor, eps: float = 1e-12
) -> tuple[Tensor, Tensor]:
    """Distances along both rays to the feet of their common perpendicular.

    Args:
        rays_a, rays_b: `(..., N, 3)` each in its own camera.
        R_ba: `(..., 3, 3)`.
        t_ba: `(..., 3)`.
        eps: added to |r_a x r_b|^2.

    Returns:
        s_a, s_b `(..., N)` in units of t over the length of the ray; negative behind the camera. With rays whose
        z is one they are depths.
    """
    turned = rays_a @ R_ba.transpose(-1, -2)
    aa, bb = turned.square().sum(-1), rays_b.square().sum(-1)
    ab = (turned * rays_b).sum(-1)
    at, bt = (turned @ t_ba[..., None])[..., 0], (rays_b @ t_ba[..., None])[..., 0]
    inverse = 1 / ((aa * bb - ab.square()).clamp_min(0) + eps)
    return (ab * bt - bb * at) * inverse, (aa * bt - ab * at) * inverse


def triangulate(p_a: Tensor, p_b: Tensor, T_ba: Tensor, K: Tensor) -> tuple[Tensor, Tensor]:
    """Mid-point triangulation of pixel matches.

    Args:
        p_a, p_b: `(..., N, 2)` pixels.
        T_ba: `(..., 4, 4)`; its translation sets the unit.
        K: `(..., 3, 3)`, of both images.

    Returns:
        X_a and X_b, `(..., N, 3)`: the points in either camera. Their z is the depth, negative behind the camera.
    """
    R, t = T_ba[..., :3, :3], T_ba[..., :3, 3]
    c_b = -(t[..., None, :] @ R)
    r_a = homogeneous(normalize_pixels(p_a, K))
    r_b = homogeneous(normalize_pixels(p_b, K)) @ R
    X_a = midpoint(torch.zeros_like(c_b), r_a, c_b, r_b)
    return X_a, transform(T_ba, X_a)


def inverse_depths(x_a: Tensor, x_b: Tensor, T_ba: Tensor) -> tuple[Tensor, Tensor]:
    """Inverse depths in a of matches, which are linear in them and so free of the bias that depths have.

    Args:
        x_a, x_b: `(..., N, 2)` normalised image coordinates.
        T_ba: `(..., 4, 4)`.

    Returns:
        `(..., N)` inverse depths along z of a, negative behind the camera, and how far x_b moves by one unit of
        them: the standard deviation of a match over it is that of the inverse depth.
    """
    R, t = T_ba[..., :3, :3], T_ba[..., None, :3, 3]
    far, ray = homogeneous(x_a) @ R.mT, homogeneous(x_b)
    normal = torch.linalg.cross(ray, t.expand_as(ray))
    inverse_depth = -(torch.linalg.cross(ray, far) * normal).sum(-1) / normal.square().sum(-1).clamp_min(1e-20)
    h = far + inverse_depth[..., None] * t
    along = t[..., :2] - t[..., 2:] * h[..., :2] / h[..., 2:].clamp_min(1e-6)
    return inverse_depth, along.norm(dim=-1) / h[..., 2].clamp_min(1e-6)


def ray_angle_cosine(r_a: Tensor, r_b: Tensor, c_b: Tensor) -> Tensor:
    """Cosine between ray a and the perpendicular dropped from centre a on ray b: about the sine of the parallax angle.

    It is near 0 for almost parallel rays and at the epipole, and negative where the rays meet behind camera a;
    TrianFlow keeps a match above 0.001 (0.057 degrees).

    Args:
        r_a, r_b: `(..., N, 3)` rays of any length, in the frame of camera a, whose centre is the origin.
        c_b: `(..., 3)` centre of camera b in that frame.

    Returns:
        `(..., N)` in [-1, 1]; 0 where the perpendicular vanishes.
    """
    unit_b = torch.nn.functional.normalize(r_b, dim=-1)
    offset = c_b[..., None, :].expand_as(unit_b)
    foot = offset - (offset * unit_b).sum(-1, keepdim=True) * unit_b
    return torch.nn.functional.cosine_similarity(r_a, foot, dim=-1, eps=1e-12)


def signed_parallax(R: Tensor, t: Tensor, x_a: Tensor, x_b: Tensor) -> Tensor:
    """Displacement along the epipolar line that translation causes, positive for a point in front of both cameras.

    Args:
        R, t: `(B, M, 3, 3)` and `(B, M, 3)`.
        x_a, x_b: `(B, N, 2)` normalised image coordinates.

    Returns:
        `(B, M, N)` in the same coordinates: the match minus the match of a point at infinity, along the line.
    """
    X = R @ homogeneous(x_a).mT[:, None]
    far = X[:, :, :2] / X[:, :, 2:].clamp_min(1e-6)
    along = torch.nn.functional.normalize(t[:, :, :2, None] - t[:, :, 2:, None] * far, dim=2)
    return ((x_b.mT[:, None] - far) * along).sum(2)
