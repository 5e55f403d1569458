"""Motion by direct alignment: a rendered RGB-D sequence chained frame by frame, real frames, and refusals."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from trianflow.data.calibration import read_calibration
from trianflow.data.depth import read_depth
from trianflow.data.synthetic import camera_path, make_scene, render
from trianflow.geometry.camera import Camera, invert_pose
from trianflow.odometry.direct_motion import direct_motion
from trianflow.odometry.preparation import Prepared


def chain(frames: list[Prepared], K: torch.Tensor) -> np.ndarray:
    """Camera to world of every frame, each against the one before, guessed by the motion before."""
    T_wc, T_ck = [torch.eye(4, dtype=torch.float64)], torch.eye(4, dtype=torch.float64)
    for key, current in pairwise(frames):
        motion = direct_motion(key, current, K, T_ck, "depth")
        assert motion is not None
        T_ck = motion.T_ck
        T_wc.append(T_wc[-1] @ invert_pose(T_ck))
    return torch.stack(T_wc).numpy()


def rendered(frames: int) -> tuple[list[Prepared], torch.Tensor, np.ndarray]:
    camera = Camera.from_fov(320, 240, 70.0)
    scene = make_scene("room", 4, length=40.0)
    T_wc = camera_path("handheld", scene, frames, 15.0, 4)
    seen = render(scene, T_wc, torch.arange(frames) / 15.0, camera)
    images = (255 * seen.image).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
    prepared = [Prepared(image, None, depth.numpy()) for image, depth in zip(images, seen.depth[:, 0])]
    return prepared, camera.K(), (invert_pose(T_wc[:1]) @ T_wc).numpy()


def test_a_rendered_sequence() -> None:
    frames, K, truth = rendered(10)
    off = np.linalg.norm(chain(frames, K)[:, :3, 3] - truth[:, :3, 3], axis=1)
    path = np.linalg.norm(np.diff(truth[:, :3, 3], axis=0), axis=1).sum()
    assert off.max() < 0.02 * path


def test_what_it_says_of_the_motion() -> None:
    frames, K, _ = rendered(2)
    motion = direct_motion(frames[0], frames[1], K, torch.eye(4), "network")
    assert motion is not None
    assert motion.scale_source == "network"
    assert motion.T_ck.dtype == torch.float64
    assert 0.8 < motion.inlier_ratio <= 1
    assert motion.measured


def test_no_depth_or_nothing_to_see() -> None:
    frames, K, _ = rendered(2)
    assert direct_motion(Prepared(frames[0].image, None, None), frames[1], K, torch.eye(4), "depth") is None
    blank = Prepared(np.full((240, 320), 90, np.uint8), None, frames[0].depth)
    assert direct_motion(blank, blank, K, torch.eye(4), "depth") is None


def test_large_grey_images_are_halved_with_depth_and_camera() -> None:
    frames, K, truth = rendered(2)
    twice = [
        Prepared(frame.image[..., 1].repeat(2, 0).repeat(2, 1), None, frame.depth.repeat(2, 0).repeat(2, 1))
        for frame in frames
    ]
    K_twice = torch.tensor([[2.0, 0, 0.5], [0, 2, 0.5], [0, 0, 1]]).double() @ K
    motion = direct_motion(*twice, K_twice, torch.eye(4), "depth")
    assert motion is not None
    expected = np.linalg.inv(truth[1])
    assert np.linalg.norm(motion.T_ck[:3, 3].numpy() - expected[:3, 3]) < 0.05 * np.linalg.norm(expected[:3, 3])


@pytest.mark.data
@pytest.mark.slow
def test_real_frames(shared_data: Path) -> None:
    """Hand-held indoors, depth and colour not quite registered: of the way of forty frames a fifth at most is lost."""
    folder = shared_data / "sevenscenes_400-599"
    names = [f"{number:06d}" for number in range(40)]
    images = sorted((folder / "images").iterdir())
    frames = [
        Prepared(cv2.imread(str(image))[..., ::-1].copy(), None, read_depth(folder / "depth" / f"{name}.png", 1000))
        for image, name in zip(images, names)
    ]
    T_wc = np.tile(np.eye(4), (40, 1, 1))
    T_wc[:, :3] = np.loadtxt(folder / "poses.txt")[:40].reshape(-1, 3, 4)
    truth = np.linalg.inv(T_wc[0]) @ T_wc
    estimate = chain(frames, read_calibration(folder / "calib.yaml").K())
    off = np.linalg.norm(estimate[:, :3, 3] - truth[:, :3, 3], axis=1)
    path = np.linalg.norm(np.diff(truth[:, :3, 3], axis=0), axis=1).sum()
    assert off.max() < 0.2 * path
