"""A point cloud that grows in bounded memory: thinned by voxels, and freed of what nothing else confirms."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

# Key frames after which a voxel that was not seen often enough will not be any more.
_PATIENCE = 30
# Cells along an axis: what lies beyond half as many from the origin is dropped.
_CELLS = 1 << 21
# Neighbours whose mean distance tells an outlier, and how many times the usual one that is.
_NEIGHBOURS, _LONELY = 8, 3.0


@dataclass(frozen=True)
class _Voxels:
    """One row a voxel; sums are weighted.

    Attributes:
        X, color: `(N, 3)` float64 and float32 sums.
        weight: `(N,)`.
        distance: `(N,)` float32, least from which it was seen.
        views, first, last: `(N,)` int32; `first` and `last` are numbers of key frames.
    """

    X: np.ndarray
    color: np.ndarray
    weight: np.ndarray
    distance: np.ndarray
    views: np.ndarray
    first: np.ndarray
    last: np.ndarray

    def __len__(self) -> int:
        return len(self.weight)

    def select(self, keep: np.ndarray) -> _Voxels:
        return _Voxels(*(getattr(self, f.name)[keep] for f in fields(self)))

    def joined(self, other: _Voxels) -> _Voxels:
        return _Voxels(*(np.concatenate([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)))

    def merged(self, side: float, views: np.ufunc, apart: bool = False) -> _Voxels:
        """One row for all that lie in the same cube.

        Args:
            side: of the cubes.
            views: what becomes of their views: `np.add`, or `np.maximum` where the same key frames may have seen them.
            apart: one row for each key frame that was the first to see some of them.
        """
        index = np.floor(self.X / self.weight[:, None] / side) + _CELLS // 2
        inside = ((index >= 0) & (index < _CELLS)).all(1)
        cell = index[inside].astype(np.int64) @ np.array([1, _CELLS, _CELLS**2])
        if not len(cell):
            return self.select(inside)
        number = self.first[inside] if apart else np.zeros(len(cell), np.int32)
        order = np.lexsort([number, cell])
        cell, number, v = cell[order], number[order], self.select(inside.nonzero()[0][order])
        start = np.concatenate([[0], np.flatnonzero(np.diff(cell) | np.diff(number)) + 1])
        X, color, weight = (np.add.reduceat(x, start, axis=0, dtype=x.dtype) for x in (v.X, v.color, v.weight))
        distance, first = (np.minimum.reduceat(x, start) for x in (v.distance, v.first))
        seen, last = views.reduceat(v.views, start), np.maximum.reduceat(v.last, start)
        return _Voxels(X, color, weight, distance, seen, first, last)


@dataclass(frozen=True)
class CloudPoints:
    """Points of a finished cloud.

    Attributes:
        X: `(N, 3)` float64.
        color: `(N, 3)` uint8 RGB.
        key: `(N,)` int32 number of the first key frame that has seen each.
        distance: `(N,)` float32 from the nearest place that it was seen from.
    """

    X: np.ndarray
    color: np.ndarray
    key: np.ndarray
    distance: np.ndarray


class GrowingCloud:
    """A point cloud that is thinned while it grows.

    Points of one voxel become their weighted mean. A voxel that the key frames of a while have not seen often enough is
    dropped, the oldest of these sooner where there is no room for twice the limit in all. Where too many are left,
    voxels grow to twice their side.

    Args:
        share: side of a voxel, as a share of the median distance of the first points from the camera.
        least_views: views that a voxel needs to stay.
        limit: voxels that have been seen often enough.

    Attributes:
        voxel: side of a voxel by now, in units of the points; 0 before it is known.
    """

    def __init__(self, share: float, least_views: int, limit: int) -> None:
        self.voxel = 0.0
        self._share, self._least_views, self._limit = share, least_views, limit
        self._voxels = self._fresh = self._rows(np.zeros((0, 3)), np.zeros((0, 3)), *(np.zeros(0) for _ in range(4)))

    def add(
        self,
        X: np.ndarray,
        color: np.ndarray,
        weight: np.ndarray,
        distance: np.ndarray,
        key: np.ndarray,
        views: np.ndarray,
    ) -> None:
        """Add points.

        Args:
            X: `(N, 3)`.
            color: `(N, 3)` uint8.
            weight: `(N,)` positive: inverse variance of the position.
            distance: `(N,)` from the camera.
            key: `(N,)` number of the key frame that saw each first; may not fall from call to call by more than some.
            views: `(N,)` key frames that have seen each.
        """
        self._fresh = self._fresh.joined(self._rows(X, color, weight, distance, key, views))
        if len(self._fresh) > self._limit // 2:
            self._thin()

    def points(self) -> CloudPoints:
        """What is left of them."""
        self._thin()
        v = self._voxels.select(self._voxels.views >= self._least_views)
        color = np.round(v.color / v.weight[:, None]).clip(0, 255).astype(np.uint8)
        return CloudPoints(v.X / v.weight[:, None], color, v.first, v.distance)

    @staticmethod
    def _rows(
        X: np.ndarray, color: np.ndarray, weight: np.ndarray, distance: np.ndarray, key: np.ndarray, views: np.ndarray
    ) -> _Voxels:
        colors = (color * weight[:, None]).astype(np.float32)
        number = key.astype(np.int32)
        return _Voxels(
            X * weight[:, None], colors, weight, distance.astype(np.float32), views.astype(np.int32), number, number
        )

    def _thin(self) -> None:
        if not self.voxel and len(self._fresh):
            self.voxel = self._share * float(np.median(self._fresh.distance))
        fresh = self._fresh.merged(self.voxel, np.maximum, apart=True)
        voxels = self._voxels.joined(fresh).merged(self.voxel, np.add)
        while (voxels.views >= self._least_views).sum() > self._limit:
            self.voxel *= 2
            voxels = voxels.merged(self.voxel, np.maximum)
        doubtful = voxels.views < self._least_views
        since = voxels.last.max(initial=0) - voxels.last
        keep = ~doubtful | (since < _PATIENCE)
        spare, waiting = 2 * self._limit - int((~doubtful).sum()), np.flatnonzero(keep & doubtful)
        if len(waiting) > spare:  # the newest of them stay
            keep[waiting[np.argpartition(since[waiting], spare)[spare:]]] = False
        voxels = voxels.select(keep)
        self._voxels, self._fresh = voxels, self._fresh.select(np.zeros(0, int))


def not_lonely(points: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Which points have others near: `(N,)` bool.

    The mean distance to the nearest ones, as a share of the distance from the camera (far points lie further apart), is
    compared with its median over all points.

    Args:
        points: `(N, 3)`.
        distance: `(N,)` from the camera, in the same unit.
    """
    from scipy.spatial import cKDTree

    if len(points) <= _NEIGHBOURS:
        return np.ones(len(points), bool)
    apart = cKDTree(points).query(points, _NEIGHBOURS + 1)[0][:, 1:].mean(1) / np.maximum(distance, 1e-12)
    return apart <= _LONELY * np.median(apart)
