"""Tracks below the road: those of a car that drives along, which otherwise pass for a scene further away."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trianflow.geometry.camera import homogeneous, normalize_pixels
from trianflow.geometry.radial import straighten
from trianflow.odometry.ground import fit_ground

# Points by which the road is found; how many such planes must agree in height (ratio) before they are believed; and
# how many key frames the last of them outlives.
_POINTS, _AGREE, _SAME, _MEMORY = 2000, 3, 1.2, 30
# A car moves along its axis, within this; and its camera keeps its pitch over the road, within that.
_ALONG, _PITCH = math.cos(math.radians(30)), math.sin(math.radians(3))
# A track is below the road where the road's inverse depth on its ray is more than this multiple of its own, and more
# than this many of its standard deviations away.
_BELOW, _CERTAIN = 1.2, 3.0
# Where the road must be known to reach: points of it in a band of rows of this height, focal lengths; and no further to
# the side than the lane beside ours, heights of the camera.
_IN_BAND, _BAND, _SIDE = 5, 0.05, 3.5
# What belongs to a car as well: what stands over two tracks that are below, this near to either side and no further
# down, focal lengths, and as far away as they (share of the inverse depth), unless it lies on the road.
_UNDER, _BESIDE, _DOWN, _ALIKE, _ON_ROAD = 2, 0.1, 0.16, 0.2, 0.1
# Inverse depths that are this share of the road's are zero, as far as `_ALIKE` is concerned.
_NOTHING = 0.1
# Where so much of the tracks would be below it, it is no road.
_MOST = 0.5


class RoadWatch:
    """Finds the tracks that lie below the road.

    A car that drives along at a share s of our speed satisfies the epipolar constraint, and is triangulated at
    1 / (1 - s) of its distance. Nothing tells it from what stands, until one of the two changes its speed and a scale
    that rested on it is wrong; but where the road is seen, what stands is not below it.

    Args:
        K: `(3, 3)` float64 intrinsics of a camera that looks ahead from a car, y down.
    """

    def __init__(self, K: Tensor) -> None:
        self._K = K
        self.forget()

    def forget(self) -> None:
        """Begin anew: the unit of the poses may be another."""
        self._normal, self._height = torch.zeros(3, dtype=torch.float64), math.nan
        self._bands = torch.zeros(0, dtype=torch.long)
        self._agreed, self._age, self._holds = 0, 0, False

    def look(self, p: Tensor, inverse_depth: Tensor, sigma: Tensor, motion: Tensor, radial: float = 0.0) -> None:
        """See whether there is a road in a pair; where there is none, the last one holds for some pairs.

        Args:
            p: `(N, 2)` pixels in the first frame.
            inverse_depth: `(N,)` in it.
            sigma: `(N,)` of it, positive, up to a common factor.
            motion: `(3,)` the way of the camera in its own axes.
            radial: residual distortion of p (`geometry.radial.straighten`).
        """
        self._age += 1
        way = torch.nn.functional.normalize(motion.double(), dim=0)
        self._holds = bool(way[2] > _ALONG)
        if not self._holds:
            return
        every = max(math.ceil(len(p) / _POINTS), 1)
        p = p[::every]
        ground = fit_ground(p, inverse_depth[::every], sigma[::every], self._K, motion, radial)
        if ground.ok:
            same = 1 / _SAME < ground.height / self._height < _SAME  # not where none is known
            self._agreed, self._age = self._agreed + 1 if same else 1, 0
            self._normal, self._height = ground.normal, ground.height
            self._bands = _bands(straighten(normalize_pixels(p[ground.inliers], self._K), radial)[:, 1])
        # The road is parallel to the way: where it is not seen, its pitch is known all the same.
        pitch = float(self._normal @ way)
        self._holds = self._agreed >= _AGREE and self._age <= _MEMORY and abs(pitch) < _PITCH
        self._normal = torch.nn.functional.normalize(self._normal - pitch * way, dim=0)

    def below(self, x: Tensor, inverse_depth: Tensor, sigma: Tensor) -> Tensor:
        """Which tracks lie below the road, with those that stand over them: `(M,)` bool; none where no road is known.

        Args:
            x: `(M, 2)` float64 normalised coordinates in the frame last looked at, without distortion.
            inverse_depth: `(M,)` in it, negative too; not finite: of no track.
            sigma: `(M,)` of it.
        """
        nothing = torch.zeros(len(x), dtype=torch.bool)
        if not self._holds:
            return nothing
        road = homogeneous(x) @ self._normal / self._height
        seen = (_bands(x[:, 1])[:, None] == self._bands).sum(1) >= _IN_BAND
        seen &= x[:, 0].abs() < _SIDE * x[:, 1]
        below = seen & (road > _BELOW * inverse_depth) & (road - inverse_depth > _CERTAIN * sigma)
        off = x[:, None] - x[below]
        over = (off[..., 0].abs() < _BESIDE) & (off[..., 1] < _DOWN)
        apart = (inverse_depth[:, None] - inverse_depth[below]).abs()
        alike = apart < _ALIKE * inverse_depth[below].maximum(_NOTHING * road[below])
        on_road = (road - inverse_depth).abs() < _ON_ROAD * inverse_depth
        found = below | (((over & alike).sum(1) >= _UNDER) & ~on_road)
        return found if int(found.sum()) <= _MOST * int(inverse_depth.isfinite().sum()) else nothing


def _bands(y: Tensor) -> Tensor:
    """Number of the band of rows that each normalised y coordinate lies in."""
    return (y / _BAND).floor().long()
