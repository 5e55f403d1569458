"""Smoothness terms against a plain numpy loop and functions whose derivatives are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from trianflow.losses.smoothness import (
    disparity_smoothness,
    edge_aware_smoothness,
    flow_smoothness,
    over_mean,
    second_order_smoothness,
)

DTYPES = [torch.float32, torch.float64]


def case(channels: int, seed: int = 0, shape: tuple[int, int] = (5, 7)) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.uniform(1, 5, (2, channels, *shape))), torch.from_numpy(
        rng.uniform(size=(2, 3, *shape))
    )


def loop(x: np.ndarray, image: np.ndarray, order: int, edge: float) -> float:
    """Sum of the weighted means along x and y, one item, pixel by pixel."""
    total = 0.0
    for axis in (1, 2):
        values = []
        for index in np.ndindex(*x.shape):
            if index[axis] < order:
                continue

            def at(a: np.ndarray, back: int, channel: int, index: tuple[int, ...] = index, axis: int = axis) -> float:
                row, column = index[1] - back * (axis == 1), index[2] - back * (axis == 2)
                return float(a[channel, row, column])

            gradient = np.mean([abs(at(image, 0, c) - at(image, 1, c)) for c in range(3)])
            c = index[0]
            bend = at(x, 0, c) - at(x, 1, c)
            if order == 2:
                bend -= at(x, 1, c) - at(x, 2, c)
            values.append(np.exp(-edge * gradient) * abs(bend))
        total += np.mean(values)
    return total


@pytest.mark.parametrize("dtype", DTYPES)
def test_flow_smoothness_against_a_loop(dtype: torch.dtype) -> None:
    flow, image = case(2)
    ours = flow_smoothness(flow.to(dtype), image.to(dtype), edge=6.0, scale=4.0)
    assert ours.dtype == dtype
    for i in range(2):
        assert ours[i].item() == pytest.approx(loop(flow[i].numpy() / 4, image[i].numpy(), 2, 6.0) / 2, rel=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_disparity_smoothness_against_a_loop(dtype: torch.dtype) -> None:
    disparity, image = case(1)
    ours = disparity_smoothness(disparity.to(dtype), image.to(dtype))
    assert ours.dtype == dtype
    for i in range(2):
        expected = loop((disparity[i] / disparity[i].mean()).numpy(), image[i].numpy(), 1, 1.0)
        assert ours[i].item() == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(disparity_smoothness(7 * disparity, image), disparity_smoothness(disparity, image))


def test_known_values() -> None:
    x, y = torch.arange(9.0), torch.arange(6.0)[:, None]
    blank = torch.full((1, 3, 6, 9), 0.3)
    plane = (2 * x - 3 * y).expand(1, 2, 6, 9)
    assert flow_smoothness(plane, blank).item() == pytest.approx(0, abs=1e-6)
    bowl = (x**2 + 3 * y**2).expand(1, 2, 6, 9)
    assert flow_smoothness(bowl, blank).item() == pytest.approx((2 + 6) / 2 / 20)
    # A step of 0.5 in the image between any two columns: exp(-5) along x, nothing changes along y.
    stripes = (0.5 * (x % 2)).expand(1, 3, 6, 9)
    assert flow_smoothness(bowl, stripes).item() == pytest.approx((2 * np.exp(-5) + 6) / 2 / 20, rel=1e-5)
    ramp = (x + 1).expand(1, 1, 6, 9)
    assert disparity_smoothness(ramp, stripes).item() == pytest.approx(np.exp(-0.5) / 5, rel=1e-5)


@pytest.mark.parametrize(("loss", "channels"), [(flow_smoothness, 2), (disparity_smoothness, 1)])
def test_gradient_and_independence(loss: Callable, channels: int) -> None:
    x, image = case(channels, 1)
    assert torch.autograd.gradcheck(loss, (x.requires_grad_(), image.requires_grad_()))
    torch.testing.assert_close(loss(x, image)[1:], loss(x[1:], image[1:]))
    spoilt = x.detach().clone()
    spoilt[0, 0, 1, 1] = torch.nan
    spoilt.requires_grad_()
    losses = loss(spoilt, image)
    assert losses[1] == loss(x, image)[1]
    assert not losses[0].isfinite(), "what is not finite is not hidden"
    losses.sum().backward()
    torch.testing.assert_close(spoilt.grad[1], torch.autograd.grad(loss(x, image)[1], x)[0][1])


@pytest.mark.parametrize(("loss", "channels"), [(flow_smoothness, 2), (disparity_smoothness, 1)])
@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (2, 2), (3, 1)])
def test_tiny_and_static(loss: Callable, channels: int, shape: tuple[int, int]) -> None:
    x, image = case(channels, 2, shape)
    assert loss(x, image).isfinite().all()
    zero = torch.zeros_like(x).requires_grad_()
    loss(zero, image).sum().backward()
    assert (loss(zero, image) == 0).all()
    assert zero.grad.isfinite().all()


def test_second_order_against_a_loop_and_on_known_surfaces() -> None:
    g = torch.Generator().manual_seed(3)
    x = torch.rand(2, 1, 6, 7, generator=g, dtype=torch.float64)
    for b in range(2):
        v = x[b, 0].numpy()
        along_x = np.abs(v[:, 2:] - 2 * v[:, 1:-1] + v[:, :-2]).mean()
        along_y = np.abs(v[2:] - 2 * v[1:-1] + v[:-2]).mean()
        across = np.abs(v[1:, 1:] - v[:-1, 1:] - v[1:, :-1] + v[:-1, :-1]).mean()
        assert second_order_smoothness(x)[b].item() == pytest.approx(along_x + along_y + 2 * across)
    u, v = torch.meshgrid(torch.arange(7.0), torch.arange(6.0), indexing="xy")
    assert second_order_smoothness((3 * u - 2 * v)[None, None]).item() == pytest.approx(0, abs=1e-5)
    assert second_order_smoothness((u * v)[None, None]).item() == pytest.approx(2, abs=1e-5)


def test_edge_aware_keeps_the_unit_that_normalising_takes_away() -> None:
    g = torch.Generator().manual_seed(4)
    x, image = torch.rand(2, 1, 6, 7, generator=g), torch.rand(2, 3, 6, 7, generator=g)
    once = edge_aware_smoothness(x, image)
    torch.testing.assert_close(edge_aware_smoothness(5 * x, image), 5 * once)
    torch.testing.assert_close(edge_aware_smoothness(over_mean(5 * x), image), disparity_smoothness(x, image))
    torch.testing.assert_close(over_mean(x).mean((1, 2, 3)), torch.ones(2), rtol=0, atol=1e-5)
