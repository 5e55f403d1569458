"""The loss of optical flow whose truth is known: the end-point error at several sizes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from trianflow.losses.masking import masked_mean

_SOFT = 0.05  # pixels, below which the pull fades
_HIDDEN = 0.2  # weight of a pixel that the other image does not show, against 1
_COARSER = 0.5  # weight of a level against the next finer one


def supervised_flow_loss(flows: Sequence[Tensor], truth: Tensor, visible: Tensor | None = None) -> Tensor:
    """Distance of a flow from the truth, summed over its levels.

    A pixel with the end-point error e costs (e^2 + 0.05^2)^(1/2) - 0.05, e in pixels of the full size at every level: a
    far one pulls as much as one that is nearly right, as a classical last step mends small errors, not large ones. A
    level costs half as much as the next finer one, and its truth is the weighted mean of the pixels that it joins.
    Pixels that the other image does not show count a fifth.

    Args:
        flows: at 1, 1/2, 1/4, ... of the size, rounded down, in pixels of that size, `(B, 2, H_i, W_i)`.
        truth: `(B, 2, H, W)` pixels, NaN where unknown.
        visible: `(B, 1, H, W)`: 1 where the point is seen in the other image, 0 where not, NaN where that is unknown,
            which counts as seen; None where it is everywhere.

    Returns:
        `(B,)`, 0 with zero gradient for an item without truth. Differentiable in the flows.
    """
    known = truth.isfinite().all(1, keepdim=True)
    truth = torch.where(known, truth, 0.0)
    weight = known.to(truth.dtype)
    if visible is not None:
        weight = weight * torch.where(visible < 0.5, _HIDDEN, 1.0)
    total = truth.new_zeros(len(truth))
    for i, flow in enumerate(flows):
        share = weight if i == 0 else avg_pool2d(weight, 2**i)
        there = truth if i == 0 else avg_pool2d(truth * weight, 2**i) / share.clamp_min(1e-6)
        square = (2**i * flow - there).square().sum(1, keepdim=True)
        cost = (square + _SOFT**2).sqrt() - _SOFT
        total = total + _COARSER**i * masked_mean(cost, share)
    return total
