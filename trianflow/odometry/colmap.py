"""`--colmap`: key frames, their poses and the points that they have seen, as COLMAP's text files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from trianflow.data.colmap import CAMERAS, IMAGES, IMAGES_HEADER, POINTS, Reconstruction, write_colmap
from trianflow.data.frames import Frame
from trianflow.errors import TrianflowError, UsageError
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


@dataclass(frozen=True)
class _Points:
    """Points with what has been seen of them, as small as may be.

    Attributes:
        X: `(M, 3)` float64 in the world, before metres.
        first, count: `(M,)` int64 number of the key frame that saw each first, and how many did, one after another.
        color: `(M, 3)` uint8 RGB.
        p: `(O, 2)` float32 pixels, those of a point together.
    """

    X: np.ndarray
    first: np.ndarray
    count: np.ndarray
    color: np.ndarray
    p: np.ndarray

    @classmethod
    def of(cls, tracks: Tracks, X: np.ndarray) -> _Points:
        """Without the room that tracks leave for more views."""
        p = tracks.p[np.isfinite(tracks.p).all(-1)].astype(np.float32)
        return cls(X, tracks.first, tracks.count, tracks.color, p)

    @classmethod
    def joined(cls, parts: list[_Points]) -> _Points:
        """Many as one."""
        parts = [cls.of(Tracks.joined([]), np.zeros((0, 3))), *parts]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])))

    def observations(self) -> tuple[np.ndarray, np.ndarray]:
        """`(O,)` number of the point, and of the key frame, of each row of `p`."""
        point = np.arange(len(self.X)).repeat(self.count)
        begin = self.count.cumsum() - self.count
        return point, self.first[point] + np.arange(len(point)) - begin[point]


class ColmapWriter:
    """An observer of a run that writes a reconstruction: `cameras.txt`, `images.txt`, `points3D.txt`.

    The key frames themselves, freed of distortion, are in `images/`. Of what is in the folder before, only a
    reconstruction that was written here is replaced, with the pictures that its `images.txt` names. While the run
    lasts this file has the names alone: so one that was killed is known again.

    Args:
        folder: made where it is missing.

    Raises:
        UsageError: it holds other pictures, or a reconstruction of another program.
        TrianflowError: it cannot be written to.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = prepare_output(folder)
        self._earlier = self._of_an_earlier_run()
        prepare_output(self.folder / PICTURES)
        self._rows, self._tracker = KeyRows(), Tracker()
        self._names: list[str] = []
        self._size = 0, 0
        self._parts: list[_Points] = []

    def observe(self, odometry: VisualOdometry, frame: Frame, step: Step) -> None:
        """Take a frame.

        Raises:
            TrianflowError, OSError: its picture cannot be written, or one of an earlier run not be removed.
        """
        for path in self._earlier:
            path.unlink(missing_ok=True)
        self._earlier.clear()
        self._rows.observe(odometry)
        seen = odometry.seen
        if seen is not None and seen.advanced:
            name = f"{frame.index:06d}.jpg"
            image = seen.prepared.image
            self._size = image.shape[1], image.shape[0]
            self._write(name, image)
        self._add(self._tracker.observe(odometry, step), odometry)

    def finish(self, run: OdometryRun, odometry: VisualOdometry) -> list[str]:
        """Write the text files; that no point is known is a problem of the run.

        Raises:
            TrianflowError: one cannot be written.
        """
        self._add(self._tracker.rest(), odometry)
        place = self._rows.placement(run, odometry)
        points = _Points.joined(self._parts)
        X = place.place(points.X, points.first, place.metres[points.first])
        (point, image), p = points.observations(), points.p
        off = _off(X, place.T_wc, point, image, p, odometry.camera.K())
        count, total, largest = points.count, np.zeros(len(X)), np.zeros(len(X))
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
                points.color[good],
                error,
                image[kept],
                renumbered[point[kept]],
                p[kept],
            ),
        )
        if not good.any():
            run.problems.append(f"{self.folder}: no points: not one was seen from places far enough apart")
        return [f"{run.named(self.folder)}/"]

    def abandon(self) -> None:
        """Remove the pictures and text files of this run, and what is left of an earlier one."""
        for path in [*self._earlier, *self._files(self._names)]:
            path.unlink(missing_ok=True)

    def _files(self, names: list[str]) -> list[Path]:
        """The files of a run with pictures of some names; the one that names them is the last to be removed."""
        pictures = [self.folder / PICTURES / name for name in names]
        return [*pictures, *(self.folder / name for name in (CAMERAS, POINTS, IMAGES))]

    def _of_an_earlier_run(self) -> list[Path]:
        """The files that may be replaced.

        Raises:
            UsageError: there are others that would be, or that would mix with ours.
        """
        try:
            lines = (self.folder / IMAGES).read_text("utf-8", errors="replace").splitlines()
        except OSError:  # there is none, or it is a folder
            lines = []
        ours = []
        if lines[:2] == [*IMAGES_HEADER]:
            ours = self._files([Path(line.rpartition(" ")[2]).name for line in lines[2::2]])
        texts = [self.folder / name for name in (CAMERAS, IMAGES, POINTS)]
        for path in [*texts, *(text.with_suffix(".bin") for text in texts)]:
            if path.exists() and path not in ours:
                raise UsageError(f"--colmap {self.folder}: {path.name} is of another program; name another folder")
        where = self.folder / PICTURES
        if where.is_dir() and set(where.iterdir()) - set(ours):
            raise UsageError(f"--colmap {self.folder}: {where} holds other files; name another folder, or remove them")
        return ours

    def _add(self, tracks: Tracks, odometry: VisualOdometry) -> None:
        if len(tracks):
            found = tracks.triangulated(odometry.key_poses, odometry.camera.K())
            good = tracks.believed(found)
            self._parts.append(_Points.of(tracks.select(good), found.X_w.numpy()[good]))

    def _write(self, name: str, image: np.ndarray) -> None:
        """Write a picture, after its name: none is in the folder that is not named."""
        path, head = self.folder / PICTURES / name, () if self._names else IMAGES_HEADER
        color = np.ascontiguousarray(image[..., ::-1]) if image.ndim == 3 else image
        data = cv2.imencode(".jpg", color, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
        self._names.append(name)
        try:
            with open(self.folder / IMAGES, "a", encoding="utf-8", newline="\n") as index:
                index.writelines(f"{line}\n" for line in (*head, name, ""))
            path.write_bytes(data.tobytes())
        except OSError as e:
            raise TrianflowError(f"{path}: cannot write the picture: {e.strerror}") from e


def _off(X: np.ndarray, T_wc: np.ndarray, point: np.ndarray, image: np.ndarray, p: np.ndarray, K: Tensor) -> np.ndarray:
    """`(O,)` distance in pixels of observations from where their points are seen; infinite behind the camera."""
    off = np.full(len(p), np.inf)
    order = np.argsort(image, kind="stable")
    begin = np.searchsorted(image[order], np.arange(1, len(T_wc)))
    for T_cw, rows in zip(invert_pose(torch.from_numpy(T_wc)), np.split(order, begin)):
        X_c = transform(T_cw, torch.from_numpy(X[point[rows]]))
        distance = np.linalg.norm(project(X_c, K).numpy() - p[rows], axis=1)
        off[rows] = np.where(X_c[:, 2].numpy() > 0, distance, np.inf)
    return off
