"""The road under the camera: how high the camera stands over it, in the unit of the triangulated points."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from trianflow.flow.interface import FlowPair
from trianflow.geometry.camera import homogeneous, normalize_pixels, pixel_grid
from trianflow.geometry.radial import straighten
from trianflow.odometry.structure import follow

# The road ahead, in heights of the camera: up to so far to either side, and so far away.
_SIDE, _FAR = 1.5, 12.0
# A road's normal is this close to the camera's y axis, radians.
_MAX_TILT = math.radians(15)
# Pitch and roll are held by this, radians: as good as fixed, since the errors of a road's points are much alike and
# thousands of them would turn the plane. With DIS on KITTI a free plane leans by a degree and lies 8 % too low.
_PITCH, _ROLL = 0.0003, 0.003
# Error of the pitch in truth, radians.
_CLIMB = math.radians(0.2)
# Unevenness of a road, share of the inverse depth.
_ROUGHNESS = 0.01
# Share of what is not road that stands on it (kerbs, grass, cars); the rest seems to lie below.
_ABOVE = 0.9
_HYPOTHESES, _JUDGES, _QUANTILE = 128, 512, 0.4
_STEPS = 20
# Cells of the image, in focal lengths, within which errors may be alike; and how many of them a plane needs.
_CELL, _MIN_CELLS = 0.04, 10
_MIN_POINTS, _MIN_RATIO, _MAX_SCATTER = 30, 0.3, 0.15
# How much of the plane's own slope its points must show at the least; those of a wall show none.
_MIN_SLOPE = 0.5
_LEAST_NOISE = 0.1  # of a match, pixels
# Largest forward-backward difference of a match, pixels, and share of its length.
_ALPHA, _BETA = 1.0, 0.05
# Matches this near to the bottom of the second image lag behind, as what they show is about to leave; of its height.
_BOTTOM = 0.07


@dataclass(frozen=True)
class Ground:
    """The plane of the road.

    Attributes:
        normal: `(3,)` float64 unit vector in the camera, down to the road.
        height: of the camera over it, in the unit of the points; NaN where `ok` is False.
        log_sigma: standard deviation of the height's logarithm as this frame knows it; errors that stay from frame to
            frame (the road's shape, the flow's bias) are not in it. Infinite where `ok` is False.
        inliers: `(N,)` bool, which points lie on the plane.
        inlier_ratio: share of the points ahead of the camera that do, in [0, 1].
        ok: whether there is a road: enough points all over a plane that lies as roads do.
    """

    normal: Tensor
    height: float
    log_sigma: float
    inliers: Tensor
    inlier_ratio: float
    ok: bool


def fit_ground(
    p: Tensor, inverse_depth: Tensor, sigma: Tensor, K: Tensor, motion: Tensor, radial: float = 0.0, seed: int = 0
) -> Ground:
    """The road's plane through points with outliers.

    A car moves along the road, so that its motion gives the road's pitch, far better than the points do. With it a
    plane n X = h is linear in inverse depth, n x / h with x the normalised coordinates. It is fitted by a
    least-quantile consensus of single points and then by expectation-maximisation for two kinds of points: on the
    road, with normal errors, or off it and then mostly above, at an exponential distance. That outliers are one-sided
    is thus in the model, and does not pull the plane up. The uncertainty is that of sums over cells of the image,
    within which errors may be alike, and of the pitch.

    Args:
        p: `(N, 2)` pixels; only those in front of the car, below the horizon, are looked at.
        inverse_depth: `(N,)` along z; not finite: ignored.
        sigma: `(N,)` of it, positive, up to a common factor.
        K: `(3, 3)`.
        motion: `(3,)` the way of the camera in its own axes, of any length; an error of a degree makes 12 % of height.
        radial: residual distortion of p (`geometry.radial.straighten`).
        seed: of the sampling.
    """
    x = homogeneous(straighten(normalize_pixels(p.double(), K.double()), radial))
    rho, sigma, motion = inverse_depth.double(), sigma.double(), motion.double()
    down = motion.new_tensor([0.0, 1.0, 0.0])
    nothing = Ground(down, math.nan, math.inf, torch.zeros(len(p), dtype=torch.bool), 0.0, False)
    normal = torch.nn.functional.normalize(down * motion.square().sum() - motion[1] * motion, dim=0)
    index = (_is_ahead(x) & rho.isfinite() & sigma.isfinite() & (sigma > 0)).nonzero()[:, 0]
    if len(index) < _MIN_POINTS or not normal[1] > math.cos(_MAX_TILT):
        return nothing
    x, rho, sigma = x[index], rho[index], sigma[index]
    noise = torch.hypot(sigma, _ROUGHNESS * rho)
    g, covariance, on_road, scatter = _refine(x, rho, noise, *_consensus(x, rho, noise, normal, seed), motion)
    length, found = g.norm(), int(on_road.sum())
    if found < max(_MIN_POINTS, _MIN_RATIO * len(index)) or int(_cells(x[on_road]).max()) + 1 < _MIN_CELLS:
        return nothing
    expected, measured = x[on_road] @ g, rho[on_road]
    relative = (scatter * noise[on_road] / expected.abs()).median()
    off = expected - expected.mean()
    slope = (off * measured).sum() / off.square().sum()
    if not (g[1] > math.cos(_MAX_TILT) * length and relative < _MAX_SCATTER and slope > _MIN_SLOPE):
        return nothing
    inliers = torch.zeros_like(nothing.inliers)
    inliers[index] = on_road
    climb = _CLIMB * length / expected.median()
    log_sigma = torch.hypot((g @ covariance @ g).sqrt() / length.square(), climb)
    return Ground(g / length, float(1 / length), float(log_sigma), inliers, found / len(index), True)


def ground_points(
    flow: FlowPair, T_ba: Tensor, K: Tensor, radial: float = 0.0, stride: int = 4
) -> tuple[Tensor, Tensor, Tensor]:
    """Inverse depths of the image where a road may be, from dense flow.

    Each match is moved onto its epipolar line; what that takes is the measure of the flow's noise, and matches that
    it takes much are left out, as are those that the way back does not confirm or that come close to the lower border.

    Args:
        flow: both directions, B = 1.
        T_ba: `(4, 4)`; its translation sets the unit.
        K: `(3, 3)`.
        radial: residual distortion of the images (`geometry.radial.straighten`).
        stride: of the rows and columns that are looked at.

    Returns:
        p `(N, 2)` pixels in a, inverse depth in a `(N,)` and its standard deviation `(N,)`, all float64. Where there
        is no parallax they are not finite.
    """
    height, width = flow.flow_ab.shape[-2:]
    T_ba, K = T_ba.double(), K.double()
    p_a = pixel_grid(height, width, torch.float64, stride=stride).flatten(1).T
    p_a = p_a[_is_ahead(homogeneous(normalize_pixels(p_a, K)))]
    p_b, ok = follow(p_a, flow, _ALPHA, _BETA)
    ok &= p_b[:, 1] < (1 - _BOTTOM) * height
    p_a, p_b = p_a[ok], p_b[ok]

    # x_b = (r + rho t)_xy / (r + rho t)_z with r the turned ray leaves x_b - far = rho line / (r_z + rho t_z).
    x_a, x_b = (straighten(normalize_pixels(p, K), radial) for p in (p_a, p_b))
    t, turned = T_ba[:3, 3], homogeneous(x_a) @ T_ba[:3, :3].T
    far = turned[:, :2] / turned[:, 2:]
    line = t[:2] - t[2] * far
    length = line.norm(dim=-1)
    moved, along = x_b - far, line / length[:, None]
    across = (moved[:, 0] * along[:, 1] - moved[:, 1] * along[:, 0]).abs()
    noise = (across.median() / 0.6745).clamp_min(_LEAST_NOISE / K[0, 0])
    moved = (moved * along).sum(-1)
    slope = turned[:, 2] / (length - moved * t[2])
    inverse_depth, sigma = moved * slope, noise * slope.square() * length / turned[:, 2]
    keep = across < 3 * noise
    return p_a[keep], inverse_depth[keep], sigma[keep]


def _is_ahead(x: Tensor) -> Tensor:
    """Which rays `(N, 3)`, z of one, meet a level road in front of the car."""
    return (x[:, 1] > 1 / _FAR) & (x[:, 0].abs() < _SIDE * x[:, 1])


def _consensus(x: Tensor, rho: Tensor, noise: Tensor, normal: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """The plane n / h `(3,)` of that normal nearest to its best share of the points, and their scatter in `noise`."""
    generator = torch.Generator().manual_seed(seed)
    sample = torch.randint(len(x), (_HYPOTHESES,), generator=generator)
    judge = torch.randperm(len(x), generator=generator)[:_JUDGES]
    along = x @ normal
    nearness = rho[sample] / along[sample]
    z = ((rho[judge] - nearness[:, None] * along[judge]) / noise[judge]).abs()
    spread = z.kthvalue(max(int(_QUANTILE * len(judge)), 1), dim=1).values
    best = spread.argmin()
    return nearness[best] * normal, spread[best] / math.sqrt(2) / torch.erfinv(spread.new_tensor(_QUANTILE))


def _refine(
    x: Tensor, rho: Tensor, noise: Tensor, g: Tensor, scatter: Tensor, motion: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Expectation-maximisation of `fit_ground`.

    Returns:
        The plane n / h `(3,)`, its covariance `(3, 3)`, which points lie on it `(N,)`, their scatter in units of
        `noise`.
    """
    A, b = x / noise[:, None], rho / noise
    share, reach = torch.tensor(0.6), 5 * scatter
    forward = torch.nn.functional.normalize(motion, dim=0)
    side = torch.nn.functional.normalize(torch.linalg.cross(g, forward), dim=0)
    level = torch.outer(forward, forward) / _PITCH**2 + torch.outer(side, side) / _ROLL**2
    for _ in range(_STEPS):
        z = b - A @ g
        weight = _road_weight(z, scatter, share, reach)
        other = 1 - weight
        share = weight.mean().clamp(0.05, 0.98)
        scatter = ((weight * z.square()).sum() / weight.sum()).sqrt().clamp_min(1e-6)
        reach = ((other * z.abs()).sum() / other.sum().clamp_min(1e-9)).maximum(2 * scatter)
        prior = level * (scatter / g.norm()).square()
        g = torch.linalg.solve(A.T @ (weight[:, None] * A) + prior, A.T @ (weight * b))
    z = b - A @ g
    weight = _road_weight(z, scatter, share, reach)
    # The derivative of weight * z: a road's points pull less and less as they leave it.
    slope = weight * (1 + z * (1 - weight) * (z.sign() / reach - z / scatter.square()))
    bread = torch.linalg.inv(A.T @ (slope[:, None] * A) + prior)
    cell = _cells(x)
    scores = A.new_zeros(int(cell.max()) + 1, 3).index_add(0, cell, (weight * z)[:, None] * A)
    meat = scores.T @ scores * (len(scores) / max(len(scores) - 1, 1)) + scatter.square() * prior
    return g, bread @ meat @ bread, weight > 0.5, scatter


def _road_weight(z: Tensor, scatter: Tensor, share: Tensor, reach: Tensor) -> Tensor:
    """Probability of a residual to be of the road: normal, against exponential and mostly positive."""
    side = torch.where(z > 0, _ABOVE, 1 - _ABOVE)
    road = share.log() - (z / scatter).square() / 2 - (scatter * math.sqrt(2 * math.pi)).log()
    other = (1 - share).log() + side.log() - z.abs() / reach - reach.log()
    return (road - other).sigmoid()


def _cells(x: Tensor) -> Tensor:
    """Number of the cell of the image that each ray `(N, 3)` lies in, from 0."""
    corner = (x[:, :2] / _CELL).floor().long()
    return torch.unique(corner, dim=0, return_inverse=True)[1]
