"""Forward projection: what camera b sees of the surface that camera a saw, rasterised with a z-buffer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d, pad

from trianflow.geometry.camera import homogeneous, normalize_pixels, pixel_grid
from trianflow.geometry.warping import sample

_STEP = 1.25  # ratio of inverse depths within 3x3 pixels from which on there is an edge between surfaces
_NEAREST = 1e-6  # depth in b over depth in a: below this a point counts as behind camera b


@dataclass(frozen=True)
class ForwardProjection:
    """The surface of a as camera b sees it, on the pixels of b.

    Attributes:
        points_a: `(B, H, W, 2)` pixels in a where the surface of each pixel of b is seen; 0 in holes.
        depth: `(B, 1, H, W)` along z in b, infinite where that in a is; 0 in holes.
        valid: `(B, 1, H, W)` bool; False in holes: what a does not see, or did not know the depth of.
    """

    points_a: Tensor
    depth: Tensor
    valid: Tensor

    def render(self, x_a: Tensor) -> Tensor:
        """A map of a on the pixels of b, bilinear; 0 in holes.

        Args:
            x_a: `(B, C, H, W)`.

        Returns:
            `(B, C, H, W)`. Differentiable in the map, and in the depth and pose of the projection.
        """
        return torch.where(self.valid, sample(x_a, self.points_a, "border"), 0.0)

    def carry(self, labels_a: Tensor, hole: int = 0) -> Tensor:
        """Labels of a, `(B, H, W)` of integers, on the pixels of b: those of the nearest pixel, `hole` in holes."""
        height, width = labels_a.shape[-2:]
        column, row = (self.points_a[..., i].round().long().clamp(0, n - 1) for i, n in ((0, width), (1, height)))
        carried = labels_a.flatten(1).gather(1, (row * width + column).flatten(1)).view_as(labels_a)
        return torch.where(self.valid[:, 0], carried, hole)


def forward_project(depth_a: Tensor, T_ba: Tensor, K: Tensor, factor: int = 2) -> ForwardProjection:
    """Render the surface that a sees into camera b.

    Every pixel of a is a small plane, over which inverse depth is linear: with the slope between its neighbours, or
    none where they lie on another surface. It is cut into `factor` x `factor` parts, which closes the holes of surfaces
    that b sees up to so many times larger. Parts go to the nearest pixel of b, and the one nearest to b stays. Where
    the ray of the pixel meets the plane of that part are its depth and its place in a, so both are differentiable.

    Args:
        depth_a: `(B, 1, H, W)` along z; infinite is the sky. Pixels whose depth is zero, negative or NaN are not
            projected: a mask is depth set to zero.
        T_ba: `(B, 4, 4)`, in the unit of the depth.
        K: `(B, 3, 3)` or `(3, 3)`.
        factor: parts along each side of a pixel.

    Returns:
        `ForwardProjection`. Differentiable in depth and pose, for the parts that are seen now.

    Source: Insta-DM (Lee et al., 2020), section 3, where the depth is up-sampled between pixels instead, and a pixel of
    b gets the colour of the pixel of a without interpolation.
    """
    B, _, H, W = depth_a.shape
    K = K.expand(B, 3, 3)
    known, w, slope = _patches(depth_a)
    with torch.no_grad():
        part, seen = _visible_parts(known, w, slope, T_ba, K, factor)
    row, column = part // (W * factor), part % (W * factor)
    pixel = (row // factor) * W + column // factor
    centre = torch.stack([pixel % W, pixel // W], -1).to(w)
    offset = ((torch.stack([column, row], -1) % factor).to(w) + 0.5) / factor - 0.5
    w = w.flatten(1).gather(1, pixel)
    slope = slope.flatten(2).mT.gather(1, pixel[..., None].expand(-1, -1, 2))

    # The plane is normal . X = 1 in a; in b the ray of a pixel meets it at inverse depth (R normal . ray) / (1 + ...).
    focal = torch.stack([K[:, 0, 0], K[:, 1, 1]], -1)[:, None]
    gradient = slope * focal
    across = (gradient * normalize_pixels(centre, K)).sum(-1, keepdim=True)
    normal = torch.cat([gradient, w[..., None] - across], -1) @ T_ba[:, :3, :3].mT
    rays = homogeneous(normalize_pixels(pixel_grid(H, W, w.dtype, w.device).flatten(1).T.expand(B, -1, 2), K))
    bottom = 1 + (normal * T_ba[:, None, :3, 3]).sum(-1)
    met = (normal * rays).sum(-1) / torch.where(bottom.abs() < _NEAREST, 1.0, bottom)
    back = (rays - met[..., None] * T_ba[:, None, :3, 3]) @ T_ba[:, :3, :3]
    ahead = back[..., 2:] > _NEAREST
    points = back[..., :2] / torch.where(ahead, back[..., 2:], 1.0) * focal + K[:, None, :2, 2]
    # Where that is off the pixel the plane is seen edge-on, and the part stands for itself.
    fits = ((points - centre).abs() <= 1).all(-1) & ahead[..., 0] & (bottom.abs() >= _NEAREST) & (met >= 0)
    inverse = w + (slope * offset).sum(-1)
    along = homogeneous(normalize_pixels(centre + offset, K)) @ T_ba[:, 2, :3, None]
    itself = inverse / (along[..., 0] + T_ba[:, 2, 3:] * inverse).clamp_min(_NEAREST)
    points = torch.where(fits[..., None], points, centre + offset)
    met = torch.where(fits, met, itself)
    depth = torch.where(met > 0, 1 / torch.where(met > 0, met, 1.0), torch.inf)
    valid = seen.view(B, 1, H, W)
    points = torch.where(seen[..., None], points, 0.0).view(B, H, W, 2)
    return ForwardProjection(points, torch.where(valid, depth.view(B, 1, H, W), 0.0), valid)


def _patches(depth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Which pixels have a depth, its inverse, both `(B, 1, H, W)`, and the slope of that a pixel, `(B, 2, H, W)`."""
    known = depth > 0
    w = torch.where(known, 1 / torch.where(known, depth, 1.0), 0.0)
    with torch.no_grad():
        smooth = max_pool2d(w, 3, 1, 1) <= -_STEP * max_pool2d(-w, 3, 1, 1)
    x, y = pad(w, (1, 1, 0, 0), "replicate"), pad(w, (0, 0, 1, 1), "replicate")
    slope = torch.cat([x[..., 2:] - x[..., :-2], y[..., 2:, :] - y[..., :-2, :]], 1) / 2
    return known, w, torch.where(smooth, slope, 0.0)


