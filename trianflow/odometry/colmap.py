"""`--colmap`: key frames, their poses and the points that they have seen, as COLMAP's text files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

from trianflow.data.colmap import Reconstruction, write_colmap
from trianflow.data.frames import Frame
from trianflow.errors import TrianflowError
from trianflow.geometry.camera import invert_pose, project, transform
from trianflow.odometry.pipeline import VisualOdometry
from trianflow.odometry.placement import KeyRows
from trianflow.odometry.run import OdometryRun, prepare_output
from trianflow.odometry.step import Step
from trianflow.odometry.tracks import Tracker, Tracks

PICTURES = "images"
_QUALITY = 95
# Largest reprojection error of an observation in the trajectory as it is written, pixels.
_LARGEST_ERROR = 1.0


class ColmapWriter:
    """An observer of a run that writes a reconstruction: `cameras.txt`, `images.txt`, `points3D.txt`.

    The key frames themselves, freed of distortion, are in `images/`.

    Args:
        folder: made where it is missing.

    Raises:
        TrianflowError: it cannot be written to.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = prepare_output(folder)
        prepare_output(self.folder / PICTURES)
        self._rows, self._tracker = KeyRows(), Tracker()
        self._names: list[str] = []
        self._size = 0, 0
        self._parts: list[tuple[Tracks, np.ndarray]] = []  # with their points, before metres

    def observe(self, odometry: VisualOdometry, frame: Frame, step: Step) -> None:
        """Take a frame.

        Raises:
            TrianflowError: its picture cannot be written.
        """
        self._rows.observe(odometry)
        seen = odometry.seen
        if seen is not None and seen.advanced:
            name = f"{frame.index:06d}.jpg"
            image = seen.prepared.image
            self._size = image.shape[1], image.shape[0]
            self._write(self.folder / PICTURES / name, image)
            self._names.append(name)
        self._add(self._tracker.observe(odometry, step), odometry)

    def finish(self, run: OdometryRun, odometry: VisualOdometry) -> list[str]:
        """Write the text files.

        Raises:
            TrianflowError: one cannot be written.
        """
        self._add(self._tracker.rest(), odometry)
        place = self._rows.placement(run, odometry)
        tracks = Tracks.joined([tracks for tracks, _ in self._parts])
        X = np.concatenate([np.zeros((0, 3)), *(X for _, X in self._parts)])
        X = place.place(X, tracks.first, place.metres[tracks.first])
        point, number = np.isfinite(tracks.p).all(-1).nonzero()
        image, p = tracks.first[point] + number, tracks.p[point, number]
        T_cw = invert_pose(torch.from_numpy(place.T_wc))[torch.from_numpy(image)]
        X_c = transform(T_cw, torch.from_numpy(X[point])[:, None])[:, 0]
        off = np.linalg.norm(project(X_c, odometry.camera.K()).numpy() - p, axis=1)
        off[X_c[:, 2].numpy() <= 0] = np.inf
        count, total, largest = tracks.count, np.zeros(len(X)), np.zeros(len(X))
        np.add.at(total, point, off)
        np.maximum.at(largest, point, off)
        good = largest < _LARGEST_ERROR
        renumbered, kept = good.cumsum() - 1, good[point]
        error = total[good] / count[good]
        width, height = self._size
        camera = replace(odometry.camera, width=width, height=height)
        write_colmap(
            self.folder,
            Reconstruction(
                camera,
                self._names,
                place.T_wc,
                X[good],
                tracks.color[good],
                error,
                image[kept],
                renumbered[point[kept]],
                p[kept],
            ),
        )
        return [f"{self.folder}/"]

    def _add(self, tracks: Tracks, odometry: VisualOdometry) -> None:
        if len(tracks):
            found = tracks.triangulated(odometry.key_poses, odometry.camera.K())
            good = tracks.believed(found)
            self._parts.append((tracks.select(good), found.X_w.numpy()[good]))

    @staticmethod
    def _write(path: Path, image: np.ndarray) -> None:
        color = np.ascontiguousarray(image[..., ::-1]) if image.ndim == 3 else image
        data = cv2.imencode(".jpg", color, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
        try:
            path.write_bytes(data.tobytes())
        except OSError as e:
            raise TrianflowError(f"{path}: cannot write the picture: {e.strerror}") from e
