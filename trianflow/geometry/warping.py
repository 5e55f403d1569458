"""Moving images along a flow: inverse warp (sampling), forward splat (rasterising), and the flow of a rigid scene."""

from __future__ import annotations

import torch
from torch import Tensor

from trianflow.geometry.camera import backproject, pixel_grid, project, transform


def sample(x: Tensor, points: Tensor, padding: str = "zeros", mode: str = "bilinear") -> Tensor:
    """Samples of a map at pixel positions.

    Args:
        x: `(B, C, H, W)`.
        points: `(B, ..., 2)` pixels, x first; any middle dimensions, up to two.
        padding: what lies outside: `zeros` (with partial weights at the border), `border` or `reflection`
            (about the centres of the border pixels).
        mode: of interpolation, `bilinear` or `bicubic`.

    Returns:
        `(B, C, ...)`. Differentiable in both.
    """
    height, width = x.shape[-2:]
    size = torch.tensor([max(width - 1, 1), max(height - 1, 1)], dtype=points.dtype, device=points.device)
    grid = points * (2 / size) - 1
    middle = points.shape[1:-1]
    if points.numel() == 0:
        return x.new_zeros(*x.shape[:2], *middle)
    grid = grid.reshape(points.shape[0], middle[0], -1, 2)
    out = torch.nn.functional.grid_sample(x, grid, mode=mode, padding_mode=padding, align_corners=True)
    return out.reshape(*out.shape[:2], *middle)


def flow_targets(flow: Tensor) -> Tensor:
    """Where each pixel lands: flow `(B, 2, H, W)` in pixels to points `(B, H, W, 2)`."""
    grid = pixel_grid(flow.shape[-2], flow.shape[-1], flow.dtype, flow.device)
    return (flow + grid).permute(0, 2, 3, 1)


def inverse_warp(x_b: Tensor, flow_ab: Tensor) -> tuple[Tensor, Tensor]:
    """Sample image b where flow a -> b points: the picture of b on the pixels of a.

    Args:
        x_b: `(B, C, H, W)`.
        flow_ab: `(B, 2, H, W)` pixels.

    Returns:
        The warped map `(B, C, H, W)`, zero outside with partial weights at the border, and a bool mask
        `(B, 1, H, W)` that is True where all four neighbours lie inside.
    """
    points = flow_targets(flow_ab)
    limit = torch.tensor([x_b.shape[-1] - 1, x_b.shape[-2] - 1], dtype=points.dtype, device=points.device)
    # A hair of slack, as a landing exactly on the border may be a rounding error outside of it.
    inside = ((points > -1e-4) & (points < limit + 1e-4)).all(-1)[:, None]
    return sample(x_b, points), inside


def forward_splat(x_a: Tensor, flow_ab: Tensor) -> Tensor:
    """Drop every pixel of a where the flow takes it, shared bilinearly among four pixels; sums, nothing normalised.

    Args:
        x_a: `(B, C, H, W)`; ones give the coverage from which occlusion is read.
        flow_ab: `(B, 2, H, W)` pixels. Parts that land outside are dropped; non-finite flow drops the pixel.

    Returns:
        `(B, C, H, W)`. Differentiable in both.
    """
    B, C, H, W = x_a.shape
    points = flow_targets(flow_ab).reshape(B, H * W, 2)
    points = torch.where(points.isfinite().all(-1, keepdim=True), points, torch.full_like(points, -2.0))
    points = points.clamp(-2, max(H, W) + 1)
    corner = points.detach().floor()
    fraction = points - corner
    corner = corner.long()
    values = x_a.reshape(B, C, H * W)
    out = torch.zeros(B, C, (H + 2) * (W + 2), dtype=x_a.dtype, device=x_a.device)
    for dx in (0, 1):
        for dy in (0, 1):
            weight_x = fraction[..., 0] if dx else 1 - fraction[..., 0]
            weight_y = fraction[..., 1] if dy else 1 - fraction[..., 1]
            # A frame of one pixel around the image catches what falls outside.
            column = (corner[..., 0] + dx + 1).clamp(0, W + 1)
            row = (corner[..., 1] + dy + 1).clamp(0, H + 1)
            index = (row * (W + 2) + column)[:, None].expand(B, C, H * W)
            out = out.scatter_add(2, index, values * (weight_x * weight_y)[:, None])
    return out.reshape(B, C, H + 2, W + 2)[..., 1:-1, 1:-1]


def rigid_flow(depth_a: Tensor, T_ba: Tensor, K: Tensor) -> Tensor:
    """The flow a -> b of a static scene.

    Args:
        depth_a: `(B, 1, H, W)` along z, positive.
        T_ba: `(B, 4, 4)`, in the unit of the depth.
        K: `(B, 3, 3)` or `(3, 3)`.

    Returns:
        `(B, 2, H, W)` pixels. Differentiable in depth and pose.
    """
    B, _, H, W = depth_a.shape
    pixels = pixel_grid(H, W, dtype=depth_a.dtype, device=depth_a.device).flatten(1).T.expand(B, H * W, 2)
    X_b = transform(T_ba, backproject(pixels, depth_a.reshape(B, H * W), K))
    return (project(X_b, K) - pixels).transpose(1, 2).reshape(B, 2, H, W)