def _visible_parts(
    known: Tensor, w: Tensor, slope: Tensor, T_ba: Tensor, K: Tensor, factor: int
) -> tuple[Tensor, Tensor]:
    """The z-buffer: number of the part of a, row by row, that each pixel of b sees, and whether it sees one."""
    B, _, H, W = w.shape
    at = (torch.arange(factor, dtype=w.dtype, device=w.device) + 0.5) / factor - 0.5
    parts = w[..., None, :, None] + at[:, None, None] * slope[:, 1:, :, None, :, None]
    parts = (parts + at * slope[:, :1, :, None, :, None]).reshape(B, -1)
    known = known[..., None, :, None].expand(B, 1, H, factor, W, factor).reshape(B, -1)
    grid = (pixel_grid(H * factor, W * factor, w.dtype, w.device).flatten(1).T + 0.5) / factor - 0.5
    # Rows of K (R ray + t w): the homogeneous pixel in b, whose last number is depth in b over depth in a.
    rays = homogeneous(normalize_pixels(grid.expand(B, -1, 2), K)).mT
    x, y, z = (K @ (T_ba[:, :3, :3] @ rays + T_ba[:, :3, 3:] * parts[:, None])).unbind(1)
    ahead = known & (parts >= 0) & (z > _NEAREST)
    z = torch.where(ahead, z, 1.0)
    column, row = (x / z + 0.5).floor(), (y / z + 0.5).floor()
    inside = ahead & (column >= 0) & (column < W) & (row >= 0) & (row < H)
    target = torch.where(inside, row * W + column, float(H * W)).long()
    nearness = torch.where(inside, parts / z, -1.0)
    best = nearness.new_full((B, H * W + 1), -1.0).scatter_reduce(1, target, nearness, "amax")
    number = torch.arange(parts.shape[1], device=w.device).expand_as(target)
    winners = torch.where(nearness == best.gather(1, target), target, H * W)
    first = target.new_full((B, H * W + 1), parts.shape[1]).scatter_reduce(1, winners, number, "amin")[:, :-1]
    seen = best[:, :-1] >= 0
    return torch.where(seen, first, 0), seen
