"""The loss with true flow: its value, its gradient, and what does not count."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from trianflow.losses.supervised_flow import supervised_flow_loss


def levels(flow: Tensor, count: int) -> list[Tensor]:
    """A flow at 1, 1/2, ... of its size, in pixels of that size."""
    return [flow if i == 0 else avg_pool2d(flow, 2**i) / 2**i for i in range(count)]


def cost(error: float) -> float:
    return (error**2 + 0.05**2) ** 0.5 - 0.05


def random_flow(*shape: int, seed: int = 0) -> Tensor:
    return 6 * torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) - 3


def test_error_of_five_pixels_at_every_level() -> None:
    truth = random_flow(1, 1, 1, 1).expand(2, 2, 16, 24).clone()
    wrong = truth + torch.tensor([3.0, 4.0])[:, None, None]
    for count, weight in ((1, 1.0), (2, 1.5), (4, 1.875)):
        found = supervised_flow_loss(levels(wrong, count), truth)
        torch.testing.assert_close(found, torch.full((2,), weight * cost(5.0), dtype=torch.float64))
    torch.testing.assert_close(supervised_flow_loss(levels(truth, 4), truth), torch.zeros(2, dtype=torch.float64))


def test_every_pixel_that_is_off_pulls_alike_but_for_the_nearly_right() -> None:
    truth = torch.zeros(1, 2, 8, 8, dtype=torch.float64)
    pulls = []
    for error in (0.02, 0.5, 20.0):
        flow = torch.full_like(truth, 0.0)
        flow[:, 0] = error
        flow.requires_grad_()
        supervised_flow_loss([flow], truth).sum().backward()
        assert flow.grad is not None
        pulls.append(float(flow.grad[0, 0, 3, 3]))
    assert pulls[1] == pytest.approx(pulls[2], rel=0.01)
    assert 0 < pulls[0] < 0.5 * pulls[2]


def test_what_is_unknown_has_no_say() -> None:
    truth = random_flow(2, 2, 16, 16)
    truth[0, :, :, 8:] = torch.nan
    truth[1] = torch.nan
    flow = random_flow(2, 2, 16, 16, seed=1)
    other = flow.clone()
    other[0, :, :, 8:] = 50
    flow.requires_grad_()
    found = supervised_flow_loss(levels(flow, 4), truth)
    torch.testing.assert_close(found, supervised_flow_loss(levels(other, 4), truth))
    assert found[1] == 0
    found.sum().backward()
    assert flow.grad is not None
    assert flow.grad.isfinite().all()
    assert not flow.grad[0, :, :, 8:].any()
    assert not flow.grad[1].any()
    assert flow.grad[0, :, :, :8].any()


def test_hidden_pixels_count_a_fifth_and_unknown_visibility_as_seen() -> None:
    truth = torch.zeros(1, 2, 4, 4, dtype=torch.float64)
    flow = torch.zeros_like(truth)
    flow[:, 0, :2] = 4.0
    visible = torch.ones(1, 1, 4, 4, dtype=torch.float64)
    visible[:, :, :2] = 0
    expected = 0.2 * cost(4.0) / 1.2
    assert float(supervised_flow_loss([flow], truth, visible)) == pytest.approx(expected)
    nothing = torch.full_like(visible, torch.nan)
    torch.testing.assert_close(supervised_flow_loss([flow], truth, nothing), supervised_flow_loss([flow], truth))


def test_truth_of_a_coarse_level_is_that_of_the_pixels_that_count() -> None:
    truth = torch.zeros(1, 2, 2, 2, dtype=torch.float64)
    truth[:, :, 0, 0], truth[:, :, 1, 1] = 8.0, torch.nan
    visible = torch.ones(1, 1, 2, 2, dtype=torch.float64)
    visible[..., 0, 1] = 0
    mean = 8.0 / 2.2  # of 8, 0 (a fifth) and 0, the fourth unknown
    coarse = torch.full((1, 2, 1, 1), mean / 2, dtype=torch.float64)
    fine = torch.where(truth.isfinite(), truth, 0.0)
    assert float(supervised_flow_loss([fine, coarse], truth, visible)) == pytest.approx(0.0, abs=1e-12)


def test_gradient() -> None:
    truth = random_flow(2, 2, 5, 7)
    truth[0, :, 1] = torch.nan
    visible = (random_flow(2, 1, 5, 7, seed=2) > -1).double()
    flows = [random_flow(2, 2, 5 >> i, 7 >> i, seed=3 + i).requires_grad_() for i in range(2)]
    assert torch.autograd.gradcheck(lambda *f: supervised_flow_loss(f, truth, visible), flows)


def test_items_do_not_see_each_other() -> None:
    truth, flow = random_flow(3, 2, 8, 8), random_flow(3, 2, 8, 8, seed=1)
    truth[1] = torch.nan
    alone = [supervised_flow_loss(levels(flow[[i]], 3), truth[[i]]) for i in range(3)]
    torch.testing.assert_close(supervised_flow_loss(levels(flow, 3), truth), torch.cat(alone))
