"""The flow network as an estimator: sizes, precision, both directions at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from trianflow.flow.learned import LearnedFlow
from trianflow.flow.pwc import PWCNet
from trianflow.geometry.camera import pixel_grid


def pictures(height: int, width: int, seed: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(0, 256, (2, height, width, 3), dtype=np.uint8))


def tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255


@pytest.fixture
def network() -> PWCNet:
    torch.manual_seed(0)
    return PWCNet().eval()


@pytest.mark.parametrize("size", [(64, 128), (50, 70), (33, 95)])
def test_without_resizing_it_is_the_network(network: PWCNet, size: tuple[int, int]) -> None:
    a, b = pictures(*size)
    with torch.no_grad():
        expected = network(tensor(a), tensor(b), 1)[0]
    flow = LearnedFlow(network, "cpu", dtype=torch.float32)
    pair = flow.flow(flow.encode(a), flow.encode(b))
    torch.testing.assert_close(pair.flow_ab, expected.flow_ab, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(pair.flow_ba, expected.flow_ba, rtol=1e-4, atol=1e-4)
    assert float((pair.flow_ab - pair.flow_ba).abs().mean()) > 0.01


def test_a_result_is_a_tensor_like_any_other(network: PWCNet) -> None:
    flow = LearnedFlow(network, "cpu")
    encoded = [flow.encode(image) for image in pictures(32, 48)]
    pair = flow.flow(*encoded)
    assert pair.flow_ab.dtype == torch.float32
    assert not pair.flow_ab.is_inference()
    pair.flow_ab.add_(1)


def test_half_precision_is_close(network: PWCNet) -> None:
    a, b = pictures(64, 96)
    exact = LearnedFlow(network, "cpu", dtype=torch.float32)
    expected = exact.flow(exact.encode(a), exact.encode(b)).flow_ab
    rough = LearnedFlow(network, "cpu", dtype=torch.bfloat16)
    error = (rough.flow(rough.encode(a), rough.encode(b)).flow_ab - expected).norm(dim=1).mean()
    assert 0 < float(error) < 0.05 * float(expected.norm(dim=1).mean())


def test_grey_is_colour_without_colour(network: PWCNet) -> None:
    a, b = (image[..., 0] for image in pictures(40, 60))
    flow = LearnedFlow(network, "cpu", dtype=torch.float32)
    grey = flow.flow(flow.encode(a), flow.encode(b))
    colour = flow.flow(*(flow.encode(np.stack([image] * 3, -1)) for image in (a, b)))
    assert torch.equal(grey.flow_ab, colour.flow_ab)


class Known(PWCNet):
    """Answers with a given flow field of the working size, the other way round in the second item."""

    def __init__(self, shift: tuple[float, float], slope: float) -> None:
        super().__init__()
        self.shift, self.slope = torch.tensor(shift)[:, None, None], slope
        self.sizes: list[tuple[int, ...]] = []

    def encode(self, image: Tensor) -> list[Tensor]:
        self.sizes.append(tuple(image.shape))
        return [image.mean((2, 3), keepdim=True)]

    def decode(self, features_a, features_b, height, width, levels=4):  # type: ignore[no-untyped-def]
        assert levels == 1
        assert len(features_a[0]) == len(features_b[0]) == 2
        assert torch.equal(features_a[0], features_b[0].flip(0))
        flow = self.shift + self.slope * (pixel_grid(height, width) + 0.5)
        return [torch.stack([flow, -flow])]


def test_flow_comes_back_in_the_pixels_of_the_image() -> None:
    """A shift by s pixels of the smaller image is one by s W / w; a zoom is the same zoom."""
    network = Known((3.0, -2.0), 0.1)
    flow = LearnedFlow(network, "cpu", trained_size=(128, 64), dtype=torch.float32)
    a, b = pictures(160, 300)
    pair = flow.flow(flow.encode(a), flow.encode(b))
    assert network.sizes == [(1, 3, 64, 128)] * 2
    scale = torch.tensor([300 / 128, 160 / 64])[:, None, None]
    expected = torch.tensor([3.0, -2.0])[:, None, None] * scale + 0.1 * (pixel_grid(160, 300) + 0.5)
    inner = (0, slice(None), slice(2, -2), slice(2, -2))
    torch.testing.assert_close(pair.flow_ab[inner], expected[inner[1:]], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(pair.flow_ba, -pair.flow_ab)
    assert pair.flow_ab.shape == (1, 2, 160, 300)


def test_given_size() -> None:
    network = Known((1.0, 1.0), 0.0)
    flow = LearnedFlow(network, "cpu", size=(64, 192), dtype=torch.float32)
    pair = flow.flow(*(flow.encode(image) for image in pictures(48, 128)))
    assert network.sizes == [(1, 3, 192, 64)] * 2
    assert pair.flow_ab[0, :, 5, 5].tolist() == [2.0, 0.25]


def test_images_of_two_sizes(network: PWCNet) -> None:
    flow = LearnedFlow(network, "cpu")
    with pytest.raises(ValueError, match="one size"):
        flow.flow(flow.encode(np.zeros((20, 30), np.uint8)), flow.encode(np.zeros((20, 31), np.uint8)))
