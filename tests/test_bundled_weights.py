"""The weights in the repository are what their cards say, and see motion."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch

from trianflow.config import NetworkConfig
from trianflow.data.pairs.config import DriveSource
from trianflow.data.pairs.drives import RenderedDrives
from trianflow.data.synthetic.world import random_pairs
from trianflow.evaluation.depth import depth_errors
from trianflow.evaluation.flow import end_point_error
from trianflow.odometry.estimators import learned_depth
from trianflow.weights import list_weights, load_weights


def test_every_bundled_file_is_that_of_the_manifest() -> None:
    found = list_weights()
    assert [entry.name for entry in found] == ["driving", "indoor"]
    for entry in found:
        weights = load_weights(entry.name)  # compares the checksums of manifest and card
        assert weights.card["name"] == entry.name
        assert {"description", "data", "licence", "size", "sha256", "networks"} <= weights.card.keys()
    assert sum(entry.path.stat().st_size for entry in found) <= 60e6


@torch.no_grad()
@pytest.mark.parametrize("name", ["driving", "indoor"])
def test_flow_halves_the_error_of_no_flow_on_new_scenes(name: str) -> None:
    pairs = random_pairs(12, 128, 256, seed=31337)
    network = load_weights(name).rgb().flow
    assert network is not None
    flow = network(pairs.image_a, pairs.image_b, levels=1)[0]
    seen = pairs.visible_a > 0.5
    error = end_point_error(flow.flow_ab, pairs.flow_ab)[seen].mean()
    zero = end_point_error(torch.zeros_like(pairs.flow_ab), pairs.flow_ab)[seen].mean()
    assert error < zero / 2


@pytest.mark.parametrize(
    ("scene", "share"), [("street", 0.5), ("village", 0.5), ("country", 0.6), ("room", 0.5), ("office", 0.6)]
)
def test_depth_is_better_than_a_constant_on_new_scenes(
    scene: Literal["street", "village", "country", "room", "office"], share: float
) -> None:
    """AbsRel after median scaling, of all pixels up to 80 m."""
    network = learned_depth(NetworkConfig(weights="indoor" if scene in ("room", "office") else "driving"))
    seen: list[tuple[np.ndarray, np.ndarray]] = []
    if scene in ("room", "office"):
        rooms = random_pairs(6, 240, 320, seed=31337, scene=scene)
        images = rooms.image_a.permute(0, 2, 3, 1).mul(255).round().byte().numpy()
        seen = list(zip(images, rooms.depth_a[:, 0].numpy()))
    else:
        drives = RenderedDrives(DriveSource(drives=6, seed=31337, scene=scene), (416, 128), 2, None)
        for pair in map(drives.read, range(6)):
            assert pair.depth_a is not None
            seen.append((pair.images[0], pair.depth_a[0]))
    errors, constants = [], []
    for image, truth in seen:
        depth, known = network.depth(image), np.isfinite(truth) & (truth < 80)
        scale = np.median(truth[known]) / np.median(depth[known])
        errors.append(depth_errors(scale * depth[known], truth[known]).abs_rel)
        constants.append(depth_errors(np.full_like(truth[known], np.median(truth[known])), truth[known]).abs_rel)
    assert np.mean(errors) < share * np.mean(constants)
