"""`--cloud`: the points that the odometry has seen, coloured, among the final poses of its key frames."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trianflow.data.frames import Frame
from trianflow.data.ply import write_ply
from trianflow.errors import TrianflowError
from trianflow.geometry.camera import backproject
from trianflow.odometry.pipeline import VisualOdometry
from trianflow.odometry.placement import KeyRows
from trianflow.odometry.run import OdometryRun
from trianflow.odometry.shots import Shot, ShotPicker
from trianflow.odometry.step import Step
from trianflow.odometry.tracks import Tracker, Tracks
from trianflow.visualization.cloud import GrowingCloud, not_lonely

# Side of a voxel as a share of the median distance of the first points, and how many are kept.
_VOXEL, _LIMIT = 0.005, 500_000
# Of a depth map, every so many rows and columns.
_EVERY = 4
# Views that must agree on a voxel: of tracks, which have been checked by themselves, and of depth maps.
_LEAST_TRACKED, _LEAST_DEPTHS = 3, 2


class CloudWriter:
    """An observer of a run that writes a point cloud (PLY).

    Points of the image are triangulated from all key frames that they were followed through; where depth is measured,
    the depth maps take their place, and where it is predicted they stand beside. Memory is bounded: voxels begin with
    a two-hundredth of the points' distance, and grow where there are too many.

    Args:
        path: the file; its folder must exist.
        limit: points that are kept at most, of either kind.
        required: whether it is a problem where not one point is known; else no file is written then.
    """

    def __init__(self, path: str | Path, limit: int = _LIMIT, *, required: bool = True) -> None:
        self.path, self._required = Path(path), required
        self._rows, self._tracker, self._picker = KeyRows(), Tracker(), ShotPicker()
        # Of depth maps that wait for their key frame: number, pose in that, points in the camera, colours.
        self._shots: deque[tuple[int, np.ndarray, np.ndarray, np.ndarray]] = deque()
        self._of_shot: list[tuple[int, float]] = []  # key frame, and metres in the trajectory's unit
        self._has_measured = False
        self._seen = GrowingCloud(_VOXEL, _LEAST_TRACKED, limit)
        self._measured = GrowingCloud(_VOXEL, _LEAST_DEPTHS, limit)

    def observe(self, odometry: VisualOdometry, frame: Frame, step: Step) -> None:
        """Take a frame."""
        self._rows.observe(odometry)
        shot, seen = self._picker.observe(odometry, step), odometry.seen
        if seen is not None and shot is not None and shot.metres is not None:
            self._has_measured |= not seen.prepared.predicted
            self._shots.append((len(self._of_shot), shot.T_kc, *_surface(shot, odometry.camera.K())))
            self._of_shot.append((shot.key, shot.metres))
        if not self._has_measured:
            self._add_tracks(self._tracker.observe(odometry, step), odometry)
        self._add_shots(odometry, len(self._rows.rows) - 1 - odometry.config.window.frames)

    def finish(self, run: OdometryRun, odometry: VisualOdometry) -> list[str]:
        """Write the cloud.

        Raises:
            TrianflowError: not one point is known, or the file cannot be written.
        """
        if not self._has_measured:
            self._add_tracks(self._tracker.rest(), odometry)
        self._add_shots(odometry, len(self._rows.rows) - 1)
        place = self._rows.placement(run, odometry)
        seen, measured = self._seen.points(), self._measured.points()
        key, metres = np.array([*self._of_shot, (0, 1.0)])[measured.key].T
        points = np.concatenate(
            [
                place.place(seen.X, seen.key, place.metres[seen.key]),
                place.place(measured.X, key.astype(int), metres),
            ]
        )
        keep = np.concatenate([not_lonely(part.X, part.distance) for part in (seen, measured)])
        if not keep.any() and not self._required:
            self.abandon()
            return []
        if not keep.any():
            raise TrianflowError(f"{self.path}: no cloud: not one point was seen from places far enough apart")
        write_ply(self.path, points[keep], np.concatenate([seen.color, measured.color])[keep])
        return [run.named(self.path)]

    def abandon(self) -> None:
        """Remove the cloud of an earlier run."""
        self.path.unlink(missing_ok=True)

    def _add_tracks(self, tracks: Tracks, odometry: VisualOdometry) -> None:
        if not len(tracks):
            return
        key_poses = odometry.key_poses
        found = tracks.triangulated(key_poses, odometry.camera.K())
        good = tracks.believed(found)
        X, tracks, sigma = found.X_w.numpy()[good], tracks.select(good), found.sigma.numpy()[good]
        distance = np.linalg.norm(X - key_poses[tracks.first, :3, 3], axis=1)
        self._seen.add(X, tracks.color, (sigma * distance) ** -2, distance, tracks.first, tracks.count)

    def _add_shots(self, odometry: VisualOdometry, newest: int) -> None:
        """Place the points of depth maps up to a key frame, whose pose is final."""
        while self._shots and self._of_shot[self._shots[0][0]][0] <= newest:
            number, T_kc, X_c, color = self._shots.popleft()
            key = self._of_shot[number][0]
            T_kc[:3, 3] *= odometry.stretch(key)
            T_wc = odometry.key_poses[key] @ T_kc
            X, distance = X_c @ T_wc[:3, :3].T + T_wc[:3, 3], np.linalg.norm(X_c, axis=1)
            self._measured.add(X, color, distance**-2, distance, *(np.full(len(X), n) for n in (number, 1)))


def _surface(shot: Shot, K: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Points of a depth map in its camera, in units of the trajectory, and their colours."""
    assert shot.metres is not None
    row, column = (_EVERY * i for i in shot.depth[::_EVERY, ::_EVERY].nonzero())
    depth = torch.from_numpy(shot.depth[row, column] / shot.metres).double()
    X_c = backproject(torch.from_numpy(np.stack([column, row], 1)).double(), depth, K).numpy()
    return X_c, shot.image[row, column]
