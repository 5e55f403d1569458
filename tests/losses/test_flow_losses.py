"""Flow losses against their definition, term by term, and against images whose flow is known."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from trianflow.flow.interface import FlowPair
from trianflow.flow.occlusion import flow_quality, forward_backward_difference
from trianflow.geometry.warping import inverse_warp
from trianflow.losses.flow import FlowLosses, flow_losses
from trianflow.losses.masking import masked_mean
from trianflow.losses.photometric import photometric_losses
from trianflow.losses.smoothness import flow_smoothness

TERMS = [field.name for field in dataclasses.fields(FlowLosses)]


def random_case(
    batch: int = 2, size: tuple[int, int] = (16, 24), levels: int = 3, seed: int = 0
) -> tuple[Tensor, Tensor, list[FlowPair]]:
    """Flows of about a pixel that disagree with each other by more than three at places."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, dtype=torch.float64, generator=generator)

    pairs = [FlowPair(*(4 * draw(batch, 2, size[0] >> i, size[1] >> i) - 2 for _ in range(2))) for i in range(levels)]
    return draw(batch, 3, *size), draw(batch, 3, *size), pairs


def by_definition(image_a: Tensor, image_b: Tensor, pairs: list[FlowPair]) -> dict[str, Tensor]:
    totals = dict.fromkeys(TERMS, torch.zeros(image_a.shape[0], dtype=torch.float64))
    for i, pair in enumerate(pairs):
        a, b = avg_pool2d(image_a, 2**i), avg_pool2d(image_b, 2**i)
        for x, y, flow in ((a, b, pair), (b, a, FlowPair(pair.flow_ba, pair.flow_ab))):
            quality = flow_quality(flow)
            mask = (quality.visible * quality.consistent).detach()
            warped = inverse_warp(y, flow.flow_ab)[0]
            difference = forward_backward_difference(flow.flow_ab, flow.flow_ba)
            pixel, similarity = photometric_losses(x, warped, mask)
            terms = {
                "pixel": pixel,
                "ssim": similarity,
                "smooth": flow_smoothness(flow.flow_ab, x),
                "consistency": masked_mean(difference, mask),
            }
            totals = {name: totals[name] + terms[name] for name in TERMS}
    return totals


def test_is_the_sum_of_its_terms() -> None:
    case = random_case()
    ours, expected = flow_losses(*case), by_definition(*case)
    for name in TERMS:
        assert getattr(ours, name).shape == (2,)
        torch.testing.assert_close(getattr(ours, name), expected[name])
    assert 1 - flow_quality(case[2][0]).consistent.double().mean() > 0.02, "the mask has something to do"


def test_gradient_is_that_of_the_definition() -> None:
    image_a, image_b, pairs = random_case(seed=1)
    leaves = [flow.requires_grad_() for pair in pairs for flow in (pair.flow_ab, pair.flow_ba)]
    ours, expected = flow_losses(image_a, image_b, pairs), by_definition(image_a, image_b, pairs)
    for name in TERMS:
        mine = torch.autograd.grad(getattr(ours, name).sum(), leaves, retain_graph=True)
        other = torch.autograd.grad(expected[name].sum(), leaves, retain_graph=True)
        torch.testing.assert_close(mine, other)


