"""The loss terms that tie flow and depth to the geometry of two views."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trianflow.geometry.camera import backproject, pixel_grid, project, transform
from trianflow.geometry.scale import closed_form_scale, masked_median
from trianflow.geometry.warping import sample
from trianflow.losses.masking import apply_mask, masked_mean, normalized_mean

_NEAREST = 0.01  # baselines: depth below which a reprojection is an error, as for triangulated points


def epipolar_distance_map(flow_ab: Tensor, F_ba: Tensor, eps: float = 1e-6) -> Tensor:
    """Distance of where a pixel lands to its epipolar line: `epipolar_distance` for all pixels of an image.

    Args:
        flow_ab: `(B, 2, H, W)` pixels.
        F_ba: `(B, 3, 3)`. Zero (a pair without translation) puts every pixel on its line.
        eps: added to the length of the line's normal, in the units of F_ba.

    Returns:
        `(B, 1, H, W)` pixels, non-negative; infinite, without gradient, where flow or F_ba is not finite.
        Differentiable in both.

    Source: TrianFlow, section 3.2 (D_epi).
    """
    grid = pixel_grid(flow_ab.shape[-2], flow_ab.shape[-1], flow_ab.dtype, flow_ab.device)
    usable = (flow_ab[:, :1] + flow_ab[:, 1:]).isfinite() & F_ba.sum((1, 2))[:, None, None, None].isfinite()
    F = torch.where(F_ba.isfinite(), F_ba, 0.0)[..., None, None]
    # A row of x and a column of y make the lines (a, b, c) of all pixels by one sum over the full size.
    lines = F[:, :, 0] * grid[0, :1] + (F[:, :, 1] * grid[1, :, :1] + F[:, :, 2])
    a, b, c = lines[:, :1], lines[:, 1:2], lines[:, 2:]
    landing = torch.where(usable, flow_ab, 0.0) + grid
    algebraic = a * landing[:, :1] + b * landing[:, 1:] + c
    # Kept from zero, where the square root has no derivative.
    normal = (a.square() + b.square()).clamp_min(1e-30).sqrt()
    return torch.where(usable, algebraic.abs() / (normal + eps), torch.inf)


def inlier_score(distance: Tensor, rigid: float) -> Tensor:
    """How well a pixel agrees with the motion of the camera: 1 / (1 + distance), and 0 from `rigid` on.

    Args:
        distance: `(B, 1, H, W)` to the epipolar line, pixels; not finite scores 0.
        rigid: pixels, positive (paper: 0.5, on NYUv2 1.0).

    Returns:
        `(B, 1, H, W)` in [0, 1].

    Source: TrianFlow, section 3.2 (M_r).
    """
    near = distance < rigid
    return near / (1 + torch.where(near, distance, 0.0))


def epipolar_band_loss(distance: Tensor, inlier: float = 0.1, rigid: float = 0.5) -> Tensor:
    """Mean distance to the epipolar line of pixels that are rigid, but not yet on it.

    Args:
        distance: `(B, 1, H, W)` pixels.
        inlier, rigid: the band is inlier <= distance < rigid, pixels.

    Returns:
        `(B,)` in [inlier, rigid); 0 where no pixel lies in the band.

    Source: the published implementation of TrianFlow.
    """
    return masked_mean(distance, (distance >= inlier) & (distance < rigid))


def align_scale(depth: Tensor, triangulated: Tensor, valid: Tensor) -> Tensor:
    """The factor that takes predicted depths to triangulated ones with the least relative error.

    Args:
        depth, triangulated: `(B, N)`, positive and finite where valid.
        valid: `(B, N)` bool.

    Returns:
        `(B,)`; 1 where nothing is valid. By the ratio of the medians, which takes the unit away, and the closed form
        of what is left. Differentiable in `depth`, so that what is computed from aligned depth does not depend on the
        unit of the prediction. The published gradient stops here, which is the same to `triangulation_loss`, whose
        minimum the scale is; the other terms would push the unit of the prediction without end.

    Source: TrianFlow, section 3.4.
    """
    if not depth.shape[-1]:
        return depth.new_ones(depth.shape[0])
    some = valid.any(-1)
    depth, triangulated = torch.where(valid, depth, 1.0), torch.where(valid, triangulated.detach(), 1.0)
    with torch.no_grad():
        median = torch.where(some, masked_median(depth, valid) / masked_median(triangulated, valid), 1.0)
    scale = closed_form_scale(depth / median[:, None], triangulated, valid.to(depth.dtype)) / median
    return torch.where(some, scale, 1.0)


def triangulation_loss(depth: Tensor, triangulated: Tensor, valid: Tensor) -> Tensor:
    """Mean squared relative error of aligned depths.

    Args:
        depth: `(B, N)`, already multiplied by its scale.
        triangulated: `(B, N)`, positive where valid.
        valid: `(B, N)` bool; elsewhere the depths may hold anything.

    Returns:
        `(B,)`; 0 where nothing is valid. Differentiable in both depths.

    Source: TrianFlow, section 3.4 (L_d).
    """
    ratio = torch.where(valid, depth, 1.0) / torch.where(valid, triangulated, 1.0)
    # Outside the ratio is one, which adds nothing.
    return (1 - ratio).square().sum(-1) / valid.sum(-1).clamp_min(1)


@dataclass(frozen=True)
class Reprojection:
    """The pixels of a, lifted by their depth and seen by camera b.

    Attributes:
        points: `(B, H, W, 2)` pixels in b, finite.
        depth: `(B, 1, H, W)` along z in b; 0 where the depth in a is not positive and finite.
        inside: `(B, 1, H, W)` bool: in front of b, and strictly between the centres of its border pixels.
    """

    points: Tensor
    depth: Tensor
    inside: Tensor


def reproject(depth_a: Tensor, T_ba: Tensor, K: Tensor) -> Reprojection:
    """Where the pixels of a appear in b.

    Args:
        depth_a: `(B, 1, H, W)` along z; pixels whose depth is not positive and finite are nowhere.
        T_ba: `(B, 4, 4)` finite, in the unit of the depth.
        K: `(B, 3, 3)` or `(3, 3)`.

    Returns:
        `Reprojection`. Differentiable in depth and pose.
    """
    B, _, H, W = depth_a.shape
    usable = (depth_a > 0) & depth_a.isfinite()
    pixels = pixel_grid(H, W, depth_a.dtype, depth_a.device).flatten(1).T
    X_b = transform(T_ba, backproject(pixels, torch.where(usable, depth_a, 1.0).reshape(B, H * W), K))
    points = project(X_b, K).reshape(B, H, W, 2)
    depth = torch.where(usable, X_b[..., 2].reshape(B, 1, H, W), 0.0)
    x, y = points[:, None, ..., 0], points[:, None, ..., 1]
    inside = (depth > 0) & (x > 0) & (x < W - 1) & (y > 0) & (y < H - 1)
    return Reprojection(points, depth, inside)


def depth_consistency_loss(reprojection: Reprojection, depth_b: Tensor, weight: Tensor) -> Tensor:
    """Mean of |1 - z / depth_b| where the depth of a reprojects into b at depth z.

    Args:
        reprojection: of the depth of a, in the unit of `depth_b`.
        depth_b: `(B, 1, H, W)` positive and finite.
        weight: `(B, 1, H, W)` of the pixels of a, non-negative; multiplied by `inside`. Its gradient is not stopped.

    Returns:
        `(B,)`; 0 where no weight is left. Differentiable in both depths.

    Source: TrianFlow, section 3.4 (L_p).
    """
    inside = reprojection.inside
    seen = sample(depth_b, torch.where(inside[:, 0, ..., None], reprojection.points, 0.0))
    error = (1 - torch.where(inside, reprojection.depth, 0.0) / seen).abs()
    return masked_mean(error, weight * inside)


def rigid_flow_loss(flow_ab: Tensor, reprojection: Reprojection, weight: Tensor) -> Tensor:
    """Mean absolute difference between a flow and the flow that depth and pose explain.

    Args:
        flow_ab: `(B, 2, H, W)` pixels; where the weight is zero it may hold anything.
        reprojection: of the depth of a, in units of the baseline.
        weight: `(B, 1, H, W)` of the pixels of a, non-negative; zero is taken for those that are not 0.01 baselines
            in front of b, or land further from its image than the image is large: a target grows as one over the
            depth, and a single one close to the plane of b would outweigh all others. Its gradient is not stopped.

    Returns:
        `(B,)` pixels, averaged over x and y; 0 where no weight is left. Differentiable in the flow (all that the
        published code does) and in depth and pose (the paper).

    Source: TrianFlow, section 3.4 (L_p).
    """
    H, W = flow_ab.shape[-2:]
    target = reprojection.points.permute(0, 3, 1, 2)
    x, y = target[:, :1], target[:, 1:]
    sound = (reprojection.depth > _NEAREST) & (x > -W) & (x < 2 * W) & (y > -H) & (y < 2 * H)
    mask = weight * sound
    grid = pixel_grid(H, W, flow_ab.dtype, flow_ab.device)
    return normalized_mean(apply_mask(flow_ab + grid - target, mask).abs(), mask)
