"""The fundamental matrix of two uncalibrated views: what is left of the two-view solver where K is unknown."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trianflow.config import TwoViewConfig
from trianflow.geometry.epipolar import eight_point, normalizing_transform
from trianflow.geometry.ransac import draw_judges, eight_point_minimal, is_significant, msac, ransac, take
from trianflow.geometry.sampson import MatchProducts
from trianflow.pose.selection import line_chance, robust_noise


@dataclass(frozen=True)
class FundamentalEstimate:
    """Epipolar geometry of a batch of pairs.

    Attributes:
        F_ba: `(B, 3, 3)` of rank two and unit norm; zero where `ok` is False.
        inlier: `(B, N)` bool.
        noise: `(B,)` standard deviation of the inliers' Sampson distances, pixels.
        ok: `(B,)` bool, False with fewer than eight matches or no consensus. A plane or a pure rotation, which
            leave F ambiguous, cannot be told without K: use `solve_two_view`.
    """

    F_ba: Tensor
    inlier: Tensor
    noise: Tensor
    ok: Tensor


def solve_fundamental(
    p_a: Tensor,
    p_b: Tensor,
    valid: Tensor | None = None,
    config: TwoViewConfig | None = None,
    seed: int = 0,
) -> FundamentalEstimate:
    """Fundamental matrix from matches with outliers: eight-point RANSAC, then re-weighted eight-point on all matches.

    Args:
        p_a, p_b: `(B, N, 2)` pixels. Not finite: ignored.
        valid: `(B, N)` bool, False for matches to ignore.
        config: thresholds and effort.
        seed: of the sampling.

    Returns:
        `FundamentalEstimate` in the dtype of the matches.
    """
    config = config or TwoViewConfig()
    valid = torch.ones_like(p_a[..., 0], dtype=torch.bool) if valid is None else valid
    valid = valid & p_a.isfinite().all(-1) & p_b.isfinite().all(-1)
    if p_a.shape[1] < 8:
        B = len(p_a)
        return FundamentalEstimate(
            p_a.new_zeros(B, 3, 3), torch.zeros_like(valid), p_a.new_zeros(B), torch.zeros_like(valid[:, 0:1]).any(1)
        )
    with torch.no_grad():
        zero = torch.zeros((), dtype=torch.float64, device=p_a.device)
        x_a = torch.where(valid[..., None], p_a.double(), zero)
        x_b = torch.where(valid[..., None], p_b.double(), zero)
        # One isotropic scale for both images keeps a Sampson distance a distance in pixels over it.
        N_a, N_b = normalizing_transform(x_a, valid.double()), normalizing_transform(x_b, valid.double())
        scale = torch.minimum(N_a[:, 0, 0], N_b[:, 0, 0])
        centre_a, centre_b = (-N[:, None, :2, 2] / N[:, None, :1, 0] for N in (N_a, N_b))
        q_a = torch.where(valid[..., None], (x_a - centre_a) * scale[:, None, None], zero)
        q_b = torch.where(valid[..., None], (x_b - centre_b) * scale[:, None, None], zero)
        reach = config.threshold * scale

        generator = torch.Generator(device=p_a.device).manual_seed(seed)
        subset = draw_judges(valid, config.subset, generator)
        judged = valid.gather(1, subset)
        judges = MatchProducts.of(take(q_a, subset).float(), take(q_b, subset).float())
        F = ransac(
            eight_point_minimal,
            judges.squared_distance,
            8,
            q_a.float(),
            q_b.float(),
            valid,
            judged,
            reach.float(),
            config.hypotheses,
            config.candidates,
            generator,
        ).double()
        judges = MatchProducts.of(take(q_a, subset), take(q_b, subset))
        s_a, s_b = (take(q, subset)[:, None].expand(-1, config.candidates, -1, -1) for q in (q_a, q_b))
        for factor in (2.0, 1.0, 0.5):
            F = eight_point(s_a, s_b, _weights(judges, F, judged[:, None], factor * reach))
        best = msac(judges.squared_distance(F), judged, reach.square()).argmin(1)
        F = take(F.flatten(-2), best[:, None]).unflatten(-1, (3, 3))
        products, smallest = MatchProducts.of(q_a, q_b), 1e-3 * scale
        for _ in range(sum(config.final_steps)):
            noise = robust_noise(products.squared_distance(F)[:, 0], valid, reach, 1, smallest)
            F = eight_point(q_a[:, None], q_b[:, None], _weights(products, F, valid[:, None], 2.5 * noise))
        squared = products.squared_distance(F)[:, 0]
        noise = robust_noise(squared, valid, reach, 1, smallest)
        limit = (3 * noise).maximum(config.noise_floor * scale).minimum(reach)
        inlier = valid & (squared < limit[:, None].square())
        count = valid.sum(-1)
        ok = is_significant(inlier.sum(-1), count, line_chance(q_a, q_b, valid, limit), 7) & (count >= 8)
        T_a, T_b = (torch.diag_embed(torch.stack([scale, scale, torch.ones_like(scale)], -1)) for _ in range(2))
        T_a[:, :2, 2], T_b[:, :2, 2] = -(centre_a[:, 0] * scale[:, None]), -(centre_b[:, 0] * scale[:, None])
        F = T_b.mT @ F[:, 0] @ T_a
        F = F / torch.linalg.matrix_norm(F, keepdim=True)
        F = torch.where(ok[:, None, None], F, zero).nan_to_num(0.0)
    return FundamentalEstimate(
        F.to(p_a.dtype), inlier & ok[:, None], torch.where(ok, noise / scale, zero).to(p_a.dtype), ok
    )


def _weights(products: MatchProducts, F: Tensor, valid: Tensor, cut: Tensor) -> Tensor:
    """Weights `(B, M, N)` that turn the algebraic error of models `(B, M, 3, 3)` into Sampson's, truncated at `cut`.

    A wrong match that meets its line by chance has the leverage of dozens of good ones, so nothing beyond counts.
    """
    gradient = products.gradient_product(F, F).clamp_min(1e-20)
    near = products.algebraic(F).square() < gradient * cut[:, None, None].square()
    return (valid & near) / gradient
