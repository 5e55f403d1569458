"""The encoder: torchvision's names, an independent forward pass, and the ImageNet file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from trianflow.checkpoint import CheckpointError
from trianflow.depth.resnet import CHANNELS, ResNet18, load_imagenet_weights


def torchvision_keys() -> list[str]:
    """Of torchvision's resnet18 without `fc`, in order."""

    def norm(name: str) -> list[str]:
        return [f"{name}.{k}" for k in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")]

    keys = ["conv1.weight", *norm("bn1")]
    for layer in range(1, 5):
        for block in range(2):
            name = f"layer{layer}.{block}"
            keys += [f"{name}.conv1.weight", *norm(f"{name}.bn1"), f"{name}.conv2.weight", *norm(f"{name}.bn2")]
            if layer > 1 and block == 0:
                keys += [f"{name}.downsample.0.weight", *norm(f"{name}.downsample.1")]
    return keys


def random_encoder(seed: int = 0) -> ResNet18:
    torch.manual_seed(seed)
    encoder = ResNet18()
    for key, value in encoder.state_dict().items():
        if key.endswith(("bias", "running_mean")):
            value.normal_(0, 0.1)
        elif value.ndim == 1:
            value.uniform_(0.5, 1.5)
    return encoder.eval()


def reference(s: dict[str, Tensor], x: Tensor) -> list[Tensor]:
    """ResNet-18 from its tensors alone."""

    def norm(x: Tensor, name: str) -> Tensor:
        scale = s[f"{name}.weight"] / (s[f"{name}.running_var"] + 1e-5).sqrt()
        shift = s[f"{name}.bias"] - s[f"{name}.running_mean"] * scale
        return x * scale[:, None, None] + shift[:, None, None]

    x = norm(F.conv2d(x, s["conv1.weight"], stride=2, padding=3), "bn1").clamp_min(0)
    features = [x]
    x = F.max_pool2d(F.pad(x, (1, 1, 1, 1), value=-torch.inf), 3, 2)
    for layer in range(1, 5):
        for block in range(2):
            name, stride = f"layer{layer}.{block}", 2 if layer > 1 and block == 0 else 1
            y = norm(F.conv2d(x, s[f"{name}.conv1.weight"], stride=stride, padding=1), f"{name}.bn1").clamp_min(0)
            y = norm(F.conv2d(y, s[f"{name}.conv2.weight"], padding=1), f"{name}.bn2")
            if stride == 2:
                x = norm(F.conv2d(x, s[f"{name}.downsample.0.weight"], stride=2), f"{name}.downsample.1")
            x = (x + y).clamp_min(0)
        features.append(x)
    return features


def test_keys_are_those_of_torchvision() -> None:
    state = ResNet18().state_dict()
    assert list(state) == torchvision_keys()
    assert sum(p.numel() for p in ResNet18().parameters()) == 11_176_512


@torch.no_grad()
def test_features_against_an_independent_forward_pass() -> None:
    encoder = random_encoder()
    image = torch.randn(2, 3, 70, 97)
    features = encoder(image)
    assert [f.shape[1] for f in features] == list(CHANNELS)
    assert [tuple(f.shape[2:]) for f in features] == [(35, 49), (18, 25), (9, 13), (5, 7), (3, 4)]
    for ours, expected in zip(features, reference(encoder.state_dict(), image)):
        assert expected.std() > 0.1
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


def test_initialisation_keeps_the_variance() -> None:
    torch.manual_seed(0)
    features = ResNet18().train()(torch.randn(2, 3, 64, 64))
    assert all(0.1 < f.std() < 10 for f in features)


def imagenet_file(path: Path, change: dict[str, Tensor | None] | None = None) -> dict[str, Tensor]:
    state = random_encoder(1).state_dict()
    state |= {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    for key, value in (change or {}).items():
        if value is None:
            del state[key]
        else:
            state[key] = value
    torch.save(state, path)
    return state


@pytest.mark.parametrize("old", [False, True])
def test_imagenet_file(tmp_path: Path, old: bool) -> None:
    """Old files have no counters of batches."""
    drop = {key: None for key in torchvision_keys() if old and key.endswith("tracked")}
    state = imagenet_file(tmp_path / "resnet18.pth", drop)
    encoder = random_encoder(2)
    load_imagenet_weights(encoder, tmp_path / "resnet18.pth")
    for key, value in encoder.state_dict().items():
        if key in state:
            assert torch.equal(value, state[key]), key


def test_imagenet_file_of_another_network_changes_nothing(tmp_path: Path) -> None:
    change = {"layer1.0.conv1.weight": None, "layer5.0.conv1.weight": torch.zeros(1)}
    imagenet_file(tmp_path / "other.pth", {**change, "conv1.weight": torch.zeros(64, 1)})
    encoder = random_encoder(2)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_imagenet_weights(encoder, tmp_path / "other.pth")
    assert caught.value.missing == ("layer1.0.conv1.weight",)
    assert caught.value.extra == ("layer5.0.conv1.weight",)
    assert caught.value.misshapen == ("conv1.weight (64, 1) for (64, 3, 7, 7)",)
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
