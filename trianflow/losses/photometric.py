"""How much a warped image differs from the one it should look like: absolute difference and structural similarity."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trianflow.losses.masking import apply_mask, normalized_mean

_C1, _C2 = 0.01**2, 0.03**2


class _BoxMean(torch.autograd.Function):
    """Means of 3x3 pixels, zeros around the image. The filter is symmetric, so its backward pass is itself.

    Pooling does the same at many times the price on a CPU, and a convolution would run in half precision under
    autocast, where the variances below cancel to nothing.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _box_mean(x)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> Tensor:
        return _BoxMean.apply(grad[0])


def _box_mean(x: Tensor) -> Tensor:
    rows = x / 9
    columns = rows.clone()
    columns[..., 1:] += rows[..., :-1]
    columns[..., :-1] += rows[..., 1:]
    out = columns.clone()
    out[..., 1:, :] += columns[..., :-1, :]
    out[..., :-1, :] += columns[..., 1:, :]
    return out


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity of 3x3 neighbourhoods, zeros around the image.

    Args:
        x, y: `(B, C, H, W)` in [0, 1].

    Returns:
        `(B, C, H, W)` in [-1, 1], 1 where they are equal. Differentiable in both.

    Source: Wang et al., "Image quality assessment", TIP 2004, with box means; C1 = 0.01^2, C2 = 0.03^2.
    """
    mean_x, mean_y = _BoxMean.apply(x), _BoxMean.apply(y)
    product = mean_x * mean_y
    squares = mean_x.square() + mean_y.square()
    covariance = _BoxMean.apply(x * y) - product
    variances = _BoxMean.apply(x.square() + y.square()) - squares
    return (2 * product + _C1) * (2 * covariance + _C2) / ((squares + _C1) * (variances + _C2))


def photometric_losses(image: Tensor, warped: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Absolute difference and structural dissimilarity within a mask.

    Args:
        image, warped: `(B, C, H, W)` in [0, 1]; where the mask is zero they may hold anything.
        mask: `(B, 1, H, W)` in [0, 1].

    Returns:
        Two of `(B,)`, 0 for an empty mask: the mean of |x - y| and that of (1 - SSIM) / 2, where x and y are the images
        multiplied by the mask, both over the mean of the mask.
    """
    x, y = apply_mask(image, mask), apply_mask(warped, mask)
    dissimilarity = ((1 - ssim(x, y)) / 2).clamp(0, 1)
    return normalized_mean((x - y).abs(), mask), normalized_mean(dissimilarity, mask)
