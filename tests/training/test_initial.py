"""Beginning with weights: networks are filled where they fit, and what does not fit is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from trianflow.checkpoint import CheckpointError
from trianflow.depth.network import DepthNet
from trianflow.errors import TrianflowError, UsageError
from trianflow.flow.pwc import PWCNet
from trianflow.systems.config import SystemConfig
from trianflow.systems.trianflow import TrianFlow
from trianflow.training.initial import initialize, load_initial
from trianflow.weights import save_weights


@pytest.fixture(scope="module")
def flow() -> PWCNet:
    torch.manual_seed(5)
    return PWCNet(True)


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    first, second = a.state_dict(), b.state_dict()
    return all(torch.equal(first[key], second[key]) for key in first)


def test_flow_alone_leaves_the_depth(flow: PWCNet, tmp_path: Path) -> None:
    path = tmp_path / "flow.safetensors"
    save_weights(path, flow, None, {})
    system, other = TrianFlow(), TrianFlow()
    before = {k: v.clone() for k, v in system.depth.state_dict().items()}
    assert not same(system.flow, flow)
    load_initial(system, str(path))
    assert same(system.flow, flow)
    assert all(torch.equal(v, before[k]) for k, v in system.depth.state_dict().items())
    assert not same(other.flow, flow)


def test_depth_must_be_as_large_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "depth.safetensors"
    save_weights(path, None, DepthNet(1, 128), {})
    with pytest.raises(UsageError, match=r"depth\.safetensors need system.deepest=128"):
        load_initial(TrianFlow(), str(path))
    system = TrianFlow(SystemConfig(deepest=128))
    load_initial(system, str(path))
    assert system.depth.deepest == 128


def test_features_must_be_compared_as_they_were(flow: PWCNet, tmp_path: Path) -> None:
    path = tmp_path / "flow.safetensors"
    save_weights(path, flow, None, {})
    with pytest.raises(UsageError, match=r"flow\.safetensors need system.normalize_features=true"):
        load_initial(TrianFlow(SystemConfig(normalize_features=False)), str(path))


def test_colours_of_published_weights_are_turned(flow: PWCNet, tmp_path: Path) -> None:
    path = tmp_path / "flow.safetensors"
    save_weights(path, flow, None, {"channels": "bgr"})
    system = TrianFlow()
    load_initial(system, str(path))
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for found, expected in zip(system.flow.encode(image), flow.encode(image.flip(1))):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_networks_of_another_shape_and_missing_files(tmp_path: Path) -> None:
    path = tmp_path / "depth.safetensors"
    save_weights(path, None, DepthNet(4), {})
    with pytest.raises(CheckpointError, match="not the tensors of this network"):
        load_initial(TrianFlow(), str(path))
    for name in ("nowhere.safetensors", "no_such_weights"):
        with pytest.raises(TrianflowError):
            load_initial(TrianFlow(), str(tmp_path / name) if "." in name else name)


def test_the_encoder_may_know_imagenet(flow: PWCNet, tmp_path: Path) -> None:
    """Nothing is read until a run begins, and weights to begin with come on top."""
    TrianFlow(SystemConfig(imagenet=str(tmp_path / "nowhere.pth")))
    torch.manual_seed(9)
    encoder = TrianFlow().depth.encoder.encoder
    path, weights = tmp_path / "resnet18.pth", tmp_path / "flow.safetensors"
    torch.save(encoder.state_dict(), path)
    save_weights(weights, flow, None, {})
    system = TrianFlow(SystemConfig(imagenet=str(path)))
    assert not same(system.depth.encoder.encoder, encoder)
    initialize(system, str(weights))
    assert same(system.depth.encoder.encoder, encoder)
    assert same(system.flow, flow)
    with pytest.raises(TrianflowError, match=r"nowhere\.pth"):
        initialize(TrianFlow(SystemConfig(imagenet=str(tmp_path / "nowhere.pth"))), None)