def test_gradcheck() -> None:
    """The terms of a, whose visibility hangs on the flow of b alone; its own flow stays away from whole pixels."""
    image_a, image_b, _ = random_case(1, (6, 7), 1, 2)
    back = torch.zeros(1, 2, 6, 7, dtype=torch.float64)
    flow = 0.3 + 0.1 * torch.rand(1, 2, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def terms(flow: Tensor) -> tuple[Tensor, ...]:
        quality = flow_quality(FlowPair(flow, back))
        mask = (quality.visible * quality.consistent).detach()
        warped = inverse_warp(image_b, flow)[0]
        difference = forward_backward_difference(flow, back)
        return *photometric_losses(image_a, warped, mask), masked_mean(difference, mask)

    assert torch.autograd.gradcheck(terms, flow.requires_grad_())


def test_true_flow_of_a_shifted_image_costs_nothing() -> None:
    """b is a moved by (3, -2); a wrong flow costs something."""
    wide = torch.rand(1, 3, 30, 40, generator=torch.Generator().manual_seed(3))
    image_a, image_b = wide[..., 4:24, 6:36], wide[..., 6:26, 3:33]
    shift = torch.tensor([3.0, -2.0])[None, :, None, None].expand(1, 2, 20, 30)
    right = flow_losses(image_a, image_b, [FlowPair(shift, -shift)])
    for name in ("pixel", "ssim", "smooth"):
        assert getattr(right, name).item() == pytest.approx(0, abs=1e-5)
    # Its backward samples beyond the border count as zero: there, and only there, the pixels are not visible.
    assert right.consistency.item() == pytest.approx(0, abs=1e-5)
    wrong = flow_losses(image_a, image_b, [FlowPair(shift - 1, 1 - shift)])
    assert wrong.pixel.item() > 0.3
    assert wrong.ssim.item() > 0.3


def test_static_pair() -> None:
    image_a, _, pairs = random_case(seed=4)
    zero = [FlowPair(*(torch.zeros_like(p.flow_ab).requires_grad_() for _ in range(2))) for p in pairs]
    losses = flow_losses(image_a, image_a, zero)
    sum(getattr(losses, name) for name in TERMS).sum().backward()
    for name in TERMS:
        assert getattr(losses, name).abs().max() < 1e-12
    assert all(flow.grad.isfinite().all() for p in zero for flow in (p.flow_ab, p.flow_ba))


def test_nothing_visible_is_zero() -> None:
    """All flow leaves the image."""
    image_a, image_b, _ = random_case(seed=5)
    away = [torch.full((2, 2, 16, 24), 1e6, dtype=torch.float64).requires_grad_() for _ in range(2)]
    losses = flow_losses(image_a, image_b, [FlowPair(*away)])
    for name in TERMS:
        assert getattr(losses, name).tolist() == [0.0, 0.0]
    sum(getattr(losses, name) for name in TERMS).sum().backward()
    assert all((flow.grad == 0).all() for flow in away)


def test_items_are_independent_even_of_nonsense() -> None:
    image_a, image_b, pairs = random_case(3, seed=6)
    alone = flow_losses(image_a[:1], image_b[:1], [FlowPair(p.flow_ab[:1], p.flow_ba[:1]) for p in pairs])
    for pair in pairs:
        pair.flow_ab[1] = torch.nan
        pair.flow_ba[2] = torch.inf
    leaves = [flow.requires_grad_() for pair in pairs for flow in (pair.flow_ab, pair.flow_ba)]
    losses = flow_losses(image_a, image_b, pairs)
    for name in TERMS:
        torch.testing.assert_close(getattr(losses, name)[:1], getattr(alone, name))
    assert losses.pixel.isfinite().all(), "what is not finite is not consistent"
    assert losses.ssim.isfinite().all()
    assert not losses.smooth[1:].isfinite().any()
    sum(getattr(losses, name)[0] for name in TERMS).backward()
    for flow in leaves:
        assert flow.grad[0].isfinite().all()
        assert (flow.grad[0] != 0).any()


def test_coarse_levels_of_odd_sizes_lie_on_the_exact_grid() -> None:
    """What the image has beyond the last whole block has no say: neither its values, nor by moving the others."""
    image_a, image_b, _ = random_case(1, (18, 27), seed=7)
    generator = torch.Generator().manual_seed(8)
    pairs = [
        FlowPair(*(torch.randn(1, 2, 18 >> i, 27 >> i, dtype=torch.float64, generator=generator) for _ in range(2)))
        for i in range(3)
    ]
    whole = flow_losses(image_a, image_b, pairs)
    finest = flow_losses(image_a, image_b, pairs[:1])
    blocks = [x[..., :16, :24].reshape(1, 3, 4, 4, 6, 4).mean((3, 5)) for x in (image_a, image_b)]
    halves = [x[..., :26].reshape(1, 3, 9, 2, 13, 2).mean((3, 5)) for x in (image_a, image_b)]
    coarse = [flow_losses(*x, [pair]) for x, pair in ((halves, pairs[1]), (blocks, pairs[2]))]
    for name in TERMS:
        expected = getattr(finest, name) + sum(getattr(level, name) for level in coarse)
        torch.testing.assert_close(getattr(whole, name), expected)


def test_no_levels() -> None:
    image_a, image_b, _ = random_case(1)
    assert flow_losses(image_a, image_b, []).pixel.tolist() == [0.0]
