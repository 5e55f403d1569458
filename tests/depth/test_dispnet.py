"""DispNet: sizes, range, gradients, independence of the items, precision."""

from __future__ import annotations

import pytest
import torch

from trianflow.depth.dispnet import DispNet


@pytest.fixture(scope="module")
def network() -> DispNet:
    torch.manual_seed(0)
    return DispNet(4)


@pytest.mark.parametrize("size", [(64, 128), (65, 71), (128, 40)])
def test_sizes_and_range(network: DispNet, size: tuple[int, int]) -> None:
    found = network(torch.rand(2, 3, *size))
    assert [tuple(d.shape[-2:]) for d in found] == [(size[0] >> s, size[1] >> s) for s in range(4)]
    for disparity in found:
        assert disparity.dtype == torch.float32
        assert ((disparity > 0) & (disparity < 1)).all()
        assert 0.2 < disparity.mean() < 0.8, "in the middle at first"


def test_gradients_reach_all_of_it(network: DispNet) -> None:
    network.zero_grad()
    torch.stack([d.mean() for d in network(torch.rand(1, 3, 64, 64))]).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    moved = [p.grad is not None and bool(p.grad.any()) for p in network.parameters()]
    assert sum(moved) > 0.9 * len(moved)


def test_items_do_not_see_each_other_and_few_bits_will_do(network: DispNet) -> None:
    image = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together = network(image)[0]
        torch.testing.assert_close(network(image[1:2])[0], together[1:2], rtol=1e-3, atol=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            low = network(image)[0]
    assert low.dtype == torch.float32
    assert (low - together).abs().max() < 0.05


def test_fewer_scales_and_wrong_input() -> None:
    assert len(DispNet(1)(torch.rand(1, 3, 32, 32))) == 1
    with pytest.raises(ValueError, match="1 to 4 scales"):
        DispNet(5)
    with pytest.raises(ValueError, match="takes images"):
        DispNet()(torch.rand(3, 32, 32))
