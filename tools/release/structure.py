"""Depth of real frames by our own odometry, for networks of depth to learn from: beside the images of pack.py.

    python tools/release/structure.py FRAMES NAME [--camera-height M] [--calib FILE] [key=value ...]

Tracks FRAMES, which pack.py has packed under NAME, at full size; key=value are settings of the odometry. Every key
frame but the first gets a depth map: its flow to the one before, triangulated under the poses of the window, in metres
by the height of the camera over the road, else in the unit of the trajectory. Written into the folder
runs/packed/NAME_depth: depth/NUMBER.png, 16 bit, 256 a unit, 0 where unknown, and the images and the calibration that
belong to them.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from pack import HELD_OUT, PACKED

from trianflow.config import OdometryConfig, load_settings
from trianflow.data.calibrated import find_calibration
from trianflow.data.calibration import fit_to_image, read_calibration
from trianflow.data.frames import Frame, open_frames
from trianflow.geometry.camera import Camera
from trianflow.odometry.pipeline import VisualOdometry
from trianflow.odometry.placement import KeyRows
from trianflow.odometry.run import OdometryRun, run_odometry
from trianflow.odometry.shots import triangulated_shot
from trianflow.odometry.step import Step

SCALE, FARTHEST = 256.0, 120.0


class DepthMaps:
    """An observer of a run that writes a depth map for each key frame.

    Args:
        folder: that they and their images are written into.
        camera: of the maps: a window of the frames, of any size.
        images: the folder of all images, by number.
    """

    def __init__(self, folder: Path, camera: Camera, images: Path) -> None:
        self._folder, self._camera, self._images = folder, camera, images
        self._rows, self._numbers = KeyRows(), list[int]()
        self._maps: dict[int, np.ndarray] = {}  # key frame to depth in units of the step to it

    def observe(self, odometry: VisualOdometry, frame: Frame, step: Step) -> None:
        """Take a frame."""
        self._rows.observe(odometry)
        self._numbers.append(frame.index)
        shot = triangulated_shot(odometry, step)
        if shot is not None:
            self._maps[shot.key] = resampled(shot.depth, odometry.camera, self._camera)

    def finish(self, run: OdometryRun, odometry: VisualOdometry) -> list[str]:
        """Write the maps by the final poses."""
        place = self._rows.placement(run, odometry)
        for part in ("images", "depth"):
            (self._folder / part).mkdir(parents=True, exist_ok=True)
        for key, depth in self._maps.items():
            step = np.linalg.norm(place.T_wc[key, :3, 3] - place.T_wc[key - 1, :3, 3])
            units = np.where(step * depth <= FARTHEST, SCALE * step * depth, 0)
            name = f"{self._numbers[self._rows.rows[key]]:06d}"
            cv2.imwrite(str(self._folder / "depth" / f"{name}.png"), units.round().astype(np.uint16))
            shutil.copy(self._images / f"{name}.jpg", self._folder / "images")
        return [str(self._folder)]

    def abandon(self) -> None:
        """Nothing is left."""


def resampled(depth: np.ndarray, camera: Camera, small: Camera) -> np.ndarray:
    """A depth map `(H, W)` of a camera as another of the same place sees it, by the nearest pixel; 0 where unknown."""
    x = (np.arange(small.width) - small.cx) * (camera.fx / small.fx) + camera.cx
    y = (np.arange(small.height) - small.cy) * (camera.fy / small.fy) + camera.cy
    column, row = x.round().astype(int), y.round().astype(int)
    inside = ((row >= 0) & (row < depth.shape[0]))[:, None] & ((column >= 0) & (column < depth.shape[1]))
    found = depth[row.clip(0, depth.shape[0] - 1)[:, None], column.clip(0, depth.shape[1] - 1)]
    return np.where(inside, found, np.float32(0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frames", help="video or folder of images")
    parser.add_argument("name", help="of the folder under runs/packed")
    parser.add_argument("--camera-height", type=float, metavar="M", help="over the road, metres")
    parser.add_argument("--calib", type=Path)
    parser.add_argument("settings", nargs="*", metavar="key=value")
    args = parser.parse_intermixed_args()
    if any(part in str(Path(args.frames).resolve()) for part in HELD_OUT):
        parser.error(f"{args.frames}: held out for measuring")
    frames = open_frames(args.frames)
    calibration = args.calib or find_calibration(frames)
    if calibration is None:
        parser.error("no calibration beside the frames: --calib FILE")
    camera, _ = fit_to_image(read_calibration(calibration), *frames.first_image_size())
    packed = PACKED / args.name
    labelled = PACKED / f"{args.name}_depth"
    shutil.rmtree(labelled, ignore_errors=True)
    maps = DepthMaps(labelled, read_calibration(packed / "calib.yaml"), packed / "images")
    config = load_settings(OdometryConfig(camera_height=args.camera_height), None, args.settings)
    with tempfile.TemporaryDirectory() as out:
        run = run_odometry(frames, camera, config, out, observers=[maps])
    shutil.copy(packed / "calib.yaml", labelled)
    count = len(list((labelled / "depth").iterdir()))
    print(f"{labelled}: {count} depth maps; {run.trajectory.path_length:.0f} {run.report.unit} {run.report.statuses}")
    if args.camera_height is not None and run.report.unit != "metres":
        shutil.rmtree(labelled)
        sys.exit(f"{args.frames}: its road does not tell metres: no depth maps are left")


if __name__ == "__main__":
    main()
