"""Closed-form and robust scale against numpy, brute force, and data of known scale."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from trianflow.geometry.scale import closed_form_scale, lower_median, robust_mean, robust_scale

DTYPES = [torch.float32, torch.float64]


def depths(
    seed: int, shape: tuple[int, ...], scale: float, sigma: float
) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    depth = rng.uniform(1, 50, shape)
    return torch.from_numpy(depth), torch.from_numpy(scale * depth * np.exp(rng.normal(0, 1, shape) * sigma))


def test_lower_median() -> None:
    assert lower_median(torch.tensor([[4.0, 1, 3, 2], [9, 9, 1, 1]])).tolist() == [2.0, 1.0]
    assert lower_median(torch.tensor([5.0, 1, 3])).item() == 3.0
    x = torch.rand(20, 31, generator=torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(lower_median(x), np.median(x.numpy(), axis=1))


@pytest.mark.parametrize("dtype", DTYPES)
def test_closed_form_scale_minimises(dtype: torch.dtype) -> None:
    depth, reference = depths(0, (3, 40), 2.5, 0.3)
    weight = torch.rand(3, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ours = closed_form_scale(depth.to(dtype), reference.to(dtype), weight.to(dtype))
    assert ours.dtype == dtype
    plain = closed_form_scale(depth.to(dtype), reference.to(dtype))
    for i in range(3):
        for s, w in ((ours[i], weight[i]), (plain[i], torch.ones(40))):

            def cost(s: float, i: int = i, w: torch.Tensor = w) -> float:
                return float((w * ((reference[i] - s * depth[i]) / reference[i]).square()).sum())

            best = minimize_scalar(cost, bracket=(1.0, 4.0), tol=1e-12).x
            assert s.item() == pytest.approx(best, rel=2e-6)


def test_closed_form_scale_of_nothing_is_zero_and_spoils_no_neighbour() -> None:
    depth, reference = depths(1, (3, 10), 2.0, 0.0)
    weight = torch.ones(3, 10, dtype=torch.float64)
    weight[0], depth[0] = 0, torch.nan
    weight[1, :4], reference[1, :4] = 0, 0
    expected = torch.tensor([0.0, 2, 2], dtype=torch.float64)
    torch.testing.assert_close(closed_form_scale(depth, reference, weight), expected)


def test_closed_form_scale_gradient() -> None:
    depth, reference = depths(2, (2, 6), 2.0, 0.2)
    weight = torch.rand(2, 6, dtype=torch.float64) + 0.1
    inputs = tuple(x.requires_grad_() for x in (depth, reference, weight))
    assert torch.autograd.gradcheck(closed_form_scale, inputs)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [0.01, 1.0, 1.37, 300.0])
def test_robust_scale_with_outliers(dtype: torch.dtype, scale: float) -> None:
    """Four in ten ratios mean nothing, most of them too large; some are not even numbers."""
    rng = np.random.default_rng(3)
    depth, reference = depths(3, (4, 600), scale, 0.05)
    reference[:, :200] = scale * depth[:, :200] * torch.from_numpy(rng.uniform(0.5, 20, (4, 200)))
    depth[:, 200:220], reference[:, 220:240], depth[:, 240:260] = torch.nan, -1.0, 0.0
    variance = torch.full_like(depth, 0.05**2)
    variance[:, 260:280] = torch.inf
    estimate = robust_scale(*(x.to(dtype) for x in (depth, reference, variance)))
    assert estimate.scale.dtype == dtype
    assert estimate.ok.all()
    # The outliers drag a median by 0.8 standard deviations, 4 %.
    np.testing.assert_allclose(estimate.scale, scale, rtol=0.03)
    # Of 520 usable points 320 are right, and some of the wrong ones fit by chance.
    assert ((estimate.inlier_ratio > 0.58) & (estimate.inlier_ratio < 0.8)).all()


@pytest.mark.parametrize("wrong", [0.1, 10.0])
def test_robust_scale_is_that_of_the_majority(wrong: float) -> None:
    """Four in ten points agree on another scale."""
    depth, reference = depths(9, (3, 500), 2.0, 0.02)
    reference[:, :200] *= wrong
    estimate = robust_scale(depth, reference, torch.full_like(depth, 0.02**2))
    np.testing.assert_allclose(estimate.scale, 2.0, rtol=0.02)


def test_robust_scale_is_exact_without_noise() -> None:
    depth, reference = depths(4, (2, 50), 1.37, 0.0)
    estimate = robust_scale(depth, reference, torch.full_like(depth, 0.01))
    torch.testing.assert_close(estimate.scale, torch.tensor([1.37, 1.37]).double())
    assert (estimate.inlier_ratio == 1).all()


def test_robust_scale_weighs_by_variance() -> None:
    """Sloppy points in the majority are no match for precise ones."""
    rng = np.random.default_rng(5)
    depth = torch.from_numpy(rng.uniform(1, 50, (200, 300)))
    sigma = torch.where(torch.arange(300) < 60, 0.01, 0.3).double().expand(200, 300)
    reference = depth * (torch.from_numpy(rng.normal(0, 1, (200, 300))) * sigma).exp()
    estimate = robust_scale(depth, reference, sigma.square())
    error = estimate.scale.log()
    weighted = 1 / (1 / sigma[0].square()).sum().sqrt()
    # The Cauchy loss keeps 95 % of the efficiency of the weighted mean, which the stated deviation promises.
    assert error.std() < 1.25 * weighted
    assert error.square().mean().sqrt() / estimate.log_sigma.mean() == pytest.approx(1.0, abs=0.2)


def test_robust_scale_measures_the_scatter() -> None:
    """With stated variances a hundred times too small the deviation still is that of the data."""
    rng = np.random.default_rng(6)
    depth = torch.from_numpy(rng.uniform(1, 50, (200, 300)))
    reference = depth * torch.from_numpy(rng.normal(0, 0.1, (200, 300))).exp()
    estimate = robust_scale(depth, reference, torch.full_like(depth, 0.01**2))
    assert estimate.scale.log().std() / estimate.log_sigma.mean() == pytest.approx(1.0, abs=0.2)


def test_robust_scale_is_scale_equivariant() -> None:
    depth, reference = depths(7, (3, 80), 2.0, 0.2)
    variance = torch.full_like(depth, 0.04)
    once, more = robust_scale(depth, reference, variance), robust_scale(depth / 8, reference, variance)
    torch.testing.assert_close(more.scale, once.scale * 8)
    torch.testing.assert_close(more.log_sigma, once.log_sigma)


def test_robust_scale_of_too_little() -> None:
    depth, reference = depths(8, (4, 30), 2.0, 0.01)
    variance = torch.full_like(depth, 1e-4)
    alone = robust_scale(depth[3:], reference[3:], variance[3:])
    depth[0] = torch.nan
    reference[1, 11:] = 0
    variance[2, 12:] = torch.nan
    estimate = robust_scale(depth, reference, variance)
    assert estimate.ok.tolist() == [False, False, True, True]
    assert estimate.scale[:2].tolist() == [1.0, 1.0]
    assert estimate.scale[2].item() == pytest.approx(2.0, rel=0.02)
    for name in ("scale", "log_sigma", "inlier_ratio"):
        assert getattr(estimate, name).isfinite().all()
        torch.testing.assert_close(getattr(estimate, name)[3:], getattr(alone, name))


def test_robust_mean_is_unbiased_where_noise_exceeds_the_values_and_states_its_uncertainty() -> None:
    rng = np.random.default_rng(0)
    means, sigmas = [], []
    for _ in range(60):
        sigma = rng.uniform(0.2, 4, 400)  # of values that are 1.5: a quarter of them come out negative
        values = rng.normal(1.5, sigma)
        values[:40] = rng.uniform(5, 50, 40)
        mean, deviation = robust_mean(torch.from_numpy(values), torch.from_numpy(sigma))
        means.append(mean)
        sigmas.append(deviation)
    assert np.mean(means) == pytest.approx(1.5, abs=0.08)
    assert 0.6 < np.std(means) / np.mean(sigmas) < 1.6


def test_robust_mean_of_equal_values() -> None:
    mean, deviation = robust_mean(torch.full((5,), 2.0, dtype=torch.float64), torch.ones(5, dtype=torch.float64))
    assert mean == pytest.approx(2)
    assert deviation < 1e-3
