"""A pose network on images as they come: the network's own answer, whatever their size and colours."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trianflow.flow.pwc import PWCNet
from trianflow.pose.learned import LearnedPose
from trianflow.pose.posenet import PoseNet, flow_input, image_pair

K = torch.tensor([[100.0, 0, 47.5], [0, 90, 31.5], [0, 0, 1]], dtype=torch.float64)


def images(height: int = 64, width: int = 96) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 255, (2, height, width, 3)).astype(np.uint8)
    return a, b


def doubled(image: np.ndarray) -> np.ndarray:
    return np.kron(image, np.ones((2, 2, 1), np.uint8))


def tensors(a: np.ndarray, b: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(x.transpose(2, 0, 1)[None] / np.float32(255)) for x in (a, b)]


def test_the_answer_of_the_network() -> None:
    torch.manual_seed(0)
    network = PoseNet("plain")
    a, b = images()
    with torch.no_grad():
        expected = network(image_pair(*tensors(a, b))).T_ba[0].double()
    pose = LearnedPose(network, None, "cpu", (96, 64), dtype=torch.float32)
    found = pose.pose(a, b, K)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert pose.pose(a[..., 0], b[..., 0], K).isfinite().all(), "grey as well"
    torch.testing.assert_close(pose.pose(doubled(a), doubled(b), K), expected, rtol=0, atol=1e-3)
    found += 1  # a tensor like any other


def test_flow_is_in_units_of_the_camera_at_the_working_size() -> None:
    torch.manual_seed(1)
    network, flow = PoseNet("flow"), PWCNet(True)
    a, b = images()
    with torch.no_grad():
        expected = network(flow_input(flow(*tensors(a, b), 1)[0].flow_ab, K[None])).T_ba[0].double()
    pose = LearnedPose(network, flow, "cpu", (96, 64), dtype=torch.float32)
    torch.testing.assert_close(pose.pose(a, b, K), expected, rtol=0, atol=1e-5)
    twice = K * torch.tensor([[2.0], [2.0], [1.0]], dtype=K.dtype)
    torch.testing.assert_close(pose.pose(doubled(a), doubled(b), twice), expected, rtol=0, atol=1e-3)
    with pytest.raises(ValueError, match="needs its flow network"):
        LearnedPose(PoseNet("flow"), None, "cpu")
