"""Which model explains a pair of views: general, standstill, rotation or plane; the noise, and whether it is chance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from trianflow.geometry.ransac import is_significant
from trianflow.geometry.scale import masked_median

# Bits of description, in natural units, after Torr's GRIC: a match costs its squared residual in sigmas and log 4 for
# each degree of freedom that its position has on the model; a model costs log(4 N) for each of its parameters.
_FREEDOM = (3.0, 2.0, 2.0, 2.0)
_PARAMETERS = (5.0, 0.0, 3.0, 8.0)
# An outlier costs the same under every model (ours: else a model of more freedom gains by every outlier): what a
# match at 2.57 sigma, the 99 % point, costs in the most general one.
_OUTLIER = 3 * math.log(4) + 6.6


@dataclass(frozen=True)
class ModelChoice:
    """The model of each of B pairs.

    Attributes:
        model: `(B,)` int64: 0 epipolar geometry, 1 standstill, 2 rotation, 3 homography.
        inlier: `(B, N)` bool, matches that fit it.
        significant: `(B,)` bool, whether they are more than chance would give.
    """

    model: Tensor
    inlier: Tensor
    significant: Tensor


def select_model(
    distances: Tensor, q_a: Tensor, q_b: Tensor, valid: Tensor, noise: Tensor, reach: Tensor, coherent: Tensor
) -> ModelChoice:
    """The model of the shortest description.

    Args:
        distances: `(B, 4, N)` squared distances of the matches to the four models, in their order in `ModelChoice`.
        q_a, q_b: `(B, N, 2)` the matches.
        valid: `(B, N)` bool.
        noise: `(B,)` standard deviation of a coordinate.
        reach: `(B,)` largest distance of an inlier.
        coherent: `(B,)` distance by which a flow may be wrong in unison: thousands of matches would take it for a
            rotation or a plane, so standstill and rotation are forgiven that much.

    Source: Torr, Bayesian model estimation and selection for epipolar geometry, IJCV 2002.
    """
    count = valid.sum(-1)
    freedom, parameters = distances.new_tensor(_FREEDOM)[:, None], distances.new_tensor(_PARAMETERS)
    forgiven = distances.clone()
    forgiven[:, 1:3] = (distances[:, 1:3] - coherent[:, None, None].square()).clamp_min(0)
    cost = forgiven / noise[:, None, None].square() + math.log(4) * freedom
    cost = (cost.nan_to_num(_OUTLIER).clamp_max(_OUTLIER) * valid[:, None]).sum(-1)
    cost = cost + parameters * (4 * count[:, None].clamp_min(1)).log()
    model = cost.argmin(1)
    limit = (3 * noise).minimum(reach)
    chosen = distances.gather(1, model[:, None, None].expand(-1, 1, distances.shape[-1]))[:, 0]
    inlier = valid & (chosen < limit[:, None].square())
    point_chance = math.pi * limit.square() / spread(q_b, valid).prod(-1)
    significant = torch.where(
        model == 0,
        is_significant(inlier.sum(-1), count, line_chance(q_a, q_b, valid, limit), 5),
        is_significant(inlier.sum(-1), count, point_chance, 4),
    )
    return ModelChoice(model, inlier, significant)


def robust_noise(squared: Tensor, valid: Tensor, reach: Tensor, freedom: int, floor: Tensor) -> Tensor:
    """Noise of every coordinate, from squared distances to a model, by the median of those within reach.

    Args:
        squared: `(B, N)` squared distances, noise^2 times a chi-square of `freedom` degrees for a good match.
        valid: `(B, N)` bool.
        reach: `(B,)` largest distance of an inlier.
        freedom: 1 for epipolar geometry, 2 for a homography.
        floor: `(B,)` smallest answer.

    Returns:
        `(B,)` standard deviation in the units of the distance.
    """
    # Cut at `cut` sigma, the median of a chi distribution is `median` sigma.
    cut, median = {1: (2.5, 0.6645), 2: (3.0, 1.1680)}[freedom]
    r = squared.sqrt()
    sigma = reach / cut
    for _ in range(3):
        near = valid & (r < (cut * sigma).minimum(reach)[:, None])
        sigma = (masked_median(r, near) / median).maximum(floor)
    return sigma


def spread(q: Tensor, valid: Tensor) -> Tensor:
    """Width and height of the box around valid points: `(B, N, 2)` to `(B, 2)`, at least 1e-9."""
    low = torch.where(valid[..., None], q, torch.inf).amin(1)
    high = torch.where(valid[..., None], q, -torch.inf).amax(1)
    return (high - low).nan_to_num(0.0, 0.0, 0.0).clamp_min(1e-9)


def line_chance(q_a: Tensor, q_b: Tensor, valid: Tensor, limit: Tensor) -> Tensor:
    """Probability that a match of no meaning lies within `limit` `(B,)` of its epipolar line.

    Such a match is taken to end anywhere in the box around the points of b `(B, N, 2)`, or, where displacements
    are all alike as those of a flow are even when it is wrong, anywhere within their usual range. At most one half.
    """
    displacement, everyone = q_b - q_a, valid[:, None]
    centre = masked_median(displacement.mT, everyone)
    usual = 4 * masked_median((displacement - centre[:, None]).abs().mT, everyone)
    size = spread(q_b, valid).minimum(usual.clamp_min(1e-9))
    return (2 * limit * size.norm(dim=-1) / size.prod(-1)).clamp_max(0.5)
