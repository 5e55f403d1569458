"""The weights in the repository are what their cards say, and see motion."""

from __future__ import annotations

import pytest
import torch

from trianflow.data.synthetic.world import random_pairs
from trianflow.evaluation.flow import end_point_error
from trianflow.weights import list_weights, load_weights


def test_every_bundled_file_is_that_of_the_manifest() -> None:
    found = list_weights()
    assert "driving" in [entry.name for entry in found]
    for entry in found:
        weights = load_weights(entry.name)  # compares the checksums of manifest and card
        assert weights.card["name"] == entry.name
        assert {"description", "data", "licence", "size", "sha256", "networks"} <= weights.card.keys()
    assert sum(entry.path.stat().st_size for entry in found) <= 60e6


@torch.no_grad()
@pytest.mark.parametrize("name", ["driving"])
def test_flow_halves_the_error_of_no_flow_on_new_scenes(name: str) -> None:
    pairs = random_pairs(12, 128, 256, seed=31337)
    network = load_weights(name).rgb().flow
    assert network is not None
    flow = network(pairs.image_a, pairs.image_b, levels=1)[0]
    seen = pairs.visible_a > 0.5
    error = end_point_error(flow.flow_ab, pairs.flow_ab)[seen].mean()
    zero = end_point_error(torch.zeros_like(pairs.flow_ab), pairs.flow_ab)[seen].mean()
    assert error < zero / 2
