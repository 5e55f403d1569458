"""Random sample consensus over minimal solvers: batched, seeded, and without a host synchronisation in it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from trianflow.geometry.epipolar import epipolar_design
from trianflow.geometry.homography import homography_design

# Matches from which on drawing with repetition is as good as without.
_MANY = 256


def draw(valid: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Uniform random indices of valid matches, with replacement.

    Args:
        valid: `(B, N)` bool.
        shape: of the indices of one item.
        generator: on the device of `valid`.

    Returns:
        `(B, *shape)` int64. An item without a valid match gets index 0.
    """
    B, N = valid.shape
    order = (~valid).to(torch.uint8).argsort(dim=-1, stable=True)
    count = valid.sum(-1).clamp_min(1)
    # One stream of numbers serves every item, so that an item's answer does not depend on its neighbours.
    u = torch.rand(math.prod(shape), generator=generator, device=valid.device, dtype=torch.float64)
    rank = (u[None] * count[:, None]).long().clamp_max(N - 1)
    return order.gather(1, rank).reshape(B, *shape)


def draw_samples(valid: Tensor, samples: int, size: int, generator: torch.Generator) -> Tensor:
    """Random minimal samples of valid matches, `(B, samples, size)` indices.

    Without repetition among few matches, where one is likely; with it among many.
    """
    N = valid.shape[1]
    if N > _MANY:
        return draw(valid, (samples, size), generator)
    u = torch.rand(samples, N, generator=generator, device=valid.device)
    return (u[None] + 2 * ~valid[:, None]).topk(size, dim=-1, largest=False).indices


def draw_judges(valid: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Indices `(B, n)` of the matches that judge hypotheses: all of them, or `count` at random."""
    B, N = valid.shape
    if count >= N:
        return torch.arange(N, device=valid.device).expand(B, N)
    return draw(valid, (count,), generator)


def take(points: Tensor, index: Tensor) -> Tensor:
    """Rows of `(B, N, D)` at `(B, ...)` indices: `(B, ..., D)`."""
    D = points.shape[-1]
    flat = index.flatten(1)[..., None].expand(-1, -1, D)
    return points.gather(1, flat).reshape(*index.shape, D)


def null_vector(A: Tensor) -> Tensor:
    """The unit vector orthogonal to the rows of A: `(..., 8, 9)` to `(..., 9)`, by a complete QR of its transpose."""
    return torch.linalg.qr(A.transpose(-1, -2), mode="complete")[0][..., -1]


def eight_point_minimal(q_a: Tensor, q_b: Tensor) -> Tensor:
    """F through exactly eight matches, of full rank: `(..., 8, 2)` twice to `(..., 3, 3)` of unit norm."""
    return null_vector(epipolar_design(q_a, q_b)).unflatten(-1, (3, 3))


def homography_minimal(q_a: Tensor, q_b: Tensor) -> Tensor:
    """H through exactly four matches, q_b ~ H q_a: `(..., 4, 2)` twice to `(..., 3, 3)` of unit norm."""
    return null_vector(homography_design(q_a, q_b)).unflatten(-1, (3, 3))


def msac(squared: Tensor, valid: Tensor, threshold_squared: Tensor) -> Tensor:
    """MSAC cost: the mean squared distance, each truncated at the threshold, as a share of it.

    Args:
        squared: `(B, M, N)`; NaN counts as an outlier.
        valid: `(B, N)` bool, which matches count.
        threshold_squared: `(B,)`.

    Returns:
        `(B, M)` in [0, 1], 1 where nothing fits.

    Source: Torr & Zisserman, MLESAC, CVIU 2000.
    """
    cost = (squared / threshold_squared[:, None, None]).nan_to_num(1.0).clamp_max(1.0)
    weight = valid.to(squared.dtype)[:, :, None]
    return (cost @ weight)[..., 0] / weight.sum(1).clamp_min(1)


def ransac(
    minimal: Callable[[Tensor, Tensor], Tensor],
    squared_distance: Callable[[Tensor], Tensor],
    sample_size: int,
    q_a: Tensor,
    q_b: Tensor,
    valid: Tensor,
    judged: Tensor,
    threshold: Tensor,
    hypotheses: int,
    keep: int,
    generator: torch.Generator,
) -> Tensor:
    """The best models of random minimal samples, judged on a subset of the matches by MSAC.

    Args:
        minimal: sample `(B, M, S, 2)` twice to models `(B, M, 3, 3)`.
        squared_distance: models to their squared distances `(B, M, n)` of the n matches that judge.
        sample_size: S.
        q_a, q_b: `(B, N, 2)` matches, best in coordinates of order one.
        valid: `(B, N)` bool, from which samples are drawn.
        judged: `(B, n)` bool, which of the n matches count.
        threshold: `(B,)` inlier distance in the units of the points.
        hypotheses: models tried.
        keep: models returned, best first.
        generator: on the device of the points.

    Returns:
        `(B, keep, 3, 3)`.
    """
    index = draw_samples(valid, hypotheses, sample_size, generator)
    models = minimal(take(q_a, index), take(q_b, index)).nan_to_num(0.0)
    cost = msac(squared_distance(models), judged, threshold.square())
    best = cost.topk(keep, dim=1, largest=False).indices
    return take(models.flatten(-2), best).unflatten(-1, (3, 3))


def is_significant(
    inliers: Tensor, count: Tensor, chance: Tensor, freedom: int, log_false_alarms: float = 7.0
) -> Tensor:
    """Whether a model explains more matches than the best of many random models would by chance (a contrario).

    A Chernoff bound of the binomial tail is set against the number of models that `freedom` matches can define.

    Args:
        inliers, count: `(B,)` matches explained, and matches in all.
        chance: `(B,)` probability that a random match fits a given model.
        freedom: matches that pin the model down.
        log_false_alarms: required margin, natural logarithm.

    Returns:
        `(B,)` bool.

    Source: Moisan & Stival, "A probabilistic criterion to detect rigid point matches", IJCV 2004 (our bound).
    """
    n = (count - freedom).clamp_min(1).to(torch.float64)
    share = ((inliers - freedom) / n).clamp(1e-9, 1 - 1e-9)
    chance = chance.to(torch.float64).clamp(1e-9, 1 - 1e-9)
    divergence = share * (share / chance).log() + (1 - share) * ((1 - share) / (1 - chance)).log()
    tests = (freedom + 1) * count.clamp_min(2).to(torch.float64).log() - math.lgamma(freedom + 1)
    return (share > chance) & (inliers > freedom) & (n * divergence > tests + log_false_alarms)
