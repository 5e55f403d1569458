"""Scale between two depths of the same points: the closed form of the losses, and a robust one for odometry."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def lower_median(x: Tensor) -> Tensor:
    """The lower median over the last dimension: `(..., N)` to `(...,)`."""
    return x.median(dim=-1).values


def closed_form_scale(depth: Tensor, reference: Tensor, weight: Tensor | None = None, eps: float = 1e-12) -> Tensor:
    """The factor s that minimises sum w ((reference - s depth) / reference)^2.

    Args:
        depth, reference: `(..., N)` positive.
        weight: `(..., N)` non-negative; ones by default. An item without weight gives 0, never NaN.
        eps: added to the denominator.

    Returns:
        `(...,)`. Differentiable in all three.

    Source: TrianFlow, section 3.4.
    """
    ratio = depth / reference
    weight = torch.ones_like(ratio) if weight is None else weight
    ratio = torch.where(weight > 0, ratio, torch.zeros_like(ratio))
    return (weight * ratio).sum(-1) / ((weight * ratio.square()).sum(-1) + eps)


def masked_median(x: Tensor, mask: Tensor) -> Tensor:
    """Lower median over the last dimension of the entries in `mask`: `(..., N)` to `(...,)`; 0 where there are none."""
    return x.masked_fill(~mask, torch.nan).nanmedian(-1).values.nan_to_num(0.0)


@dataclass(frozen=True)
class ScaleEstimate:
    """A robust scale between two sets of depths.

    Attributes:
        scale: `(...,)` factor that takes the measured depths to the reference; 1 where `ok` is False.
        log_sigma: `(...,)` standard deviation of its logarithm.
        inlier_ratio: `(...,)` share of the weighted points within three sigma, in [0, 1].
        ok: `(...,)` bool, False with fewer than `min_points` usable points.
    """

    scale: Tensor
    log_sigma: Tensor
    inlier_ratio: Tensor
    ok: Tensor


def robust_scale(
    depth: Tensor, reference: Tensor, log_variance: Tensor, min_points: int = 12, iterations: int = 10
) -> ScaleEstimate:
    """The scale s with reference = s * depth, by inverse-variance weights and a robust loss on log depths.

    A weighted median of the log ratios starts a mean with redescending (Geman-McClure) weights, which ignores the
    points whose two depths have nothing to do with each other (wrong matches, moving objects).

    Args:
        depth, reference: `(..., N)`; entries that are not positive and finite are ignored.
        log_variance: `(..., N)` variance of log(reference / depth), positive; not finite: ignored.
        min_points: usable points below which there is no answer.
        iterations: of re-weighting.

    Returns:
        `ScaleEstimate`.
    """
    usable = (depth > 0) & (reference > 0) & depth.isfinite() & reference.isfinite()
    usable &= log_variance.isfinite() & (log_variance > 0)
    one = torch.ones_like(depth)
    log_ratio = torch.where(usable, reference, one).log() - torch.where(usable, depth, one).log()
    variance = torch.where(usable, log_variance, one)
    weight = usable.to(depth.dtype) / variance
    order = log_ratio.masked_fill(~usable, torch.inf).argsort(-1)
    cumulative = weight.gather(-1, order).cumsum(-1)
    middle = (cumulative < cumulative[..., -1:] / 2).sum(-1, keepdim=True).clamp_max(depth.shape[-1] - 1)
    mean = log_ratio.gather(-1, order.gather(-1, middle))[..., 0]
    # The scatter, in stated standard deviations, by the median; then by that of the points within 2.5 of it alone,
    # as one-sided outliers (a moving object, a wall matched for what is behind it) would drag both it and the mean.
    count, near = usable.sum(-1), usable
    spread = torch.ones_like(mean)
    for i in range(iterations):
        z = (log_ratio - mean[..., None]).abs() / variance.sqrt()
        if i >= iterations // 3:
            near = usable & (z < 2.5 * spread[..., None])
        spread = (masked_median(z, near) / (0.6745 if near is usable else 0.6645)).clamp_min(1e-6)
        robust = weight / (1 + (z / (3 * spread[..., None])).square()).square()
        total = robust.sum(-1).clamp_min(1e-12)
        mean = (robust * log_ratio).sum(-1) / total
    ok = count >= min_points
    inlier = (z < 3 * spread[..., None]) & usable
    return ScaleEstimate(
        scale=torch.where(ok, mean, torch.zeros_like(mean)).exp(),
        log_sigma=spread / total.sqrt(),
        inlier_ratio=inlier.sum(-1) / count.clamp_min(1),
        ok=ok,
    )


def robust_mean(values: Tensor, sigma: Tensor, own: float = 0.02, steps: int = 5) -> tuple[float, float]:
    """The mean of positive values, and its standard deviation: Cauchy weights that start from a weighted median.

    Unlike `robust_scale` it takes single values that are zero or negative as they come, so that ratios of little
    parallax, half of which may be negative, are no more likely to be chosen for being too large.

    Args:
        values: `(N,)`, one at least, with outliers.
        sigma: `(N,)` standard deviation of each, positive.
        own: standard deviation that each has beside, as a share of the mean.
        steps: of re-weighting.
    """
    order = values.argsort()
    heap = sigma[order].pow(-1).cumsum(0)
    mean = values[order[int((heap < heap[-1] / 2).sum())]]
    for _ in range(steps):
        variance = sigma.square() + (own * mean).square()
        z = (values - mean).square() / variance
        spread = (z.median() / 0.455).clamp_min(1e-12)
        weight = 1 / (variance * (1 + z / (2.385**2 * spread)))
        mean = (weight * values).sum() / weight.sum()
    return float(mean), float((spread / weight.sum()).sqrt())
