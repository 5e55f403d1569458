"""Which networks a configuration asks for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from trianflow.config import OdometryConfig
from trianflow.data.frames import Frame
from trianflow.depth.learned import LearnedDepth
from trianflow.depth.network import DepthNet
from trianflow.errors import UsageError
from trianflow.flow.dis import DISFlow
from trianflow.flow.learned import LearnedFlow
from trianflow.flow.pwc import PWCNet
from trianflow.flow.refined import RefinedFlow
from trianflow.geometry.camera import Camera
from trianflow.odometry.estimators import Estimators
from trianflow.odometry.pipeline import VisualOdometry
from trianflow.weights import load_weights, save_weights

CAMERA = Camera(80.0, 80.0, 39.5, 23.5, 80, 48)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    flow, depth = PWCNet(), DepthNet()
    for name, networks in (("both", (flow, depth)), ("flow", (flow, None)), ("depth", (None, depth))):
        save_weights(folder / f"{name}.safetensors", *networks, {"size": [64, 64]})
    return folder


@pytest.mark.parametrize(
    ("settings", "measured", "kinds"),
    [
        ({}, False, (DISFlow, None)),
        ({"weights": "none of this name"}, False, (DISFlow, None)),
        ({"scale": "depth", "weights": "none"}, True, (DISFlow, None)),
        ({"scale": "depth"}, False, (DISFlow, LearnedDepth)),
        ({"scale": "depth", "camera_height": 1.65, "weights": "none"}, False, (DISFlow, None)),
        ({"scale": "depth", "speed": "speed.txt", "window": {"frames": 0}}, False, (DISFlow, LearnedDepth)),
        ({"flow": "pwc"}, False, (LearnedFlow, None)),
        ({"flow": "pwc+dis"}, False, (RefinedFlow, None)),
        ({"flow": "pwc", "scale": "depth"}, True, (LearnedFlow, None)),
        ({"flow": "pwc", "scale": "depth"}, False, (LearnedFlow, LearnedDepth)),
    ],
)
def test_what_is_asked_for(folder: Path, settings: dict[str, str], measured: bool, kinds: tuple) -> None:
    config = OdometryConfig(**{"weights": str(folder / "both.safetensors"), "device": "cpu", **settings})
    found = Estimators.of(config, measured)
    assert (type(found.flow), found.depth and type(found.depth)) == kinds
    networks = {name for name, kind in zip(("flow", "depth"), kinds) if kind not in (DISFlow, None)}
    assert set(found.facts()) == networks


def test_size_of_card_and_configuration(folder: Path) -> None:
    image = np.zeros((128, 128), np.uint8)
    for size, expected in ((None, (64, 64)), ((96, 32), (96, 32))):
        config = OdometryConfig(flow="pwc", weights=str(folder / "flow.safetensors"), network_size=size)
        flow = Estimators.of(config).flow
        assert flow.encode(image).working == expected


def test_networks_that_were_trained_apart_have_sizes_of_their_own(folder: Path, tmp_path: Path) -> None:
    both = load_weights(folder / "both.safetensors")
    path, image = tmp_path / "apart.safetensors", np.zeros((256, 256), np.uint8)
    save_weights(path, both.flow, both.depth, {"size": {"flow": [64, 64], "depth": [128, 128]}})
    found = Estimators.of(OdometryConfig(flow="pwc", scale="depth", weights=str(path)))
    assert isinstance(found.flow, LearnedFlow)
    assert found.flow.encode(image).working == (64, 64)
    assert isinstance(found.depth, LearnedDepth)
    assert found.depth._area == 128 * 128


def test_weights_without_the_network(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"depth\.safetensors' hold no flow network"):
        Estimators.of(OdometryConfig(flow="pwc", weights=str(folder / "depth.safetensors")))
    with pytest.raises(UsageError, match=r"flow\.safetensors' hold no depth network"):
        Estimators.of(OdometryConfig(scale="depth", weights=str(folder / "flow.safetensors")))


def test_from_pretrained(folder: Path) -> None:
    rng = np.random.default_rng(0)
    frames = [Frame(i, i / 10, rng.integers(0, 256, (48, 80, 3), dtype=np.uint8)) for i in range(3)]
    for name, flow, scale in (("both", "pwc+dis", "depth"), ("flow", "pwc+dis", "auto"), ("depth", "dis", "depth")):
        odometry = VisualOdometry.from_pretrained(str(folder / f"{name}.safetensors"), camera=CAMERA)
        assert (odometry.config.flow, odometry.config.scale) == (flow, scale)
        assert odometry.config.weights.endswith(f"{name}.safetensors")
        assert len([odometry.track(frame) for frame in frames]) == len(odometry.trajectory) == 3
    config = OdometryConfig(flow="pwc")
    alone = VisualOdometry.from_pretrained(str(folder / "flow.safetensors"), camera=CAMERA, config=config)
    assert alone.config.flow == "pwc"
    with pytest.raises(UsageError, match="no bundled weights are called 'nothing'"):
        VisualOdometry.from_pretrained("nothing", camera=CAMERA)


def test_depth_is_loaded_when_the_first_frame_has_none(folder: Path) -> None:
    image = np.zeros((48, 80), np.uint8)
    config = OdometryConfig(scale="depth", weights="nothing")
    odometry = VisualOdometry(CAMERA, config)
    odometry.track(Frame(0, 0.0, None))
    with pytest.raises(UsageError, match="no bundled weights"):
        odometry.track(Frame(1, 0.1, image))
    measured = VisualOdometry(CAMERA, config)
    measured.track(Frame(0, 0.0, image, depth=np.ones((48, 80), np.float32)))
    measured.track(Frame(1, 0.1, image + 1))


@pytest.mark.parametrize(("settings", "predicted"), [({}, 2), ({"camera_height": 1.65}, 0)])
def test_depth_is_predicted_where_it_is_used(settings: dict[str, float], predicted: int) -> None:
    """A window in metres by the camera's height has no use for a depth in another unit."""
    seen = []

    class Depth:
        def depth(self, image: np.ndarray) -> np.ndarray:
            seen.append(image)
            return np.ones(image.shape[:2], np.float32)

    odometry = VisualOdometry(CAMERA, OdometryConfig(scale="depth", **settings), depth=Depth())
    rng = np.random.default_rng(0)
    for i in range(2):
        odometry.track(Frame(i, i / 10, rng.integers(0, 256, (48, 80), dtype=np.uint8)))
    assert len(seen) == predicted
