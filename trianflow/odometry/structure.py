"""Points of known depth that travel with the flow from pair to pair: the scale of a monocular trajectory."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from trianflow.flow.interface import FlowPair
from trianflow.geometry.camera import backproject, normalize_pixels, transform
from trianflow.geometry.triangulation import signed_parallax, triangulate
from trianflow.geometry.warping import sample

# Standard deviation of log depth that one change of key frame adds, as points are handed on.
_TRANSFER_NOISE = 0.003
# A measurement further than this from the filtered depth, in standard deviations, belongs to another point.
_GATE = 3.0


@dataclass(frozen=True)
class Structure:
    """Points in the key frame.

    Attributes:
        p: `(M, 2)` float64 pixels.
        log_depth: `(M,)` logarithm of the depth along z in units of the trajectory.
        variance: `(M,)` of it.
    """

    p: Tensor
    log_depth: Tensor
    variance: Tensor

    @classmethod
    def empty(cls) -> Structure:
        """No points."""
        zeros = torch.zeros(0, dtype=torch.float64)
        return cls(torch.zeros(0, 2, dtype=torch.float64), zeros, zeros)

    def __len__(self) -> int:
        return len(self.p)

    def information(self) -> float:
        """Sum of the inverse variances of log depth."""
        return float((1 / self.variance).sum())

    def points(self, K: Tensor) -> Tensor:
        """`(M, 3)` in the key frame's camera."""
        return backproject(self.p, self.log_depth.exp(), K)

    def select(self, keep: Tensor) -> Structure:
        """The points where `keep` `(M,)` is True."""
        return Structure(self.p[keep], self.log_depth[keep], self.variance[keep])

    def scaled(self, scale: float) -> Structure:
        """The points at `scale` times their depth."""
        return Structure(self.p, self.log_depth + math.log(scale), self.variance)

    def fused(self, log_depth: Tensor, variance: Tensor) -> Structure:
        """Inverse-variance mean with a measurement `(M,)` of the same points; those that disagree are dropped.

        A measurement that is not finite leaves its point as it was.
        """
        measured = log_depth.isfinite() & variance.isfinite()
        innovation = torch.where(measured, log_depth - self.log_depth, torch.zeros_like(log_depth))
        variance = torch.where(measured, variance, torch.full_like(variance, torch.inf))
        gain = self.variance / (self.variance + variance)
        agrees = innovation.square() <= _GATE**2 * (self.variance + variance)
        fused = Structure(self.p, self.log_depth + gain * innovation, self.variance * (1 - gain))
        return fused.select(agrees)

    def extended(self, p: Tensor, log_depth: Tensor, variance: Tensor, limit: int, spacing: float) -> Structure:
        """With new points where there are none yet, up to `limit` in all.

        Args:
            p, log_depth, variance: `(N, 2)`, `(N,)`, `(N,)`; entries that are not finite are ignored.
            limit: number of points.
            spacing: side of the square cells of which each holds one point at most, pixels.
        """
        good = log_depth.isfinite() & variance.isfinite()
        p, log_depth, variance = p[good], log_depth[good], variance[good]
        is_first = first_of_cell(cells(torch.cat([self.p, p]), spacing))  # points of old come before new ones
        keep = is_first[len(self) :].nonzero()[:, 0][: max(limit - len(self), 0)]
        return Structure(
            torch.cat([self.p, p[keep]]),
            torch.cat([self.log_depth, log_depth[keep]]),
            torch.cat([self.variance, variance[keep]]),
        )

    def moved(self, T_ba: Tensor, K: Tensor, p_b: Tensor, ok: Tensor) -> Structure:
        """The points in the next key frame.

        Args:
            T_ba: `(4, 4)` from the key frame to the next, in units of the trajectory.
            K: `(3, 3)`.
            p_b: `(M, 2)` where the flow has taken them.
            ok: `(M,)` bool, False for points that were lost on the way.
        """
        depth = transform(T_ba, self.points(K))[:, 2]
        keep = ok & (depth > 1e-6)
        moved = Structure(p_b, depth.clamp_min(1e-6).log(), self.variance + _TRANSFER_NOISE**2)
        return moved.select(keep)


def cells(p: Tensor, side: float) -> Tensor:
    """Number `(N,)` of the square cell in which each pixel `(N, 2)` lies."""
    column, row = (p / side).floor().long().unbind(-1)
    return row * 100_000 + column


def first_of_cell(cell: Tensor) -> Tensor:
    """Which of the numbers `(N,)` have not come before, `(N,)` bool."""
    order = cell.argsort(stable=True)
    first = torch.ones_like(cell, dtype=torch.bool)
    first[order[1:]] = cell[order[1:]] != cell[order[:-1]]
    return first


def carry(p: Tensor, flow: FlowPair, alpha: float, beta: float) -> tuple[Tensor, Tensor]:
    """Points carried by a flow, and by how much the way back misses them.

    Args:
        p: `(M, 2)` float64 pixels in a.
        flow: both directions, B = 1.
        alpha, beta: largest forward-backward difference, in pixels and as a share of the flow's length.

    Returns:
        `(M, 2)` float64 pixels in b, and `(M,)` float64 the forward-backward difference as a share of the largest that
        is allowed; infinite outside b.
    """
    start = p.to(flow.flow_ab.dtype)[None]
    there = sample(flow.flow_ab, start, "border")[0].T
    end = start[0] + there
    back = sample(flow.flow_ba, end[None], "border")[0].T
    height, width = flow.flow_ab.shape[-2:]
    inside = ((end >= 0) & (end <= end.new_tensor([width - 1, height - 1]))).all(-1)
    miss = (there + back).norm(dim=-1) / (beta * there.norm(dim=-1)).clamp_min(alpha)
    return p + there.double(), torch.where(inside, miss, torch.inf).double()


def follow(p: Tensor, flow: FlowPair, alpha: float, beta: float) -> tuple[Tensor, Tensor]:
    """As `carry`, with `(M,)` bool instead of the miss: consistent and inside b."""
    p_b, miss = carry(p, flow, alpha, beta)
    return p_b, miss < 1


def measure_depth(p_a: Tensor, p_b: Tensor, T_ba: Tensor, K: Tensor, noise: float) -> tuple[Tensor, Tensor]:
    """Depths of matches by triangulation, with their uncertainty.

    Args:
        p_a, p_b: `(N, 2)` float64 pixels.
        T_ba: `(4, 4)`.
        K: `(3, 3)`.
        noise: of the matches across and along the epipolar line, pixels.

    Returns:
        log depth in a and its variance, `(N,)` each, in the unit of T_ba; NaN where the point is not in front of both
        cameras or its parallax is below three times the noise. To first order sigma(log depth) = noise / parallax.
    """
    X_a, X_b = triangulate(p_a, p_b, T_ba, K)
    x_a, x_b = normalize_pixels(p_a, K), normalize_pixels(p_b, K)
    parallax = signed_parallax(T_ba[None, None, :3, :3], T_ba[None, None, :3, 3], x_a[None], x_b[None])[0, 0] * K[0, 0]
    good = (X_a[:, 2] > 0) & (X_b[:, 2] > 0) & (parallax > 3 * noise)
    log_depth = torch.where(good, X_a[:, 2], torch.nan).log()
    return log_depth, torch.where(good, (noise / parallax).square(), torch.nan)
