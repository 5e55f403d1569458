"""Points followed through the key frames of a run, and where these stand at its end."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from trianflow.geometry.camera import invert_pose
from trianflow.geometry.multiview import SeenPoints, triangulate_views
from trianflow.odometry.pair import Seen
from trianflow.odometry.step import Step, StepStatus
from trianflow.odometry.structure import follow

if TYPE_CHECKING:
    from trianflow.odometry.pipeline import VisualOdometry

# Key frames that a point is followed through at most: its place wanders a little with every flow.
_LONGEST = 10
# Side of the square cells of which each holds one point at most, as a share of the image's width.
_SPACING = 1 / 200
# Largest forward-backward difference of a point that is followed: pixels, and share of its motion.
_FOLLOWING = 0.7, 0.02
# A point is believed that this many key frames have seen, all of them within so many pixels, and whose distance is
# known to this share at the noise of a flow, pixels.
_LEAST_VIEWS, _LARGEST_ERROR, _LARGEST_SIGMA, _NOISE = 3, 1.0, 0.05, 0.3


@dataclass(frozen=True)
class Tracks:
    """Points and the key frames that have seen them.

    Attributes:
        first: `(M,)` int64 number of the key frame that saw each first; the following ones saw it too.
        count: `(M,)` int64 how many have.
        p: `(M, L, 2)` float64 pixels in these, NaN beyond `count`.
        color: `(M, 3)` uint8 RGB in the first.
    """

    first: np.ndarray
    count: np.ndarray
    p: np.ndarray
    color: np.ndarray

    def __len__(self) -> int:
        return len(self.first)

    def select(self, keep: np.ndarray) -> Tracks:
        """Those that an index or mask picks."""
        return Tracks(self.first[keep], self.count[keep], self.p[keep], self.color[keep])

    @classmethod
    def joined(cls, parts: list[Tracks]) -> Tracks:
        """Many as one."""
        none = cls(np.zeros(0, int), np.zeros(0, int), np.zeros((0, _LONGEST, 2)), np.zeros((0, 3), np.uint8))
        parts = [none, *parts]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in vars(none)))

    def triangulated(self, key_poses: np.ndarray, K: Tensor) -> SeenPoints:
        """Their points, by the poses `(N, 4, 4)` camera to world of all key frames, in float64."""
        first = int(self.first.min(initial=len(key_poses) - 1))
        T_cw = invert_pose(torch.from_numpy(key_poses[first:]))
        number = self.first[:, None] - first + np.arange(self.p.shape[1])
        T_cw = T_cw[torch.from_numpy(number.clip(max=len(T_cw) - 1))]
        p = torch.from_numpy(self.p)
        return triangulate_views(p, p.isfinite().all(-1), T_cw, K)

    def believed(self, points: SeenPoints) -> np.ndarray:
        """`(M,)` bool: seen often enough, by views that agree, and from places far enough apart."""
        sure = (points.error < _LARGEST_ERROR) & (_NOISE * points.sigma < _LARGEST_SIGMA)
        return sure.numpy() & (self.count >= _LEAST_VIEWS)


class Tracker:
    """Follows points by the flow from key frame to key frame.

    Those that have come to their end wait until the poses of their key frames are final.
    """

    def __init__(self) -> None:
        self._active = Tracks.joined([])
        self._waiting: deque[tuple[int, Tracks]] = deque()

    def observe(self, odometry: VisualOdometry, step: Step) -> Tracks:
        """Take a frame, after the odometry has; what is returned is done, and its key frames move no more."""
        seen = odometry.seen
        if seen is None or seen.pair is None or not seen.advanced:
            return Tracks.joined([])
        if step.status is StepStatus.LOST:
            self._end(np.ones(len(self._active), bool), seen.number)
        else:
            self._follow(seen)
        settled = []
        while self._waiting and self._waiting[0][0] <= seen.number - odometry.config.window.frames:
            settled.append(self._waiting.popleft()[1])
        return Tracks.joined(settled)

    def rest(self) -> Tracks:
        """All that has not been returned yet, at the end of the run."""
        tracks = Tracks.joined([*(tracks for _, tracks in self._waiting), self._active])
        self._waiting.clear()
        self._active = Tracks.joined([])
        return tracks

    def _end(self, which: np.ndarray, number: int) -> None:
        ended = self._active.select(which)
        self._waiting.append((number, ended.select(ended.count >= _LEAST_VIEWS)))
        self._active = self._active.select(~which)

    def _follow(self, seen: Seen) -> None:
        """Bring the points into the newest key frame, and begin with new ones where there are none."""
        assert seen.pair is not None
        active, every = self._active, np.arange(len(self._active))
        p_a = active.p[every, active.count - 1]
        p_b, arrived = follow(torch.from_numpy(p_a), seen.pair.flow, *_FOLLOWING)
        goes_on = arrived.numpy() & (active.count < _LONGEST)
        active.p[every[goes_on], active.count[goes_on]] = p_b.numpy()[goes_on]
        self._active = Tracks(active.first, active.count + goes_on, active.p, active.color)
        self._end(~goes_on, seen.number)
        self._begin(seen, p_a[goes_on])

    def _begin(self, seen: Seen, taken: np.ndarray) -> None:
        assert seen.pair is not None
        assert seen.key is not None
        image, matches = seen.key.prepared.image, seen.pair.matches
        inlier = seen.pair.view.inlier[0]
        p_a, p_b = (p[0][inlier].double().numpy() for p in (matches.p_a, matches.p_b))
        cell = np.floor(np.concatenate([taken, p_a]) / max(_SPACING * image.shape[1], 1)).astype(int)
        first = np.unique(cell @ [1, 1_000_000], return_index=True)[1]  # the first of each cell: old ones before new
        new = first[first >= len(taken)] - len(taken)
        p = np.full((len(new), _LONGEST, 2), np.nan)
        p[:, 0], p[:, 1] = p_a[new], p_b[new]
        column, row = p_a[new].round().astype(int).T
        color = image[row, column] if image.ndim == 3 else image[row, column, None].repeat(3, -1)
        begun = Tracks(np.full(len(new), seen.number - 1), np.full(len(new), 2), p, color)
        self._active = Tracks.joined([self._active, begun])
