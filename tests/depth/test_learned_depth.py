"""The depth network as an estimator."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from trianflow.depth.learned import LearnedDepth
from trianflow.depth.network import DepthNet, disparity_to_depth


@pytest.fixture
def network() -> DepthNet:
    torch.manual_seed(0)
    return DepthNet().eval()


@pytest.mark.parametrize("size", [(64, 96), (50, 70), (21, 33)])
def test_without_resizing_it_is_the_network(network: DepthNet, size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = disparity_to_depth(network(torch.from_numpy(image).permute(2, 0, 1)[None] / 255)[0])[0, 0]
    depth = LearnedDepth(network, "cpu", dtype=torch.float32).depth(image)
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, expected.numpy(), rtol=1e-3)
    rough = LearnedDepth(network, "cpu", dtype=torch.bfloat16).depth(image)
    assert 0 < np.abs(np.log(rough / expected.numpy())).mean() < 0.02


def test_depth_has_no_terraces_in_bfloat16(network: DepthNet) -> None:
    """A far scene, where a step of a bfloat16 logit is one percent of the depth: the head is that of float32."""
    network.decoder.dispconvs[0].conv.bias.data -= 4
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    kept: list[Tensor] = []
    network.decoder.dispconvs[0].register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0]))
    weight, bias = (p.detach().clone() for p in network.decoder.dispconvs[0].parameters())
    depth = LearnedDepth(network, "cpu", dtype=torch.bfloat16).depth(image)
    assert kept[0].dtype == torch.bfloat16
    logit = conv2d(pad(kept[0].float(), (1, 1, 1, 1), "reflect"), weight, bias)
    expected = disparity_to_depth(logit.sigmoid())[0, 0].numpy()
    assert np.abs(depth / expected - 1).max() < 1e-3
    assert len(np.unique(depth)) > 0.9 * depth.size


def test_head_keeps_float32_under_autocast(network: DepthNet) -> None:
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        (logit,) = network.logits(image)
    assert logit.dtype == torch.float32
    assert len(logit.unique()) > 0.9 * logit.numel()
    logit.sum().backward()
    for p in network.decoder.dispconvs[0].parameters():
        assert p.grad is not None
        assert p.grad.any()


class Known(DepthNet):
    """Disparity rises from left to right."""

    def forward(self, image: Tensor) -> list[Tensor]:
        assert image.shape == (1, 3, 64, 128)
        return [((torch.arange(128) + 0.5) / 128).expand(1, 1, 64, 128)]


def test_disparity_comes_back_at_the_size_of_the_image() -> None:
    estimator = LearnedDepth(Known(), "cpu", trained_size=(128, 64), dtype=torch.float32)
    depth = estimator.depth(np.zeros((128, 256), np.uint8))
    assert depth.shape == (128, 256)
    expected = disparity_to_depth((torch.arange(256) + 0.5) / 256).numpy()
    np.testing.assert_allclose(depth[7, 1:-1], expected[1:-1], rtol=1e-4)
    assert depth.min() > 0.1
    assert depth.max() < 100
