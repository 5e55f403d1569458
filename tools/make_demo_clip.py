"""Render the bundled demo clip, `assets/demo.mp4`, and its calibration and ground truth.

python tools/make_demo_clip.py [--out assets]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy.spatial.transform import Rotation

from trianflow.data.synthetic import SyntheticSequence, camera_path, make_scene
from trianflow.geometry.camera import Camera

FRAMES, FPS = 120, 10.0
CAMERA = Camera.from_fov(640, 256, 78.0)
SCENE_SEED, PATH_SEED = 15, 3


def demo_sequence() -> SyntheticSequence:
    """The drive shown in the clip: a winding street, two cars on the move, one of them oncoming."""
    scene = make_scene("street", SCENE_SEED, moving_objects=2, length=130.0)
    return SyntheticSequence(scene, camera_path("driving", scene, FRAMES, FPS, PATH_SEED), FPS, CAMERA)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "assets")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    sequence = demo_sequence()
    fourcc = cv2.VideoWriter.fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(out / "demo.mp4"), fourcc, FPS, (CAMERA.width, CAMERA.height))
    for frame in sequence.stream():
        assert frame.image is not None
        writer.write(np.ascontiguousarray(frame.image[..., ::-1]))
    writer.release()
    (out / "demo_calib.yaml").write_text(
        "# the synthetic camera of demo.mp4: pinhole, no distortion; pixels\n"
        f"fx: {CAMERA.fx:.6f}\nfy: {CAMERA.fy:.6f}\ncx: {CAMERA.cx:.6f}\ncy: {CAMERA.cy:.6f}\n"
        f"width: {CAMERA.width}\nheight: {CAMERA.height}\n"
    )
    write_tum(out / "demo_groundtruth.tum", sequence.T_0c, FPS)


def write_tum(path: Path, T_0c: torch.Tensor, fps: float) -> None:
    """Write poses `(N, 4, 4)`, camera to world, as `t x y z qx qy qz qw` lines."""
    quaternions = Rotation.from_matrix(T_0c[:, :3, :3].numpy()).as_quat(canonical=True)
    rows = np.column_stack([np.arange(len(T_0c)) / fps, T_0c[:, :3, 3].numpy(), quaternions])
    np.savetxt(path, rows + 0.0, fmt=["%.6f"] + ["%.9f"] * 7)


if __name__ == "__main__":
    main()
