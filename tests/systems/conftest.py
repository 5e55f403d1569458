"""Rendered drives with and without moving objects, and systems whose networks know the truth."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.systems.known_networks import KnownFlow
from trianflow.data.synthetic import RenderedPair, camera_path, make_scene, render_pairs
from trianflow.geometry.camera import Camera
from trianflow.systems.config import SystemConfig
from trianflow.systems.trianflow import TrianFlow

HEIGHT, WIDTH = 128, 256


@pytest.fixture(scope="session")
def drives() -> RenderedPair:
    """Three pairs of a car that drives through streets among others that move."""
    return _drives(2)


@pytest.fixture(scope="session")
def still_drives() -> RenderedPair:
    """The same streets without anybody else."""
    return _drives(0)


def _drives(moving_objects: int) -> RenderedPair:
    scenes = [make_scene("street", seed, moving_objects, length=40.0) for seed in (1, 2, 3)]
    T_wc = torch.stack([camera_path("driving", scene, 2, 10.0, seed) for seed, scene in enumerate(scenes)])
    times = torch.tensor([0.0, 0.1], dtype=torch.float64).expand(3, 2)
    K = Camera.from_fov(WIDTH, HEIGHT, 80).K().expand(3, 3, 3)
    return render_pairs(scenes, T_wc, times, K, HEIGHT, WIDTH)


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
