"""Visibility, consistency and score against a synthetic occlusion with truth, and brute force."""

from __future__ import annotations

import pytest
import torch

from trianflow.flow.interface import FlowPair
from trianflow.flow.occlusion import flow_quality, forward_backward_difference, visibility
from trianflow.geometry.warping import forward_splat, inverse_warp

DTYPES = [torch.float32, torch.float64]


def constant(u: float, v: float, height: int = 20, width: int = 30) -> torch.Tensor:
    return torch.tensor([float(u), float(v)])[None, :, None, None].expand(1, 2, height, width).clone()


def square_before_a_wall() -> tuple[FlowPair, torch.Tensor]:
    """A square that moves six pixels right before a wall at rest; and what of a is hidden in b."""
    flow_ab, flow_ba = constant(0, 0), constant(0, 0)
    flow_ab[:, 0, 5:15, 4:12] = 6
    flow_ba[:, 0, 5:15, 10:18] = -6
    hidden = torch.zeros(20, 30, dtype=torch.bool)
    hidden[5:15, 12:18] = True
    return FlowPair(flow_ab, flow_ba), hidden


def smooth_pair(seed: int, batch: int = 1, dtype: torch.dtype = torch.float32) -> FlowPair:
    generator = torch.Generator().manual_seed(seed)
    flows = 8 * torch.randn(2, batch, 2, 5, 7, dtype=dtype, generator=generator)
    return FlowPair(*(torch.nn.functional.interpolate(f, (40, 56), mode="bicubic") for f in flows))


def test_visibility_of_a_square_before_a_wall() -> None:
    flow, hidden = square_before_a_wall()
    visible = visibility(flow.flow_ba)
    assert visible.shape == (1, 1, 20, 30)
    assert torch.equal(visible[0, 0] == 0, hidden)
    assert (visible[0, 0][~hidden] == 1).all()


def test_visibility_is_soft_clipped_and_without_gradient() -> None:
    flow = constant(0.5, 0.0).requires_grad_()
    visible = visibility(flow)
    assert not visible.requires_grad
    assert (visible[..., 0] == 0.5).all()
    assert (visible[..., 1:] == 1).all()
    crowd = constant(0.0, 0.0)
    crowd[:, 0] = 10 - torch.arange(30.0)
    assert visibility(crowd).max() == 1, "thirty pixels on one"


