"""Putting a view together from another: known shifts, plain loops, and what has no say."""

from __future__ import annotations

import math

import pytest
import torch

from trianflow.losses.synthesis import (
    appearance_error,
    explanation_cost,
    masked_share,
    reduce_views,
    synthesize,
    velocity_error,
)


def sideways(metres: float) -> torch.Tensor:
    T = torch.eye(4)[None].clone()
    T[0, 0, 3] = metres
    return T


def test_a_plane_moves_by_focal_length_over_depth() -> None:
    """Two metres to the side at a depth of ten with a focal length of 20 are four pixels."""
    K = torch.tensor([[[20.0, 0, 15.5], [0, 20, 7.5], [0, 0, 1]]])
    source = torch.rand(1, 3, 16, 32)
    found = synthesize(source, torch.full((1, 1, 16, 32), 10.0), sideways(2.0), K)
    torch.testing.assert_close(found.image[..., :27], source[..., 4:31], rtol=0, atol=1e-4)
    assert found.seen[..., 1:-1, :27].all()
    assert not found.seen[..., 28:].any()
    backward = sideways(0.0)
    backward[0, 2, 3] = -20.0
    behind = synthesize(source, torch.full((1, 1, 16, 32), 10.0), backward, K)
    assert not behind.seen.any()
    assert behind.image.isfinite().all()


def test_appearance_is_the_mix_of_its_parts() -> None:
    a, b = torch.rand(2, 2, 3, 9, 11)
    l1, structure = appearance_error(a, b, 0.0), appearance_error(a, b, 1.0)
    torch.testing.assert_close(l1, (a - b).abs().mean(1, keepdim=True))
    torch.testing.assert_close(appearance_error(a, b, 0.85), 0.15 * l1 + 0.85 * structure)
    assert (appearance_error(a, a, 0.85) < 1e-4).all()
    assert structure.min() >= 0
    assert structure.max() <= 1


def test_views_against_a_loop() -> None:
    g = torch.Generator().manual_seed(0)
    errors = torch.rand(3, 2, 1, 4, 5, generator=g)
    seen = torch.rand(3, 2, 1, 4, 5, generator=g) > 0.4
    average, minimum = (reduce_views(list(errors), list(seen), how) for how in ("average", "minimum"))
    for b in range(2):
        for y in range(4):
            for x in range(5):
                values = [float(errors[s, b, 0, y, x]) for s in range(3) if seen[s, b, 0, y, x]]
                assert float(average[b, 0, y, x]) == pytest.approx(sum(values) / len(values) if values else 0.0)
                assert float(minimum[b, 0, y, x]) == pytest.approx(min(values, default=0.0))


def test_what_is_not_seen_has_no_gradient() -> None:
    errors = torch.rand(2, 1, 1, 3, 3, requires_grad=True)
    seen = torch.zeros(2, 1, 1, 3, 3, dtype=torch.bool)
    seen[0, ..., 0, 0] = True
    for how in ("average", "minimum"):
        (gradient,) = torch.autograd.grad(reduce_views(list(errors), list(seen), how).sum(), errors)
        assert gradient.isfinite().all()
        assert gradient.sum() == 1 == gradient[0, 0, 0, 0, 0]


def test_share_of_what_is_kept() -> None:
    error = torch.tensor([[[[1.0, 2.0, 4.0, 8.0]]]])
    seen = torch.tensor([[[[True, True, True, False]]]])
    kept = torch.tensor([[[[False, True, True, True]]]])
    assert masked_share(error, seen, None).item() == pytest.approx(7 / 3)
    assert masked_share(error, seen, kept).item() == pytest.approx(6 / 3), "what is not kept counts as zero"
    assert masked_share(error, torch.zeros_like(seen), None).item() == 0


def test_explanation_cost_is_cross_entropy_with_ones() -> None:
    mask = torch.tensor([[[[0.5, 0.25]]], [[[1.0, 1.0]]]])
    torch.testing.assert_close(explanation_cost(mask), torch.tensor([1.5 * math.log(2), 0.0]))
    assert explanation_cost(torch.zeros(1, 1, 2, 2)).isfinite().all()


def test_velocity() -> None:
    T = torch.cat([sideways(3.0), sideways(3.0), sideways(0.0)]).requires_grad_()
    found = velocity_error(T, torch.tensor([2.5, math.nan, 1.0]))
    torch.testing.assert_close(found, torch.tensor([0.5, 0.0, 1.0]), atol=1e-6, rtol=0)
    found.sum().backward()
    assert T.grad is not None
    assert T.grad.isfinite().all()
    assert T.grad[0, 0, 3] == 1
    assert (T.grad[1] == 0).all(), "an unknown way teaches nothing"
