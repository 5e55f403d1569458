"""Pixels seen by another camera, from inverse depth: cheap on whole images, and the sky is a depth like any other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Seen:
    """The pixels of a as camera b sees them, `(B, 1, H, W)` each, finite.

    Attributes:
        x, y: pixels in b; meaningless where not in front.
        ratio: depth in b over depth in a, not positive behind b.
    """

    x: Tensor
    y: Tensor
    ratio: Tensor

    def within(self, slack: float = 0.0) -> Tensor:
        """`(B, 1, H, W)` bool: in front of b and between the centres of its border pixels, or `slack` pixels off."""
        H, W = self.x.shape[-2:]
        inside = (self.x >= -slack) & (self.x <= W - 1 + slack) & (self.y >= -slack) & (self.y <= H - 1 + slack)
        return inside & (self.ratio > 0)


def inverse_depth_of(depth: Tensor) -> tuple[Tensor, Tensor]:
    """Inverse depth of the same shape, and a bool mask of where it is known.

    Args:
        depth: any shape, along z; unknown where not positive or NaN. Infinite depth is known, its inverse is 0.

    Returns:
        The inverse, 0 with zero gradient where unknown, and the mask. Differentiable.
    """
    known = depth > 0
    return torch.where(known, 1 / torch.where(known, depth, 1.0), 0.0), known


def see(inverse_depth_a: Tensor, T_ba: Tensor, K: Tensor) -> Seen:
    """Where the pixels of a appear in b.

    Args:
        inverse_depth_a: `(B, 1, H, W)`, not negative.
        T_ba: `(B, 4, 4)` finite, in the unit of the depth.
        K: `(B, 3, 3)` or `(3, 3)`, of both views.

    Returns:
        `Seen`. Differentiable in inverse depth and pose.

    Source: DDVO, equation 9: x' ~ K (R K^-1 x + d t).
    """
    H, W = inverse_depth_a.shape[-2:]
    turn = (K @ T_ba[:, :3, :3] @ torch.linalg.inv(K))[:, :, :, None, None, None]
    shift = (K @ T_ba[:, :3, 3:])[:, :, :, None, None]
    x = torch.arange(W, dtype=inverse_depth_a.dtype, device=inverse_depth_a.device)
    y = torch.arange(H, dtype=inverse_depth_a.dtype, device=inverse_depth_a.device)[:, None]
    # A row of x and a column of y make each sum of the pixel's coordinates in one pass over the image.
    u, v, ratio = (
        torch.addcmul(turn[:, i, 0] * x + (turn[:, i, 1] * y + turn[:, i, 2]), shift[:, i], inverse_depth_a)
        for i in range(3)
    )
    scale = 1 / torch.where(ratio > 1e-6, ratio, 1.0)
    return Seen(u * scale, v * scale, ratio)
