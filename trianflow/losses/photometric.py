"""How much a warped image differs from the one it should look like: absolute difference and structural similarity."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

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


def _pixel(x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
    return normalized_mean((x - y).abs(), mask)


def _dissimilarity(x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
    return normalized_mean(((1 - ssim(x, y)) / 2).clamp(0, 1), mask)


def pixel_loss(image: Tensor, warped: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute difference within a mask.

    Args:
        image, warped: `(B, C, H, W)` in [0, 1]; where the mask is zero they may hold anything.
        mask: `(B, 1, H, W)` in [0, 1].

    Returns:
        `(B,)` in [0, 1]; 0 for an empty mask.
    """
    return _pixel(apply_mask(image, mask), apply_mask(warped, mask), mask)


def ssim_loss(image: Tensor, warped: Tensor, mask: Tensor) -> Tensor:
    """Mean of (1 - SSIM) / 2 of the images multiplied by a mask, over the mean of the mask.

    Args:
        image, warped, mask: as for `pixel_loss`.

    Returns:
        `(B,)`, non-negative; 0 for an empty mask.
    """
    return _dissimilarity(apply_mask(image, mask), apply_mask(warped, mask), mask)


def photometric_losses(image: Tensor, warped: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """`pixel_loss` and `ssim_loss` of the same images, which are masked only once."""
    x, y = apply_mask(image, mask), apply_mask(warped, mask)
    return _pixel(x, y, mask), _dissimilarity(x, y, mask)


def image_pyramid(image: Tensor, levels: int) -> list[Tensor]:
    """The image at full size, half, a quarter and so on, by averaging: level i has floor(H / 2^i) rows, at least one.

    Args:
        image: `(B, C, H, W)`.
        levels: how many, the full size included.
    """
    height, width = image.shape[-2:]
    sizes = [(max(height >> i, 1), max(width >> i, 1)) for i in range(levels)]
    return [image if i == 0 else adaptive_avg_pool2d(image, size) for i, size in enumerate(sizes)]