def test_difference_of_opposite_flows_is_zero_inside() -> None:
    difference = forward_backward_difference(constant(2.5, -1.25), constant(-2.5, 1.25))
    assert difference[..., 2:, :27].abs().max() < 1e-5
    # Beyond the border the way back is zero, so the way forth is left.
    torch.testing.assert_close(difference[:, :, 10, 29], torch.tensor([[2.5, 1.25]]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_difference_is_the_warped_sum(dtype: torch.dtype) -> None:
    flow = smooth_pair(0, 2, dtype)
    expected = (flow.flow_ab + inverse_warp(flow.flow_ba, flow.flow_ab)[0]).abs()
    difference = forward_backward_difference(flow.flow_ab, flow.flow_ba)
    assert difference.dtype == dtype
    torch.testing.assert_close(difference, expected)
    torch.testing.assert_close(
        forward_backward_difference(flow.flow_ab, flow.flow_ba, 3), expected[..., ::3, ::3]
    )


def test_difference_gradient() -> None:
    generator = torch.Generator().manual_seed(1)
    # A flow that lands off the pixel lines, and nowhere near a zero of the absolute value.
    a = (0.3 + 0.4 * torch.rand(1, 2, 4, 5, dtype=torch.float64, generator=generator)).requires_grad_()
    b = (1 + torch.rand(1, 2, 4, 5, dtype=torch.float64, generator=generator)).requires_grad_()
    assert torch.autograd.gradcheck(forward_backward_difference, (a, b))


def test_quality_of_a_square_before_a_wall() -> None:
    flow, hidden = square_before_a_wall()
    quality = flow_quality(flow)
    assert torch.equal(quality.visible[0, 0] == 0, hidden)
    # The way back from where the hidden wall lands is the square's: six pixels off.
    assert torch.equal(~quality.consistent[0, 0], hidden)
    torch.testing.assert_close(quality.score[0, 0], torch.where(hidden, 0.0, 10.0))


def test_consistency_limits() -> None:
    """Below alpha, or below the share beta of the flow; exactly there is not below."""
    cases = [(2.9, 10, True), (3.1, 10, False), (4.9, 100, True), (5.1, 100, False)]
    for difference, length, expected in cases:
        flow = FlowPair(constant(length, 0, 5, 300), constant(difference - length, 0, 5, 300))
        assert flow_quality(flow).consistent[0, 0, 2, 20].item() is expected
    flow = FlowPair(constant(0.5, 0), constant(0.5, 0))
    assert not flow_quality(flow, alpha=0.5, beta=0.0).consistent[0, 0, 9, 9]
    assert flow_quality(flow, alpha=1.5, beta=0.0).consistent[0, 0, 9, 9]


def test_score_is_as_written() -> None:
    flow = smooth_pair(2, 2)
    quality = flow_quality(flow)
    difference = forward_backward_difference(flow.flow_ab, flow.flow_ba)
    consistent = difference.norm(dim=1) < torch.maximum(torch.tensor(3.0), 0.05 * flow.flow_ab.norm(dim=1))
    assert torch.equal(quality.consistent[:, 0], consistent)
    assert 0.02 < consistent.float().mean() < 0.98
    visible = forward_splat(torch.ones(2, 1, 40, 56), flow.flow_ba).clamp(0, 1)
    expected = visible[:, 0] * consistent / (0.1 + difference.mean(1))
    torch.testing.assert_close(quality.score[:, 0], expected)


@pytest.mark.parametrize("stride", [1, 3])
def test_quality_gives_the_difference_with_its_gradient_and_nothing_else(stride: int) -> None:
    flow = smooth_pair(2, 2)
    flow = FlowPair(flow.flow_ab.requires_grad_(), flow.flow_ba.requires_grad_())
    quality = flow_quality(flow, stride=stride)
    expected = forward_backward_difference(flow.flow_ab, flow.flow_ba, stride)
    assert torch.equal(quality.difference, expected)
    for ours, theirs in zip(
        *(torch.autograd.grad(x.square().sum(), (flow.flow_ab, flow.flow_ba)) for x in (quality.difference, expected))
    ):
        assert torch.equal(ours, theirs)
    assert not (quality.visible.requires_grad)
    assert not (quality.consistent.requires_grad)
    assert not (quality.score.requires_grad)


@pytest.mark.parametrize("stride", [2, 3])
def test_stride_evaluates_every_nth_row_and_column(stride: int) -> None:
    flow = smooth_pair(3)
    full, coarse = flow_quality(flow), flow_quality(flow, stride=stride)
    rows = (slice(None), slice(None), slice(None, None, stride), slice(None, None, stride))
    assert coarse.score.shape == full.score[rows].shape
    assert torch.equal(coarse.consistent, full.consistent[rows])
    # The coarse splat is another estimate of the same visibility: seen or not, it mostly agrees.
    assert ((coarse.visible > 0.5) == (full.visible[rows] > 0.5)).float().mean() > 0.7


def test_stride_of_a_smooth_motion_hides_nothing() -> None:
    flow = FlowPair(constant(4.0, -2.0), constant(-4.0, 2.0))
    visible = flow_quality(flow, stride=2).visible
    assert visible.shape == (1, 1, 10, 15)
    # Two pixels above and four on the right leave b, and nothing of b lands there.
    assert (visible[..., 1:, :13] == 1).all()
    assert (visible[..., :1, :] == 0).all()
    assert (visible[..., 13:] == 0).all()


def test_items_are_independent_and_nan_is_not_consistent() -> None:
    flow = smooth_pair(4, 3)
    alone = flow_quality(FlowPair(flow.flow_ab[:1], flow.flow_ba[:1]))
    flow.flow_ab[1], flow.flow_ba[1] = torch.nan, torch.nan
    flow.flow_ba[2] = torch.inf
    quality = flow_quality(flow)
    assert torch.equal(quality.score[:1], alone.score)
    assert torch.equal(quality.visible[:1], alone.visible)
    assert not quality.consistent[1].any()
    assert not quality.visible[1:].any()
    assert not quality.score[1:].any()
