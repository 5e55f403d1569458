"""Pairs of recorded frames: a video, a folder of images or a dataset sequence with its calibration."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch

from trianflow.data.calibrated import camera_name, find_calibration
from trianflow.data.calibration import fit_to_image, read_calibration, read_depth_scale
from trianflow.data.frames import FrameSource, open_frames
from trianflow.data.instances import InstanceFolder
from trianflow.data.pairs.config import PathSource
from trianflow.data.pairs.frames import FrameStore, UnreadableFrame
from trianflow.data.pairs.labels import RecordedLabels
from trianflow.data.pairs.prepare import Preparation
from trianflow.data.pairs.sources import PairSource, RawPair, UnreadablePair
from trianflow.data.pairs.speeds import read_frame_speeds
from trianflow.data.pairs.static import pair_motion
from trianflow.errors import TrianflowError, UsageError
from trianflow.geometry.camera import Camera, invert_pose
from trianflow.trajectory import Trajectory

_LARGEST_GAP = 3  # times the usual time between frames: what is further apart are no neighbours
_LARGEST_TIME_OFFSET = 0.02  # seconds between a frame and its pose, as between a frame and its depth


class RecordedPairs(PairSource):
    """Each frame of a selection and the one `stride` frames later, without the pairs that hardly move.

    With three views also the one `stride` frames before, which moves as well.

    Nor is a pair what frames are missing from between, as the times of prepared data tell.

    Args:
        source: what to open.
        size: width and height of the pairs, pixels.
        fit: see `Preparation`.
        min_motion: smallest median flow of a pair, share of the width; 0 keeps all pairs.
        cache: folder of the caches, None for `runs/cache` and what cannot do without.
        views: 2 or 3.
        speeds: read the `speeds.txt` of a prepared sequence, which tells the length of a motion.

    Raises:
        UsageError: a path or selection that cannot be right, no calibration.
        TrianflowError: frames, calibration, poses or depth that cannot be read or do not fit together, or
            not one pair that moves.
    """

    def __init__(
        self,
        source: PathSource,
        size: tuple[int, int],
        fit: Literal["stretch", "crop"],
        min_motion: float,
        cache: Path | None,
        views: int = 2,
        speeds: bool = False,
    ) -> None:
        frames = open_frames(source.path, start=source.start, end=source.end)
        camera, calibration, self.notes = _camera(frames, source.calib)
        self._depth, self._frame_size, self._start = None, frames.first_image_size(), source.start
        if source.depth is not None:
            frames.attach_depth(source.depth, source.depth_scale or read_depth_scale(calibration))
            # read for the first frame of a pair only, not with every frame
            self._depth, frames.depth = frames.depth, None
        self._preparation = Preparation(camera, size, fit)
        path = str(Path(source.path).expanduser().absolute())
        identity = [path, source.calib, source.start, source.end, *size, fit]
        self._frames = FrameStore(frames, self._preparation, identity, cache)
        self._stride, self._views = source.stride, views
        self._speeds = read_frame_speeds(frames.path, source.start, len(self._frames)) if speeds else None
        self._labels = None
        if source.instances is not None:
            folder = InstanceFolder(Path(source.instances).expanduser(), source.instance_layout)
            self._labels = RecordedLabels(folder, frames, self._preparation)
        count = len(self._frames) - source.stride
        if count < 1:
            raise TrianflowError(
                f"{len(self._frames)} frames from number {source.start} on hold no pair with stride {source.stride}"
            )
        self._T_wc = None
        if source.poses is not None:
            self._T_wc = _poses(Path(source.poses).expanduser(), self._frames.times, source.start)
        gap = self._frames.times[source.stride :] - self._frames.times[:count]
        usual = float(np.median(np.diff(self._frames.times)))
        near = gap <= _LARGEST_GAP * source.stride * usual if usual > 0 else np.ones(count, bool)
        if not near.all():
            self.notes.append(f"{count - near.sum()} of {count} pairs are left out: frames are missing in between")
        good = near
        if min_motion > 0:
            measured = pair_motion(self._frames, source.stride)
            good = near & ~(measured.motion < min_motion)
            self.notes += measured.notes
            if not good.any():
                raise TrianflowError(
                    f"all of its {near.sum()} pairs move less than {min_motion:g} of the width:"
                    " a longer stride, or min_motion 0, keeps some"
                )
            if good.sum() < near.sum():
                self.notes.append(f"{near.sum() - good.sum()} of {count} pairs hardly move and are left out")
        self._first = self._with_frame_before(good)
        if not len(self._first):
            raise TrianflowError(f"no three frames of it lie {source.stride} apart and move: set data.views to 2")
        self.notes += frames.notes

    def __len__(self) -> int:
        """The number of pairs that are kept."""
        return len(self._first)

    def read(self, number: int) -> RawPair:
        """As `PairSource.read`; truth where poses or depth were given and hold this pair."""
        a = int(self._first[number])
        b = a + self._stride
        others = [b, a - self._stride][: self._views - 1]
        try:
            images = np.stack([self._frames.image(number) for number in (a, *others)])
        except UnreadableFrame as error:
            raise UnreadablePair(str(error)) from None
        depth = None
        if self._depth is not None:
            depth, _ = self._depth.read(self._start + a, self._frame_size)
        T_ba = None
        if self._T_wc is not None and np.isfinite(self._T_wc[[a, b]]).all():
            T_wa, T_wb = torch.from_numpy(self._T_wc[[a, b]])
            T_ba = (invert_pose(T_wb) @ T_wa).numpy()
        return RawPair(
            images,
            self._preparation.camera,
            depth_a=None if depth is None else self._preparation.depth(depth)[None],
            T_ba=T_ba,
            lengths=None if self._speeds is None else self._lengths(self._speeds, a, others),
            labels=None if self._labels is None else self._labels.read(a, b, *images[:2]),
        )

    def _with_frame_before(self, good: np.ndarray) -> np.ndarray:
        """The first frames of the pairs that are good, of triples those whose frame before makes a good pair too."""
        if self._views > 2:
            before = np.zeros_like(good)
            before[self._stride :] = good[: -self._stride]
            good = good & before
        return np.flatnonzero(good)

    def _lengths(self, speeds: np.ndarray, a: int, others: list[int]) -> np.ndarray:
        """Metres from frame a to the others: mean of the speeds from the one to the other, times the time."""
        ways = []
        for other in others:
            low, high = min(a, other), max(a, other)
            ways.append(speeds[low : high + 1].mean() * (self._frames.times[high] - self._frames.times[low]))
        return np.array(ways, np.float32)


def _camera(frames: FrameSource, calib: str | None) -> tuple[Camera, Path, list[str]]:
    """The camera for the size of the frames, the file it comes from, and notes."""
    path = find_calibration(frames) if calib is None else Path(calib).expanduser()
    if path is None:
        raise UsageError(f"no calibration beside {frames.path}: name the file with calib")
    notes = [f"calibration {path}, found beside the frames"] if calib is None else []
    camera = read_calibration(path, camera_name(frames))
    try:
        camera, note = fit_to_image(camera, *frames.first_image_size())
    except TrianflowError as error:
        raise type(error)(f"{path}: {error}") from None
    return camera, path, [*notes, *([f"{path}: {note}"] if note else [])]


def _poses(path: Path, times: np.ndarray, start: int) -> np.ndarray:
    """Camera to world of the frames, `(N, 4, 4)` float64, NaN where the file has no pose for a frame.

    A file without time stamps numbers the frames of the whole input; else the nearest within 0.02 s is taken.
    """
    trajectory = Trajectory.load(path)
    poses = np.full((len(times), 4, 4), np.nan)
    if trajectory.times_are_indices:
        numbers = trajectory.times.astype(np.int64) - start
        inside = (numbers >= 0) & (numbers < len(times))
        poses[numbers[inside]] = trajectory.T_wc[inside]
    else:
        after = np.searchsorted(trajectory.times, times).clip(1, max(1, len(trajectory) - 1))
        near = np.stack([after - 1, np.minimum(after, len(trajectory) - 1)])
        offset = np.abs(trajectory.times[near] - times)
        best, column = offset.argmin(0), np.arange(len(times))
        found = offset[best, column] <= _LARGEST_TIME_OFFSET
        poses[found] = trajectory.T_wc[near[best, column][found]]
    if np.isnan(poses).all():
        raise TrianflowError(f"{path}: none of its {len(trajectory)} poses belongs to one of the {len(times)} frames")
    return poses
