"""Rendered drives with moving objects, and networks that know the truth."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from trianflow.data.pairs.batch import PairBatch, PairTruth
from trianflow.data.synthetic import RenderedPair, camera_path, make_scene, render_pairs
from trianflow.flow.interface import FlowPair
from trianflow.geometry.camera import Camera
from trianflow.systems.config import SystemConfig
from trianflow.systems.trianflow import TrianFlow

HEIGHT, WIDTH = 128, 256


@pytest.fixture(scope="session")
def drives() -> RenderedPair:
    """Three pairs of a car that drives through streets among others that move."""
    scenes = [make_scene("street", seed, 2, length=40.0) for seed in (1, 2, 3)]
    T_wc = torch.stack([camera_path("driving", scene, 2, 10.0, seed) for seed, scene in enumerate(scenes)])
    times = torch.tensor([0.0, 0.1], dtype=torch.float64).expand(3, 2)
    K = Camera.from_fov(WIDTH, HEIGHT, 80).K().expand(3, 3, 3)
    return render_pairs(scenes, T_wc, times, K, HEIGHT, WIDTH)


def batch_of(pair: RenderedPair, items: slice | list[int] = slice(None)) -> PairBatch:
    """Some of the pairs as a training step gets them."""
    a, b = pair.image_a[items], pair.image_b[items]
    truth = PairTruth(pair.flow_ab[items], pair.visible_a[items], pair.depth_a[items], pair.T_ba[items])
    return PairBatch(a, b, a, b, pair.K[items], truth, torch.arange(len(a)))


class KnownFlow(nn.Module):
    """A flow network that answers what it was told of the first pairs, plus a correction that it may learn."""

    def __init__(self, flow_ab: Tensor, flow_ba: Tensor) -> None:
        super().__init__()
        self.correction = nn.Parameter(torch.zeros(2, 1, 1))
        self.known = FlowPair(flow_ab, flow_ba)

    def forward(self, image_a: Tensor, image_b: Tensor, levels: int = 4) -> list[FlowPair]:
        ab, ba = (x[: len(image_a)] + self.correction for x in (self.known.flow_ab, self.known.flow_ba))
        pool = torch.nn.functional.avg_pool2d
        return [FlowPair(*(x if i == 0 else pool(x, 2**i) / 2**i for x in (ab, ba))) for i in range(levels)]


class KnownDepth(nn.Module):
    """A depth network that answers the disparity of known depths, those of images a before those of images b."""

    def __init__(self, depth_a: Tensor, depth_b: Tensor, unit: float) -> None:
        super().__init__()
        depth = (torch.cat([depth_a, depth_b]) * unit).clamp(0.1, 100)
        self.disparity = nn.Parameter((1 / depth - 0.01) / 9.99)

    def forward(self, image: Tensor) -> list[Tensor]:
        return [self.disparity]


@pytest.fixture
def system_with() -> Callable[..., TrianFlow]:
    """A system whose flow network answers the given flows."""

    def make(flow_ab: Tensor, flow_ba: Tensor, depth: nn.Module | None = None) -> TrianFlow:
        torch.manual_seed(0)
        system = TrianFlow(SystemConfig())
        system.flow = KnownFlow(flow_ab, flow_ba)  # type: ignore[assignment]
        if depth is not None:
            system.depth = depth  # type: ignore[assignment]
        return system

    return make
