"""Means over a mask, one value per item: an empty mask gives zero, and what lies outside of a mask has no say."""

from __future__ import annotations

import torch
from torch import Tensor


def item_mean(x: Tensor) -> Tensor:
    """The mean of every item: `(B, ...)` to `(B,)`; 0 where there is nothing to average."""
    return x.flatten(1).sum(1) / max(x.shape[1:].numel(), 1)


def apply_mask(x: Tensor, mask: Tensor) -> Tensor:
    """x * mask, and zero with zero gradient where the mask is zero, whatever stands there (NaN and infinity as well).

    Args:
        x: `(B, C, H, W)`.
        mask: `(B, 1, H, W)` bool, or finite and non-negative.
    """
    return torch.where(mask > 0, x, 0.0) * mask


def normalized_mean(masked: Tensor, mask: Tensor) -> Tensor:
    """The mean of something that is already masked, over the mean of its mask.

    Args:
        masked: `(B, C, H, W)`, finite.
        mask: `(B, 1, H, W)` bool, or finite and non-negative.

    Returns:
        `(B,)`; an item with an empty mask is divided by one instead.
    """
    share = item_mean(mask.to(masked.dtype))
    return item_mean(masked) / torch.where(share > 0, share, 1.0)


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Weighted mean over channels, rows and columns: the mean of x * mask over the mean of the mask.

    Args:
        x: `(B, C, H, W)`; where the mask is zero it may hold anything.
        mask: `(B, 1, H, W)` bool, or finite and non-negative.

    Returns:
        `(B,)`; 0 with zero gradient for an item with an empty mask.
    """
    return normalized_mean(apply_mask(x, mask), mask)
