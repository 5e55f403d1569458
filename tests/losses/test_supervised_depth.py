"""The loss with true depth: its value, its gradient, and what does not count."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from trianflow.losses.supervised_depth import supervised_depth_loss


def depths(seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return 1 + 30 * torch.rand(2, 1, 12, 16, generator=g, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_factor_costs_its_logarithm_near_and_far(dtype: torch.dtype) -> None:
    truth = depths(0, dtype)
    factor = torch.where(torch.arange(12)[:, None] < 6, 1.5, 1 / 1.5).to(dtype)
    for unit in (1.0, 0.01):
        found = supervised_depth_loss(unit * factor * truth, unit * truth)
        torch.testing.assert_close(found, torch.full((2,), math.log(1.5), dtype=dtype))
    assert (supervised_depth_loss(truth, truth) == 0).all()


def test_gradient() -> None:
    truth, depth = depths(0), depths(1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: supervised_depth_loss(x, truth), depth)


def test_what_is_unknown_has_no_say() -> None:
    truth, depth = depths(0), depths(1)
    expected = supervised_depth_loss(depth[:1, ..., :8], truth[:1, ..., :8])
    truth[0, ..., 8:12], truth[0, ..., 12:] = torch.nan, 0.0
    truth[1] = torch.inf
    depth.requires_grad_()
    found = supervised_depth_loss(depth, truth)
    torch.testing.assert_close(found, torch.cat([expected, expected.new_zeros(1)]))
    found.sum().backward()
    assert depth.grad is not None
    assert (depth.grad[0, ..., :8] != 0).all()
    assert (depth.grad[0, ..., 8:] == 0).all()
    assert (depth.grad[1] == 0).all()


def test_items_do_not_mix() -> None:
    truth, depth = depths(0), depths(1)
    truth[0, ..., 3:] = torch.nan
    both = supervised_depth_loss(depth, truth)
    for i in (0, 1):
        torch.testing.assert_close(supervised_depth_loss(depth[i : i + 1], truth[i : i + 1])[0], both[i])
