"""Depth of every pixel that the flow between two frames of known motion tells: dense triangulation."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from trianflow.flow.interface import FlowPair
from trianflow.flow.occlusion import forward_backward_difference
from trianflow.geometry.camera import homogeneous, normalize_pixels, pixel_grid
from trianflow.geometry.epipolar import sampson_distance, skew
from trianflow.geometry.radial import straighten
from trianflow.geometry.triangulation import inverse_depths

# Pixels: what the way back may miss by and a match may lie beside its epipolar line, and the least motion along it.
_INCONSISTENT, _OFF_LINE, _PARALLAX = 1.0, 0.5, 1.5


def flow_depth(flow: FlowPair, T_ba: Tensor, K: Tensor, radial: float = 0.0) -> np.ndarray:
    """Depth in a, triangulated with b.

    Args:
        flow: both directions, B = 1.
        T_ba: `(4, 4)`; its translation sets the unit.
        K: `(3, 3)`, of both images.
        radial: residual distortion of the images (`geometry.radial.straighten`).

    Returns:
        `(H, W)` float32 along z. 0 where unknown: the flow is not confirmed by the way back or lies beside the epipolar
        line, the parallax is too small, or the point would be behind a camera; so everywhere without a translation.
    """
    flow_ab, K, T_ba = flow.flow_ab.double(), K.double(), T_ba.double()
    height, width = flow_ab.shape[-2:]
    p_a = pixel_grid(height, width, torch.float64, flow_ab.device).permute(1, 2, 0).reshape(-1, 2)
    p_b = p_a + flow_ab[0].permute(1, 2, 0).reshape(-1, 2)
    x_a, x_b = (straighten(normalize_pixels(p, K), radial) for p in (p_a, p_b))
    inverse, shift = inverse_depths(x_a, x_b, T_ba)
    off_line = sampson_distance(skew(T_ba[:3, 3]) @ T_ba[:3, :3], x_a, x_b).abs() * K[0, 0]
    z_b = homogeneous(x_a) @ T_ba[2, :3] + inverse * T_ba[2, 3]  # over the depth in a
    missed = forward_backward_difference(flow.flow_ab, flow.flow_ba).norm(dim=1).flatten()
    good = (missed < _INCONSISTENT) & (off_line < _OFF_LINE) & (z_b > 0) & (inverse * shift * K[0, 0] > _PARALLAX)
    depth = torch.where(good, 1 / torch.where(good, inverse, 1.0), 0.0)
    return depth.reshape(height, width).float().cpu().numpy()
