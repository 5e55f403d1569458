"""Which pixels of a flow can be trusted: visibility by forward splatting, forward-backward consistency, a score."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trianflow.flow.interface import FlowPair
from trianflow.geometry.camera import pixel_grid
from trianflow.geometry.warping import forward_splat, sample


@dataclass(frozen=True)
class FlowQuality:
    """Trust in flow_ab on a grid of pixels of image a.

    Attributes:
        visible: `(B, 1, h, w)` in [0, 1]: how much of the pixel something in b lands on; 0 is occluded in b.
        consistent: `(B, 1, h, w)` bool: going forth and back returns to about the start.
        score: `(B, 1, h, w)` visible * consistent / (0.1 + mean |difference|), from 0 to 10.
        difference: `(B, 2, h, w)` pixels, of `forward_backward_difference`; the only one with a gradient.
    """

    visible: Tensor
    consistent: Tensor
    score: Tensor
    difference: Tensor


def visibility(flow_ba: Tensor) -> Tensor:
    """The share of every pixel of a on which pixels of b land: flow `(B, 2, H, W)` to `(B, 1, H, W)` in [0, 1].

    0 where nothing in b lands: occluded there, or out of view. Soft, and without gradient.
    """
    with torch.no_grad():
        return forward_splat(torch.ones_like(flow_ba[:, :1]), flow_ba).clamp(0, 1)


def forward_backward_difference(flow_ab: Tensor, flow_ba: Tensor, stride: int = 1) -> Tensor:
    """|flow_ba(p + flow_ab(p)) + flow_ab(p)| of both components.

    Args:
        flow_ab, flow_ba: `(B, 2, H, W)` pixels.
        stride: evaluate every stride-th row and column.

    Returns:
        `(B, 2, h, w)` pixels; beyond the border of b the backward flow counts as zero.
    """
    coarse = flow_ab[..., ::stride, ::stride]
    start = pixel_grid(flow_ab.shape[-2], flow_ab.shape[-1], flow_ab.dtype, flow_ab.device, stride)
    return (sample(flow_ba, (start + coarse).permute(0, 2, 3, 1)) + coarse).abs()


def flow_quality(flow: FlowPair, alpha: float = 3.0, beta: float = 0.05, stride: int = 1) -> FlowQuality:
    """Visibility, consistency and score of flow_ab.

    Args:
        flow: both directions.
        alpha: consistent below this difference in pixels,
        beta: or below this share of the flow's length.
        stride: evaluate every stride-th row and column of a.

    Returns:
        `FlowQuality` with h = ceil(H / stride), w = ceil(W / stride).

    Source: TrianFlow, section 3.2.
    """
    coarse = flow.flow_ab[..., ::stride, ::stride].detach()
    difference = forward_backward_difference(flow.flow_ab, flow.flow_ba, stride)
    visible = visibility(flow.flow_ba[..., ::stride, ::stride] / stride)
    # By components: a reduction over a dimension of two is many times slower.
    dx, dy = difference[:, :1].detach(), difference[:, 1:].detach()
    limit = (beta * torch.hypot(coarse[:, :1], coarse[:, 1:])).clamp_min(alpha)
    consistent = torch.hypot(dx, dy) < limit
    score = torch.where(consistent, visible / (0.1 + (dx + dy) / 2), 0.0)
    return FlowQuality(visible, consistent, score, difference)
