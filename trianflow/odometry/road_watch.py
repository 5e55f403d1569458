"""Tracks below the road: those of a car that drives along, which otherwise pass for a scene further away."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trianflow.geometry.camera import homogeneous, normalize_pixels
from trianflow.geometry.radial import straighten
from trianflow.odometry.ground import Ground, fit_ground

# Points by which the road is found, and how many key frames it outlives that do not show it.
_POINTS, _MEMORY = 2000, 30
# A car moves along its axis, within this.
_ALONG = math.cos(math.radians(30))
# A track is below the road where the road's inverse depth on its ray is more than this multiple of its own, and where
# the last step moves that piece of road by at least so much, pixels.
_BELOW, _LEAST_PARALLAX = 1.2, 0.7
# Road that must be seen at the same height of the image, so that it is known to reach so far: points in a band of rows
# of this height, focal lengths.
_IN_BAND, _BAND = 5, 0.05
# What belongs to a car as well: tracks this near to two others that are below, focal lengths, and as far away as they
# (logarithm), unless they lie on the road (share of its inverse depth).
_NEIGHBOURS, _NEAR, _ALIKE, _ON_ROAD = 2, 0.16, 0.2, 0.1
# Where so much of the tracks would be below it, it is no road.
_MOST = 1 / 3


class RoadWatch:
    """Finds the tracks that lie below the road.

    A car that drives along at a share s of our speed satisfies the epipolar constraint, and is triangulated at
    1 / (1 - s) of its distance. Nothing tells it from what stands, until one of the two changes its speed and a scale
    that rested on it is wrong; but where the road is seen, what stands is not below it.

    Args:
        K: `(3, 3)` float64 intrinsics of a camera whose y axis points down to the road.
    """

    def __init__(self, K: Tensor) -> None:
        self._K, self._f = K, float(K.diagonal()[:2].mean())
        self.forget()

    def forget(self) -> None:
        """Begin anew: the unit of the poses may be another."""
        self._ground: Ground | None = None
        self._bands = torch.zeros(0, dtype=torch.long)
        self._age = 0

    def look(self, p: Tensor, inverse_depth: Tensor, sigma: Tensor, motion: Tensor, radial: float = 0.0) -> None:
        """See whether there is a road in a pair; where there is none, the last one holds for some key frames.

        Args:
            p: `(N, 2)` pixels in the first frame.
            inverse_depth: `(N,)` in it.
            sigma: `(N,)` of it, positive, up to a common factor.
            motion: `(3,)` the way of the camera in its own axes.
            radial: residual distortion of p (`geometry.radial.straighten`).
        """
        self._age += 1
        if self._age > _MEMORY:
            self._ground = None
        if not float(motion[2]) > _ALONG * float(motion.norm()):
            return
        every = max(math.ceil(len(p) / _POINTS), 1)
        p = p[::every]
        ground = fit_ground(p, inverse_depth[::every], sigma[::every], self._K, motion, radial)
        if ground.ok:
            y = straighten(normalize_pixels(p[ground.inliers], self._K), radial)[:, 1]
            self._ground, self._age, self._bands = ground, 0, _bands(y)

    def below(self, x: Tensor, inverse_depth: Tensor, step: float) -> Tensor:
        """Which tracks lie below the road, with those that belong to them: `(M,)` bool; none where no road is known.

        Args:
            x: `(M, 2)` normalised coordinates in the frame last looked at, without distortion.
            inverse_depth: `(M,)` in it, negative too; not finite: of no track.
            step: length of the way of the camera to the next frame, in the unit of the depths.
        """
        nothing = torch.zeros(len(x), dtype=torch.bool)
        if self._ground is None:
            return nothing
        road = homogeneous(x) @ self._ground.normal / self._ground.height
        parallax = road * step * self._f
        seen = (_bands(x[:, 1])[:, None] == self._bands).sum(1) >= _IN_BAND
        below = seen & (parallax > _LEAST_PARALLAX) & (road > _BELOW * inverse_depth)
        near = torch.cdist(x, x[below]) < _NEAR
        depth = inverse_depth.clamp_min(1e-9).log()
        alike = (depth[:, None] - depth[below]).abs() < _ALIKE
        on_road = (road - inverse_depth).abs() < _ON_ROAD * inverse_depth
        found = below | (((near & alike).sum(1) >= _NEIGHBOURS) & ~on_road)
        return found if int(found.sum()) <= _MOST * len(x) else nothing


def _bands(y: Tensor) -> Tensor:
    """Number of the band of rows that each normalised y coordinate lies in."""
    return (y / _BAND).floor().long()
