"""Sampling, minimal solvers, MSAC and significance, against brute force and chance itself."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from scipy.stats import binom, chisquare

from trianflow.data.synthetic.matches import random_match_scene
from trianflow.geometry.camera import homogeneous
from trianflow.geometry.epipolar import sampson_distance
from trianflow.geometry.homography import homography_squared
from trianflow.geometry.ransac import (
    draw,
    eight_point_minimal,
    homography_minimal,
    is_significant,
    msac,
    null_vector,
    ransac,
    take,
)

DTYPES = [torch.float32, torch.float64]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_draw_is_uniform_over_the_valid() -> None:
    valid = torch.rand(3, 40, generator=seeded()) > 0.4
    index = draw(valid, (5000, 4), seeded(1))
    assert index.shape == (3, 5000, 4)
    for item in range(3):
        counts = torch.bincount(index[item].flatten(), minlength=40)
        assert (counts[~valid[item]] == 0).all()
        assert chisquare(counts[valid[item]].numpy()).pvalue > 1e-4


def test_draw_repeats_and_does_not_look_at_the_neighbours() -> None:
    valid = torch.rand(3, 40, generator=seeded()) > 0.4
    index = draw(valid, (50, 8), seeded(1))
    assert torch.equal(index, draw(valid, (50, 8), seeded(1)))
    assert not torch.equal(index, draw(valid, (50, 8), seeded(2)))
    assert torch.equal(index[1:2], draw(valid[1:2], (50, 8), seeded(1)))
    valid[0] = False
    again = draw(valid, (50, 8), seeded(1))
    assert torch.equal(index[1:], again[1:])
    assert (again[0] >= 0).all()
    assert (again[0] < 40).all()


def test_take() -> None:
    points = torch.arange(24.0).reshape(2, 6, 2)
    index = torch.tensor([[[0, 5, 2]], [[3, 3, 1]]])
    taken = take(points, index)
    assert taken.shape == (2, 1, 3, 2)
    assert torch.equal(taken[0, 0], points[0, [0, 5, 2]])
    assert torch.equal(taken[1, 0], points[1, [3, 3, 1]])


@pytest.mark.parametrize("dtype", DTYPES)
def test_null_vector_against_svd(dtype: torch.dtype) -> None:
    A = torch.randn(20, 8, 9, dtype=torch.float64, generator=seeded()).to(dtype)
    v = null_vector(A)
    expected = torch.linalg.svd(A.double())[2][:, -1]
    assert v.dtype == dtype
    along = (v.double() * expected).sum(-1).abs()
    torch.testing.assert_close(along, torch.ones(20).double(), rtol=1e-4, atol=0)
    assert (A @ v[..., None]).abs().max() < (1e-5 if dtype == torch.float32 else 1e-13)


def test_null_vector_of_fewer_rows_and_of_nothing() -> None:
    A = torch.randn(8, 9, dtype=torch.float64, generator=seeded())
    A[5:] = A[0]
    v = null_vector(torch.stack([A, torch.zeros(8, 9).double()]))
    assert v.isfinite().all()
    torch.testing.assert_close(v.norm(dim=-1), torch.ones(2).double())
    assert (A @ v[0]).abs().max() < 1e-13


@pytest.mark.parametrize("dtype", DTYPES)
def test_eight_point_minimal(dtype: torch.dtype) -> None:
    scene = random_match_scene(0, 400, 0.0, 1.0)
    p_a, p_b = (torch.from_numpy((p - 300) / 700).reshape(5, 10, 8, 2) for p in (scene.p_a, scene.p_b))
    F = eight_point_minimal(p_a.to(dtype), p_b.to(dtype))
    assert F.shape == (5, 10, 3, 3)
    torch.testing.assert_close(torch.linalg.matrix_norm(F), torch.ones(5, 10, dtype=dtype))
    residual = torch.einsum("...ni,...ij,...nj->...n", homogeneous(p_b), F.double(), homogeneous(p_a))
    assert residual.abs().max() < (2e-6 if dtype == torch.float32 else 1e-13)


def test_homography_minimal_against_opencv() -> None:
    q_a, q_b = torch.rand(2, 30, 4, 2, dtype=torch.float64, generator=seeded()).unbind(0)
    H = homography_minimal(q_a, q_b)
    for i in range(30):
        expected = cv2.getPerspectiveTransform(q_a[i].float().numpy(), q_b[i].float().numpy())
        expected = torch.from_numpy(expected / np.linalg.norm(expected))
        gap = torch.minimum((H[i] - expected).abs().max(), (H[i] + expected).abs().max())
        assert gap < 1e-4, "OpenCV takes float32 points"
        X = homogeneous(q_a[i]) @ H[i].T
        torch.testing.assert_close(X[:, :2] / X[:, 2:], q_b[i], rtol=0, atol=1e-9)


def test_msac_by_hand() -> None:
    squared = torch.tensor([[[0.0, 1, 4, 100], [2, math.nan, math.inf, 0]]])
    valid = torch.tensor([[True, True, True, True]])
    cost = msac(squared, valid, torch.tensor([4.0]))
    torch.testing.assert_close(cost, torch.tensor([[(0 + 0.25 + 1 + 1) / 4, (0.5 + 1 + 1 + 0) / 4]]))
    some = msac(squared, torch.tensor([[True, False, True, False]]), torch.tensor([4.0]))
    torch.testing.assert_close(some, torch.tensor([[(0 + 1) / 2, (0.5 + 1) / 2]]))
    nothing = msac(torch.full_like(squared, math.nan), valid, torch.tensor([4.0]))
    assert nothing.tolist() == [[1.0, 1.0]]
    assert msac(squared, torch.zeros(1, 4, dtype=torch.bool), torch.tensor([4.0])).isfinite().all()


def line_scene(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Matches of which six in ten follow one homography, and that homography."""
    rng = np.random.default_rng(seed)
    H = np.eye(3) + rng.normal(0, 0.05, (3, 3))
    q_a = rng.uniform(-1, 1, (300, 2))
    X = np.column_stack([q_a, np.ones(300)]) @ H.T
    q_b = X[:, :2] / X[:, 2:] + rng.normal(0, 1e-4, (300, 2))
    q_b[180:] = rng.uniform(-1, 1, (120, 2))
    return torch.from_numpy(q_a), torch.from_numpy(q_b), torch.from_numpy(H)


