"""A short recorded drive through the synthetic world, as files, and a folder of shifted noise."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from trianflow.data.synthetic import RenderedPair, Scene, camera_path, make_scene, render, render_pairs
from trianflow.geometry.camera import Camera
from trianflow.trajectory import Trajectory

FRAMES = 4


@dataclass(frozen=True)
class Drive:
    """Files of a drive (images, calib.yaml, poses.txt, depth) and the world that they show."""

    folder: Path
    camera: Camera
    scene: Scene
    T_wc: torch.Tensor

    def pair(self, first: int, camera: Camera) -> RenderedPair:
        """The exact pair of two frames through another camera."""
        times = torch.tensor([[first, first + 1]]) / 10
        K = camera.K()[None]
        return render_pairs([self.scene], self.T_wc[None, first : first + 2], times, K, camera.height, camera.width)


@pytest.fixture(scope="session")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Drive:
    folder = tmp_path_factory.mktemp("drive")
    camera = Camera(210.0, 205.0, 158.0, 83.0, 320, 160)
    scene = make_scene("street", 5, 0, length=30.0)
    T_wc = camera_path("driving", scene, FRAMES, 10.0, 3)
    frames = render(scene, T_wc, torch.arange(FRAMES) / 10, camera)
    (folder / "images").mkdir()
    (folder / "depth").mkdir()
    for i in range(FRAMES):
        image = frames.image[i].permute(1, 2, 0).mul(255).round().byte().numpy()
        cv2.imwrite(str(folder / "images" / f"{i:06d}.png"), image[..., ::-1])
        np.save(folder / "depth" / f"{i:06d}.npy", frames.depth[i, 0].numpy())
    write_calib(folder / "calib.yaml", camera)
    Trajectory(np.arange(FRAMES), T_wc.numpy()).save(folder / "poses.txt", "kitti")
    return Drive(folder, camera, scene, T_wc)


def write_calib(path: Path, camera: Camera) -> None:
    names = ("fx", "fy", "cx", "cy", "width", "height")
    lines = [f"{name}: {getattr(camera, name)}" for name in names]
    if camera.distortion:
        lines.append(f"distortion: {list(camera.distortion)}")
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """Seven 96 x 64 frames: three times the same, then four that each move by three pixels."""
    folder = tmp_path / "noise"
    folder.mkdir()
    rng = np.random.default_rng(0)
    wide = cv2.GaussianBlur(rng.integers(0, 255, (64, 160, 3)).astype(np.uint8), (0, 0), 2)
    wide = cv2.normalize(wide, None, 0, 255, cv2.NORM_MINMAX)
    for i, shift in enumerate((0, 0, 0, 3, 6, 9, 12)):
        cv2.imwrite(str(folder / f"{i}.png"), wide[:, shift : shift + 96])
    write_calib(folder / "calib.yaml", Camera(80.0, 80.0, 47.5, 31.5, 96, 64))
    return folder
