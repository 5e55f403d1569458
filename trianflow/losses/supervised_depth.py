"""The loss of depth whose truth is known: measured, rendered, or of structure that was found before."""

from __future__ import annotations

import torch
from torch import Tensor

from trianflow.losses.masking import masked_mean


def supervised_depth_loss(depth: Tensor, truth: Tensor) -> Tensor:
    """Mean distance of the logarithm of depth from that of the truth: 0.1 is about 10 % of the depth, near and far.

    Args:
        depth: `(B, 1, H, W)`, positive.
        truth: `(B, 1, H, W)` in the same unit; not positive or not finite where unknown.

    Returns:
        `(B,)`, 0 with zero gradient for an item without truth. Differentiable in the depth.
    """
    known = truth.isfinite() & (truth > 0)
    return masked_mean((depth.log() - torch.where(known, truth, 1.0).log()).abs(), known)