def run_homography(q_a: torch.Tensor, q_b: torch.Tensor, valid: torch.Tensor, seed: int = 0) -> torch.Tensor:
    threshold = torch.full((len(q_a),), 2e-3, dtype=q_a.dtype)
    return ransac(
        homography_minimal,
        lambda H: homography_squared(H, q_a, q_b),
        4,
        q_a,
        q_b,
        valid,
        valid,
        threshold,
        60,
        3,
        seeded(seed),
    )


def test_ransac_finds_the_homography_for_every_item_alone() -> None:
    q_a, q_b, H = (torch.stack(x) for x in zip(*(line_scene(seed) for seed in range(4))))
    valid = torch.ones(4, 300, dtype=torch.bool)
    found = run_homography(q_a, q_b, valid)
    assert found.shape == (4, 3, 3, 3)
    squared = homography_squared(found, q_a, q_b)
    inliers = squared[:, 0] < 2e-3**2
    assert (inliers[:, :180].float().mean(1) > 0.6).all()
    assert (homography_squared(H[:, None], q_a, q_b)[:, 0, :180].sqrt() < 1e-3).all(), "the scene itself"
    cost = msac(squared, valid, torch.full((4,), 2e-3**2).double())
    assert (cost.diff(dim=1) >= 0).all(), "best first"
    # The same answer alone, beside NaN, and with the same seed; another one with another.
    alone = run_homography(q_a[1:2], q_b[1:2], valid[1:2])
    q_a[0] = torch.nan
    beside = run_homography(q_a, q_b, valid)
    torch.testing.assert_close(beside[1:2], alone, rtol=0, atol=1e-12)
    assert torch.equal(beside, run_homography(q_a, q_b, valid))
    assert beside.isfinite().all()
    assert not torch.equal(beside[1:], run_homography(q_a, q_b, valid, 1)[1:])


