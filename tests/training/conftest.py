"""Pairs for tiny training runs, and small networks in place of the real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.small_runs import SIDE, train, use_small_networks
from trianflow.data.pairs.sources import RawPair
from trianflow.data.synthetic import camera_path, make_scene, render_pairs
from trianflow.geometry.camera import Camera
from trianflow.training.loop import TrainingOutcome


@pytest.fixture(scope="session")
def raw_pairs() -> list[RawPair]:
    """Six views of one pair of places in a street, each with a texture of its own, all with the same exact flow."""
    camera = Camera.from_fov(SIDE, SIDE, 80)
    pairs = []
    scene = make_scene("street", 3, 0, length=30.0)
    T_wc = camera_path("driving", scene, 2, 10.0, 3)[None]
    times = torch.tensor([[0.0, 0.1]], dtype=torch.float64)
    pair = render_pairs([scene], T_wc, times, camera.K()[None], SIDE, SIDE)
    depth = pair.depth_a[0].numpy()
    images = torch.cat([pair.image_a, pair.image_b]).permute(0, 2, 3, 1).numpy() * 255
    for number in range(6):
        gain = np.random.default_rng(number).uniform(0.4, 1.0, 3)
        pairs.append(
            RawPair(
                (images * gain).round().astype(np.uint8),
                camera,
                flow_ab=pair.flow_ab[0].numpy(),
                visible_a=pair.visible_a[0].numpy(),
                depth_a=np.where(np.isfinite(depth), depth, np.nan).astype(np.float32),
                T_ba=pair.T_ba[0].numpy(),
            )
        )
    pairs[0].__dict__["flow_ba"] = pair.flow_ba[0].numpy()
    return pairs


@pytest.fixture
def small_networks(raw_pairs: list[RawPair], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let training use the small networks: a step takes milliseconds, a checkpoint kilobytes."""
    use_small_networks(raw_pairs, monkeypatch.setattr)


@pytest.fixture(scope="module")
def finished(raw_pairs: list[RawPair], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run of ten steps."""
    out = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        use_small_networks(raw_pairs, patch.setattr)
        outcome = train(out, raw_pairs)
    assert outcome == TrainingOutcome(True, 10, 0, outcome.figures)
    assert outcome.figures["epe"] < 0.3
    return out
