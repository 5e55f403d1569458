"""A rough flow of a network, carried on by DIS."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
import torch

from tests.flow.test_dis import moved, texture
from trianflow.flow.dis import DISFlow
from trianflow.flow.interface import FlowPair
from trianflow.flow.learned import EncodedImage, LearnedFlow
from trianflow.flow.pwc import PWCNet
from trianflow.flow.refined import RefinedFlow

SHIFT = torch.tensor([61.3, -7.4])
INNER = (slice(None), slice(None), slice(16, -16), slice(72, -72))


class RoughFlow:
    """What a network of little precision says, three pixels off."""

    def __init__(self) -> None:
        field = SHIFT[:, None, None].expand(1, 2, 160, 240)
        self.known = FlowPair(field + 3, -field + 3)
        self.asked: list[tuple[float, float]] = []

    def encode(self, image: np.ndarray) -> float:
        return float(image.mean())

    def flow(self, a: EncodedImage, b: EncodedImage) -> FlowPair:
        self.asked.append(cast("tuple[float, float]", (a, b)))
        return self.known


def pair() -> tuple[np.ndarray, np.ndarray]:
    b = texture(0)
    return moved(b, SHIFT[0].item(), SHIFT[1].item()), b


def test_a_motion_too_large_for_the_search_alone_is_found_to_a_fraction_of_a_pixel() -> None:
    a, b = pair()
    network = RoughFlow()
    refined = RefinedFlow(cast(LearnedFlow, network))
    for _ in range(2):  # the network's own flow is left alone: the second answer is the first
        found = refined.flow(refined.encode(a), refined.encode(b))
        for flow, sign in ((found.flow_ab, 1), (found.flow_ba, -1)):
            assert flow.shape == (1, 2, 160, 240)
            assert flow.dtype == torch.float32
            # What is seen in both images: the right part of one, the left part of the other.
            inner = flow[INNER] - sign * SHIFT[:, None, None]
            assert inner.norm(dim=1).median() < 0.15
    assert network.asked == [(a.mean(), b.mean())] * 2
    alone = DISFlow().flow(a, b).flow_ab[INNER] - SHIFT[:, None, None]
    assert alone.norm(dim=1).median() > 5


def test_a_real_network_of_any_size_and_colour() -> None:
    torch.manual_seed(0)
    refined = RefinedFlow(LearnedFlow(PWCNet(), "cpu"), "fast")
    rng = np.random.default_rng(0)
    for shape in ((37, 90, 3), (64, 64)):
        a, b = (refined.encode(rng.integers(0, 255, shape, dtype=np.uint8)) for _ in range(2))
        found = refined.flow(a, b)
        assert found.flow_ab.shape == found.flow_ba.shape == (1, 2, *shape[:2])
        assert found.flow_ab.isfinite().all()


def test_images_of_two_sizes() -> None:
    refined = RefinedFlow(LearnedFlow(PWCNet(), "cpu"))
    a, b = (refined.encode(np.zeros(shape, np.uint8)) for shape in ((64, 64), (64, 96)))
    with pytest.raises(ValueError, match="one size"):
        refined.flow(a, b)
