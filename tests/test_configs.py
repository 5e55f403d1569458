"""The configurations that come with the repository are valid, and hold the published numbers where they say so."""

from __future__ import annotations

from pathlib import Path

import pytest

from trianflow.config import load_settings
from trianflow.data.pairs.config import PathSource
from trianflow.training.config import TrainConfig

ROOT = Path(__file__).parents[1]
FILES = sorted([*(ROOT / "configs").rglob("*.yaml"), *(ROOT / "tools" / "release" / "queue").glob("*.yaml")])


def read(name: str) -> TrainConfig:
    return load_settings(TrainConfig(), ROOT / "configs" / f"{name}.yaml")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_configuration_is_valid(file: Path) -> None:
    config = load_settings(TrainConfig(), file)
    assert config.data.train
    assert config.listed_stages()


def test_there_is_one_for_each_use() -> None:
    names = {file.stem for file in FILES}
    assert names >= {"kitti_odometry", "kitti_raw", "nyuv2", "video", "synthetic", "smoke"}


@pytest.mark.parametrize(
    ("name", "size", "smooth", "rigid", "epipolar"),
    [
        ("kitti_odometry", (832, 256), 1e-4, 0.5, 0.002),
        ("kitti_raw", (832, 256), 1e-3, 0.5, 0.002),
        ("nyuv2", (576, 448), 1e-4, 1.0, 0.1),
    ],
)
def test_published_numbers(name: str, size: tuple[int, int], smooth: float, rigid: float, epipolar: float) -> None:
    config = read(name)
    flow, depth, joint = config.stages.flow, config.stages.depth, config.stages.joint
    assert flow is not None
    assert depth is not None
    assert joint is not None
    assert (config.data.size, config.batch_size) == (size, 8)
    assert (flow.epochs, depth.epochs, joint.epochs) == (20, 20, 10)
    assert {flow.lr, depth.lr, joint.lr} == {1e-4}
    for losses in (flow.losses, joint.losses):
        assert (losses.pixel, losses.ssim, losses.flow_smooth) == (0.15, 0.85, 10)
    assert (depth.losses.triangulation, depth.losses.depth_consistency) == (1.0, 0.1)
    assert depth.losses.depth_smooth == smooth
    assert joint.losses.epipolar == epipolar
    assert (depth.train, set(joint.train)) == (("depth",), {"flow", "depth"})
    geometry = config.system.geometry
    assert (geometry.matches, geometry.ratio, geometry.rigid) == (6000, 0.2, rigid)
    assert (geometry.inlier, geometry.parallax) == (0.1, 0.001)


def test_eigen_test_scenes_are_left_out(shared_data: Path) -> None:
    scenes = (shared_data / "kitti_depth_splits" / "test_scenes.txt").read_text().split()
    source = read("kitti_raw").data.train[0]
    assert isinstance(source, PathSource)
    assert set(source.exclude) == {f"{scene}_sync" for scene in [*scenes, "2011_09_26_drive_0005"]}
    assert len(scenes) == 28
