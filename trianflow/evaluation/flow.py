"""Errors of optical flow."""

from __future__ import annotations

import torch
from torch import Tensor


def end_point_error(flow: Tensor, truth: Tensor) -> Tensor:
    """Length of the difference of two flows `(B, 2, H, W)`: `(B, 1, H, W)` pixels."""
    difference = flow - truth
    return torch.hypot(difference[:, :1], difference[:, 1:])


def is_outlier(error: Tensor, truth: Tensor) -> Tensor:
    """KITTI's bad pixels: wrong by more than 3 pixels and by more than 5 % of the true length.

    Args:
        error: `(B, 1, H, W)` of `end_point_error`.
        truth: `(B, 2, H, W)` pixels.

    Returns:
        `(B, 1, H, W)` bool.
    """
    return (error > 3) & (error > 0.05 * torch.hypot(truth[:, :1], truth[:, 1:]))
