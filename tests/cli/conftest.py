"""A small rendered drive as files, and the program in this process or in one of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from trianflow.cli import main
from trianflow.data.synthetic import SyntheticSequence
from trianflow.depth.network import DepthNet
from trianflow.flow.pwc import PWCNet
from trianflow.geometry.camera import Camera
from trianflow.trajectory import Trajectory
from trianflow.weights import save_weights

FRAMES, FPS = 8, 10.0
CAMERA = Camera.from_fov(160, 96, 78.0)
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Result:
    """What the program answered."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The lines on stderr that call themselves errors."""
        return [line for line in self.err.splitlines() if line.startswith("trianflow: error: ")]


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `images/0000.png` ..., `calib.yaml` and `truth.tum`; not to be written to."""
    folder = tmp_path_factory.mktemp("drive")
    (folder / "images").mkdir()
    sequence = SyntheticSequence.make("street", "driving", FRAMES, CAMERA, FPS, seed=3)
    for i, frame in enumerate(sequence.frames()):
        rgb = (frame.image[0].permute(1, 2, 0) * 255).byte().numpy()
        cv2.imwrite(str(folder / "images" / f"{i:04d}.png"), np.ascontiguousarray(rgb[..., ::-1]))
    (folder / "calib.yaml").write_text(
        f"fx: {CAMERA.fx}\nfy: {CAMERA.fy}\ncx: {CAMERA.cx}\ncy: {CAMERA.cy}\nwidth: 160\nheight: 96\n"
    )
    Trajectory(np.arange(FRAMES) / FPS, sequence.T_0c.numpy()).save(folder / "truth.tum")
    return folder


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks of no use, for pictures of 128x64; not to be written to."""
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    torch.manual_seed(0)
    save_weights(path, PWCNet(), DepthNet(), {"description": "random", "size": [128, 64]})
    return path


@pytest.fixture
def drive(rendered: Path, tmp_path: Path) -> Path:
    """A copy of `rendered` to do harm to."""
    return Path(shutil.copytree(rendered, tmp_path / "drive"))


@pytest.fixture
def trianflow(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """The program, run in this process."""

    def call(*words: object) -> Result:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Result(code, *capsys.readouterr())

    return call


def start(*words: object, cwd: Path) -> subprocess.Popen[str]:
    """The program in a process of its own."""
    paths = [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    return subprocess.Popen(
        [sys.executable, "-m", "trianflow", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=environment,
    )


@pytest.fixture
def started() -> Callable[..., subprocess.Popen[str]]:
    """`start`: the program in a process of its own."""
    return start
