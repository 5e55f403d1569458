"""Errors of depth up to scale."""

from __future__ import annotations

import torch
from torch import Tensor

from trianflow.geometry.scale import masked_median


def scaled_by_median(depth: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Predicted depth times the ratio of the medians, the customary alignment of monocular depth.

    Args:
        depth, truth: `(B, N)` positive.
        valid: `(B, N)` bool.

    Returns:
        `(B, N)`.
    """
    ratio = masked_median(truth, valid) / masked_median(depth, valid).clamp_min(1e-12)
    return depth * ratio[:, None]


def absolute_relative(depth: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """AbsRel: mean of |depth - truth| / truth where valid; `(B, N)` to `(B,)`, NaN for an item without truth."""
    error = torch.where(valid, (depth - truth).abs() / torch.where(valid, truth, 1.0), 0.0)
    return error.sum(-1) / valid.sum(-1)