def test_ransac_never_samples_what_is_not_valid() -> None:
    q_a, q_b, _ = line_scene(5)
    valid = torch.zeros(1, 300, dtype=torch.bool)
    valid[:, :20] = True
    q_b[20:180] = q_a[20:180]  # most matches say "identity", but none of them is valid
    found = run_homography(q_a[None], q_b[None], valid)
    squared = homography_squared(found[:, :1], q_a[None], q_b[None])[0, 0]
    assert (squared[:20] < 2e-3**2).float().mean() > 0.6
    assert (squared[20:180] > 2e-3**2).float().mean() > 0.9


def test_ransac_with_eight_points() -> None:
    scene = random_match_scene(1, 1000, 0.2, 0.1)
    q_a, q_b = (torch.from_numpy((p - [600, 180]) / 700)[None] for p in (scene.p_a, scene.p_b))
    valid = torch.ones(1, 1000, dtype=torch.bool)
    F = ransac(
        eight_point_minimal,
        lambda F: sampson_distance(F, q_a[:, None], q_b[:, None]).square(),
        8,
        q_a,
        q_b,
        valid,
        valid,
        torch.tensor([1.0 / 700]).double(),
        100,
        1,
        seeded(),
    )
    near = sampson_distance(F[:, 0], q_a, q_b)[0].abs() < 1 / 700
    assert near[torch.from_numpy(scene.inlier)].float().mean() > 0.8


def test_significance_against_the_binomial_tail() -> None:
    """Significant means rarer than the exact tail allows, and clear cases are not missed."""
    count, chance, freedom = 500, 0.05, 5
    inliers = torch.arange(0, 501)
    said = is_significant(inliers, torch.full_like(inliers, count), torch.full((501,), chance), freedom)
    said = said.numpy()
    assert said[-1]
    assert not said[: int(count * chance)].any()
    assert (np.diff(said.astype(int)) >= 0).all(), "more inliers cannot be less significant"
    # Number of false alarms: models that five matches define, times the chance that one explains as many.
    models = math.log(math.comb(count, freedom) * count)
    tail = binom.logsf(inliers.numpy() - freedom - 1, count - freedom, chance) + models
    assert (tail[said] < -7).all()
    first = int(np.argmax(said))
    assert first < np.argmax(tail < -7) + 15, "the bound is not much stricter than the tail"


def test_significance_of_random_matches() -> None:
    """The best of many random F explains no significant share of random matches."""
    q_a, q_b = torch.rand(2, 20, 300, 2, dtype=torch.float64, generator=seeded(3)).unbind(0)
    valid = torch.ones(20, 300, dtype=torch.bool)
    limit = 0.005

    def squared(F: torch.Tensor) -> torch.Tensor:
        return sampson_distance(F, q_a[:, None], q_b[:, None]).square()

    threshold = torch.full((20,), limit).double()
    F = ransac(eight_point_minimal, squared, 8, q_a, q_b, valid, valid, threshold, 200, 1, seeded())
    inliers = (squared(F)[:, 0] < limit**2).sum(-1)
    chance = torch.full((20,), 2 * limit * math.sqrt(2))
    assert not is_significant(inliers, valid.sum(-1), chance, 7).any()


def test_significance_of_few_matches() -> None:
    zero, eight = torch.tensor([0]), torch.tensor([8])
    assert not is_significant(zero, zero, torch.tensor([0.5]), 5).any()
    assert not is_significant(eight, eight, torch.tensor([0.5]), 5).any()
    assert is_significant(torch.tensor([40]), torch.tensor([40]), torch.tensor([0.1]), 5).all()
